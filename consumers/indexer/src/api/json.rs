//! Esplora's JSON, field for field.
//!
//! Versions are signed, as wallets read them. Everything borrows: a transaction is written from its event without a copy.

use std::fmt::Display;

use bitcoin::block::Header;
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, Txid};
use serde::ser::{SerializeSeq, SerializeStruct};
use serde::{Serialize, Serializer};
use sluice_schemas::{ChainEvent, Flavour, Input, Output, Prevout, Transaction};

use super::script::{Asm, Hex, InnerScripts, script_type};
use crate::query::{Activity, Confirmation, Spender, Stats, Unspent};

/// Something that JSON has as its text.
pub(super) struct Shown<T>(pub(super) T);

impl<T: Display> Serialize for Shown<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// In which block a transaction is, if any.
#[derive(Serialize)]
pub(super) struct Status {
    confirmed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    block_height: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    block_hash: Option<Shown<BlockHash>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    block_time: Option<u32>,
}

impl From<Option<Confirmation>> for Status {
    fn from(confirmation: Option<Confirmation>) -> Self {
        Self {
            confirmed: confirmation.is_some(),
            block_height: confirmation.map(|block| block.height),
            block_hash: confirmation.map(|block| Shown(block.block_hash)),
            block_time: confirmation.map(|block| block.block_time),
        }
    }
}

/// A transaction.
pub(super) struct TransactionJson<'a> {
    pub(super) transaction: &'a Transaction,
    pub(super) status: Status,
    pub(super) flavour: Flavour,
}

impl Serialize for TransactionJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { transaction, status, flavour } = self;
        let mut json = serializer.serialize_struct("Transaction", 9)?;
        json.serialize_field("txid", &Shown(transaction.txid))?;
        json.serialize_field("version", &transaction.version)?;
        json.serialize_field("locktime", &transaction.lock_time)?;
        json.serialize_field("vin", &Inputs(transaction, *flavour))?;
        json.serialize_field("vout", &Outputs(&transaction.outputs, *flavour))?;
        json.serialize_field("size", &transaction.size)?;
        json.serialize_field("weight", &weight(transaction.weight, transaction.size))?;
        // A coinbase pays no fee. Null where the prevouts are unknown: never wrong.
        json.serialize_field("fee", &if transaction.coinbase { Some(0) } else { transaction.fee })?;
        json.serialize_field("status", status)?;
        json.end()
    }
}

/// The weight; four times the size where the chain has no witnesses, which is the same by BIP-141.
pub(super) fn weight(weight: Option<i64>, size: i64) -> i64 {
    weight.unwrap_or_else(|| size.saturating_mul(4))
}

struct Inputs<'a>(&'a Transaction, Flavour);

impl Serialize for Inputs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(transaction, flavour) = *self;
        serializer.collect_seq(transaction.inputs.iter().map(|input| InputJson {
            input,
            coinbase: transaction.coinbase,
            flavour,
        }))
    }
}

struct InputJson<'a> {
    input: &'a Input,
    coinbase: bool,
    flavour: Flavour,
}

impl Serialize for InputJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { input, coinbase, flavour } = *self;
        let inner = InnerScripts::of(input);
        let mut json = serializer.serialize_struct("Input", 10)?;
        json.serialize_field("txid", &Shown(input.prev_txid))?;
        json.serialize_field("vout", &input.prev_vout)?;
        let prevout = input.prevout.as_ref();
        json.serialize_field("prevout", &prevout.map(|prevout| OutputJson::of_prevout(prevout, flavour)))?;
        json.serialize_field("scriptsig", &Hex(&input.script_sig))?;
        json.serialize_field("scriptsig_asm", &Asm(&input.script_sig))?;
        if !input.witness.is_empty() {
            json.serialize_field("witness", &Witness(input))?;
        }
        json.serialize_field("is_coinbase", &coinbase)?;
        json.serialize_field("sequence", &input.sequence)?;
        if let Some(script) = inner.redeem {
            json.serialize_field("inner_redeemscript_asm", &Asm(script))?;
        }
        if let Some(script) = inner.witness {
            json.serialize_field("inner_witnessscript_asm", &Asm(script))?;
        }
        json.end()
    }
}

struct Witness<'a>(&'a Input);

impl Serialize for Witness<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut items = serializer.serialize_seq(Some(self.0.witness.len()))?;
        for item in &self.0.witness {
            items.serialize_element(&Hex(item))?;
        }
        items.end()
    }
}

struct Outputs<'a>(&'a [Output], Flavour);

impl Serialize for Outputs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|output| OutputJson::of_output(output, self.1)))
    }
}

