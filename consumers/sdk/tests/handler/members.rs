//! Members share partitions, and hand them over.

use sluice_consumer::handler::{Error, Exhausted};
use sluice_consumer::{Consumer, HandlerSettings, MempoolEvents, Start, State};
use sluice_runtime::health::Health as _;
use sluice_test_support::{LogKind, soon};

use crate::ledger::{Ledger, PARTITIONS};
use crate::on_both_logs;
use crate::probe::{Answer, Member, Probe, settings};

on_both_logs!(
    two_members_share_the_partitions_and_one_that_leaves_hands_them_over,
    a_member_is_live_with_partitions_and_stands_by_without_and_is_ready_with_both,
    a_restart_goes_on_after_what_was_done,
    a_new_group_begins_where_it_is_told_to,
    an_event_that_cannot_be_read_stops_the_member_and_is_never_skipped,
    a_failure_that_passes_is_tried_again,
    giving_up_may_stop_the_member,
    mempool_events_come_where_they_are_asked_for,
);

fn two_members_share_the_partitions_and_one_that_leaves_hands_them_over(kind: LogKind) {
    let mut ledger = Ledger::new(kind);
    let (first, second) = (Probe::willing(), Probe::willing());
    let one = Member::start(ledger.open(), &ledger.group(), &settings(), &first);
    let other = Member::start(ledger.open(), &ledger.group(), &settings(), &second);
    let mut numbers = 0..;
    soon("both have handled something", || {
        let some: Vec<u64> = numbers.by_ref().take(20).collect();
        ledger.connect(&some);
        let share = (first.seen().len(), second.seen().len());
        if share.0 > 0 && share.1 > 0 { Ok(()) } else { Err(share) }
    });
    one.stop();
    let more: Vec<u64> = numbers.by_ref().take(50).collect();
    ledger.connect(&more);
    second.expect(more);
    other.stop();
    let all: std::collections::BTreeSet<_> =
        first.seen().into_iter().chain(second.seen()).map(|seen| seen.number).collect();
    assert_eq!(all.len() as u64, numbers.start, "nothing is lost");
}

fn a_member_is_live_with_partitions_and_stands_by_without_and_is_ready_with_both(kind: LogKind) {
    let ledger = Ledger::new(kind);
    let probe = Probe::willing();
    // One more than there are partitions.
    let consumers: Vec<_> = (0..=PARTITIONS).map(|_| Consumer::new(ledger.open(), &ledger.group())).collect();
    let start = |consumer: &Consumer| Some(Member::of(consumer, &settings(), &probe));
    let mut members: Vec<_> = consumers.iter().map(start).collect();
    let states = || consumers.iter().map(|consumer| consumer.monitor().status().state).collect::<Vec<_>>();
    let count = |state| states().iter().filter(|found| **found == state).count();
    soon("each partition has a member", || {
        let there = (count(State::Live), count(State::StandingBy));
        if there == (PARTITIONS as usize, 1) { Ok(()) } else { Err(there) }
    });
    for consumer in &consumers {
        assert_eq!((consumer.monitor().live(), consumer.monitor().ready()), (Ok(()), Ok(())));
    }
    let leaves = states().iter().position(|state| *state == State::Live).unwrap();
    members.remove(leaves).unwrap().stop();
    assert_eq!(consumers[leaves].monitor().ready(), Err("stopped".to_owned()));
    soon("the one that stood by has its partition", || {
        if count(State::Live) == PARTITIONS as usize { Ok(()) } else { Err(states()) }
    });
    members.into_iter().flatten().for_each(Member::stop);
}

fn a_restart_goes_on_after_what_was_done(kind: LogKind) {
    let mut ledger = Ledger::new(kind);
    let probe = Probe::willing();
    ledger.connect(&[1, 2, 3, 4, 5]);
    let member = Member::start(ledger.open(), &ledger.group(), &settings(), &probe);
    probe.expect(1..=5);
    member.stop();
    ledger.connect(&[6, 7]);
    let member = Member::start(ledger.open(), &ledger.group(), &settings(), &probe);
    probe.expect(1..=7);
    member.stop();
    let mut seen: Vec<_> = probe.seen().iter().map(|seen| seen.number).collect();
    seen.sort_unstable();
    assert_eq!(seen, [1, 2, 3, 4, 5, 6, 7], "nothing comes twice when a member stops in good order");
}

