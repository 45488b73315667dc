//! A transaction with all that is known of it.

use bitcoin::consensus::Encodable;
use bitcoin::{Transaction, TxOut, Txid, Wtxid};
use bytes::Bytes;
use sluice_schemas::Flavour;

/// A transaction of the simulated world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimTransaction {
    /// Its id.
    pub txid: Txid,
    /// Its witness id.
    pub wtxid: Wtxid,
    /// Decoded.
    pub transaction: Transaction,
    /// Serialized.
    pub raw: Bytes,
    /// What its inputs spend, in order; empty for a coinbase.
    pub spent: Vec<TxOut>,
}

impl SimTransaction {
    /// Puts together a transaction and the outputs that it spends.
    pub(super) fn new(transaction: Transaction, spent: Vec<TxOut>) -> Self {
        let raw = Bytes::from(bitcoin::consensus::serialize(&transaction));
        let txid = transaction.compute_txid();
        let segwit = transaction.input.iter().any(|input| !input.witness.is_empty());
        let wtxid =
            if segwit { transaction.compute_wtxid() } else { Wtxid::from_raw_hash(txid.to_raw_hash()) };
        Self { txid, wtxid, transaction, raw, spent }
    }

    /// Fee in satoshis; 0 for a coinbase.
    pub fn fee(&self) -> u64 {
        let paid: u64 = self.transaction.output.iter().map(|out| out.value.to_sat()).sum();
        self.spent.iter().map(|out| out.value.to_sat()).sum::<u64>().saturating_sub(paid)
    }

    /// What it takes of a block's room: weight, or bytes where there are no witnesses.
    pub(super) fn room(&self, flavour: Flavour) -> u64 {
        match flavour {
            Flavour::Btc => self.transaction.weight().to_wu(),
            Flavour::Bsv => self.raw.len() as u64,
        }
    }

    /// Appends the outputs it spends as in Bitcoin Core's undo data: a vector.
    pub(super) fn write_spent(&self, bytes: &mut Vec<u8>) {
        self.spent.consensus_encode(bytes).expect("a vector takes all bytes");
    }
}
