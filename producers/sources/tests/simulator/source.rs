//! The simulator as a source.

use std::collections::HashSet;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use bitcoin::consensus::deserialize;
use bitcoin::{Block, BlockHash, Txid};
use sluice_schemas::Network;
use sluice_sources::simulator::{FIRST_LIVE_HEIGHT, SimulatorConfig, SimulatorSource};
use sluice_sources::{Body, Error, Notice, Source};

use crate::ledger::Ledger;
use crate::world::lively;

/// A world that goes as fast as it can.
fn rapid() -> SimulatorConfig {
    SimulatorConfig {
        block_interval: Duration::from_millis(5),
        tx_rate: 4_000.0,
        ..lively(Network::BtcRegtest)
    }
}

fn at(folder: &Path, config: SimulatorConfig) -> SimulatorSource {
    SimulatorSource::new(SimulatorConfig { state: Some(folder.to_owned()), ..config }).unwrap()
}

fn all(body: Body) -> (Vec<u8>, Vec<u8>) {
    let (mut bytes, mut spent) = (vec![], vec![]);
    let Body { size, bytes: mut from, spent: prevouts } = body;
    from.read_to_end(&mut bytes).unwrap();
    assert_eq!(size, Some(bytes.len() as u64));
    prevouts.unwrap().read_to_end(&mut spent).unwrap();
    (bytes, spent)
}

fn chain(source: &dyn Source) -> Vec<BlockHash> {
    let headers = source.headers(&[], usize::MAX).unwrap();
    assert_eq!(headers.after, None);
    headers.headers.iter().map(|header| header.block_hash()).collect()
}

/// Waits on the feed until the tip is at `height`; the notices.
fn run_to(source: &dyn Source, height: i32) -> Vec<Notice> {
    let mut feed = source.feed().unwrap();
    let mut notices = vec![];
    while source.tip().unwrap().height < height {
        notices.extend(feed.wait(Duration::from_millis(50)).unwrap());
    }
    notices
}

#[test]
fn headers_follow_the_newest_block_of_the_locator_that_is_on_the_best_chain() {
    let source =
        SimulatorSource::new(SimulatorConfig { blocks: Some(170), history: 170, ..rapid() }).unwrap();
    let chain = chain(&source);
    assert_eq!(chain[0], Network::BtcRegtest.genesis());
    assert_eq!(chain.len(), 171);
    assert_eq!(source.tip().unwrap().hash, chain[170]);

    let unknown = chain[3].to_string().replace('0', "1").parse().unwrap();
    let some = source.headers(&[unknown, chain[100], chain[50]], 10).unwrap();
    assert_eq!(some.after, Some(chain[100]));
    assert_eq!(some.headers.iter().map(|header| header.block_hash()).collect::<Vec<_>>(), chain[101..111]);
    let none = source.headers(&[chain[170]], 10).unwrap();
    assert_eq!((none.after, none.headers.len()), (Some(chain[170]), 0));
    assert!(matches!(source.body(&unknown), Err(Error::NoSuchBlock { hash, .. }) if hash == unknown));
}

#[test]
fn every_body_is_served_and_valid_from_genesis_on() {
    let source =
        SimulatorSource::new(SimulatorConfig { blocks: Some(260), history: 260, ..rapid() }).unwrap();
    let mut ledger = Ledger::new(Network::BtcRegtest);
    let chain = chain(&source);
    let genesis: Block = deserialize(&all(source.body(&chain[0]).unwrap()).0).unwrap();
    assert_eq!(genesis.block_hash(), chain[0]);
    for hash in &chain[1..] {
        let (body, spent) = all(source.body(hash).unwrap());
        ledger.learn(*hash, body, spent);
        ledger.go_to(*hash);
    }
    assert_eq!(ledger.height(), 260);
    assert!(ledger.payments > 200);
}

#[test]
fn bodies_of_disconnected_blocks_are_still_served() {
    let config = SimulatorConfig { reorg_rate: 1.0, blocks: Some(200), ..rapid() };
    let source = SimulatorSource::new(config).unwrap();
    let mut seen: HashSet<BlockHash> = HashSet::new();
    let mut feed = source.feed().unwrap();
    while source.tip().unwrap().height < 200 {
        seen.insert(source.tip().unwrap().hash);
        feed.wait(Duration::from_millis(1)).unwrap();
    }
    let best: HashSet<BlockHash> = chain(&source).into_iter().collect();
    let gone: Vec<&BlockHash> = seen.difference(&best).collect();
    assert!(!gone.is_empty());
    for hash in gone {
        let block: Block = deserialize(&all(source.body(hash).unwrap()).0).unwrap();
        assert_eq!(block.block_hash(), *hash);
    }
}

