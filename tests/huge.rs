//! A block of a gigabyte with a transaction of over a hundred megabytes goes through in little memory.
#![allow(clippy::unwrap_used)]

use sluice_test_support::{Flavour, LogKind, Node, Pipeline, Wallet, parts};

/// Data of the largest transaction.
const LARGEST_BYTES: usize = 110_000_000;
/// Data of each of the others.
const OTHER_BYTES: usize = 10_000_000;
/// How many others: a gigabyte in all.
const OTHERS: usize = 90;
/// The largest transaction a few times over (as it came, as an event, as bytes of the log), and what a process takes.
const ALLOWED_BYTES: u64 = 1_000_000_000;

#[test]
fn a_block_of_a_gigabyte_goes_through_in_less_memory_than_it_has() {
    if parts::setting("SLUICE_HUGE").is_none() {
        eprintln!("SLUICE_HUGE=1 runs it");
        return;
    }
    if !parts::have_node(Flavour::Bsv) {
        return;
    }
    let node = Node::start_with(Flavour::Bsv, "-maxmempool=4000 -blockmaxsize=4000000000");
    let mut wallet = node.fund(100);
    for size in std::iter::once(LARGEST_BYTES).chain([OTHER_BYTES; OTHERS]) {
        node.send(&Wallet::store(&wallet.take(), &vec![0x5a; size], size as u64 / 100));
    }
    node.mine(1);
    let pipeline = Pipeline::of(&node, LogKind::Sqlite);
    let producer = pipeline.up();
    let mut view = pipeline.view();
    view.equals(&node);
    let block = view.chain_events.last().unwrap();
    assert!(block.size > 1_000_000_000 && block.tx_count == OTHERS as i64 + 2, "{} bytes", block.size);
    let peak = producer.peak_memory_bytes();
    eprintln!("a block of {} bytes took {peak} bytes of memory", block.size);
    assert!(peak < ALLOWED_BYTES, "{peak} bytes");
    assert!(producer.stop().success());
    pipeline.verify_against(&node);
}
