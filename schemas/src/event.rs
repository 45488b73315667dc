//! The typed events, field for field as in `schemas/avro/*.avsc`.
//!
//! Hashes are in internal byte order, money is integer satoshis, times are milliseconds since the Unix epoch.

use bitcoin::{BlockHash, Txid, Wtxid};
use serde::{Deserialize, Serialize};

use crate::bytes_field::{self, Script};

/// One of the four events of the contract, tied to its schema. No other crate can add one.
pub trait Event: crate::datum::Sealed + Serialize + serde::de::DeserializeOwned {
    /// Which topic, and so which schema, the event belongs to.
    const KIND: EventKind;

    /// Appends the bare datum of the current schema.
    #[doc(hidden)]
    fn write_datum(&self, out: &mut Vec<u8>);

    /// Reads a bare datum of the current schema, to its last byte.
    #[doc(hidden)]
    fn read_datum(datum: &[u8]) -> Result<Self, String>;
}

/// The topics of the contract, each with one schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EventKind {
    /// `<prefix>.blocks`
    Chain,
    /// `<prefix>.transactions`
    Transaction,
    /// `<prefix>.mempool`
    Mempool,
    /// `<prefix>.status`
    Status,
}

impl EventKind {
    /// All four, in the order in which the topics are created.
    pub const ALL: [Self; 4] = [Self::Chain, Self::Transaction, Self::Mempool, Self::Status];
}

/// What happened to a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Action {
    /// The block became the tip.
    Connected,
    /// The block was the tip and left the best chain; its parent is the tip now.
    Disconnected,
}

/// Whether the producer was catching up or at the tip when it published a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Phase {
    /// Catching up with history.
    Backfill,
    /// At the tip of the source.
    Live,
}

/// Where one partition of the transactions topic holds a part of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PartitionRange {
    /// Partition of `<prefix>.transactions`.
    pub partition: i32,
    /// Offset of the first record.
    pub first_offset: i64,
    /// Consecutive records, chunks counted one by one.
    pub records: i64,
    /// Transactions; less than `records` where an event is chunked.
    pub count: i64,
}

/// A block connected to or disconnected from the best chain (`<prefix>.blocks`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainEvent {
    /// Gap-free from 0.
    pub sequence: i64,
    /// Connected or disconnected.
    pub action: Action,
    /// Block hash.
    #[serde(with = "bytes_field::hash")]
    pub hash: BlockHash,
    /// Hash of the parent.
    #[serde(with = "bytes_field::hash")]
    pub prev_hash: BlockHash,
    /// Height, genesis is 0.
    pub height: i32,
    /// The 80 bytes of the header.
    #[serde(with = "bytes_field::array")]
    pub header: [u8; 80],
    /// Total work up to and with this block, 256-bit big-endian.
    #[serde(with = "bytes_field::array")]
    pub chain_work: [u8; 32],
    /// The header's time, milliseconds.
    pub time: i64,
    /// Median time of this block and the ten before it (BIP-113), milliseconds.
    pub median_time: i64,
    /// Transactions in the block.
    pub tx_count: i64,
    /// Serialized size in bytes.
    pub size: i64,
    /// Weight (BIP-141); null where the chain has no witnesses.
    pub weight: Option<i64>,
    /// Where the block's transactions are, one entry per partition that holds any.
    pub transactions: Vec<PartitionRange>,
    /// Catching up or live.
    pub phase: Phase,
    /// When the producer saw it, milliseconds.
    pub observed_at: i64,
    /// The producer's term; grows by one at each takeover.
    pub epoch: i64,
    /// The network, as `--network` takes it.
    pub network: String,
}

impl ChainEvent {
    /// Height and hash of the tip after it. After a `DISCONNECTED` that is the parent of the block it names.
    pub fn tip(&self) -> (i32, BlockHash) {
        match self.action {
            Action::Connected => (self.height, self.hash),
            Action::Disconnected => (self.height - 1, self.prev_hash),
        }
    }
}

/// One transaction of one chain event (`<prefix>.transactions`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionEvent {
    /// `sequence` of its chain event.
    pub sequence: i64,
    /// `action` of its chain event.
    pub action: Action,
    /// Hash of its block.
    #[serde(with = "bytes_field::hash")]
    pub block_hash: BlockHash,
    /// Height of its block.
    pub height: i32,
    /// Time of its block's header, milliseconds.
    pub block_time: i64,
    /// Index in the block; the coinbase is 0.
    pub position: i64,
    /// The transaction.
    pub transaction: Transaction,
}

