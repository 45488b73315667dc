//! A broker that goes away while its chain is read. Where it comes back soon, that costs readers nothing but time; where it
//! stays away for longer than a scan's patience, that says so in one line, and an audit waits on.

// In a test binary every function is part of a test.
#![allow(clippy::unwrap_used)]

mod chain_log;
mod kafka_cluster;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bitcoin::Txid;
use chain_log::TestLog;
use kafka_cluster::{Cluster, run_id};
use sluice_log::chain::ChainLog;
use sluice_log::chain::verify::{self, Depth, Observer, Summary};
use sluice_log::{Class, Result};
use sluice_schemas::{Action, ChainEvent, Codec, Topics};

/// Blocks, payments in each, and bytes of each payment: several times what readers have read ahead.
const LOAD: (usize, u64, usize) = (80, 20, 30_000);
/// Chain events after which a reader is in the middle of its work.
const MIDDLE: u64 = 5;
/// How long the broker is away at least: longer than what was read ahead lasts.
const AWAY: Duration = Duration::from_secs(2);

/// A chain on a broker of its own.
struct Chain {
    cluster: Cluster,
    url: String,
    topics: Topics,
}

impl Chain {
    fn new() -> Option<Self> {
        let cluster = Cluster::start_or_skip(&[("HEAP", "384m")])?;
        // Uncompressed, for what is read ahead is counted in bytes as they are fetched.
        let url = format!("kafka://{}?compression=none", cluster.env("KAFKA_BOOTSTRAP"));
        let topics = Topics::new(&format!("{}.away", run_id()));
        let mut log = TestLog::on(sluice_log::open(&url).unwrap(), topics.clone());
        let (blocks, payments, bytes) = LOAD;
        for _ in 0..blocks {
            let block = log.block(payments, Some(bytes));
            log.append(block, Action::Connected, |_| {}, |_| {});
        }
        Some(Self { cluster, url, topics })
    }

    /// As another process would have it.
    fn open(&self) -> ChainLog {
        let log = sluice_log::open(&self.url).unwrap();
        ChainLog { log, codec: Codec::single_object(), topics: self.topics.clone() }
    }

    /// Kills the broker when all of these are in the middle of their work, and lets them go on.
    fn kill_in_the_middle(&self, readers: [&Middle; 2]) {
        while readers.iter().any(|reader| reader.steps() < MIDDLE) {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.cluster.run("kill", &["1"]);
        readers.iter().for_each(|reader| reader.goes_on.store(true, Ordering::SeqCst));
    }
}

/// A reader, stopped in the middle of its work.
#[derive(Default)]
struct Middle {
    steps: AtomicU64,
    goes_on: AtomicBool,
}

impl Middle {
    /// Of a reader that is not stopped.
    fn passed() -> Self {
        Self { goes_on: true.into(), ..Self::default() }
    }

    /// Counts a step, and waits in the middle.
    fn step(&self) {
        if self.steps.fetch_add(1, Ordering::SeqCst) + 1 == MIDDLE {
            while !self.goes_on.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    fn steps(&self) -> u64 {
        self.steps.load(Ordering::SeqCst)
    }
}

impl Observer for &Middle {
    fn event(&mut self, _: &ChainEvent) {
        self.step();
    }
}

/// Of each chain event its offset, its sequence, and its transactions.
type Read = Vec<(i64, i64, Vec<Txid>)>;

fn scan(chain: &ChainLog, middle: &Middle) -> Result<Read> {
    let mut scanner = chain.scan(0)?;
    let mut read = Vec::new();
    while let Some(located) = scanner.next_event()? {
        let txids = scanner.transactions()?.map(|item| Ok(item?.transaction.txid));
        read.push((located.offset, located.event.sequence, txids.collect::<Result<_>>()?));
        middle.step();
    }
    Ok(read)
}

fn audit(chain: &ChainLog, mut middle: &Middle) -> Result<Summary, verify::Error> {
    chain.verify(0, Depth::Content, &mut middle)
}

#[test]
fn a_broker_that_comes_back_costs_a_scan_and_an_audit_nothing_but_time() {
    let Some(chain) = Chain::new() else { return };
    let undisturbed = scan(&chain.open(), &Middle::passed()).unwrap();
    let sound = audit(&chain.open(), &Middle::passed()).unwrap();
    assert_eq!((undisturbed.len(), sound.events), (LOAD.0, LOAD.0 as u64));
    let (scanned, audited) = (Middle::default(), Middle::default());
    std::thread::scope(|scope| {
        let scanning = scope.spawn(|| scan(&chain.open(), &scanned));
        let auditing = scope.spawn(|| audit(&chain.open(), &audited));
        chain.kill_in_the_middle([&scanned, &audited]);
        std::thread::sleep(AWAY);
        assert!(!scanning.is_finished() && !auditing.is_finished(), "everything had been read ahead");
        chain.cluster.run("up", &["1"]);
        assert!(scanning.join().unwrap().unwrap() == undisturbed, "the scan gave something else");
        assert_eq!(auditing.join().unwrap().unwrap(), sound);
    });
}

#[test]
fn a_broker_that_stays_away_for_long_ends_a_scan_with_one_line_and_an_audit_waits_on() {
    let Some(chain) = Chain::new() else { return };
    let sound = audit(&chain.open(), &Middle::passed()).unwrap();
    let (scanned, audited) = (Middle::default(), Middle::default());
    std::thread::scope(|scope| {
        let scanning = scope.spawn(|| scan(&chain.open(), &scanned));
        let auditing = scope.spawn(|| audit(&chain.open(), &audited));
        chain.kill_in_the_middle([&scanned, &audited]);
        let error = scanning.join().unwrap().unwrap_err();
        let line = error.to_string();
        assert_eq!(error.class(), Class::Retry, "{line}");
        let place = format!("failed to read {}.", chain.topics.prefix);
        assert!(line.starts_with(&place) && line.ends_with("the log has been silent for 30 s"), "{line}");
        assert_eq!(line.lines().count(), 1, "{line}");
        // Both have waited since the same moment.
        std::thread::sleep(AWAY);
        assert!(!auditing.is_finished(), "the audit has given up, too");
        chain.cluster.run("up", &["1"]);
        assert_eq!(auditing.join().unwrap().unwrap(), sound);
    });
}
