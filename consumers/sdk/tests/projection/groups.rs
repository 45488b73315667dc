//! What others see of a group, and what a member does that has lost its place.

use std::sync::Arc;
use std::time::Duration;

use sluice_consumer::{Consumer, Error, MempoolInterest, State};
use sluice_consumer_testkit::{TestLog, chain, pay};
use sluice_runtime::status::groups::{self, Group, State as GroupState};

use crate::ledger::{Gate, Ledger, Running, Store, confirmed, eventually};

/// A consumer whose projection can be made to wait.
fn held(log: &TestLog, store: &Store) -> (Running, Arc<Gate>) {
    let ledger = Ledger::new(store, MempoolInterest::None);
    let gate = ledger.gate.clone();
    (Running::start(Consumer::new(log.chain.clone(), "index"), ledger), gate)
}

/// What `sluice status` shows of the group.
fn shown(log: &TestLog, stuck_after: Duration) -> Option<Group> {
    let tail = log.chain.tail().unwrap();
    // A minute later, so that what waits has waited.
    let now = || log.tip().observed_at + 60_000;
    let groups =
        groups::look(&log.chain, tail.as_ref(), stuck_after, Duration::from_millis(1500), now).unwrap();
    groups.into_iter().find(|group| group.name == "index")
}

#[test]
fn status_tells_whether_a_group_is_current_behind_stuck_or_stopped() {
    let (soon, late) = (Duration::from_secs(30), Duration::MAX);
    let mut log = chain().blocks(3).reorg(1).blocks(2).build();
    let store = Store::default();
    let (running, gate) = held(&log, &store);
    running.until_live();
    let is = |log: &TestLog, stuck_after, state, blocks, height| {
        shown(log, stuck_after).is_some_and(|group| {
            (group.state, group.blocks_behind, group.height) == (state, Some(blocks), Some(height))
        })
    };
    eventually("the group is current", || is(&log, soon, GroupState::Current, 0, 4));
    gate.shut();
    log.play(&chain().reorg(1).blocks(2));
    eventually("the group is behind", || is(&log, late, GroupState::Behind, 3, 4));
    let group = shown(&log, soon).unwrap();
    assert_eq!((group.state, group.members), (GroupState::Stuck, 1));
    assert!(group.behind >= Duration::from_secs(60), "{:?}", group.behind);
    eventually("the consumer itself knows", || {
        let status = running.monitor.status();
        status.blocks_behind == Some(3) && status.log_height == Some(5) && !status.behind.is_zero()
    });
    gate.open();
    eventually("the group is current again", || is(&log, soon, GroupState::Current, 0, 5));
    running.stop().unwrap();
    assert!(is(&log, soon, GroupState::Stopped, 0, 5));
}

#[test]
fn a_group_that_has_applied_nothing_yet_is_shown() {
    let log = chain().blocks(3).build();
    let ledger = Ledger::new(&Store::default(), MempoolInterest::None);
    let gate = ledger.gate.clone();
    gate.shut();
    let running = Running::start(Consumer::new(log.chain.clone(), "index"), ledger);
    eventually("the group is shown", || shown(&log, Duration::MAX).is_some());
    let group = shown(&log, Duration::MAX).unwrap();
    assert_eq!((group.state, group.blocks_behind, group.height), (GroupState::Behind, Some(4), None));
    gate.open();
    running.stop().unwrap();
}

/// Does to the member that joined first what others do when its deadline has passed.
fn expel_first(log: &TestLog) {
    let path = format!("{}-groups", log.url().trim_start_matches("sqlite:"));
    let groups = rusqlite::Connection::open(path).unwrap();
    groups
        .execute_batch(
            "BEGIN IMMEDIATE;
             DELETE FROM subscription WHERE member = (SELECT min(id) FROM member);
             DELETE FROM member WHERE id = (SELECT min(id) FROM member);
             UPDATE consumer_group SET generation = generation + 1;
             COMMIT",
        )
        .unwrap();
}

#[test]
fn a_member_that_loses_its_place_while_idle_stands_by_again() {
    let mut log = chain().blocks(2).build();
    let store = Store::default();
    let (first, _) = held(&log, &store);
    first.until_live();
    let (second, _) = held(&log, &store);
    eventually("there are two members", || {
        shown(&log, Duration::MAX).is_some_and(|group| group.members == 2)
    });
    expel_first(&log);
    second.until_live();
    eventually("the first stands by", || first.monitor.status().state == State::StandingBy);
    // Nothing has changed when its turn comes again: it goes on.
    expel_first(&log);
    first.until_live();
    eventually("the second stands by", || second.monitor.status().state == State::StandingBy);
    log.play(&chain().blocks(2));
    let tip = log.tip().hash;
    eventually("the new blocks are applied", || {
        store.rows().position.is_some_and(|position| position.tip.hash == tip)
    });
    // But what the second has in memory is of the past when its turn comes.
    first.stop().unwrap();
    let ended = second.ended();
    assert!(matches!(ended, Err(Error::Superseded { .. })), "{ended:?}");
}

#[test]
fn a_member_that_can_roll_back_stands_by_again_after_it_lost_its_place_in_a_block() {
    let mut log = chain().mined_by("alice", []).build();
    let store = Store::default();
    let mut ledger = Ledger::new(&store, MempoolInterest::None);
    ledger.rolls_back = true;
    let gate = ledger.gate.clone();
    let first = Running::start(Consumer::new(log.chain.clone(), "index"), ledger);
    first.until_live();
    let (second, _) = held(&log, &store);
    eventually("there are two members", || {
        shown(&log, Duration::MAX).is_some_and(|group| group.members == 2)
    });
    gate.shut();
    log.play(&chain().block([pay("alice", "bob", 1)]));
    gate.until_reached();
    expel_first(&log);
    second.until("the second takes over", |monitor| monitor.status().state == State::Live);
    log.play(&chain().reorg(1).blocks(2));
    let tip = log.tip().hash;
    eventually("the second goes on", || {
        store.rows().position.is_some_and(|position| position.tip.hash == tip)
    });
    gate.open();
    first.until("the first stands by", |monitor| monitor.status().state == State::StandingBy);
    second.stop().unwrap();
    first.until_live();
    log.play(&chain().reorg(1).blocks(3));
    let tip = log.tip().hash;
    eventually("the first goes on", || {
        store.rows().position.is_some_and(|position| position.tip.hash == tip)
    });
    first.stop().unwrap();
    assert_eq!(store.rows().confirmed, confirmed(&log.chain));
}

#[test]
fn a_member_that_has_lost_its_place_commits_nothing_more_and_ends() {
    let mut log = chain().mined_by("alice", []).build();
    let store = Store::default();
    let (first, gate) = held(&log, &store);
    first.until_live();
    let (second, _) = held(&log, &store);
    eventually("there are two members", || {
        shown(&log, Duration::MAX).is_some_and(|group| group.members == 2)
    });
    // The first is in the middle of a block when it is taken for dead.
    gate.shut();
    log.play(&chain().block([pay("alice", "bob", 1)]));
    gate.until_reached();
    let before = store.rows();
    expel_first(&log);
    second.until("the second takes over", |monitor| monitor.status().state == State::Live);
    assert_ne!(store.rows(), before);
    let after = store.rows();
    gate.open();
    let ended = first.ended();
    assert!(matches!(ended, Err(Error::Superseded { .. })), "{ended:?}");
    assert_eq!(store.rows(), after);
    second.stop().unwrap();
    assert_eq!(store.rows().confirmed, confirmed(&log.chain));
}
