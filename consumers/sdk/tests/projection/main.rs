//! Projections driven over logs: from any point on, by turns, past faults, on either log.
#![allow(clippy::unwrap_used)] // clippy does not see that all of this is a test's

mod groups;
mod kafka;
mod ledger;
mod mempool;

use std::collections::BTreeSet;
use std::time::{Duration, UNIX_EPOCH};

use sluice_consumer::{
    Batch, ChainLog, Change, Confirmation, Confirmations, Consumer, Error, Feed, MempoolInterest, Start,
    State,
};
use sluice_consumer_testkit::{Fault, Script, TestLog, chain, pay, returned};
use sluice_runtime::health::Health;
use sluice_schemas::{Action, Codec, Network, Topics};

use ledger::{Ledger, Running, Store, catch_up, confirmed, eventually};

/// Blocks, payments, two reorgs, and a mempool view with two epochs.
fn busy() -> Script {
    chain()
        .mined_by("alice", [])
        .mined_by("bob", [pay("alice", "bob", 10_000)])
        .takeover()
        .added([pay("alice", "carol", 20_000), pay("bob", "carol", 5)])
        .block([sluice_consumer_testkit::waiting()])
        .reorg(2)
        .block([returned()])
        .blocks(2)
        .takeover()
        .added([pay("carol", "dave", 1), pay("alice", "dave", 3)])
        .reorg(1)
        .block([pay("bob", "dave", 9)])
        .block([])
}

fn store_of(log: &TestLog, interest: MempoolInterest) -> Store {
    let store = Store::default();
    catch_up(&log.chain, "a-group", &store, interest).unwrap();
    store
}

#[test]
fn a_projection_ends_with_the_rows_of_the_best_chain() {
    let log = busy().build();
    let store = store_of(&log, MempoolInterest::None);
    assert_eq!(store.rows().confirmed, confirmed(&log.chain));
    assert_eq!(store.rows().position.unwrap().tip.hash, log.tip().hash);
}

#[test]
fn a_consumer_that_fails_anywhere_ends_with_the_same_rows_after_a_restart() {
    let log = busy().build();
    let expected = store_of(&log, MempoolInterest::Resumed).rows();
    assert!(expected.mempool.iter().eq(log.mempool().iter().collect::<BTreeSet<_>>()));
    for fails_at in 1.. {
        let store = Store::default();
        let mut ledger = Ledger::new(&store, MempoolInterest::Resumed);
        ledger.fails_at = Some(fails_at);
        let batch = Batch { changes: 3, ..Batch::default() };
        let running = Running::start(Consumer::new(log.chain.clone(), "failing").batch(batch), ledger);
        running.until_live();
        let ended = running.stop();
        if ended.is_ok() {
            assert!(fails_at > 12, "there are more changes than {fails_at}");
            break;
        }
        let changes = match ended {
            Err(Error::Apply { .. } | Error::ApplyMempool { .. }) => fails_at - 1,
            other => panic!("{other:?}"),
        };
        let found = store.rows();
        assert!(found.position.map_or(0, |position| position.sequence + 1) as u64 <= changes);
        catch_up(&log.chain, "failing", &store, MempoolInterest::Resumed).unwrap();
        assert_eq!(store.rows().confirmed, expected.confirmed, "after {fails_at} changes");
        assert_eq!(store.rows().mempool, expected.mempool, "after {fails_at} changes");
        assert_eq!(store.rows().position, expected.position, "after {fails_at} changes");
    }
}