fn a_new_group_begins_where_it_is_told_to(kind: LogKind) {
    let mut ledger = Ledger::new(kind);
    (1..=3).for_each(|number| ledger.connect(&[number]));
    let probe = Probe::willing();
    let consumer = Consumer::new(ledger.open(), &ledger.group()).start(Start::Height(3));
    let member = Member::of(&consumer, &settings(), &probe);
    probe.expect([3]);
    member.stop();
    ledger.connect(&[4]);
    // Only the first start counts.
    let consumer = consumer.start(Start::Height(1));
    let member = Member::of(&consumer, &settings(), &probe);
    probe.expect([4]);
    member.stop();
    assert_eq!(probe.seen().iter().map(|seen| seen.number).collect::<Vec<_>>(), [3, 4]);
}

fn an_event_that_cannot_be_read_stops_the_member_and_is_never_skipped(kind: LogKind) {
    let mut ledger = Ledger::new(kind);
    let probe = Probe::willing();
    ledger.connect(&[7]);
    let (partition, offset) = ledger.poison(7);
    for _ in 0..2 {
        let error = Member::start(ledger.open(), &ledger.group(), &settings(), &probe).failure();
        let Error::Log(cause) = &error else { panic!("{error}") };
        let line = format!("{cause}: {}", std::error::Error::source(cause).unwrap());
        let place = format!("at offset {offset} of {}/{partition}", ledger.open().topics.transactions);
        assert!(line.contains(&place) && line.contains("unknown schema fingerprint 0x"), "{line}");
    }
}

fn a_failure_that_passes_is_tried_again(kind: LogKind) {
    let mut ledger = Ledger::new(kind);
    ledger.connect(&[1, 2]);
    let tries = std::sync::atomic::AtomicU32::new(0);
    let probe = Probe::new(move |tx| match tx.transaction.lock_time {
        1 if tries.fetch_add(1, std::sync::atomic::Ordering::Relaxed) < 2 => Answer::Retry,
        _ => Answer::Ok,
    });
    let member = Member::start(ledger.open(), &ledger.group(), &settings(), &probe);
    probe.expect([1, 2]);
    member.stop();
    assert_eq!((probe.attempts_at(1), probe.attempts_at(2)), (3, 1));
}

fn giving_up_may_stop_the_member(kind: LogKind) {
    let mut ledger = Ledger::new(kind);
    ledger.connect(&[1]);
    let mut stops = settings();
    stops.retry.exhausted = Exhausted::Stop;
    let probe = Probe::new(|_| Answer::Retry);
    let error = Member::start(ledger.open(), &ledger.group(), &stops, &probe).failure();
    assert!(matches!(error, Error::GaveUp { attempts: 3, .. }), "{error}");
    assert!(error.to_string().ends_with("after 3 attempts: the database is down"), "{error}");
    probe.answers(|_| Answer::Ok);
    let member = Member::start(ledger.open(), &ledger.group(), &stops, &probe);
    probe.expect([1]);
    member.stop();
}

fn mempool_events_come_where_they_are_asked_for(kind: LogKind) {
    let mut ledger = Ledger::new(kind);
    ledger.added(1);
    ledger.added(2);
    ledger.connect(&[3]);
    let (with, without) = (Probe::willing(), Probe::willing());
    let asked = HandlerSettings { mempool: MempoolEvents::Handled, ..settings() };
    let members = [
        Member::start(ledger.open(), &format!("{}-with", ledger.group()), &asked, &with),
        Member::start(ledger.open(), &format!("{}-without", ledger.group()), &settings(), &without),
    ];
    with.expect([3]);
    without.expect([3]);
    soon("the mempool events are handled", || {
        let mut there = with.mempool.lock().unwrap().clone();
        there.sort_unstable();
        if there == [1, 2] { Ok(()) } else { Err(there) }
    });
    members.into_iter().for_each(Member::stop);
    assert!(without.mempool.lock().unwrap().is_empty());
}
