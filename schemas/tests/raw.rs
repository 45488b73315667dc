//! Raw transactions are rebuilt byte for byte, and an event that contradicts itself is found out.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use proptest::prelude::*;
use sluice_schemas::Script;
use sluice_schemas::raw::Mismatch;

#[test]
fn transactions_of_the_real_chain_are_rebuilt_byte_for_byte() {
    let mut with_witness = 0;
    for (txid, raw) in common::raw_transactions() {
        let transaction = common::transaction(&raw);
        assert_eq!(transaction.txid, txid);
        assert_eq!(hex::encode(transaction.to_raw()), hex::encode(&raw));
        assert_eq!(transaction.verify(), Ok(()), "{txid}");
        with_witness += u32::from(transaction.has_witness());
    }
    assert_eq!(with_witness, 5);
}

#[test]
fn the_genesis_coinbase_is_rebuilt() {
    let genesis = bitcoin::constants::genesis_block(bitcoin::Network::Bitcoin);
    let raw = bitcoin::consensus::serialize(&genesis.txdata[0]);
    let transaction = common::transaction(&raw);
    assert!(transaction.coinbase && !transaction.has_witness());
    assert_eq!(transaction.to_raw(), raw);
    assert_eq!(
        raw,
        common::raw_transaction("4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b")
    );
}

#[test]
fn a_coinbase_with_a_witness_is_rebuilt() {
    let raw = common::raw_transaction("4be105f158ea44aec57bf12c5817d073a712ab131df6f37786872cfc70734188");
    let transaction = common::transaction(&raw);
    assert!(transaction.coinbase && transaction.has_witness());
    assert_eq!(transaction.weight, Some(780));
    assert_eq!(transaction.to_raw(), raw);
}

#[test]
fn an_event_that_contradicts_itself_is_found_out() {
    let raw = common::raw_transaction("6c972fe677b6ed76e51c6eb9eb3f50958932919f1858948bbc1be0b1474ccca9");
    let sound = common::transaction(&raw);

    let mut event = sound.clone();
    event.outputs[0].value += 1;
    assert!(matches!(event.verify(), Err(Mismatch::Txid { .. })));

    let mut event = sound.clone();
    event.inputs[0].witness[0] = Script::default();
    assert!(matches!(event.verify(), Err(Mismatch::Wtxid { .. })));

    let event = sluice_schemas::Transaction { wtxid: None, ..sound.clone() };
    assert!(matches!(event.verify(), Err(Mismatch::Wtxid { .. })));

    let event = sluice_schemas::Transaction { size: 1, ..sound.clone() };
    assert!(matches!(event.verify(), Err(Mismatch::Size { .. })));

    let event = sluice_schemas::Transaction { weight: Some(1), ..sound.clone() };
    assert!(matches!(event.verify(), Err(Mismatch::Weight { .. })));

    let event = sluice_schemas::Transaction { weight: None, ..sound };
    assert_eq!(event.verify(), Ok(()));
}

/// At each boundary of CompactSize.
#[test]
fn long_scripts_and_stacks_are_rebuilt() {
    let raw = common::raw_transaction("6c972fe677b6ed76e51c6eb9eb3f50958932919f1858948bbc1be0b1474ccca9");
    for len in [0, 1, 0xfc, 0xfd, 0xffff, 0x1_0000] {
        let mut tx: bitcoin::Transaction = bitcoin::consensus::deserialize(&raw).unwrap();
        tx.output[0].script_pubkey = vec![0x51; len].into();
        tx.input[0].witness = vec![vec![1_u8]; len.max(1)].into();
        let raw = bitcoin::consensus::serialize(&tx);
        let transaction = common::transaction(&raw);
        assert_eq!(transaction.to_raw(), raw);
        assert_eq!(transaction.verify(), Ok(()));
    }
}

proptest! {
    /// rust-bitcoin reads back what is rebuilt, wherever there is an input (without one the marker is ambiguous).
    #[test]
    fn any_transaction_is_rebuilt_as_rust_bitcoin_has_it(transaction in common::any_transaction()) {
        prop_assume!(!transaction.inputs.is_empty());
        let raw = transaction.to_raw();
        let tx: bitcoin::Transaction = bitcoin::consensus::deserialize(&raw).unwrap();
        prop_assert_eq!(tx.version.0, transaction.version);
        prop_assert_eq!(tx.input.len(), transaction.inputs.len());
        prop_assert_eq!(bitcoin::consensus::serialize(&tx), &raw[..]);
        let mut written = Vec::new();
        transaction.write_raw(&mut written).unwrap();
        prop_assert_eq!(written, raw);
        let _ = transaction.verify();
    }
}