#[test]
fn what_comes_while_a_consumer_follows_is_applied_as_it_comes() {
    let mut log = chain().mined_by("alice", []).takeover().build();
    let store = Store::default();
    let consumer = Consumer::new(log.chain.clone(), "live");
    let running = Running::start(consumer, Ledger::new(&store, MempoolInterest::Rebuilt));
    running.until_live();
    for round in 0..5_u64 {
        log.play(&chain().added([pay("alice", "bob", 100 + round)]));
        let waiting = log.mempool();
        eventually("the payment is in the view", || store.rows().mempool.iter().eq(waiting.iter()));
        let depth = usize::from(round == 3);
        log.play(&chain().reorg(depth).block([returned(), sluice_consumer_testkit::waiting()]));
        let tip = log.tip().hash;
        eventually("the block is applied", || {
            let rows = store.rows();
            rows.position.is_some_and(|position| position.tip.hash == tip) && rows.mempool.is_empty()
        });
    }
    running.stop().unwrap();
    assert_eq!(store.rows().confirmed, confirmed(&log.chain));
    assert_eq!(store.rows().resets, 1);
}

#[test]
fn a_mempool_kept_in_memory_is_rebuilt_and_one_that_is_stored_goes_on() {
    let log = busy().build();
    let waiting: BTreeSet<_> = log.mempool().into_iter().collect();
    for interest in [MempoolInterest::Rebuilt, MempoolInterest::Resumed] {
        let store = store_of(&log, interest);
        assert_eq!((store.rows().mempool, store.rows().resets), (waiting.clone(), 1), "{interest:?}");
        // Stopped and started again: a view in memory is gone, one in the store is not.
        catch_up(&log.chain, "a-group", &store, interest).unwrap();
        let resets = if interest == MempoolInterest::Rebuilt { 2 } else { 1 };
        assert_eq!((store.rows().mempool, store.rows().resets), (waiting.clone(), resets), "{interest:?}");
        assert_eq!(store.rows().position.unwrap().mempool.is_some(), interest == MempoolInterest::Resumed);
    }
}

#[test]
fn a_newer_epoch_takes_the_place_of_the_stored_one() {
    let mut log = busy().build();
    let store = store_of(&log, MempoolInterest::Resumed);
    log.play(&chain().takeover().block([]).takeover().added([pay("bob", "alice", 11)]));
    catch_up(&log.chain, "a-group", &store, MempoolInterest::Resumed).unwrap();
    let rows = store.rows();
    assert!(rows.mempool.iter().eq(log.mempool().iter().collect::<BTreeSet<_>>()));
    // Of the two epochs that came, only the newest counts.
    assert_eq!(rows.resets, 2);
    assert!(rows.is_complete);
}

#[test]
fn a_standby_takes_over_where_the_active_member_stopped() {
    let mut log = busy().build();
    let store = Store::default();
    let member = || {
        let consumer = Consumer::new(log.chain.clone(), "shared");
        Running::start(consumer, Ledger::new(&store, MempoolInterest::None))
    };
    let first = member();
    first.until_live();
    let others = [member(), member()];
    std::thread::sleep(Duration::from_millis(300));
    for other in &others {
        assert_eq!(other.monitor.status().state, State::StandingBy);
        assert_eq!((other.monitor.live(), other.monitor.ready()), (Ok(()), Ok(())));
    }
    first.stop().unwrap();
    let is_live = |running: &Running| running.monitor.status().state == State::Live;
    eventually("another one takes over", || others.iter().any(is_live));
    let [second, third] = others;
    let (second, third) = if is_live(&second) { (second, third) } else { (third, second) };
    assert_eq!(third.monitor.status().state, State::StandingBy);
    log.play(&chain().reorg(1).blocks(3));
    let tip = log.tip().hash;
    eventually("the new blocks are applied", || {
        store.rows().position.is_some_and(|position| position.tip.hash == tip)
    });
    second.stop().unwrap();
    third.until_live();
    third.stop().unwrap();
    assert_eq!(store.rows().confirmed, confirmed(&log.chain));
}