#[derive(Serialize)]
struct OutputJson<'a> {
    scriptpubkey: Hex<'a>,
    scriptpubkey_asm: Asm<'a>,
    scriptpubkey_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    scriptpubkey_address: Option<&'a str>,
    value: i64,
}

impl<'a> OutputJson<'a> {
    fn of_output(output: &'a Output, flavour: Flavour) -> Self {
        Self::new(&output.script_pubkey, output.address.as_deref(), output.value, flavour)
    }

    fn of_prevout(prevout: &'a Prevout, flavour: Flavour) -> Self {
        Self::new(&prevout.script_pubkey, prevout.address.as_deref(), prevout.value, flavour)
    }

    fn new(script: &'a [u8], address: Option<&'a str>, value: i64, flavour: Flavour) -> Self {
        Self {
            scriptpubkey: Hex(script),
            scriptpubkey_asm: Asm(script),
            scriptpubkey_type: script_type(script, flavour),
            scriptpubkey_address: address,
            value,
        }
    }
}

/// A block.
#[derive(Serialize)]
pub(super) struct BlockJson {
    id: Shown<BlockHash>,
    height: i32,
    version: i32,
    timestamp: u32,
    tx_count: i64,
    size: i64,
    weight: i64,
    merkle_root: Shown<bitcoin::TxMerkleNode>,
    previousblockhash: Option<Shown<BlockHash>>,
    mediantime: i64,
    nonce: u32,
    bits: u32,
    /// A floating point number, as Esplora has it.
    difficulty: f64,
}

impl BlockJson {
    /// `None` where the header is none.
    pub(super) fn of(event: &ChainEvent) -> Option<Self> {
        let header: Header = bitcoin::consensus::deserialize(&event.header).ok()?;
        let is_first = header.prev_blockhash == BlockHash::all_zeros();
        Some(Self {
            id: Shown(event.hash),
            height: event.height,
            version: header.version.to_consensus(),
            timestamp: header.time,
            tx_count: event.tx_count,
            size: event.size,
            weight: weight(event.weight, event.size),
            merkle_root: Shown(header.merkle_root),
            previousblockhash: (!is_first).then_some(Shown(header.prev_blockhash)),
            mediantime: event.median_time / 1000,
            nonce: header.nonce,
            bits: header.bits.to_consensus(),
            difficulty: header.difficulty_float(),
        })
    }
}

/// Whether a block is on the best chain.
#[derive(Default, Serialize)]
pub(super) struct BlockStatus {
    pub(super) in_best_chain: bool,
    pub(super) height: Option<i32>,
    pub(super) next_best: Option<Shown<BlockHash>>,
}

/// Whether an output is spent, and by what.
#[derive(Serialize)]
pub(super) struct Outspend {
    spent: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    txid: Option<Shown<Txid>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vin: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
}

impl From<Option<Spender>> for Outspend {
    fn from(spender: Option<Spender>) -> Self {
        Self {
            spent: spender.is_some(),
            txid: spender.map(|spender| Shown(spender.txid)),
            vin: spender.map(|spender| spender.vin),
            status: spender.map(|spender| Status::from(spender.confirmation)),
        }
    }
}

/// An unspent output.
#[derive(Serialize)]
pub(super) struct Utxo {
    txid: Shown<Txid>,
    vout: u32,
    status: Status,
    value: i64,
}

impl From<Unspent> for Utxo {
    fn from(unspent: Unspent) -> Self {
        Self {
            txid: Shown(unspent.outpoint.txid),
            vout: unspent.outpoint.vout,
            status: Status::from(unspent.confirmation),
            value: unspent.value,
        }
    }
}

/// What happened to a script.
#[derive(Serialize)]
pub(super) struct ScriptStats<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) address: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) scripthash: Option<&'a str>,
    pub(super) chain_stats: ActivityJson,
    pub(super) mempool_stats: ActivityJson,
}

impl<'a> ScriptStats<'a> {
    pub(super) fn new(address: Option<&'a str>, scripthash: Option<&'a str>, stats: &Stats) -> Self {
        let (chain_stats, mempool_stats) = (ActivityJson(stats.chain), ActivityJson(stats.mempool));
        Self { address, scripthash, chain_stats, mempool_stats }
    }
}

/// What transactions do to a script, in sum.
pub(super) struct ActivityJson(Activity);

impl Serialize for ActivityJson {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut json = serializer.serialize_struct("Activity", 5)?;
        json.serialize_field("funded_txo_count", &self.0.funded_txo_count)?;
        json.serialize_field("funded_txo_sum", &self.0.funded_txo_sum)?;
        json.serialize_field("spent_txo_count", &self.0.spent_txo_count)?;
        json.serialize_field("spent_txo_sum", &self.0.spent_txo_sum)?;
        json.serialize_field("tx_count", &self.0.tx_count)?;
        json.end()
    }
}
