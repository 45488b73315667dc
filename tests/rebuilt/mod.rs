//! A node's chain on Kafka, and what a consumer in another language makes of it.

use std::process::Command;

use sluice_test_support::serde_json::{self, Value};
use sluice_test_support::{FEE, Flavour, Kafka, Lock, LogKind, Node, Pipeline, View, Wallet, parts};

/// Where a consumer finds the schemas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Schemas {
    /// In this repository.
    AtHand,
    /// In a schema registry.
    Registry,
}

/// Publishes a chain and a mempool with payments and a reorg, has `program` (the variable that names it) run `source`
/// on the topics, and compares what it rebuilt with the node.
pub(crate) fn by(program: &str, source: &str, flavour: Flavour, schemas: Schemas) {
    if !parts::have_node(flavour) || !LogKind::Kafka.there() || !parts::have(program) {
        return;
    }
    if schemas == Schemas::Registry && !parts::have("SLUICE_TEST_REGISTRY") {
        return;
    }
    let (node, mut wallet) = Node::start_funded(flavour, 600);
    pay(&node, &mut wallet, 200);
    node.mine(2);
    let mut pipeline = Pipeline::of(&node, LogKind::Kafka);
    let root = env!("CARGO_MANIFEST_DIR");
    let (mut view, wanted) = match schemas {
        Schemas::AtHand => (pipeline.view(), ["--schemas".to_owned(), format!("{root}/schemas/avro")]),
        Schemas::Registry => {
            let url = parts::setting("SLUICE_TEST_REGISTRY").unwrap();
            pipeline.options.extend(["--schema-registry".to_owned(), url.clone()]);
            let view = View::open_with_registry(&pipeline.log, &pipeline.prefix, &url);
            (view, ["--registry".to_owned(), url])
        }
    };
    let producer = pipeline.up();
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

    let output = Command::new(parts::path(program))
        .arg(format!("{root}/{source}"))
        .args([Kafka::shared().trim_start_matches("kafka://"), &pipeline.prefix])
        .args(wanted)
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
