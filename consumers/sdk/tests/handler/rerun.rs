//! A range sent again beside live events.

use std::collections::BTreeMap;

use sluice_consumer::HandlerSettings;
use sluice_consumer::handler::rerun::{Desk, Refusal};
use sluice_test_support::{LogKind, soon};

use crate::ledger::Ledger;
use crate::on_both_logs;
use crate::probe::{Answer, Gate, Member, Probe, settings};

on_both_logs!(
    a_range_comes_again_beside_live_events,
    a_live_event_wins_over_one_that_is_sent_again,
    what_is_sent_again_never_comes_after_newer_events_while_the_chain_reorganises,
    a_rerun_goes_on_after_a_restart,
    what_cannot_be_sent_again_is_refused,
);

fn request(ledger: &Ledger, first: i32, last: i32, id: &str) -> Result<u64, Refusal> {
    Desk::new(&ledger.open(), &ledger.group()).request(first..=last, id, 0)
}

/// Waits until nothing is left to send again.
fn expect_over(ledger: &Ledger) {
    let desk = Desk::new(&ledger.open(), &ledger.group());
    soon("the rerun is over", || {
        let open = desk.open().unwrap();
        if open.is_empty() { Ok(()) } else { Err(open) }
    });
}

/// Block h holds transactions 10h to 10h+9.
fn block(height: u64) -> Vec<u64> {
    (10 * height..10 * height + 10).collect()
}

fn a_range_comes_again_beside_live_events(kind: LogKind) {
    let mut ledger = Ledger::new(kind);
    (1..=4).for_each(|height| ledger.connect(&block(height)));
    // Heights 3 and 4 are passed twice; what comes again is the best chain's.
    ledger.disconnect();
    ledger.disconnect();
    (3..=5).for_each(|height| ledger.connect(&block(height)));
    let probe = Probe::willing();
    let member = Member::start(ledger.open(), &ledger.group(), &settings(), &probe);
    probe.expect(block(5));
    assert_eq!(request(&ledger, 2, 3, "a").unwrap(), 2);
    expect_over(&ledger);
    ledger.connect(&block(6));
    probe.expect(block(6));
    member.stop();
    let times: BTreeMap<u64, Vec<i64>> =
        (1..=6).flat_map(block).map(|number| (number, probe.of(number))).collect();
    for (number, sequences) in times {
        let expected: &[i64] = match number / 10 {
            1 => &[1],
            2 => &[2, 2],
            3 => &[3, 6, 7, 7],
            4 => &[4, 5, 8],
            5 => &[9],
            _ => &[10],
        };
        assert_eq!(sequences, expected, "transaction {number}");
    }
}

fn a_live_event_wins_over_one_that_is_sent_again(kind: LogKind) {
    let mut ledger = Ledger::new(kind);
    (1..=3).for_each(|height| ledger.connect(&block(height)));
    let probe = Probe::willing();
    // One at a time, so that one that waits holds all others of its partition back.
    let one = HandlerSettings { concurrency: 1, ..settings() };
    let member = Member::start(ledger.open(), &ledger.group(), &one, &probe);
    probe.expect((1..=3).flat_map(block));
    let gate = Gate::default();
    probe.answers({
        let gate = gate.clone();
        move |tx| if tx.sequence == 1 { Answer::Wait(gate.clone()) } else { Answer::Ok }
    });
    let before = probe.attempts.lock().unwrap().len();
    request(&ledger, 1, 3, "a").unwrap();
    soon("it is under way", || if probe.attempts.lock().unwrap().len() > before { Ok(()) } else { Err(()) });
    // Blocks 2 and 3 go while block 1 is sent again: of them nothing may come any more but what is live.
    ledger.disconnect();
    ledger.disconnect();
    // Of no interest but that, once it is handled, the live events before it have been taken up.
    ledger.connect(&(1000..1040).collect::<Vec<_>>());
    gate.open();
    probe.expect(1000..1040);
    expect_over(&ledger);
    member.stop();
    for number in block(1) {
        assert_eq!(probe.of(number), [1, 1], "transaction {number}");
    }
    for (height, sequences) in [(2, [2, 5]), (3, [3, 4])] {
        for number in block(height) {
            // Where its partition holds nothing of block 1, it may have come again before it was disconnected.
            let seen = probe.of(number);
            let again = [sequences[0], sequences[0], sequences[1]];
            assert!(seen == sequences || seen == again, "transaction {number}: {seen:?}");
        }
    }
}

