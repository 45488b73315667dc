//! A broker that goes away while commands read from it. Where it comes back soon, nothing is lost and nothing is there twice;
//! where it is away, each says so in one line.
#![allow(clippy::unwrap_used)]

mod loaded;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bitcoin::Txid;
use serde_json::Value;
use sluice_consumer::{Consumer, Handler, HandlerError, HandlerSettings, Shutdown};
use sluice_log::chain::ChainLog;
use sluice_publisher::Config;
use sluice_schemas::{Codec, Topics, TransactionEvent};
use sluice_sources::simulator::LoadConfig;
use sluice_test_support::{Dir, Kafka, Pipeline, Sluice, parts, sluice_binary, soon};

/// Blocks of the log, and transactions in each of them, the coinbase included; the first block has only that.
const LOAD: (u32, u64) = (60, 3_000);
/// Few, so that less is read ahead.
const PARTITIONS: i32 = 2;
/// The last block that is sent again; the first is the one after genesis.
const AGAIN: u64 = 20;
/// Events sent again after which the replay is in the middle.
const MIDDLE: u64 = 5_000;
/// Bytes printed after which `sluice tail` is in the middle.
const PRINTED_BYTES: u64 = 500_000;
/// How long the broker is away at least: longer than what was read ahead lasts, and than a command waits for a broker that
/// it has not heard of yet.
const AWAY: Duration = Duration::from_secs(25);

/// A log on a broker of its own.
struct Log {
    kafka: Kafka,
    pipeline: Pipeline,
}

impl Log {
    fn new(blocks: u32, transactions: u64) -> Self {
        let kafka = Kafka::start("");
        let pipeline = Pipeline::new(Dir::new("away"), kafka.url(), &[]);
        let log = Self { kafka, pipeline };
        let config = Config { partitions: PARTITIONS, mempool: false, ..Config::default() };
        loaded::publish(&log.open(), config, LoadConfig { blocks, transactions, ..LoadConfig::default() });
        log
    }

    /// As another process would have it.
    fn open(&self) -> ChainLog {
        let log = sluice_log::open(&self.pipeline.log).unwrap();
        ChainLog { log, codec: Codec::single_object(), topics: Topics::new(&self.pipeline.prefix) }
    }

    fn spawn(&self, command: &str, arguments: &[&str]) -> Sluice {
        let mut all: Vec<_> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        all.extend(self.pipeline.log_options());
        Sluice::spawn(&sluice_binary(), &self.pipeline.dir, command, &all, &[] as &[(&str, &str)])
    }
}

/// Counts how often it was given each transaction.
#[derive(Clone, Default)]
struct Counter {
    times: Arc<Mutex<HashMap<Txid, u32>>>,
    again: Arc<AtomicU64>,
    /// While this holds, it takes no more than `MIDDLE` of what is sent again.
    waits: Arc<AtomicBool>,
}

impl Handler for Counter {
    async fn handle(&self, tx: TransactionEvent) -> Result<(), HandlerError> {
        let times = {
            let mut all = self.times.lock().unwrap();
            let times = all.entry(tx.transaction.txid).or_default();
            *times += 1;
            *times
        };
        if times > 1 && self.again.fetch_add(1, Ordering::SeqCst) >= MIDDLE {
            while self.waits.load(Ordering::SeqCst) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        Ok(())
    }
}

impl Counter {
    /// How many transactions were handled so often.
    fn handled(&self, times: u32) -> u64 {
        self.times.lock().unwrap().values().filter(|found| **found == times).count() as u64
    }
}

#[test]
fn a_broker_that_comes_back_costs_a_replay_and_a_tail_nothing_but_time() {
    if !parts::have("SLUICE_TEST_KAFKA_RUN") {
        return;
    }
    let (blocks, transactions) = LOAD;
    let log = Log::new(blocks, transactions);
    let in_blocks = |blocks: u64| 1 + (blocks - 1) * transactions;
    let (all, sent_again) = (1 + in_blocks(u64::from(blocks)), in_blocks(AGAIN));
    let (counter, stop) = (Counter::default(), Shutdown::default());
    counter.waits.store(true, Ordering::SeqCst);
    let member = std::thread::spawn({
        let (chain, counter, stop) = (log.open(), counter.clone(), stop.clone());
        move || Consumer::new(chain, "counting").handle(counter, &HandlerSettings::default(), &stop)
    });
    let expect = |what: &str, is: &dyn Fn() -> u64, least: u64| {
        soon(what, || match is() {
            enough if enough >= least => Ok(()),
            less => Err(less),
        });
    };
    expect("everything to be handled", &|| counter.handled(1), all);

    let mut replay = log.spawn("replay", &["counting", &format!("--range=1..{AGAIN}"), "--wait"]);
    expect("the replay to be in the middle", &|| counter.again.load(Ordering::SeqCst), MIDDLE);
    let mut tail = log.spawn("tail", &["transactions", "--from", "genesis", "--no-follow"]);
    expect("the tail to be in the middle", &|| tail.output_bytes(), PRINTED_BYTES);
    // Stopped, so that the broker is away before it has read on.
    tail.signal("-STOP");
    log.kafka.kill();
    tail.signal("-CONT");
    counter.waits.store(false, Ordering::SeqCst);
    std::thread::sleep(AWAY);
    assert!(tail.runs(), "the tail had read everything ahead");
    assert!(replay.runs() && counter.handled(2) < sent_again, "the replay had read everything ahead");
    log.kafka.up();

    assert!(tail.wait().success());
    let printed = tail.output();
    let txid = |line| {
        let event: Value = serde_json::from_str(line).ok()?;
        Some(event["transaction"]["txid"].as_str()?.to_owned())
    };
    let printed: Vec<String> = printed.lines().filter_map(txid).collect();
    let distinct: HashSet<_> = printed.iter().collect();
    assert_eq!((printed.len() as u64, distinct.len() as u64), (all, all));
    assert!(replay.wait().success(), "{}", replay.output());
    stop.request();
    member.join().unwrap().unwrap();
    // Where the group took the broker's absence for the member's, what was in its hands came to it once more.
    let handled = counter.times.lock().unwrap().len() as u64;
    assert_eq!((handled, handled - counter.handled(1)), (all, sent_again));
}

#[test]
fn a_broker_that_is_away_is_told_of_in_one_line() {
    if !parts::have("SLUICE_TEST_KAFKA_RUN") {
        return;
    }
    let log = Log::new(3, 10);
    log.pipeline.verify();
    log.kafka.kill();
    let commands: [&[&str]; 4] = [
        &["verify"],
        &["status"],
        &["tail", "blocks", "--from", "genesis", "--no-follow"],
        &["replay", "counting", "--from", "genesis"],
    ];
    std::thread::scope(|scope| {
        let running = commands.map(|command| scope.spawn(|| log.pipeline.sluice(command)));
        for (command, running) in commands.iter().zip(running) {
            let finished = running.join().unwrap();
            assert_eq!(finished.code, Some(1), "{command:?}: {finished:?}");
            let errors: Vec<_> = finished.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
            assert_eq!(errors.len(), 1, "{command:?}: {finished:?}");
            assert!(errors[0].contains(&log.pipeline.log), "{command:?}: {finished:?}");
        }
    });
    log.kafka.up();
    log.pipeline.verify();
}
