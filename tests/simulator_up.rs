//! `sluice up` with nothing at all: the simulator onto an SQLite log.
#![allow(clippy::unwrap_used)]

use sluice_test_support::sluice_schemas::{Network, Topics};
use sluice_test_support::{Dir, Finished, LogKind, Sluice, View, serde_json, sluice, sluice_binary, soon};

/// A simulator that is quick enough to watch.
const QUICK: [&str; 8] = [
    "--sim-block-interval",
    "200ms",
    "--sim-tx-rate",
    "50",
    "--sim-reorg-rate",
    "0.1",
    "--reconcile-interval",
    "1s",
];

/// Nothing more in the environment.
const NONE: &[(&str, &str)] = &[];

struct Machine {
    dir: Dir,
}

impl Machine {
    fn new() -> Self {
        Self { dir: Dir::new("simulator") }
    }

    /// What a user sets to keep a try in a place of its own.
    fn up(&self, options: &[&str]) -> Sluice {
        let data = self.dir.path().display().to_string();
        Sluice::spawn(&sluice_binary(), &self.dir, "up", options, &[("SLUICE_DATA_DIR", data.as_str())])
    }

    fn sluice(&self, arguments: &[&str]) -> Finished {
        let data = self.dir.path().display().to_string();
        sluice(&[arguments, &["--data-dir", &data]].concat())
    }

    fn view(&self) -> View {
        View::open(&LogKind::Sqlite.url(&self.dir), &Topics::of(Network::BtcRegtest).prefix)
    }
}

fn grows_by(view: &mut View, events: usize) {
    view.chain();
    let wanted = view.chain_events.len() + events;
    soon("the log to grow", || {
        view.chain();
        if view.chain_events.len() >= wanted { Ok(()) } else { Err(view.chain_events.len()) }
    });
}

#[test]
fn it_grows_a_log_and_goes_on_after_a_restart() {
    let machine = Machine::new();
    // No option at all, as the first line of the README has it.
    let up = machine.up(&[]);
    let mut view = machine.view();
    grows_by(&mut view, 2);
    assert!(up.stop().success(), "SIGTERM ends it well");

    let up = machine.up(&QUICK);
    // The view checks that sequences are contiguous and blocks follow one another, over the restart, too.
    grows_by(&mut view, 20);
    up.kill();
    let up = machine.up(&QUICK);
    grows_by(&mut view, 20);
    let epochs: Vec<_> = view.chain_events.iter().map(|e| e.epoch).collect();
    assert!(epochs.is_sorted(), "{epochs:?}");
    assert!(up.stop().success());
    machine.sluice(&["verify"]).succeeded();
}

#[test]
fn a_second_producer_stands_by_and_takes_over_when_the_first_is_killed() {
    let machine = Machine::new();
    let first = machine.up(&QUICK);
    let mut view = machine.view();
    grows_by(&mut view, 5);
    let mut second = machine.up(&QUICK);
    second.says("another process has it open");
    grows_by(&mut view, 5);
    let epoch = view.chain_events.last().unwrap().epoch;
    assert_eq!(epoch, view.chain_events[0].epoch, "who stands by does not disturb");
    first.kill();
    soon("the second to take over", || {
        view.chain();
        match view.chain_events.last().unwrap().epoch {
            newer if newer > epoch => Ok(()),
            same => Err(same),
        }
    });
    grows_by(&mut view, 5);
    assert!(second.stop().success());
    machine.sluice(&["verify"]).succeeded();
}

#[test]
fn tail_shows_events_as_they_come() {
    let machine = Machine::new();
    let up = machine.up(&QUICK);
    let mut view = machine.view();
    grows_by(&mut view, 3);
    let data = machine.dir.path().display().to_string();
    let arguments = ["blocks", "--json", "--from", "genesis", "--data-dir", &data];
    let tail = Sluice::spawn(&sluice_binary(), &machine.dir, "tail", &arguments, NONE);
    // More than were there when it began.
    let wanted = view.chain_events.len() + 10;
    let sequences = soon("tail to show them", || {
        let said = tail.output();
        let whole = &said[..said.rfind('\n').map_or(0, |end| end + 1)];
        let sequences: Vec<_> = whole
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
            .map(|event| event["sequence"].as_i64().unwrap())
            .collect();
        if sequences.len() >= wanted { Ok(sequences) } else { Err(said) }
    });
    assert_eq!(sequences, (0..sequences.len() as i64).collect::<Vec<_>>());
    tail.kill();
    assert!(up.stop().success());
}
