//! Bytes that fastavro wrote (`golden/make.py`) are the bytes that we write, and read back.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use sluice_schemas::{
    Action, ChainEvent, Codec, Event, MempoolEvent, MempoolKind, PartitionRange, Phase, Prevout,
    RemovalReason, ScriptType, StatusEvent, StatusKind, TransactionEvent,
};

const FIRST: &str = "f4184fc596403b9d638783cf57adfe4c75c605f6356fbc91338530e9831e9e16";
const WITNESS: &str = "6c972fe677b6ed76e51c6eb9eb3f50958932919f1858948bbc1be0b1474ccca9";
const BLOCK_170: &str = "00000000d1145790a8694403d4063f323d499e655c83426834d4ce2f8dd4a2ee";
const FIRST_PREVOUT: &str = "410411db93e1dcdb8a016b49840f8c53bc1eb68a382e97b1482ecad7b148a6909a5cb2e0eaddfb84ccf9744464f82e160bfa9b8b64f9d4c03f999b8643f656b412a3ac";
const HEADER_170: &str = "0100000055bd840a78798ad0da853f68974f3d183e2bd1db6a842c1feecf222a00000000ff104ccb05421ab93e63f8c3ce5c2c2e9dbb37de2764b3a3175c8166562cac7d51b96a49ffff001d283e9e70";

fn check<E: Event + PartialEq + std::fmt::Debug>(event: E, golden: &str) {
    let golden = hex::decode(golden.trim()).unwrap();
    let mut bytes = Vec::new();
    Codec::single_object().encode(&event, &mut bytes);
    assert_eq!(hex::encode(&bytes), hex::encode(&golden));
    assert_eq!(Codec::single_object().decode::<E>(&golden).unwrap(), event);
}

#[test]
fn a_chain_event_is_written_as_fastavro_writes_it() {
    let mut chain_work = [0; 32];
    chain_work[27..].copy_from_slice(&[0xab, 0x00, 0xab, 0x00, 0xab]);
    let header: bitcoin::block::Header =
        bitcoin::consensus::deserialize(&hex::decode(HEADER_170).unwrap()).unwrap();
    assert_eq!(header.block_hash().to_string(), BLOCK_170);
    check(
        ChainEvent {
            sequence: 170,
            action: Action::Connected,
            hash: header.block_hash(),
            prev_hash: header.prev_blockhash,
            height: 170,
            header: hex::decode(HEADER_170).unwrap().try_into().unwrap(),
            chain_work,
            time: 1_231_731_025_000,
            median_time: 1_231_716_245_000,
            tx_count: 2,
            size: 490,
            weight: None,
            transactions: vec![
                PartitionRange { partition: 3, first_offset: 14, records: 1, count: 1 },
                PartitionRange { partition: 11, first_offset: 1 << 40, records: 7, count: 1 },
            ],
            phase: Phase::Backfill,
            observed_at: 1_700_000_000_123,
            epoch: 1,
            network: "btc-mainnet".into(),
        },
        include_str!("golden/chain.hex"),
    );
}

#[test]
fn a_transaction_event_is_written_as_fastavro_writes_it() {
    let mut transaction = common::transaction(&common::raw_transaction(FIRST));
    transaction.inputs[0].prevout = Some(Prevout {
        value: 5_000_000_000,
        script_pubkey: hex::decode(FIRST_PREVOUT).unwrap().into(),
        address: None,
        height: Some(9),
    });
    transaction.outputs.iter_mut().for_each(|output| output.script_type = ScriptType::Pubkey);
    transaction.fee = Some(0);
    check(
        TransactionEvent {
            sequence: 170,
            action: Action::Disconnected,
            block_hash: BLOCK_170.parse().unwrap(),
            height: 170,
            block_time: 1_231_731_025_000,
            position: 1,
            transaction,
        },
        include_str!("golden/transaction.hex"),
    );
}

#[test]
fn mempool_events_are_written_as_fastavro_writes_them() {
    let mut transaction = common::transaction(&common::raw_transaction(WITNESS));
    transaction.outputs[0].script_type = ScriptType::Scripthash;
    transaction.outputs[0].address = Some(
        bitcoin::Address::from_script(
            bitcoin::Script::from_bytes(&transaction.outputs[0].script_pubkey),
            bitcoin::Network::Bitcoin,
        )
        .unwrap()
        .to_string(),
    );
    transaction.outputs[1].script_type = ScriptType::WitnessV0Keyhash;
    check(
        MempoolEvent {
            epoch: 2,
            sequence: 300,
            chain_sequence: -1,
            kind: MempoolKind::Added,
            txid: WITNESS.parse().unwrap(),
            transaction: Some(transaction),
            reason: None,
            block_hash: None,
            replaced_by: None,
            first_seen: Some(1_700_000_000_000),
            observed_at: 1_700_000_000_999,
            source: "node:127.0.0.1:8332".into(),
        },
        include_str!("golden/mempool.hex"),
    );
    check(
        MempoolEvent {
            epoch: 2,
            sequence: 301,
            chain_sequence: 170,
            kind: MempoolKind::Removed,
            txid: FIRST.parse().unwrap(),
            transaction: None,
            reason: Some(RemovalReason::Conflicted),
            block_hash: Some(BLOCK_170.parse().unwrap()),
            replaced_by: Some(WITNESS.parse().unwrap()),
            first_seen: None,
            observed_at: 1_700_000_001_000,
            source: "p2p".into(),
        },
        include_str!("golden/mempool_removed.hex"),
    );
}

#[test]
fn a_status_event_is_written_as_fastavro_writes_it() {
    check(
        StatusEvent {
            kind: StatusKind::GapRepaired,
            source: "node:127.0.0.1:8332".into(),
            epoch: 2,
            tip_hash: Some(BLOCK_170.parse().unwrap()),
            tip_height: Some(170),
            chain_sequence: 170,
            source_height: Some(171),
            feed: Some("rawtx2".into()),
            from: Some(4_294_967_290),
            to: Some(4_294_967_295),
            recovered: Some(6),
            detail: "réparé".into(),
            observed_at: 1_700_000_002_000,
        },
        include_str!("golden/status.hex"),
    );
}
