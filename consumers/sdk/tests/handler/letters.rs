//! Dead letters and what becomes of them.

use std::collections::BTreeSet;

use sluice_consumer::dlq::{DeadLetter, Desk, State};
use sluice_consumer::{HandlerSettings, KeyOrder};
use sluice_schemas::{Action, TransactionEvent};
use sluice_test_support::{LogKind, soon};

use crate::ledger::{Ledger, txid};
use crate::on_both_logs;
use crate::probe::{Answer, Member, Probe, settings};

on_both_logs!(
    poison_holds_back_the_later_events_of_its_transaction_until_it_is_redriven_in_order,
    independent_events_go_on,
    a_dropped_letter_lets_those_behind_it_go_on,
    a_failure_that_does_not_pass_becomes_a_letter,
    a_handler_that_panics_takes_no_event_with_it,
);

fn ordered() -> HandlerSettings {
    HandlerSettings { order: KeyOrder::OrderedByKey, ..settings() }
}

fn letters(ledger: &Ledger) -> Vec<DeadLetter> {
    Desk::open(&ledger.open(), &ledger.group()).unwrap().map_or(Vec::new(), |desk| desk.letters().collect())
}

/// Waits for the letters of the group, in the order of the log, to stand like this.
fn expect_letters(ledger: &Ledger, states: &[State]) -> Vec<DeadLetter> {
    soon("letters", || {
        let letters = letters(ledger);
        let there: Vec<_> = letters.iter().map(|dead| dead.letter.state).collect();
        if there == states { Ok(letters) } else { Err(there) }
    })
}

fn retry(ledger: &Ledger, number: u64) {
    let desk = Desk::open(&ledger.open(), &ledger.group()).unwrap().unwrap();
    desk.retry(&BTreeSet::from([txid(number)]), 0).unwrap();
}

fn poison_holds_back_the_later_events_of_its_transaction_until_it_is_redriven_in_order(kind: LogKind) {
    let mut ledger = Ledger::new(kind);
    let probe = Probe::new(|tx| match (tx.transaction.lock_time, tx.action) {
        (1, Action::Connected) => Answer::Reject,
        _ => Answer::Ok,
    });
    ledger.connect(&[1, 2, 3]);
    let member = Member::start(ledger.open(), &ledger.group(), &ordered(), &probe);
    probe.expect([2, 3]);
    let [letter] = &expect_letters(&ledger, &[State::Rejected])[..] else { panic!() };
    assert_eq!((letter.error.as_str(), letter.letter.attempts), ("no such customer", 1));
    let chain = ledger.open();
    let record = Desk::open(&chain, &ledger.group()).unwrap().unwrap().record(letter).unwrap();
    assert_eq!(chain.decode::<TransactionEvent>(&record).unwrap().transaction.txid, txid(1));

    ledger.disconnect();
    ledger.connect(&[1, 4]);
    probe.expect([4]);
    expect_letters(&ledger, &[State::Rejected, State::Parked, State::Parked]);
    member.stop();
    // What is held back survives the members: the topic says so.
    ledger.disconnect();
    let member = Member::start(ledger.open(), &ledger.group(), &ordered(), &probe);
    expect_letters(&ledger, &[State::Rejected, State::Parked, State::Parked, State::Parked]);
    assert_eq!(probe.of(1), [0; 0]);

    // Refused again: all wait on.
    retry(&ledger, 1);
    soon("it is tried again", || if probe.attempts_at(1) == 2 { Ok(()) } else { Err(probe.attempts_at(1)) });
    soon("it is a letter again", || {
        let first = letters(&ledger).remove(0).letter;
        if (first.state, first.attempts) == (State::Rejected, 2) { Ok(()) } else { Err(first) }
    });
    assert_eq!(probe.of(1), [0; 0]);

    // Asked for while no member runs, done by the next one.
    member.stop();
    probe.answers(|_| Answer::Ok);
    retry(&ledger, 1);
    let member = Member::start(ledger.open(), &ledger.group(), &ordered(), &probe);
    probe.expect_of(1, &[1, 2, 3, 4]);
    expect_letters(&ledger, &[]);
    ledger.connect(&[1]);
    probe.expect_of(1, &[1, 2, 3, 4, 5]);
    member.stop();
}

fn independent_events_go_on(kind: LogKind) {
    let mut ledger = Ledger::new(kind);
    let probe = Probe::new(|tx| match tx.sequence {
        1 => Answer::Reject,
        _ => Answer::Ok,
    });
    ledger.connect(&[1]);
    let member = Member::start(ledger.open(), &ledger.group(), &settings(), &probe);
    expect_letters(&ledger, &[State::Rejected]);
    ledger.disconnect();
    probe.expect_of(1, &[2]);
    probe.answers(|_| Answer::Ok);
    retry(&ledger, 1);
    probe.expect_of(1, &[2, 1]);
    expect_letters(&ledger, &[]);
    member.stop();
}

fn a_dropped_letter_lets_those_behind_it_go_on(kind: LogKind) {
    let mut ledger = Ledger::new(kind);
    let probe = Probe::new(|tx| match tx.sequence {
        1 => Answer::Reject,
        _ => Answer::Ok,
    });
    ledger.connect(&[1]);
    ledger.disconnect();
    let member = Member::start(ledger.open(), &ledger.group(), &ordered(), &probe);
    let letters = expect_letters(&ledger, &[State::Rejected, State::Parked]);
    Desk::open(&ledger.open(), &ledger.group()).unwrap().unwrap().forget(&letters[..1], 0).unwrap();
    probe.expect_of(1, &[2]);
    expect_letters(&ledger, &[]);
    member.stop();
}

fn a_failure_that_does_not_pass_becomes_a_letter(kind: LogKind) {
    let mut ledger = Ledger::new(kind);
    let probe = Probe::new(|tx| match tx.transaction.lock_time {
        1 => Answer::Retry,
        _ => Answer::Ok,
    });
    ledger.connect(&[1, 2]);
    let member = Member::start(ledger.open(), &ledger.group(), &settings(), &probe);
    probe.expect([2]);
    let letters = expect_letters(&ledger, &[State::Rejected]);
    assert_eq!((letters[0].error.as_str(), letters[0].letter.attempts), ("the database is down", 3));
    member.stop();
    // It is committed: a restart does not meet it again.
    let before = probe.attempts_at(1);
    let member = Member::start(ledger.open(), &ledger.group(), &settings(), &probe);
    ledger.connect(&[3]);
    probe.expect([3]);
    member.stop();
    assert_eq!(probe.attempts_at(1), before);
}

fn a_handler_that_panics_takes_no_event_with_it(kind: LogKind) {
    let mut ledger = Ledger::new(kind);
    let probe = Probe::new(|tx| match tx.transaction.lock_time {
        5 => Answer::Panic,
        _ => Answer::Ok,
    });
    let all: Vec<u64> = (0..40).collect();
    ledger.connect(&all);
    let member = Member::start(ledger.open(), &ledger.group(), &settings(), &probe);
    probe.expect(all.into_iter().filter(|number| *number != 5));
    let letters = expect_letters(&ledger, &[State::Rejected]);
    assert_eq!(letters[0].letter.txid, txid(5));
    assert_eq!(letters[0].error, "the handler panicked: index out of bounds");
    member.stop();
}
