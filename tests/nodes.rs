//! Nodes as people run them: with a cookie, pruned, and of an older version.
#![allow(clippy::unwrap_used)]

use sluice_test_support::serde_json::{self, Value, json};
use sluice_test_support::sluice_schemas::Action;
use sluice_test_support::{
    Coin, Dir, FEE, Flavour, HttpProxy, Lock, LogKind, Mangle, Node, Pipeline, Sluice, Wallet, parts,
    producer_binary,
};

/// Blocks that a pruned node keeps in any case.
const KEPT: usize = 288;

#[test]
fn a_node_that_makes_a_new_cookie_is_followed_on() {
    if !parts::have_node(Flavour::Btc) || !parts::have_node(Flavour::Bsv) {
        return;
    }
    for flavour in [Flavour::Btc, Flavour::Bsv] {
        let node = Node::start_with_cookie(flavour);
        node.mine(5);
        let dir = Dir::new("cookie");
        let log = LogKind::Sqlite.url(&dir);
        let url = format!("http://{}", node.rpc_address());
        let pipeline = Pipeline::new(dir, log, &["--node", &url, "--node-cookie", node.cookie()]);
        let arguments = [pipeline.log_options(), pipeline.options.clone()].concat();
        let mut producer =
            Sluice::spawn(&producer_binary(), &pipeline.dir, "", &arguments, &pipeline.environment);
        let mut view = pipeline.view();
        view.equals(&node);
        let before = std::fs::read_to_string(node.cookie()).unwrap();
        node.stop();
        node.up();
        let after = std::fs::read_to_string(node.cookie()).unwrap();
        assert_ne!(before, after, "each start makes another cookie");
        node.mine(3);
        view.equals(&node);
        assert!(producer.runs());
        let (status, said) = producer.stopped();
        assert!(status.success());
        for cookie in [before, after] {
            let secret = cookie.trim().split_once(':').unwrap().1;
            assert!(!said.contains(secret), "the cookie was shown: {said}");
        }
        pipeline.sluice(&["verify", "--node", &url, "--node-cookie", node.cookie()]).succeeded();
    }
}

#[test]
fn a_pruned_node_is_followed_by_a_log_that_has_what_it_lacks() {
    if !parts::have_node(Flavour::Btc) {
        return;
    }
    let node = Node::start_with(Flavour::Btc, "-prune=1 -fastprune");
    node.fund(2_000);
    let pipeline = Pipeline::of(&node, LogKind::Sqlite);
    let producer = pipeline.up();
    let mut view = pipeline.view();
    view.equals(&node);
    assert!(producer.stop().success());

    node.mine(2 * KEPT);
    node.call("pruneblockchain", json!([node.tip().height - KEPT as i32]));
    let first = node.call("getblockchaininfo", json!([]))["pruneheight"].as_i64().unwrap();
    assert!(first > view.chain().len() as i64, "it has pruned what the log does not have: {first}");
    let events = view.chain_events.len();
    let mut producer = pipeline.up();
    let status = producer.wait();
    let output = producer.output();
    let errors: Vec<_> = output.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!((status.code(), errors.len()), (Some(1), 1), "{output}");
    assert!(errors[0].contains("pruned block") && errors[0].contains("prune=0"), "{output}");
    view.chain();
    assert_eq!(view.chain_events.len(), events, "nothing was left out");
    pipeline.verify();

    // A log that is past what the node has pruned.
    let young = Node::start_with(Flavour::Btc, "-prune=1 -fastprune");
    let mut coins = young.fund(2_000);
    young.mine(2 * KEPT);
    let pipeline = Pipeline::of(&young, LogKind::Sqlite);
    let producer = pipeline.up();
    let mut view = pipeline.view();
    view.equals(&young);
    let below = young.call("pruneblockchain", json!([young.tip().height - KEPT as i32]));
    assert!(below.as_i64().unwrap() > 100, "it has pruned: {below}");
    let spent = Wallet::pay(&coins.take(), Lock::Anyone, FEE);
    young.send(&spent);
    young.mine(1);
    view.equals(&young);
    young.reorganise(6, vec![]);
    view.equals(&young);
    // And again after a restart, with the undo from the log alone.
    assert!(producer.stop().success());
    young.reorganise(4, vec![]);
    let producer = pipeline.up();
    view.equals(&young);
    let undone = view.chain_events.iter().filter(|event| event.action == Action::Disconnected).count();
    assert_eq!(undone, 10);
    assert!(producer.stop().success());
    pipeline.verify();
}

#[test]
fn an_older_node_that_does_not_tell_what_is_spent_is_followed_without() {
    if !parts::have_node(Flavour::Btc) {
        return;
    }
    let (node, mut wallet) = Node::start_funded(Flavour::Btc, 400);
    // Bitcoin Core before version 31 has no such path.
    let proxy = HttpProxy::start(node.rpc_address());
    proxy.set(Mangle::Unknown("/rest/spenttxouts/"));
    let dir = Dir::new("older");
    let log = LogKind::Sqlite.url(&dir);
    let pipeline = Pipeline::new(dir, log, &["--node", &node.url_at(proxy.address()), "--zmq", node.zmq()]);
    let producer = pipeline.up();
    let mut view = pipeline.view();
    let parent = Wallet::pay(&wallet.take(), Lock::AnyoneByWitness, FEE);
    let child = Wallet::pay(&Coin::of(&parent)[0], Lock::Anyone, FEE);
    node.send(&parent);
    node.send(&child);
    node.mine(1);
    view.equals(&node);
    node.reorganise(2, vec![]);
    view.equals(&node);
    assert!(proxy.mangled() > 0, "nobody asked");
    let (status, _) = producer.stopped();
    assert!(status.success());
    let tail =
        pipeline.sluice(&["tail", "transactions", "--json", "--from", "genesis", "--no-follow"]).succeeded();
    let mut spenders = 0;
    for line in tail.stdout.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        let transaction = &event["transaction"];
        if transaction["coinbase"] == false {
            spenders += 1;
            assert!(transaction["fee"].is_null(), "no fee where it is not known what is spent: {line}");
            for input in transaction["inputs"].as_array().unwrap() {
                assert!(input["prevout"].is_null(), "{line}");
            }
        }
    }
    assert_eq!(spenders, 4, "two transactions, connected and disconnected");
    pipeline.verify_against(&node);
}