/// A transaction, complete: its raw form can be rebuilt byte for byte.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction {
    /// Transaction id.
    #[serde(with = "bytes_field::hash")]
    pub txid: Txid,
    /// Witness transaction id; null where equal to the txid.
    #[serde(with = "bytes_field::optional_hash")]
    pub wtxid: Option<Wtxid>,
    /// Version.
    pub version: i32,
    /// Lock time, unsigned 32 bit.
    pub lock_time: i64,
    /// Serialized size in bytes, with witnesses.
    pub size: i64,
    /// Weight (BIP-141); null where the chain has no witnesses.
    pub weight: Option<i64>,
    /// Whether it is a coinbase.
    pub coinbase: bool,
    /// Inputs in order.
    pub inputs: Vec<Input>,
    /// Outputs in order.
    pub outputs: Vec<Output>,
    /// Fee in satoshis; null while any prevout is unknown.
    pub fee: Option<i64>,
}

/// What an input spends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prevout {
    /// Satoshis.
    pub value: i64,
    /// Locking script.
    pub script_pubkey: Script,
    /// Address of the script, where it has one.
    pub address: Option<String>,
    /// Height of the block that made it, where known.
    pub height: Option<i32>,
}

/// One input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// Transaction whose output is spent; zeros in a coinbase.
    #[serde(with = "bytes_field::hash")]
    pub prev_txid: Txid,
    /// Index of that output, unsigned 32 bit.
    pub prev_vout: i64,
    /// Unlocking script.
    pub script_sig: Script,
    /// Sequence number, unsigned 32 bit.
    pub sequence: i64,
    /// Witness stack.
    pub witness: Vec<Script>,
    /// The output spent, where known.
    pub prevout: Option<Prevout>,
}

/// Standard form of a locking script, named as Bitcoin Core's `scriptPubKey.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs)]
pub enum ScriptType {
    Nonstandard,
    Pubkey,
    Pubkeyhash,
    Scripthash,
    Multisig,
    Nulldata,
    WitnessV0Keyhash,
    WitnessV0Scripthash,
    WitnessV1Taproot,
    Anchor,
    WitnessUnknown,
}

/// One output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// Satoshis.
    pub value: i64,
    /// Locking script.
    pub script_pubkey: Script,
    /// Its standard form.
    pub script_type: ScriptType,
    /// Its address on the event's network, where it has one.
    pub address: Option<String>,
}

/// What happened in the mempool view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum MempoolKind {
    /// The view starts again, empty. Sent to every partition.
    Reset,
    /// A transaction came in.
    Added,
    /// A transaction left.
    Removed,
}

/// Why a transaction left the mempool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum RemovalReason {
    /// It is in the block that was just connected.
    Mined,
    /// A newer unconfirmed transaction spends one of its inputs (BIP-125 or full RBF).
    Replaced,
    /// A confirmed transaction spends one of its inputs, or an ancestor's.
    Conflicted,
    /// It stayed longer than the node keeps transactions.
    Expired,
    /// The node ran out of mempool space.
    Evicted,
    /// The node did not say and it could not be derived.
    Unknown,
}

/// One change of the mempool view (`<prefix>.mempool`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MempoolEvent {
    /// The producer's term.
    pub epoch: i64,
    /// Grows by one per event of the epoch, over all partitions.
    pub sequence: i64,
    /// Sequence of the last chain event published before; -1 before the first.
    pub chain_sequence: i64,
    /// What happened.
    pub kind: MempoolKind,
    /// The transaction; zeros on `Reset`.
    #[serde(with = "bytes_field::hash")]
    pub txid: Txid,
    /// The whole transaction on `Added`.
    pub transaction: Option<Transaction>,
    /// Why it left, on `Removed`.
    pub reason: Option<RemovalReason>,
    /// The block that has it, on `Mined`.
    #[serde(with = "bytes_field::optional_hash")]
    pub block_hash: Option<BlockHash>,
    /// What took its place, on `Replaced` and `Conflicted`, where known.
    #[serde(with = "bytes_field::optional_hash")]
    pub replaced_by: Option<Txid>,
    /// When this producer first saw it, milliseconds.
    pub first_seen: Option<i64>,
    /// When this change was seen, milliseconds.
    pub observed_at: i64,
    /// Which source said so.
    pub source: String,
}

/// What a status event tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs)]
pub enum StatusKind {
    Heartbeat,
    GapDetected,
    GapRepaired,
    SourceUp,
    SourceDown,
    Takeover,
    Reorg,
}

/// News of the pipeline itself (`<prefix>.status`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusEvent {
    /// What it tells.
    pub kind: StatusKind,
    /// Which source it is about.
    pub source: String,
    /// The producer's term.
    pub epoch: i64,
    /// Tip as published; null before the first block.
    #[serde(with = "bytes_field::optional_hash")]
    pub tip_hash: Option<BlockHash>,
    /// Height of that tip.
    pub tip_height: Option<i32>,
    /// Sequence of the last chain event; -1 before the first.
    pub chain_sequence: i64,
    /// Height of the source's tip, where known.
    pub source_height: Option<i32>,
    /// Which feed had the gap.
    pub feed: Option<String>,
    /// First number lost.
    pub from: Option<i64>,
    /// Last number lost.
    pub to: Option<i64>,
    /// How many changes were restored.
    pub recovered: Option<i64>,
    /// For people.
    pub detail: String,
    /// When, milliseconds.
    pub observed_at: i64,
}
