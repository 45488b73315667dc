//! What goes wrong around a producer: each fault is one clear line and the right exit code, or is waited for; nothing
//! wrong is published, nothing is lost, and nobody has to help once the cause is gone.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use sluice_test_support::rand::{RngCore as _, SeedableRng as _};
use sluice_test_support::rand_chacha::ChaCha8Rng;
use sluice_test_support::serde_json::json;
use sluice_test_support::sluice_log::{self, NewRecord};
use sluice_test_support::sluice_schemas::StatusKind;
use sluice_test_support::{
    Dir, Disk, FEE, Finished, Flavour, HttpProxy, Kafka, Lock, LogKind, Mangle, Node, Pipeline, Sluice,
    Wallet, parts, soon,
};

#[test]
fn a_node_of_another_network_is_refused() {
    if !parts::have_node(Flavour::Bsv) || !parts::have_node(Flavour::Btc) {
        return;
    }
    let node = Node::start(Flavour::Bsv);
    node.mine(5);
    let mut pipeline = Pipeline::of(&node, LogKind::Sqlite);
    let producer = pipeline.up();
    let mut view = pipeline.view();
    view.reaches_tip_of(&node);
    assert!(producer.stop().success());
    let events = view.chain_events.len();

    // The same genesis block, the same topics, another network.
    let other = Node::start(Flavour::Btc);
    other.mine(10);
    pipeline.options = ["--node", &other.url()].map(str::to_owned).to_vec();
    let (code, line) = ends(pipeline.up());
    assert_eq!(code, Some(1), "{line}");
    assert!(line.contains("bsv-regtest") && line.contains("btc-regtest"), "it names both: {line}");

    // What the option says against what the node says.
    pipeline.options = ["--node", &node.url(), "--network", "bsv-mainnet"].map(str::to_owned).to_vec();
    let (code, line) = ends(pipeline.up());
    assert_eq!(code, Some(64), "{line}");
    assert!(line.contains("bsv-regtest") && line.contains("bsv-mainnet"), "it names both: {line}");

    view.chain();
    assert_eq!(view.chain_events.len(), events, "nothing was published");
    pipeline.verify_against(&node);
}

#[test]
fn wrong_credentials_are_refused_and_not_repeated() {
    if !parts::have_node(Flavour::Bsv) {
        return;
    }
    let node = Node::start(Flavour::Bsv);
    let mut pipeline = Pipeline::of(&node, LogKind::Sqlite);
    let wrong = format!("http://sluice:mistaken@{}", node.rpc_address());
    pipeline.options = ["--node", &wrong].map(str::to_owned).to_vec();
    let (code, line) = ends(pipeline.up());
    assert_eq!(code, Some(1), "{line}");
    assert!(line.contains("credentials") || line.contains("password"), "{line}");
    assert!(!line.contains("mistaken"), "a secret was shown: {line}");
}

#[test]
fn a_node_that_is_not_there_yet_is_waited_for() {
    if !parts::have_node(Flavour::Bsv) {
        return;
    }
    let node = Node::start(Flavour::Bsv);
    node.mine(5);
    node.stop();
    let pipeline = Pipeline::of(&node, LogKind::Sqlite);
    let mut producer = pipeline.up();
    std::thread::sleep(Duration::from_secs(2));
    assert!(producer.runs(), "a node that is down is no reason to end");
    node.up();
    pipeline.view().equals(&node);
    assert!(producer.stop().success());
    pipeline.verify_against(&node);
}

#[test]
fn a_producer_that_waits_for_its_node_can_be_stopped() {
    let dir = Dir::new("absent");
    let log = LogKind::Sqlite.url(&dir);
    // The discard port: nobody listens there.
    let pipeline = Pipeline::new(dir, log, &["--node", "http://user:password@127.0.0.1:9"]);
    let mut producer = pipeline.up();
    producer.says("source is not there yet");
    let (status, output) = producer.stopped();
    assert_eq!(status.code(), Some(0), "{output}");
    assert!(output.contains("stopped before the source was there"), "{output}");
    assert!(!output.contains("error: "), "{output}");
}

