//! Real nodes followed from genesis into live, through every kind of reorganisation, onto both logs.
#![allow(clippy::unwrap_used)]

use sluice_test_support::bitcoin::Transaction;
use sluice_test_support::sluice_schemas::{Action, StatusKind};
use sluice_test_support::{Coin, FEE, Flavour, Lock, LogKind, Node, Pipeline, View, Wallet, parts, soon};

/// Satoshis; well above what a replacement has to add.
const HIGHER_FEE: u64 = 50_000;

#[test]
fn a_bitcoin_sv_node_is_followed_onto_sqlite() {
    follow(Flavour::Bsv, LogKind::Sqlite);
}

#[test]
fn a_bitcoin_sv_node_is_followed_onto_kafka() {
    follow(Flavour::Bsv, LogKind::Kafka);
}

#[test]
fn a_bitcoin_core_node_is_followed_onto_sqlite() {
    follow(Flavour::Btc, LogKind::Sqlite);
}

#[test]
fn a_bitcoin_core_node_is_followed_onto_kafka() {
    follow(Flavour::Btc, LogKind::Kafka);
}

fn follow(flavour: Flavour, kind: LogKind) {
    if !parts::have_node(flavour) || !kind.there() {
        return;
    }
    let (node, mut wallet) = Node::start_funded(flavour, 400);
    let lock = match flavour {
        Flavour::Btc => Lock::AnyoneByWitness,
        Flavour::Bsv => Lock::Anyone,
    };
    pay(&node, &mut wallet, lock, 20);
    node.mine(160);

    // History, and a mempool that was there before us.
    let waiting = pay(&node, &mut wallet, lock, 10);
    let pipeline = Pipeline::of(&node, kind);
    let mut producer = pipeline.up();
    let mut view = pipeline.view();
    view.equals(&node);
    pipeline.verify();

    // Live: a chain of unconfirmed transactions, a replacement or a refused double spend, then a block with them.
    let child = Wallet::pay(&Coin::of(&waiting[0].1)[0], lock, FEE);
    node.send(&child);
    let replacement = Wallet::pay(&waiting[1].0, lock, HIGHER_FEE);
    match flavour {
        Flavour::Btc => drop(node.send(&replacement)),
        Flavour::Bsv => assert!(node.try_send(&replacement).is_err(), "first seen stays"),
    }
    view.reaches_mempool_of(&node);
    node.mine(1);
    view.equals(&node);
    assert!(view.mempool().txids.is_empty());

    for depth in [1, 6, 40, 150] {
        // Some of what the reorganisation takes back: one is double-spent on the other branch, the others return.
        let mined = pay(&node, &mut wallet, lock, 10);
        node.mine(1);
        view.equals(&node);
        let known = view.chain_events.len();
        node.reorganise(depth, vec![Wallet::pay(&mined[0].0, Lock::Anyone, HIGHER_FEE)]);
        view.equals(&node);
        assert!(!view.mempool().txids.contains(&mined[0].1.compute_txid()), "it was double-spent");
        disconnects_tip_first(&view, known, depth);
        pipeline.verify();
        pipeline.verify_against(&node);
        node.mine(1);
    }
    view.equals(&node);
    assert_eq!(view.status_of(StatusKind::Reorg).len(), 4);

    // One while the producer is down.
    let epoch = view.chain_events.last().unwrap().epoch;
    assert!(producer.runs());
    assert!(producer.stop().success(), "a producer that is told to stop ends well");
    let known = view.chain_events.len();
    pay(&node, &mut wallet, lock, 5);
    node.reorganise(6, vec![]);
    let producer = pipeline.up();
    view.equals(&node);
    disconnects_tip_first(&view, known, 6);
    assert!(view.chain_events.last().unwrap().epoch > epoch, "a takeover begins an epoch");
    pipeline.verify();
    pipeline.verify_against(&node);

    // The node is restarted under a producer that stays.
    node.stop();
    soon("the loss of the source on the status topic", || match view.status_of(StatusKind::SourceDown)[..] {
        [] => Err("no such event"),
        _ => Ok(()),
    });
    node.up();
    pay(&node, &mut wallet, lock, 5);
    node.mine(2);
    pay(&node, &mut wallet, lock, 5);
    view.equals(&node);
    assert!(producer.stop().success());
    pipeline.verify();
    pipeline.verify_against(&node);
}

/// Sends payments; each with the coin that it spends.
fn pay(node: &Node, wallet: &mut Wallet, lock: Lock, count: usize) -> Vec<(Coin, Transaction)> {
    (0..count)
        .map(|_| {
            let coin = wallet.take();
            let tx = Wallet::pay(&coin, lock, FEE);
            node.send(&tx);
            (coin, tx)
        })
        .collect()
}

/// That the events after the first `known` undo `depth` blocks from the tip down, and then only connect.
fn disconnects_tip_first(view: &View, known: usize, depth: usize) {
    let actions: Vec<_> = view.chain_events[known..].iter().map(|e| e.action).collect();
    let undone = actions.iter().take_while(|a| **a == Action::Disconnected).count();
    assert_eq!(undone, depth, "{actions:?}");
    assert!(actions[undone..].iter().all(|a| *a == Action::Connected), "{actions:?}");
    assert!(actions.len() > 2 * depth, "{actions:?}");
}