#[test]
fn the_feed_replayed_over_the_blocks_gives_the_mempool() {
    // no reorgs: a block that came and went between two looks took along what only a reconcile finds missing
    let config = SimulatorConfig { blocks: Some(230), reorg_rate: 0.0, ..rapid() };
    let source = SimulatorSource::new(config).unwrap();
    let mut feed = source.feed().unwrap();
    let start = source.mempool().unwrap();
    let mut view: HashSet<Txid> = start.txids.into_iter().collect();
    let mut number = start.sequence.unwrap();
    let mut known = source.tip().unwrap().hash;
    loop {
        let notices = feed.wait(Duration::from_millis(20)).unwrap();
        if notices.is_empty() && source.tip().unwrap().height == 230 {
            break;
        }
        for notice in notices {
            match notice {
                // what was seen before the snapshot is in it
                Notice::Added { sequence, .. } | Notice::Removed { sequence, .. }
                    if sequence.unwrap() <= number => {}
                Notice::Added { txid, sequence, raw } => {
                    let transaction: bitcoin::Transaction = deserialize(&raw.unwrap()).unwrap();
                    assert_eq!(transaction.compute_txid(), txid);
                    number = sequence.unwrap();
                    view.insert(txid);
                }
                Notice::Removed { txid, sequence, reason, by } => {
                    assert!(reason.is_some() && by.is_some());
                    number = sequence.unwrap();
                    view.remove(&txid);
                }
                Notice::TipChanged => {}
                other => panic!("{other:?}"),
            }
        }
    }
    for hash in chain(&source) {
        let block: Block = deserialize(&all(source.body(&hash).unwrap()).0).unwrap();
        block.txdata.iter().for_each(|mined| {
            view.remove(&mined.compute_txid());
        });
        known = hash;
    }
    assert_eq!(known, source.tip().unwrap().hash);
    let end = source.mempool().unwrap();
    assert_eq!(view, end.txids.iter().copied().collect());
    let raw = source.transactions(&end.txids).unwrap();
    assert!(raw.iter().all(Option::is_some));
    assert_eq!(source.transactions(&[Txid::from_raw_hash(*known.as_raw_hash())]).unwrap(), [None]);
}

#[test]
fn a_world_goes_on_after_a_restart_as_if_nothing_had_happened() {
    let folder = tempfile::tempdir().unwrap();
    let straight =
        SimulatorSource::new(SimulatorConfig { blocks: Some(260), history: 260, ..rapid() }).unwrap();
    for height in [165, 190, 230] {
        let source = at(folder.path(), rapid());
        run_to(&source, height);
        // no farewell: what is dropped here has nothing left to write
    }
    let broken = at(folder.path(), SimulatorConfig { blocks: Some(260), history: 260, ..rapid() });
    assert_eq!(chain(&broken), chain(&straight));
    assert_eq!(broken.mempool().unwrap(), straight.mempool().unwrap());
}