#[test]
fn spoiled_bodies_are_never_published() {
    if !parts::have_node(Flavour::Bsv) || !parts::have_node(Flavour::Btc) {
        return;
    }
    for flavour in [Flavour::Bsv, Flavour::Btc] {
        let (node, mut wallet) = Node::start_funded(flavour, 100);
        let proxy = HttpProxy::start(node.rpc_address());
        let dir = Dir::new("spoiled");
        let log = LogKind::Sqlite.url(&dir);
        let url = node.url_at(proxy.address());
        let pipeline = Pipeline::new(dir, log, &["--node", &url, "--zmq", node.zmq()]);
        let producer = pipeline.up();
        let mut view = pipeline.view();
        view.reaches_tip_of(&node);
        let other = Mangle::Replace(node.best_chain()[50].to_string());
        let spoilings =
            [Mangle::FlipLastBit, Mangle::CutInHalf, Mangle::EndAtHalf, other, Mangle::Refuse(503)];
        for (round, mangle) in (1..).zip(spoilings) {
            let (tip, spoiled) = (view.chain().last().copied(), proxy.mangled());
            proxy.set(mangle.clone());
            for _ in 0..5 {
                node.send(&Wallet::pay(&wallet.take(), Lock::Anyone, FEE));
            }
            node.mine(1);
            soon("the producer to meet it twice", || match proxy.mangled() - spoiled {
                0 | 1 => Err(mangle.clone()),
                _ => Ok(()),
            });
            assert_eq!(view.chain().last().copied(), tip, "{mangle:?} was published");
            soon("the trouble to be announced", || match view.status_of(StatusKind::SourceDown).len() {
                told if told == round => Ok(()),
                other => Err(other),
            });
            proxy.set(Mangle::Nothing);
            view.equals(&node);
        }
        assert!(producer.stop().success());
        pipeline.verify_against(&node);
    }
}

#[test]
fn a_node_that_goes_back_in_time_takes_nothing_from_the_log() {
    if !parts::have_node(Flavour::Btc) || !parts::have_node(Flavour::Bsv) {
        return;
    }
    for flavour in [Flavour::Bsv, Flavour::Btc] {
        let node = Node::start(flavour);
        node.mine(30);
        let pipeline = Pipeline::of(&node, LogKind::Sqlite);
        let mut producer = pipeline.up();
        let mut view = pipeline.view();
        view.reaches_tip_of(&node);
        let events = view.chain_events.len();
        let tip = node.tip_hash();
        // As if its data came from a backup: a shorter chain, and for a while no other.
        let lost = node.block_at(21).hash.to_string();
        node.call("invalidateblock", json!([lost]));
        std::thread::sleep(Duration::from_secs(3));
        assert!(producer.runs());
        view.chain();
        assert_eq!(view.chain_events.len(), events, "a chain with less work undoes nothing");
        // Nor when the producer starts on it.
        producer.kill();
        let producer = pipeline.up();
        soon("the takeover", || match view.status_of(StatusKind::Takeover).len() {
            2 => Ok(()),
            other => Err(other),
        });
        std::thread::sleep(Duration::from_secs(2));
        view.chain();
        assert_eq!(view.chain_events.len(), events);
        // It catches up with what it had, and goes on.
        node.call("reconsiderblock", json!([lost]));
        soon("the node to have its chain again", || match node.tip_hash() {
            hash if hash == tip => Ok(()),
            other => Err(other),
        });
        node.mine(1);
        view.equals(&node);
        assert_eq!(view.chain_events.len(), events + 1, "one block, and no reorganisation");
        assert!(producer.stop().success());
        pipeline.verify_against(&node);
    }
}

#[test]
fn a_full_disk_is_waited_for() {
    if !parts::have_node(Flavour::Bsv) {
        return;
    }
    let dir = Dir::new("full");
    let disk = dir.join("disk");
    let Some(mounted) = Disk::mount("a_full_disk_is_waited_for", &disk, "size=3m") else { return };
    let (node, mut wallet) = Node::start_funded(Flavour::Bsv, 100);
    let log = format!("sqlite:{}", disk.join("log.db").display());
    let pipeline = Pipeline::new(dir, log, &["--node", &node.url(), "--zmq", node.zmq()]);
    let mut producer = pipeline.up();
    let mut view = pipeline.view();
    view.equals(&node);
    node.send(&Wallet::store(&wallet.take(), &[0x5a; 4_000_000], 100_000));
    node.mine(1);
    producer.says("full");
    std::thread::sleep(Duration::from_secs(1));
    assert!(producer.runs(), "a full disk is no reason to end");
    let tip = view.chain().last().copied();
    assert_ne!(tip, Some(node.tip_hash()));
    mounted.remount("size=64m");
    view.equals(&node);
    assert!(producer.stop().success());
    pipeline.verify_against(&node);
    drop(view);
}

