//! Producer, node and broker killed at any moment, while blocks, reorganisations and payments go on: nothing is lost,
//! nothing is there twice.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use sluice_test_support::rand::{Rng as _, SeedableRng as _};
use sluice_test_support::rand_chacha::ChaCha8Rng;
use sluice_test_support::serde_json::json;
use sluice_test_support::{Flavour, Kafka, LogKind, Node, Pipeline, Traffic, parts, soon};

/// Kills on SQLite where `SLUICE_KILLS` says nothing; on Kafka, where a start takes longer, three for every ten.
const KILLS: u32 = 21;
/// Coins for the traffic: more than it can spend.
const COINS: usize = 8_000;

fn kills() -> u32 {
    parts::setting("SLUICE_KILLS").map_or(KILLS, |kills| kills.parse().expect("SLUICE_KILLS is a number"))
}

#[test]
fn a_killed_producer_loses_nothing_on_sqlite() {
    if parts::have_node(Flavour::Bsv) {
        kill_again_and_again(Flavour::Bsv, LogKind::Sqlite, kills(), 50..1200);
    }
}

#[test]
fn a_killed_producer_loses_nothing_on_kafka() {
    if parts::have_node(Flavour::Btc) && LogKind::Kafka.there() {
        kill_again_and_again(Flavour::Btc, LogKind::Kafka, (kills() * 3).div_ceil(10), 500..6000);
    }
}

fn kill_again_and_again(flavour: Flavour, kind: LogKind, kills: u32, life_ms: std::ops::Range<u64>) {
    let (node, wallet) = Node::start_funded(flavour, COINS);
    let node = Arc::new(node);
    let pipeline = Pipeline::of(&node, kind);
    let traffic = Traffic::start(Arc::clone(&node), wallet, 1);
    let mut rng = ChaCha8Rng::seed_from_u64(u64::from(kills));
    for kill in 0..kills {
        let producer = pipeline.up();
        std::thread::sleep(Duration::from_millis(rng.random_range(life_ms.clone())));
        // Now and then the node goes first.
        if kill % 7 == 3 {
            crash(&node);
        }
        producer.kill();
    }
    let producer = pipeline.up();
    let tally = traffic.stop();
    eprintln!("{kills} kills on {kind:?}: {tally:?}");
    assert!(tally.sent > 10 && tally.mined > 5 && tally.reorganisations > 0, "{tally:?}");
    settle(&pipeline, &node);
    assert!(producer.stop().success());
    pipeline.verify();
    pipeline.verify_against(&node);
}

#[test]
fn a_killed_broker_loses_nothing() {
    if !parts::have_node(Flavour::Bsv) || !parts::have("SLUICE_TEST_KAFKA_RUN") {
        return;
    }
    let kafka = Kafka::start("");
    let (node, wallet) = Node::start_funded(Flavour::Bsv, COINS);
    let node = Arc::new(node);
    let mut pipeline = Pipeline::of(&node, LogKind::Sqlite);
    pipeline.log = kafka.url();
    let mut producer = pipeline.up();
    pipeline.view().reaches_tip_of(&node);
    let traffic = Traffic::start(Arc::clone(&node), wallet, 2);
    for round in 0..kills().div_ceil(7) {
        std::thread::sleep(Duration::from_secs(1));
        kafka.kill();
        std::thread::sleep(Duration::from_millis(500));
        if round % 3 == 1 {
            // Both at once: a new producer finds an open transaction of the old one.
            producer.kill();
            kafka.up();
            producer = pipeline.up();
        } else {
            kafka.up();
        }
    }
    let tally = traffic.stop();
    assert!(tally.sent > 10, "{tally:?}");
    settle(&pipeline, &node);
    assert!(producer.runs(), "a broker that comes back is no reason to end");
    assert!(producer.stop().success());
    pipeline.verify();
    pipeline.verify_against(&node);
}

#[test]
fn two_producers_never_both_write() {
    if !parts::have_node(Flavour::Bsv) || !LogKind::Kafka.there() {
        return;
    }
    let (node, wallet) = Node::start_funded(Flavour::Bsv, COINS);
    let node = Arc::new(node);
    let pipeline = Pipeline::of(&node, LogKind::Kafka);
    let mut view = pipeline.view();
    let mut leader = pipeline.up();
    view.reaches_tip_of(&node);
    let traffic = Traffic::start(Arc::clone(&node), wallet, 3);
    for _ in 0..kills().div_ceil(10) {
        let epoch = view.mempool().epoch;
        let heir = pipeline.up();
        std::thread::sleep(Duration::from_secs(1));
        // The leader freezes, say in a long pause of its machine, is replaced, and comes back believing that it leads.
        leader.signal("-STOP");
        soon("the heir to take over", || match view.mempool().epoch {
            newer if newer > epoch => Ok(()),
            same => Err(same),
        });
        leader.signal("-CONT");
        std::thread::sleep(Duration::from_secs(1));
        leader.kill();
        leader = heir;
    }
    traffic.stop();
    settle(&pipeline, &node);
    assert!(leader.stop().success());
    pipeline.verify();
    pipeline.verify_against(&node);
}

/// Kills the node and brings it back. What it has not written by then, it forgets: here a few blocks at most.
fn crash(node: &Node) {
    let _ = node.try_call("gettxoutsetinfo", json!([]));
    std::thread::sleep(Duration::from_millis(200));
    node.kill();
    node.up();
}

/// Once all is quiet: more work than any chain that the log has seen, and log and node are the same.
fn settle(pipeline: &Pipeline, node: &Node) {
    node.mine(20);
    pipeline.view().equals(node);
}
