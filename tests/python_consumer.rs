//! Consumers in another language rebuild the node's chain from the topics, with nothing but Kafka's client and Avro.
#![allow(clippy::unwrap_used)]

use std::process::Command;

use sluice_test_support::serde_json::{self, Value};
use sluice_test_support::{FEE, Flavour, Lock, LogKind, Node, Pipeline, View, Wallet, parts};

#[test]
fn python_rebuilds_the_chain_of_bitcoin_sv_with_the_schemas_at_hand() {
    let schemas = concat!(env!("CARGO_MANIFEST_DIR"), "/schemas/avro");
    rebuild(Flavour::Bsv, &[], &["--schemas", schemas]);
}

#[test]
fn python_rebuilds_the_chain_of_bitcoin_core_with_a_schema_registry() {
    if !parts::have("SLUICE_TEST_REGISTRY") {
        return;
    }
    let registry = parts::setting("SLUICE_TEST_REGISTRY").unwrap();
    rebuild(Flavour::Btc, &["--schema-registry", &registry], &["--registry", &registry]);
}

fn rebuild(flavour: Flavour, producer_options: &[&str], consumer_options: &[&str]) {
    if !parts::have_node(flavour) || !LogKind::Kafka.there() || !parts::have("SLUICE_TEST_PYTHON") {
        return;
    }
    let (node, mut wallet) = Node::start_funded(flavour, 600);
    pay(&node, &mut wallet, 200);
    node.mine(2);
    let mut pipeline = Pipeline::of(&node, LogKind::Kafka);
    pipeline.options.extend(producer_options.iter().map(|o| (*o).to_owned()));
    let producer = pipeline.up();
    let mut view = match producer_options {
        [_, registry] => View::open_with_registry(&pipeline.log, &pipeline.prefix, registry),
        _ => pipeline.view(),
    };
    view.reaches_tip_of(&node);
    if flavour == Flavour::Bsv {
        // Larger than a record: it goes in chunks, in the mempool and in its block.
        node.send(&Wallet::store(&wallet.take(), &[0x5a; 2_000_000], 1_000_000));
    }
    pay(&node, &mut wallet, 100);
    node.mine(1);
    view.reaches_tip_of(&node);
    node.reorganise(3, vec![]);
    view.reaches_tip_of(&node);
    node.mine(1);
    pay(&node, &mut wallet, 20);
    view.equals(&node);
    assert!(producer.stop().success());

    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/consume.py");
    let bootstrap = pipeline.log.trim_start_matches("kafka://");
    let output = Command::new(parts::path("SLUICE_TEST_PYTHON"))
        .args([script, bootstrap, &pipeline.prefix])
        .args(consumer_options)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let rebuilt: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mempool: Vec<_> = view.mempool().txids.iter().map(ToString::to_string).collect();
    assert_eq!(mempool.len(), 20);
    assert_eq!(sorted(&rebuilt["mempool"]), sorted(&serde_json::json!(mempool)));
    let rebuilt = rebuilt["chain"].as_array().unwrap();
    let chain = node.best_chain();
    assert_eq!(rebuilt.len(), chain.len());
    for ((height, hash), block) in (0..).zip(&chain).zip(rebuilt) {
        assert_eq!(block["height"], height);
        assert_eq!(block["hash"], hash.to_string());
        let txids: Vec<_> = node.txids(hash).iter().map(ToString::to_string).collect();
        assert_eq!(block["txids"], serde_json::json!(txids), "transactions of block {height} in their order");
    }
}

fn pay(node: &Node, wallet: &mut Wallet, count: usize) {
    for i in 0..count {
        let lock = match node.flavour {
            Flavour::Btc if i % 2 == 0 => Lock::AnyoneByWitness,
            _ => Lock::Anyone,
        };
        node.send(&Wallet::pay(&wallet.take(), lock, FEE));
    }
}

fn sorted(txids: &Value) -> Vec<&str> {
    let mut txids: Vec<_> = txids.as_array().unwrap().iter().map(|txid| txid.as_str().unwrap()).collect();
    txids.sort_unstable();
    txids
}
