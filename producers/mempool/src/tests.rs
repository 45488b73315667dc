//! Domain tests of the mempool view.

mod derived;
mod model;
mod node;

use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, OutPoint, Txid};
use sluice_schemas::{Input as TxInput, Output as TxOutput, Script, ScriptType, Transaction};

fn txid(number: u64) -> Txid {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    Txid::from_byte_array(bytes)
}

fn block_hash(number: u64) -> BlockHash {
    BlockHash::from_raw_hash(txid(number).to_raw_hash())
}

/// A transaction with two outputs.
fn transaction(number: u64, spends: &[OutPoint]) -> Box<Transaction> {
    let input = |outpoint: &OutPoint| TxInput {
        prev_txid: outpoint.txid,
        prev_vout: i64::from(outpoint.vout),
        script_sig: Script::default(),
        sequence: 0xffff_fffd,
        witness: Vec::new(),
        prevout: None,
    };
    let output = TxOutput {
        value: 1,
        script_pubkey: Script::default(),
        script_type: ScriptType::Nonstandard,
        address: None,
    };
    Box::new(Transaction {
        txid: txid(number),
        wtxid: None,
        version: 2,
        lock_time: 0,
        size: 100,
        weight: None,
        coinbase: false,
        inputs: spends.iter().map(input).collect(),
        outputs: vec![output.clone(), output],
        fee: None,
    })
}
