//! That the harness itself does to both nodes what it says.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use sluice_test_support::{Coin, FEE, Fate, Flavour, Lock, Node, Traffic, Wallet, ZmqProxy, parts, zmq};

#[test]
fn bitcoin_sv_takes_our_transactions_blocks_and_branches() {
    take(Flavour::Bsv);
}

#[test]
fn bitcoin_core_takes_our_transactions_blocks_and_branches() {
    take(Flavour::Btc);
}

fn take(flavour: Flavour) {
    if !parts::have_node(flavour) {
        return;
    }
    let (node, mut wallet) = Node::start_funded(flavour, 500);
    assert_eq!(wallet.coins.len(), 800, "whole coinbases");
    let parent = Wallet::pay(&wallet.take(), Lock::Anyone, FEE);
    let child = Wallet::pay(&Coin::of(&parent)[0], Lock::Anyone, FEE);
    let data = Wallet::store(&wallet.take(), &[7; 1000], FEE * 10);
    for tx in [&parent, &child, &data] {
        node.send(tx);
    }
    if flavour == Flavour::Btc {
        let witness = Wallet::pay(&wallet.take(), Lock::AnyoneByWitness, FEE);
        node.send(&witness);
        node.send(&Wallet::pay(&Coin::of(&witness)[0], Lock::AnyoneByWitness, FEE));
    }
    let known = node.mempool().len();
    let mined = node.mine(1);
    assert_eq!(node.txids(&mined[0]).len(), known + 1);
    // The branch has a transaction of its own, the node gets its others back.
    let branch = node.reorganise(1, vec![parent.clone()]);
    assert_eq!(
        node.txids(&branch.blocks[0].block_hash()),
        [branch.blocks[0].txdata[0].compute_txid(), parent.compute_txid()]
    );
    assert_eq!(node.mempool().len(), known - 1);
    let height = node.tip().height;
    node.kill();
    node.up();
    assert!(node.tip().height <= height);
}

#[test]
fn traffic_meets_all_that_it_is_there_for() {
    if !parts::have_node(Flavour::Bsv) {
        return;
    }
    let (node, wallet) = Node::start_funded(Flavour::Bsv, 2000);
    let traffic = Traffic::start(Arc::new(node), wallet, 1);
    std::thread::sleep(Duration::from_secs(4));
    let tally = traffic.stop();
    assert!(
        tally.sent > 0 && tally.double_spends > 0 && tally.mined > 0 && tally.reorganisations > 0,
        "{tally:?}"
    );
    assert!(tally.failed * 10 < tally.sent, "{tally:?}");
}

#[test]
fn a_message_passes_the_proxy_unless_it_is_to_be_lost() {
    if !parts::have_node(Flavour::Bsv) {
        return;
    }
    let (node, mut wallet) = Node::start_funded(Flavour::Bsv, 10);
    let proxy = ZmqProxy::start(node.zmq());
    let context = zmq::Context::new();
    let feed = context.socket(zmq::SUB).unwrap();
    feed.set_subscribe(b"hashtx2").unwrap();
    feed.set_rcvtimeo(30_000).unwrap();
    feed.connect(proxy.endpoint()).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    let number = |wallet: &mut Wallet| {
        node.send(&Wallet::pay(&wallet.take(), Lock::Anyone, FEE));
        let frames = feed.recv_multipart(0).unwrap();
        u32::from_le_bytes(frames[2][..].try_into().unwrap())
    };
    let first = number(&mut wallet);
    proxy.set(move |_, _, number| if number == first + 1 { Fate::Lost } else { Fate::Passed });
    node.send(&Wallet::pay(&wallet.take(), Lock::Anyone, FEE));
    assert_eq!(number(&mut wallet), first + 2);
}
