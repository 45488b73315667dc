//! A feed that loses messages: each loss is an event of its own, and so is its repair.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use sluice_test_support::sluice_schemas::{StatusEvent, StatusKind};
use sluice_test_support::{
    Dir, FEE, Fate, Flavour, Lock, LogKind, Node, Pipeline, View, Wallet, ZmqProxy, parts, serde_json, soon,
};

/// Messages lost in one go.
const LOST: u32 = 7;

#[test]
fn lost_messages_of_bitcoin_sv_are_announced_and_repaired() {
    lose(Flavour::Bsv, &["rawtx2", "hashtx2"]);
}

#[test]
fn lost_messages_of_bitcoin_core_are_announced_and_repaired() {
    lose(Flavour::Btc, &["sequence"]);
}

/// `topics` are those that announce transactions: each of them alone would do.
fn lose(flavour: Flavour, topics: &'static [&'static str]) {
    if !parts::have_node(flavour) {
        return;
    }
    let (node, mut wallet) = Node::start_funded(flavour, 100);
    let proxy = ZmqProxy::start(node.zmq());
    let dir = Dir::new("loss");
    let log = LogKind::Sqlite.url(&dir);
    // The usual, long time between two comparisons: what repairs here is the gap in the numbers.
    let pipeline = Pipeline::new(dir, log, &["--node", &node.url(), "--zmq", proxy.endpoint()]);
    let producer = pipeline.up();
    let mut view = pipeline.view();
    send(&node, &mut wallet, 3);
    view.equals(&node);
    wait_until_heard(&node, &mut wallet, &mut view);

    let lost = lose_next(&proxy, topics, LOST);
    send(&node, &mut wallet, LOST);
    let all = LOST * topics.len() as u32;
    soon("the proxy to lose them", || match lost.load(Ordering::SeqCst) {
        lost if lost == all => Ok(()),
        less => Err(less),
    });
    assert!(view.status_of(StatusKind::GapDetected).is_empty(), "who could know yet");
    // The next message shows the gap.
    send(&node, &mut wallet, 1);
    view.reaches_mempool_of(&node);
    let (detected, repaired) = gaps(&mut view, topics.len());
    for gap in &detected {
        assert!(gap.feed.as_deref().is_some_and(|feed| topics.contains(&feed)), "{gap:?}");
        assert_eq!(gap.to.unwrap() - gap.from.unwrap() + 1, i64::from(LOST), "{gap:?}");
    }
    let which = |gap: &StatusEvent| (gap.feed.clone(), gap.from, gap.to);
    assert_eq!(
        detected.iter().map(which).collect::<Vec<_>>(),
        repaired.iter().map(which).collect::<Vec<_>>()
    );
    let recovered: i64 = repaired.iter().filter_map(|gap| gap.recovered).sum();
    assert_eq!(recovered, i64::from(LOST), "{repaired:?}");

    // The same, as a person sees it.
    let tail = pipeline.sluice(&["tail", "status", "--json", "--from", "genesis", "--no-follow"]).succeeded();
    let kinds: Vec<_> = tail
        .stdout
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["kind"].as_str().unwrap().to_owned()
        })
        .collect();
    for kind in ["GAP_DETECTED", "GAP_REPAIRED"] {
        assert_eq!(kinds.iter().filter(|k| *k == kind).count(), topics.len(), "{kinds:?}");
    }

    // A lost announcement of a block costs nothing but time.
    proxy.set(
        |topic, _, _| if topic.contains("block") || topic == "sequence" { Fate::Lost } else { Fate::Passed },
    );
    node.mine(1);
    view.equals(&node);
    assert!(producer.stop().success());
    pipeline.verify_against(&node);
}

#[test]
fn a_loss_that_no_later_message_shows_is_found_by_comparing() {
    if !parts::have_node(Flavour::Bsv) {
        return;
    }
    let (node, mut wallet) = Node::start_funded(Flavour::Bsv, 100);
    let proxy = ZmqProxy::start(node.zmq());
    let dir = Dir::new("loss");
    let log = LogKind::Sqlite.url(&dir);
    let options = ["--node", &node.url(), "--zmq", proxy.endpoint(), "--reconcile-interval", "1s"];
    let pipeline = Pipeline::new(dir, log, &options);
    let producer = pipeline.up();
    let mut view = pipeline.view();
    send(&node, &mut wallet, 3);
    view.equals(&node);
    // The view is seconds old, and what it was made from has not been compared with anything yet.
    proxy.set(|_, _, _| Fate::Lost);
    send(&node, &mut wallet, LOST);
    view.reaches_mempool_of(&node);
    soon("every loss to be announced as repaired", || {
        let repaired: i64 = view.status_of(StatusKind::GapRepaired).iter().filter_map(|e| e.recovered).sum();
        if repaired == i64::from(LOST) { Ok(()) } else { Err(repaired) }
    });
    assert!(!view.status_of(StatusKind::GapDetected).is_empty());
    assert!(producer.stop().success());
}

fn send(node: &Node, wallet: &mut Wallet, count: u32) {
    for _ in 0..count {
        node.send(&Wallet::pay(&wallet.take(), Lock::Anyone, FEE));
    }
}

/// Subscriptions take a moment to reach the node: a message that comes by the feed shows that they have.
fn wait_until_heard(node: &Node, wallet: &mut Wallet, view: &mut View) {
    for _ in 0..2 {
        send(node, wallet, 1);
        view.reaches_mempool_of(node);
    }
}

/// Loses the next `count` messages of each topic and says how many it has lost so far.
fn lose_next(proxy: &ZmqProxy, topics: &'static [&'static str], count: u32) -> Arc<AtomicU32> {
    let lost = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&lost);
    let mut left: HashMap<_, _> = topics.iter().map(|topic| ((*topic).to_owned(), count)).collect();
    proxy.set(move |topic, _, _| match left.get_mut(topic) {
        None | Some(0) => Fate::Passed,
        Some(left) => {
            *left -= 1;
            counter.fetch_add(1, Ordering::SeqCst);
            Fate::Lost
        }
    });
    lost
}

/// So many gaps, and their repairs, in the order of feeds.
fn gaps(view: &mut View, count: usize) -> (Vec<StatusEvent>, Vec<StatusEvent>) {
    soon("the gaps and their repair", || {
        let mut of = |kind| {
            let mut events = view.status_of(kind);
            events.sort_by(|a, b| a.feed.cmp(&b.feed));
            events
        };
        let (detected, repaired) = (of(StatusKind::GapDetected), of(StatusKind::GapRepaired));
        if detected.len() == count && repaired.len() == count {
            return Ok((detected, repaired));
        }
        Err((detected, repaired))
    })
}