#[test]
fn an_unknown_schema_is_named_and_not_skipped() {
    let dir = Dir::new("schema");
    let log = LogKind::Sqlite.url(&dir);
    let pipeline = Pipeline::new(dir, log, &["--sim-block-interval", "100ms", "--sim-blocks", "5"]);
    let producer = pipeline.up();
    let mut view = pipeline.view();
    soon("some blocks", || {
        view.chain();
        if view.chain_events.len() > 3 { Ok(()) } else { Err(view.chain_events.len()) }
    });
    assert!(producer.stop().success());
    pipeline.verify();

    // A writer of a version that we have never heard of.
    let unknown = [0xc3, 0x01, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0];
    let mut newer = sluice_log::open(&pipeline.log).unwrap().writer("a newer producer").unwrap();
    newer.begin().unwrap();
    let topic = &view.topics.blocks;
    let record = NewRecord { topic, partition: 0, timestamp: 0, key: b"key", value: &unknown, headers: &[] };
    newer.send(&record).unwrap();
    newer.commit().unwrap();
    let offset = view.chain_events.len();

    let names_it = |finished: Finished| {
        assert_eq!(finished.code, Some(1), "{finished:?}");
        let said = &finished.stderr;
        for part in [topic.as_str(), &offset.to_string(), "0x0807060504030201"] {
            assert!(said.contains(part), "{part} is missing: {said}");
        }
    };
    names_it(pipeline.sluice(&["tail", "blocks", "--from", "genesis", "--no-follow"]));
    names_it(pipeline.sluice(&["verify"]));
    let (code, line) = ends(pipeline.up());
    assert_eq!(code, Some(1), "a producer does not go on from what it cannot read: {line}");
}

#[test]
fn a_topic_that_refuses_the_size_of_a_record_is_named_and_waited_for() {
    if !parts::have_node(Flavour::Bsv) || !parts::have("SLUICE_TEST_KAFKA_RUN") {
        return;
    }
    let kafka = Kafka::start("");
    let (node, mut wallet) = Node::start_funded(Flavour::Bsv, 100);
    let mut pipeline = Pipeline::of(&node, LogKind::Sqlite);
    pipeline.log = kafka.url();
    let mut producer = pipeline.up();
    let mut view = pipeline.view();
    view.equals(&node);
    let topic = view.topics.transactions.clone();
    kafka.set_topic(&topic, "max.message.bytes=100000");
    // Data that does not compress: the broker looks at what arrives.
    let mut data = vec![0; 2_000_000];
    ChaCha8Rng::seed_from_u64(1).fill_bytes(&mut data);
    node.send(&Wallet::store(&wallet.take(), &data, 100_000));
    node.mine(1);
    producer.says("the log refuses what is to be published");
    // It tries again and again, and neither ends nor goes on without the block.
    std::thread::sleep(Duration::from_secs(3));
    assert!(producer.runs());
    let said = producer.output();
    let line = said.lines().find(|line| line.contains("the log refuses")).unwrap();
    assert!(line.contains(&topic) && line.contains("max.message.bytes"), "{line}");
    assert_ne!(view.chain().last(), Some(&node.tip_hash()));
    // A person raises the limit: nothing else is needed.
    kafka.set_topic(&topic, "max.message.bytes=2000000");
    view.equals(&node);
    assert!(producer.stop().success());
    pipeline.verify_against(&node);
}

/// A process that ends by itself: its exit code, and the one line that says why.
fn ends(mut process: Sluice) -> (Option<i32>, String) {
    let status = process.wait();
    let output = process.output();
    let errors: Vec<_> = output.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "one line that says why:\n{output}");
    (status.code(), errors[0].to_owned())
}
