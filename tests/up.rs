//! `sluice up`: producer and indexer in one process, or one of them.
#![allow(clippy::unwrap_used)]

use sluice_test_support::serde_json::{self, Value};
use sluice_test_support::{Dir, Sluice, sluice, sluice_binary, soon};

/// A simulator that is quick enough to watch.
const QUICK: [&str; 6] = ["--sim-block-interval", "200ms", "--sim-tx-rate", "50", "--sim-reorg-rate", "0.1"];

struct Machine(Dir);

impl Machine {
    fn new() -> Self {
        Self(Dir::new("up"))
    }

    fn up(&self, options: &[&str], only: &str) -> Sluice {
        let data = self.0.path().display().to_string();
        let environment = [("SLUICE_DATA_DIR", data.as_str()), ("SLUICE_ONLY", only)];
        Sluice::spawn(&sluice_binary(), &self.0, "up", options, &environment)
    }
}

/// The last state it told.
fn state(up: &Sluice) -> Result<Value, String> {
    let said = up.output();
    let last = said.lines().rev().find_map(|line| serde_json::from_str::<Value>(line).ok());
    last.filter(|line| line.get("index").is_some()).ok_or(said)
}

/// Waits until so many blocks are indexed, and nothing is left to index; says where the page is.
fn is_indexed(up: &Sluice, height: i64) -> String {
    soon("the index to follow", || {
        let state = state(up)?;
        let index = &state["index"];
        let page = index["page"].as_str().map(str::to_owned);
        match (index["height"].as_i64(), index["state"].as_str(), page) {
            (Some(at), Some("live"), Some(page)) if at >= height => Ok(page),
            _ => Err(state.to_string()),
        }
    })
}

fn ask(page: &str, path: &str) -> String {
    ureq::get(format!("{page}{path}")).call().unwrap().body_mut().read_to_string().unwrap()
}

#[test]
fn it_indexes_what_it_publishes_and_goes_on_after_a_kill() {
    let machine = Machine::new();
    let up = machine.up(&QUICK, "producer,indexer");
    let page = is_indexed(&up, 10);
    assert!(ask(&page, "").contains("<html"), "the explorer is at {page}");
    let height: i64 = ask(&page, "blocks/tip/height").parse().unwrap();
    assert!(height >= 10);
    up.kill();

    let up = machine.up(&QUICK, "producer,indexer");
    is_indexed(&up, height + 5);
    assert!(up.stop().success(), "SIGTERM ends both well");

    // The indexer alone answers from the same log and the same index.
    let alone = machine.up(&[], "indexer");
    let page = is_indexed(&alone, height + 5);
    assert!(ask(&page, "blocks/tip/height").parse::<i64>().unwrap() >= height + 5);
    assert!(alone.stop().success());
}

#[test]
fn an_address_that_is_taken_is_one_clear_line() {
    let machine = Machine::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let data = machine.0.path().display().to_string();
    let ended = sluice(&["up", "--data-dir", &data, "--listen", &address]);
    assert_eq!(ended.code, Some(1));
    let lines: Vec<_> = ended.stderr.lines().filter(|line| line.starts_with("error:")).collect();
    let expected = format!(
        "error: --listen: {address} is in use by another process; name another address, or port 0 for any"
    );
    assert_eq!(lines, [expected]);
}

#[test]
fn nothing_to_run_is_refused() {
    let ended = sluice(&["up", "--without", "producer,indexer"]);
    assert_eq!(ended.code, Some(64));
    assert!(ended.stderr.contains("--without: leaves nothing to run"), "{}", ended.stderr);
}