#[test]
fn a_log_that_was_replaced_is_refused_and_both_ends_are_named() {
    let log = busy().build();
    let store = store_of(&log, MempoolInterest::None);
    let position = store.rows().position.unwrap();
    let other = chain().mined_by("mallory", []).blocks(30).build();
    match catch_up(&other.chain, "a-group", &store, MempoolInterest::None) {
        Err(error @ Error::LogReplaced { .. }) => {
            let line = error.to_string();
            assert!(line.contains(&position.tip.hash.to_string()), "{line}");
            assert!(line.contains(&format!("sequence {}", position.sequence)), "{line}");
            assert!(line.contains("btc-regtest"), "{line}");
        }
        other => panic!("{other:?}"),
    }
    let shorter = chain().blocks(2).build();
    match catch_up(&shorter.chain, "a-group", &store, MempoolInterest::None) {
        Err(Error::LogEndsEarlier { last: 2, sequence, .. }) => assert_eq!(sequence, position.sequence),
        other => panic!("{other:?}"),
    }
    assert_eq!(store.rows().position, Some(position));
}

#[test]
fn a_block_that_does_not_add_up_stops_before_it_is_committed_and_is_told() {
    for fault in [Fault::Count, Fault::Undecodable, Fault::MerkleRoot, Fault::Sequence, Fault::Parent] {
        let log = chain().mined_by("alice", []).faulty(fault, [pay("alice", "bob", 1)]).build();
        let store = Store::default();
        let consumer = Consumer::new(log.chain.clone(), "a-group").verify_blocks(true);
        let running = Running::start(consumer, Ledger::new(&store, MempoolInterest::None));
        running.until("it fails", |monitor| monitor.status().state == State::Failed);
        let monitor = running.monitor.clone();
        let error = running.ended().unwrap_err();
        let told = monitor.live().unwrap_err();
        assert!(told.starts_with(&error.to_string()), "{fault:?}: {told}");
        assert!(monitor.ready().is_err());
        let height = store.rows().position.map(|position| position.tip.height);
        assert!(height.is_none_or(|height| height <= 1), "{fault:?} was committed at {height:?}");
        // What was sound has been kept or can be had again: a second start ends at the same block.
        let again = catch_up(&log.chain, "a-group", &store, MempoolInterest::None);
        assert_eq!(again.is_err(), fault != Fault::MerkleRoot, "{fault:?}");
    }
}

#[test]
fn a_consumer_starts_where_it_is_told_to() {
    let log = chain().blocks(6).reorg(2).blocks(3).build();
    let first = |start: Start| {
        let mut feed = Feed::start(&log.chain, start).unwrap();
        match feed.next(Duration::ZERO).unwrap() {
            Some(Change::Block(change)) => Some((change.event.action, change.event.height, change.before)),
            _ => None,
        }
    };
    assert_eq!(first(Start::Genesis), Some((Action::Connected, 0, None)));
    assert_eq!(first(Start::Height(3)), Some((Action::Connected, 3, None)));
    assert_eq!(first(Start::Tip), None);
    let time = UNIX_EPOCH + Duration::from_millis(log.tip().time.unsigned_abs());
    let time = humantime::format_rfc3339_seconds(time).to_string();
    assert_eq!(first(time.parse().unwrap()), Some((Action::Connected, 7, None)));
    assert!(matches!(Feed::start(&log.chain, Start::Height(99)), Err(Error::Start(_))));
}

#[test]
fn a_feed_that_is_only_ever_asked_and_never_waited_for_gives_all_the_same() {
    let mut log = chain().mined_by("alice", []).takeover().build();
    let mut feed = Feed::start(&log.chain, Start::Genesis).unwrap().mempool(MempoolInterest::Rebuilt);
    let mut next = || {
        let mut found = Vec::new();
        while let Some(change) = feed.next(Duration::ZERO).unwrap() {
            found.push(match change {
                Change::Block(change) => format!("block {}", change.event.height),
                Change::Mempool(change) => format!("{:?}", change.event.kind),
            });
        }
        found
    };
    assert_eq!(next(), ["block 0", "block 1", "Reset"]);
    log.play(&chain().block([]));
    assert_eq!(next(), ["block 2"]);
    log.play(&chain().added([pay("alice", "bob", 1)]));
    std::thread::sleep(Duration::from_millis(60));
    assert_eq!(next(), ["Added"]);
}

