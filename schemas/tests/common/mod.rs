//! Transactions of the real chain and arbitrary events, for the tests beside this folder.
#![allow(dead_code, reason = "each test file uses some of it")]

use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, Txid, Wtxid};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;
use sluice_schemas::{
    Action, ChainEvent, Input, MempoolEvent, MempoolKind, Output, PartitionRange, Phase, Prevout,
    RemovalReason, Script, ScriptType, StatusEvent, StatusKind, Transaction, TransactionEvent,
};

/// The raw transactions in `tests/raw`, by the txid that names the file.
pub(crate) fn raw_transactions() -> Vec<(Txid, Vec<u8>)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/raw");
    let mut found: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let txid = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
            (txid, hex::decode(std::fs::read_to_string(path).unwrap().trim()).unwrap())
        })
        .collect();
    found.sort();
    assert!(!found.is_empty());
    found
}

/// The raw transaction of one txid.
pub(crate) fn raw_transaction(txid: &str) -> Vec<u8> {
    let txid: Txid = txid.parse().unwrap();
    raw_transactions().into_iter().find(|(found, _)| *found == txid).unwrap().1
}

/// An event's transaction from raw bytes, by rust-bitcoin. Prevouts and addresses are left open.
pub(crate) fn transaction(raw: &[u8]) -> Transaction {
    let tx: bitcoin::Transaction = bitcoin::consensus::deserialize(raw).unwrap();
    let (txid, wtxid) = (tx.compute_txid(), tx.compute_wtxid());
    Transaction {
        txid,
        wtxid: (wtxid.to_byte_array() != txid.to_byte_array()).then_some(wtxid),
        version: tx.version.0,
        lock_time: tx.lock_time.to_consensus_u32().into(),
        size: tx.total_size() as i64,
        weight: Some(tx.weight().to_wu() as i64),
        coinbase: tx.is_coinbase(),
        inputs: tx
            .input
            .iter()
            .map(|input| Input {
                prev_txid: input.previous_output.txid,
                prev_vout: input.previous_output.vout.into(),
                script_sig: input.script_sig.to_bytes().into(),
                sequence: input.sequence.0.into(),
                witness: input.witness.iter().map(|item| item.to_vec().into()).collect(),
                prevout: None,
            })
            .collect(),
        outputs: tx
            .output
            .iter()
            .map(|output| Output {
                value: output.value.to_sat() as i64,
                script_pubkey: output.script_pubkey.to_bytes().into(),
                script_type: ScriptType::Nonstandard,
                address: None,
            })
            .collect(),
        fee: None,
    }
}

fn script() -> impl Strategy<Value = Script> {
    vec(any::<u8>(), 0..40).prop_map(Script::from)
}

fn txid() -> impl Strategy<Value = Txid> {
    any::<[u8; 32]>().prop_map(Txid::from_byte_array)
}

fn wtxid() -> impl Strategy<Value = Wtxid> {
    any::<[u8; 32]>().prop_map(Wtxid::from_byte_array)
}

fn block_hash() -> impl Strategy<Value = BlockHash> {
    any::<[u8; 32]>().prop_map(BlockHash::from_byte_array)
}

fn header() -> impl Strategy<Value = [u8; 80]> {
    vec(any::<u8>(), 80).prop_map(|bytes| bytes.try_into().unwrap())
}

fn text() -> impl Strategy<Value = String> {
    "\\PC{0,12}"
}

fn action() -> impl Strategy<Value = Action> {
    select(vec![Action::Connected, Action::Disconnected])
}

const SCRIPT_TYPES: [ScriptType; 11] = [
    ScriptType::Nonstandard,
    ScriptType::Pubkey,
    ScriptType::Pubkeyhash,
    ScriptType::Scripthash,
    ScriptType::Multisig,
    ScriptType::Nulldata,
    ScriptType::WitnessV0Keyhash,
    ScriptType::WitnessV0Scripthash,
    ScriptType::WitnessV1Taproot,
    ScriptType::Anchor,
    ScriptType::WitnessUnknown,
];

prop_compose! {
    fn prevout()(value in any::<i64>(), script_pubkey in script(), address in of(text()), height in of(any::<i32>()))
        -> Prevout {
        Prevout { value, script_pubkey, address, height }
    }
}

