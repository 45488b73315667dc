//! What people and scripts see.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use proptest::prelude::*;
use serde_json::{Value, json};
use sluice_schemas::{ChainEvent, Codec, EventKind, Human, MempoolEvent, StatusEvent, TransactionEvent};

fn golden<E: sluice_schemas::Event>(hex: &str) -> E {
    Codec::single_object().decode(&hex::decode(hex.trim()).unwrap()).unwrap()
}

#[test]
fn a_chain_event_reads_as_nodes_show_it() {
    let event: ChainEvent = golden(include_str!("golden/chain.hex"));
    assert_eq!(
        event.to_json(),
        json!({
            "sequence": 170,
            "action": "CONNECTED",
            "hash": "00000000d1145790a8694403d4063f323d499e655c83426834d4ce2f8dd4a2ee",
            "prev_hash": "000000002a22cfee1f2c846adbd12b3e183d4f97683f85dad08a79780a84bd55",
            "height": 170,
            "header": "0100000055bd840a78798ad0da853f68974f3d183e2bd1db6a842c1feecf222a00000000ff104ccb05421ab93e63f8c3ce5c2c2e9dbb37de2764b3a3175c8166562cac7d51b96a49ffff001d283e9e70",
            "chain_work": "000000000000000000000000000000000000000000000000000000ab00ab00ab",
            "time": "2009-01-12T03:30:25Z",
            "median_time": "2009-01-11T23:24:05Z",
            "tx_count": 2,
            "size": 490,
            "weight": null,
            "transactions": [
                { "partition": 3, "first_offset": 14, "records": 1, "count": 1 },
                { "partition": 11, "first_offset": 1_099_511_627_776_i64, "records": 7, "count": 1 },
            ],
            "phase": "BACKFILL",
            "observed_at": "2023-11-14T22:13:20.123Z",
            "epoch": 1,
            "network": "btc-mainnet",
        })
    );
    assert_eq!(
        event.line(),
        "#170 CONNECTED 170 00000000d1145790a8694403d4063f323d499e655c83426834d4ce2f8dd4a2ee 2 tx 490 bytes \
         2009-01-12T03:30:25Z BACKFILL"
    );
}

#[test]
fn a_transaction_event_reads_as_nodes_show_it() {
    let event: TransactionEvent = golden(include_str!("golden/transaction.hex"));
    let json = event.to_json();
    let transaction = &json["transaction"];
    assert_eq!(transaction["txid"], "f4184fc596403b9d638783cf57adfe4c75c605f6356fbc91338530e9831e9e16");
    assert_eq!(transaction["wtxid"], Value::Null);
    let input = &transaction["inputs"][0];
    assert_eq!(input["prev_txid"], "0437cd7f8525ceed2324359c2d0ba26006d92d856a9c20fa0241106ee5a597c9");
    assert_eq!(input["sequence"], 0xffff_ffff_u32);
    assert_eq!(input["prevout"]["value"], 5_000_000_000_i64);
    assert_eq!(transaction["outputs"][1]["script_type"], "PUBKEY");
    assert!(transaction["outputs"][0]["script_pubkey"].as_str().unwrap().starts_with("4104ae1a62fe09"));
    assert_eq!(
        event.line(),
        "#170 -170:1 f4184fc596403b9d638783cf57adfe4c75c605f6356fbc91338530e9831e9e16 1 in 2 out 5000000000 sat fee 0"
    );
}

#[test]
fn mempool_and_status_events_fit_a_line() {
    let event: MempoolEvent = golden(include_str!("golden/mempool.hex"));
    assert_eq!(
        event.line(),
        "2/300 ADDED 6c972fe677b6ed76e51c6eb9eb3f50958932919f1858948bbc1be0b1474ccca9 1 in 2 out 63493351 sat \
         2023-11-14T22:13:20.999Z node:127.0.0.1:8332"
    );
    assert_eq!(event.to_json()["transaction"]["inputs"][0]["witness"][1].as_str().unwrap().len(), 66);
    let event: MempoolEvent = golden(include_str!("golden/mempool_removed.hex"));
    assert_eq!(
        event.line(),
        "2/301 REMOVED f4184fc596403b9d638783cf57adfe4c75c605f6356fbc91338530e9831e9e16 CONFLICTED \
         in 00000000d1145790a8694403d4063f323d499e655c83426834d4ce2f8dd4a2ee \
         by 6c972fe677b6ed76e51c6eb9eb3f50958932919f1858948bbc1be0b1474ccca9 2023-11-14T22:13:21Z p2p"
    );
    let event: StatusEvent = golden(include_str!("golden/status.hex"));
    assert_eq!(
        event.line(),
        "2023-11-14T22:13:22Z GAP_REPAIRED node:127.0.0.1:8332 epoch 2 \
         tip #170 170 00000000d1145790a8694403d4063f323d499e655c83426834d4ce2f8dd4a2ee source at 171 \
         feed rawtx2 4294967290..=4294967295 recovered 6 réparé"
    );
}

/// Field names and order of the JSON are the schema's, nested records included.
fn follows(json: &Value, schema: &Value) {
    match schema {
        Value::Array(branches) if !json.is_null() => follows(json, &branches[branches.len() - 1]),
        Value::Object(object) if object.contains_key("fields") => {
            let fields = schema["fields"].as_array().unwrap();
            let names: Vec<_> = fields.iter().map(|field| field["name"].as_str().unwrap()).collect();
            let keys: Vec<_> = json.as_object().unwrap().keys().map(String::as_str).collect();
            assert_eq!(keys, names);
            fields.iter().for_each(|field| follows(&json[field["name"].as_str().unwrap()], &field["type"]));
        }
        Value::Object(object) if object.contains_key("items") => {
            json.as_array().unwrap().iter().for_each(|item| follows(item, &schema["items"]));
        }
        Value::Object(object) if object["type"] == "enum" => {
            assert!(schema["symbols"].as_array().unwrap().contains(json));
        }
        _ => assert!(!json.is_object() && !json.is_f64()),
    }
}

fn is_human(event: &impl Human, kind: EventKind) {
    follows(&event.to_json(), &serde_json::from_str(kind.schema()).unwrap());
    assert!(!event.line().contains(char::is_control), "{:?}", event.line());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn json_follows_the_schema(
        chain in common::chain_event(), transaction in common::transaction_event(),
        mempool in common::mempool_event(), mut status in common::status_event(),
    ) {
        status.detail.push_str("\u{1b}[2J\n");
        is_human(&chain, EventKind::Chain);
        is_human(&transaction, EventKind::Transaction);
        is_human(&mempool, EventKind::Mempool);
        is_human(&status, EventKind::Status);
    }
}