#[test]
fn a_cursor_on_a_branch_that_is_gone_is_given_the_undo_first() {
    let mut log = chain().blocks(5).build();
    let mut feed = Feed::start(&log.chain, Start::Genesis).unwrap();
    while feed.next(Duration::ZERO).unwrap().is_some() {}
    let cursor = feed.position().unwrap().cursor().to_string();
    log.play(&chain().reorg(2).blocks(3));
    let mut feed = Feed::resume(&log.chain, cursor.parse().unwrap()).unwrap();
    let mut changes = Vec::new();
    while let Some(Change::Block(change)) = feed.next(Duration::ZERO).unwrap() {
        changes.push((change.event.action, change.event.height));
    }
    let (connected, disconnected) = (Action::Connected, Action::Disconnected);
    assert_eq!(
        changes,
        [(disconnected, 5), (disconnected, 4), (connected, 4), (connected, 5), (connected, 6)]
    );
    let mut ahead = feed.position().unwrap().cursor();
    ahead.sequence += 1;
    assert!(matches!(Feed::resume(&log.chain, ahead), Err(Error::LogEndsEarlier { .. })));
    ahead.sequence -= 2;
    assert!(matches!(Feed::resume(&log.chain, ahead), Err(Error::LogReplaced { .. })));
}

#[test]
fn a_consumer_that_is_there_before_the_log_has_topics_waits_for_them() {
    let folder = tempfile::tempdir().unwrap();
    let log = sluice_log::open(&format!("sqlite:{}", folder.path().join("log.db").display())).unwrap();
    let topics = Topics::of(Network::BtcRegtest);
    let specs = topics.specs(3);
    let early = ChainLog { log: log.clone(), codec: Codec::single_object(), topics };
    let store = Store::default();
    let running =
        Running::start(Consumer::new(early, "early"), Ledger::new(&store, MempoolInterest::Rebuilt));
    eventually("it says what it waits for", || {
        running.monitor.ready().is_err_and(|reason| reason.contains("no topic btc.regtest.blocks yet"))
    });
    log.ensure_topics(&specs).unwrap();
    running.until_live();
    assert_eq!(running.monitor.ready(), Ok(()));
    running.stop().unwrap();
}

#[test]
fn confirmations_follow_a_feed_through_a_reorg() {
    let mut log = chain().mined_by("alice", []).build();
    log.play(&chain().takeover().added([pay("alice", "bob", 1_000)]));
    let txid = log.mempool()[0];
    log.play(
        &chain()
            .block([sluice_consumer_testkit::waiting()])
            .blocks(1)
            .reorg(2)
            .blocks(1)
            .block([sluice_consumer_testkit::waiting()])
            .blocks(1),
    );
    let mut confirmations = Confirmations::new(&[1, 2]);
    confirmations.watch(txid);
    let mut feed = Feed::start(&log.chain, Start::Genesis).unwrap().mempool(MempoolInterest::Rebuilt);
    let mut told = Vec::new();
    while let Some(change) = feed.next(Duration::ZERO).unwrap() {
        match change {
            Change::Block(mut change) => {
                let event = change.event;
                let txids: Result<Vec<_>, _> =
                    change.transactions().map(|item| item.map(|t| t.transaction.txid)).collect();
                told.extend(confirmations.block(event, txids.unwrap()));
            }
            Change::Mempool(change) => told.extend(confirmations.mempool(change.event)),
        }
    }
    let told: Vec<_> = told.into_iter().map(|(_, what)| what).collect();
    use Confirmation::{Confirmed, Reverted, Seen};
    assert_eq!(
        told,
        [Seen, Confirmed(1), Confirmed(2), Reverted(2), Reverted(1), Confirmed(1), Confirmed(2)]
    );
}
