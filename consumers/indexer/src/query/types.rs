//! What answers are made of.

use bitcoin::{BlockHash, OutPoint, Txid};
use sluice_consumer::BlockRef;
use sluice_log::chain::Location;
use sluice_schemas::{ChainEvent, RemovalReason};

/// A place on the best chain. Ordered as the chain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// Height of the block.
    pub height: u32,
    /// Position in the block; the coinbase is 0.
    pub position: u32,
}

impl Place {
    /// The first of all.
    pub const START: Self = Self { height: 0, position: 0 };
    /// After any that a block can have.
    pub const END: Self = Self { height: crate::rows::key::MAX_HEIGHT, position: u32::MAX };
}

/// A block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The event that connected it: header, height, counts, sizes, median time, chain work. Times are in milliseconds.
    pub event: ChainEvent,
    /// Whether it is on the best chain now.
    pub in_best_chain: bool,
}

/// A transaction on the best chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confirmed {
    /// Its id.
    pub txid: Txid,
    /// Where on the chain it is.
    pub place: Place,
    /// Where on the log it is.
    pub location: Location,
}

/// In which block a transaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confirmation {
    /// Height of the block.
    pub height: i32,
    /// Hash of the block.
    pub block_hash: BlockHash,
    /// Time in the block's header, seconds since the Unix epoch.
    pub block_time: u32,
    /// Position in the block.
    pub position: u32,
}

/// What spends an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spender {
    /// The transaction.
    pub txid: Txid,
    /// Which of its inputs.
    pub vin: u32,
    /// `None` while it is in the mempool.
    pub confirmation: Option<Confirmation>,
}

/// A transaction in a script's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryEntry {
    /// The transaction.
    pub transaction: Confirmed,
    /// What it does to the script; `tx_count` is 1.
    pub activity: Activity,
}

/// An output that nothing spends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unspent {
    /// Which.
    pub outpoint: OutPoint,
    /// Satoshis.
    pub value: i64,
    /// `None` while its transaction is in the mempool.
    pub confirmation: Option<Confirmation>,
}

/// What transactions do to a script, in sum. Named as Esplora names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    /// Transactions that pay or spend it.
    pub tx_count: i64,
    /// Outputs to it.
    pub funded_txo_count: i64,
    /// Satoshis in them.
    pub funded_txo_sum: i64,
    /// Outputs to it that were spent.
    pub spent_txo_count: i64,
    /// Satoshis in those.
    pub spent_txo_sum: i64,
}

impl Activity {
    /// Adds another.
    pub fn add(&mut self, other: &Self) {
        self.tx_count += other.tx_count;
        self.funded_txo_count += other.funded_txo_count;
        self.funded_txo_sum += other.funded_txo_sum;
        self.spent_txo_count += other.spent_txo_count;
        self.spent_txo_sum += other.spent_txo_sum;
    }
}

/// What happened to a script.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// On the chain.
    pub chain: Activity,
    /// In the mempool.
    pub mempool: Activity,
}

/// Most blocks of either branch that a reorg lists.
pub const MAX_REORG_BLOCKS: usize = 100;

/// A reorg.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reorg {
    /// Sequence of its first `DISCONNECTED` event.
    pub sequence: i64,
    /// When the producer saw it, milliseconds since the Unix epoch.
    pub observed_at: i64,
    /// The last block common to both branches.
    pub fork: BlockRef,
    /// How many blocks left the best chain.
    pub depth: u32,
    /// The blocks that left the best chain, tip first; `MAX_REORG_BLOCKS` at most.
    pub disconnected: Vec<BlockRef>,
    /// The blocks that came in their place, up to the first that is higher than the old tip; `MAX_REORG_BLOCKS` at most.
    pub connected: Vec<BlockRef>,
}

/// What happened to a transaction, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Journey {
    /// Each step.
    pub steps: Vec<Step>,
}

/// One thing that happened to a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// When the producer saw it, milliseconds since the Unix epoch.
    pub observed_at: i64,
    /// Sequence of the chain event that did it, or of the last before it.
    pub chain_sequence: i64,
    /// What it was.
    pub kind: StepKind,
}

/// What can happen to a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepKind {
    /// It came into a mempool.
    Seen {
        /// Which source says so.
        source: String,
        /// When that first saw it, milliseconds since the Unix epoch.
        first_seen: i64,
    },
    /// It left a mempool.
    Left {
        /// Which source says so.
        source: String,
        /// Why.
        reason: RemovalReason,
        /// What took its place, where known.
        replaced_by: Option<Txid>,
    },
    /// It was confirmed, for the first time or again.
    Mined {
        /// In which block.
        block: BlockRef,
        /// At which position.
        position: u32,
    },
    /// The block that it was in left the best chain.
    Reverted {
        /// Which block.
        block: BlockRef,
    },
}