#[test]
fn what_was_told_before_a_kill_is_found_after_it() {
    let (folder, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let source = at(folder.path(), rapid());
    run_to(&source, 180);
    let tip = source.tip().unwrap();
    // the files as a kill leaves them, with half a block behind
    for name in ["blocks.dat", "world.dat"] {
        std::fs::copy(folder.path().join(name), copy.path().join(name)).unwrap();
    }
    let mut blocks = std::fs::read(copy.path().join("blocks.dat")).unwrap();
    blocks.extend([7; 100]);
    std::fs::write(copy.path().join("blocks.dat"), blocks).unwrap();
    let again = at(copy.path(), SimulatorConfig { reorg_rate: 0.0, ..rapid() });
    assert_eq!(again.headers(&[tip.hash], 1).unwrap().after, Some(tip.hash));
    run_to(&again, tip.height + 3);
    assert_eq!(again.headers(&[tip.hash], 1).unwrap().after, Some(tip.hash));
}

#[test]
fn a_lost_state_is_found_again_by_the_locator() {
    let source =
        SimulatorSource::new(SimulatorConfig { history: 240, blocks: Some(240), ..rapid() }).unwrap();
    let known = chain(&source);
    let locator = [known[240], known[239], known[200], known[0]];
    let again = SimulatorSource::new(SimulatorConfig { block_interval: Duration::from_millis(5), ..rapid() })
        .unwrap();
    let answer = again.headers(&locator, usize::MAX).unwrap();
    assert_eq!(answer.after, Some(known[240]));
}

#[test]
fn a_locator_of_another_world_lets_the_world_begin_anew() {
    let folder = tempfile::tempdir().unwrap();
    let config = SimulatorConfig { blocks: Some(180), ..rapid() };
    let source = at(folder.path(), config.clone());
    let foreign = BlockHash::from_raw_hash(*Network::BtcMainnet.genesis().as_raw_hash());
    let answer = source.headers(&[foreign, Network::BtcRegtest.genesis()], 1).unwrap();
    assert_eq!(answer.after, Some(Network::BtcRegtest.genesis()));
    assert!(source.tip().unwrap().height < 180, "what the search made is forgotten");
    drop(source);
    let again = at(folder.path(), config);
    run_to(&again, 180);
    let straight =
        SimulatorSource::new(SimulatorConfig { blocks: Some(180), history: 180, ..rapid() }).unwrap();
    assert_eq!(chain(&again), chain(&straight));
}

#[test]
fn more_than_can_be_done_does_not_pile_up() {
    let config = SimulatorConfig { tx_rate: 1e6, block_interval: Duration::from_secs(3600), ..rapid() };
    let source = SimulatorSource::new(config).unwrap();
    let mut before = source.mempool().unwrap().sequence.unwrap();
    for _ in 0..8 {
        std::thread::sleep(Duration::from_millis(20));
        let snapshot = source.mempool().unwrap();
        let changes = snapshot.sequence.unwrap() - before;
        assert!(changes < 4_096 * 27, "{changes} changes in one call");
        assert!(snapshot.txids.len() <= 20_000, "{} in the mempool", snapshot.txids.len());
        before += changes;
    }
}

#[test]
fn settings_may_change_between_two_starts() {
    let folder = tempfile::tempdir().unwrap();
    let first = at(folder.path(), rapid());
    run_to(&first, 170);
    let tip = first.tip().unwrap();
    drop(first);
    let quiet = SimulatorConfig {
        tx_rate: 0.0,
        reorg_rate: 0.0,
        block_interval: Duration::from_millis(3),
        start_time: 1_750_000_000,
        ..rapid()
    };
    let second = at(folder.path(), quiet);
    run_to(&second, tip.height + 5);
    assert_eq!(second.headers(&[tip.hash], 1).unwrap().after, Some(tip.hash));
}

#[test]
fn a_folder_is_of_one_world_and_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let open =
        |config| SimulatorSource::new(SimulatorConfig { state: Some(folder.path().to_owned()), ..config });
    let refused = |config| match open(config) {
        Err(Error::Refused { reason, .. }) => reason,
        other => panic!("{:?}", other.map(|source| source.tip())),
    };
    let first = at(folder.path(), rapid());
    let error = open(rapid()).map(|_| ()).unwrap_err();
    assert!(error.is_transient(), "who stands by may wait for the other to end");
    assert!(error.to_string().contains("another process has it open"), "{error}");
    drop(first);
    assert!(refused(SimulatorConfig { seed: 8, ..rapid() }).contains("seed 7"));
    let world = folder.path().join("world.dat");
    let mut bytes = std::fs::read(&world).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&world, bytes).unwrap();
    assert!(refused(rapid()).contains("world.dat is damaged"));
}

#[test]
fn a_feed_waits_no_longer_than_asked() {
    let quiet = SimulatorConfig { tx_rate: 0.0, block_interval: Duration::from_secs(3600), ..rapid() };
    let source = SimulatorSource::new(quiet).unwrap();
    assert_eq!(source.tip().unwrap().height, FIRST_LIVE_HEIGHT);
    let start = Instant::now();
    assert_eq!(source.feed().unwrap().wait(Duration::from_millis(30)).unwrap(), []);
    assert!(start.elapsed() >= Duration::from_millis(30));
}