fn what_is_sent_again_never_comes_after_newer_events_while_the_chain_reorganises(kind: LogKind) {
    let mut ledger = Ledger::new(kind);
    (1..=8).for_each(|height| ledger.connect(&block(height)));
    let probe = Probe::willing();
    let narrow = HandlerSettings { concurrency: 2, ..settings() };
    let members = [0, 1].map(|_| Member::start(ledger.open(), &ledger.group(), &narrow, &probe));
    probe.expect((1..=8).flat_map(block));
    for round in 0..6 {
        let tip = 8 + round;
        soon("it is requested", || {
            request(&ledger, 1, tip, &format!("round {round}")).map_err(|e| e.to_string())
        });
        let depth = 1 + round % 4;
        (0..depth).for_each(|_| drop(ledger.disconnect()));
        (0..=depth).rev().for_each(|above| ledger.connect(&block((tip + 1 - above) as u64)));
        probe.expect(block((tip + 1) as u64));
    }
    expect_over(&ledger);
    members.into_iter().for_each(Member::stop);
    for number in (1..=14).flat_map(block) {
        let sequences = probe.of(number);
        assert!(sequences.is_sorted(), "transaction {number}: {sequences:?}");
    }
}

fn a_rerun_goes_on_after_a_restart(kind: LogKind) {
    let mut ledger = Ledger::new(kind);
    (1..=3).for_each(|height| ledger.connect(&block(height)));
    let probe = Probe::willing();
    let one = HandlerSettings { concurrency: 1, ..settings() };
    let member = Member::start(ledger.open(), &ledger.group(), &one, &probe);
    probe.expect((1..=3).flat_map(block));
    // Asked for while no member runs, and cut short twice.
    member.stop();
    assert_eq!(request(&ledger, 1, 3, "a").unwrap(), 3);
    let gate = Gate::default();
    probe.answers({
        let gate = gate.clone();
        move |tx| if tx.height == 2 { Answer::Wait(gate.clone()) } else { Answer::Ok }
    });
    let before = probe.seen().len();
    let member = Member::start(ledger.open(), &ledger.group(), &one, &probe);
    soon("some have come again", || if probe.seen().len() > before { Ok(()) } else { Err(()) });
    gate.open();
    member.stop();
    // A reorg while nobody runs: what is left of the request knows of it.
    ledger.disconnect();
    let member = Member::start(ledger.open(), &ledger.group(), &one, &probe);
    expect_over(&ledger);
    ledger.connect(&[99]);
    probe.expect([99]);
    member.stop();
    for number in (1..=3).flat_map(block) {
        let sequences = probe.of(number);
        assert!(sequences.is_sorted(), "transaction {number}: {sequences:?}");
        if number < 30 {
            assert!(sequences.len() >= 2, "transaction {number} came again: {sequences:?}");
        }
    }
}

fn what_cannot_be_sent_again_is_refused(kind: LogKind) {
    let mut ledger = Ledger::new(kind);
    (1..=2).for_each(|height| ledger.connect(&block(height)));
    let refusal = |first, last| request(&ledger, first, last, "a").unwrap_err().to_string();
    assert_eq!(refusal(1, 2), format!("there is no group {}", ledger.group()));
    assert_eq!(refusal(1, 9), "there is no block 9 yet: the log has come to height 2 only");
    let probe = Probe::new(|tx| if tx.height == 2 { Answer::Wait(Gate::default()) } else { Answer::Ok });
    let member = Member::start(ledger.open(), &ledger.group(), &settings(), &probe);
    probe.expect(block(1));
    soon("something is committed", || match request(&ledger, 1, 2, "a") {
        Err(Refusal::NotReached { .. }) => Ok(()),
        other => Err(other),
    });
    probe.answers(|_| Answer::Ok);
    member.stop();
    let desk = Desk::new(&ledger.open(), &ledger.group());
    assert_eq!(desk.open().unwrap(), []);
    let member = Member::start(ledger.open(), &ledger.group(), &settings(), &Probe::willing());
    soon("all is committed", || request(&ledger, 1, 2, "a").map_err(|error| error.to_string()));
    member.stop();
    // Taken back, it is not done.
    soon("another is made", || request(&ledger, 1, 1, "b").map_err(|error| error.to_string()));
    let open = desk.open().unwrap();
    assert!(open.iter().any(|(_, open)| open.id == "b"), "{open:?}");
    desk.cancel(&open, 0).unwrap();
    assert_eq!(desk.open().unwrap(), []);
}