prop_compose! {
    fn input()(
        prev_txid in txid(), prev_vout in any::<i64>(), script_sig in script(), sequence in any::<i64>(),
        witness in vec(script(), 0..4), prevout in of(prevout()),
    ) -> Input {
        Input { prev_txid, prev_vout, script_sig, sequence, witness, prevout }
    }
}

prop_compose! {
    fn output()(
        value in any::<i64>(), script_pubkey in script(), script_type in select(SCRIPT_TYPES.to_vec()),
        address in of(text()),
    ) -> Output {
        Output { value, script_pubkey, script_type, address }
    }
}

prop_compose! {
    pub(crate) fn any_transaction()(
        txid in txid(), wtxid in of(wtxid()), version in any::<i32>(), lock_time in any::<i64>(), size in any::<i64>(),
        weight in of(any::<i64>()), coinbase in any::<bool>(), inputs in vec(input(), 0..4),
        outputs in vec(output(), 0..4), fee in of(any::<i64>()),
    ) -> Transaction {
        Transaction { txid, wtxid, version, lock_time, size, weight, coinbase, inputs, outputs, fee }
    }
}

prop_compose! {
    fn range()(partition in any::<i32>(), first_offset in any::<i64>(), records in any::<i64>(), count in any::<i64>())
        -> PartitionRange {
        PartitionRange { partition, first_offset, records, count }
    }
}

prop_compose! {
    pub(crate) fn chain_event()(
        (sequence, height, tx_count, size, epoch) in any::<(i64, i32, i64, i64, i64)>(),
        (time, median_time, observed_at, chain_work) in any::<(i64, i64, i64, [u8; 32])>(),
        action in action(), hash in block_hash(), prev_hash in block_hash(), header in header(),
        weight in of(any::<i64>()), transactions in vec(range(), 0..4), live in any::<bool>(), network in text(),
    ) -> ChainEvent {
        let phase = if live { Phase::Live } else { Phase::Backfill };
        ChainEvent {
            sequence, action, hash, prev_hash, height, header, chain_work, time, median_time, tx_count, size, weight,
            transactions, phase, observed_at, epoch, network,
        }
    }
}

prop_compose! {
    pub(crate) fn transaction_event()(
        (sequence, height, block_time, position) in any::<(i64, i32, i64, i64)>(),
        action in action(), block_hash in block_hash(), transaction in any_transaction(),
    ) -> TransactionEvent {
        TransactionEvent { sequence, action, block_hash, height, block_time, position, transaction }
    }
}

prop_compose! {
    pub(crate) fn mempool_event()(
        (epoch, sequence, chain_sequence, observed_at) in any::<(i64, i64, i64, i64)>(),
        kind in select(vec![MempoolKind::Reset, MempoolKind::Added, MempoolKind::Removed]),
        txid in txid(), transaction in of(any_transaction()),
        reason in of(select(vec![
            RemovalReason::Mined, RemovalReason::Replaced, RemovalReason::Conflicted, RemovalReason::Expired,
            RemovalReason::Evicted, RemovalReason::Unknown,
        ])),
        block_hash in of(block_hash()), replaced_by in of(self::txid()), first_seen in of(any::<i64>()), source in text(),
    ) -> MempoolEvent {
        MempoolEvent {
            epoch, sequence, chain_sequence, kind, txid, transaction, reason, block_hash, replaced_by, first_seen,
            observed_at, source,
        }
    }
}

prop_compose! {
    pub(crate) fn status_event()(
        (epoch, chain_sequence, observed_at, tip_height, source_height)
            in any::<(i64, i64, i64, Option<i32>, Option<i32>)>(),
        (from, to, recovered) in any::<(Option<i64>, Option<i64>, Option<i64>)>(),
        kind in select(vec![
            StatusKind::Heartbeat, StatusKind::GapDetected, StatusKind::GapRepaired, StatusKind::SourceUp,
            StatusKind::SourceDown, StatusKind::Takeover, StatusKind::Reorg,
        ]),
        source in text(), tip_hash in of(block_hash()), feed in of(text()), detail in text(),
    ) -> StatusEvent {
        StatusEvent {
            kind, source, epoch, tip_hash, tip_height, chain_sequence, source_height, feed, from, to, recovered,
            detail, observed_at,
        }
    }
}
