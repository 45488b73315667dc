//! Blocks and transactions of any size go through in little memory.
//!
//! `SLUICE_HUGE=1` has a real node make a block of a gigabyte with a transaction of over a hundred megabytes.
//! `SLUICE_HUGE_BYTES=3300000000` says how large a generated block is; see that there is room for it on the disk twice.
#![allow(clippy::unwrap_used)]

mod loaded;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use sluice_consumer::{Consumer, Projection as _, Shutdown, State};
use sluice_indexer::{Projector, Settings};
use sluice_log::chain::ChainLog;
use sluice_log::chain::verify::Depth;
use sluice_publisher::Config;
use sluice_schemas::{Codec, Network, Topics};
use sluice_sources::simulator::{HugeBlock, LoadConfig};
use sluice_test_support::{Dir, Flavour, Kafka, LogKind, Node, Pipeline, Wallet, parts, unique_prefix};

use loaded::publish;

/// Data of the largest transaction.
const LARGEST_BYTES: usize = 110_000_000;
/// Data of each of the others.
const OTHER_BYTES: usize = 10_000_000;
/// How many others: a gigabyte in all.
const OTHERS: usize = 90;
/// The largest transaction a few times over (as it came, as an event, as bytes of the log), and what a process takes.
const ALLOWED_BYTES: u64 = 1_000_000_000;

#[test]
fn a_block_of_a_gigabyte_goes_through_in_less_memory_than_it_has() {
    if parts::setting("SLUICE_HUGE").is_none() {
        eprintln!("SLUICE_HUGE=1 runs it");
        return;
    }
    if !parts::have_node(Flavour::Bsv) {
        return;
    }
    let node = Node::start_with(Flavour::Bsv, "-maxmempool=4000 -blockmaxsize=4000000000");
    let mut wallet = node.fund(100);
    for size in std::iter::once(LARGEST_BYTES).chain([OTHER_BYTES; OTHERS]) {
        node.send(&Wallet::store(&wallet.take(), &vec![0x5a; size], size as u64 / 100));
    }
    node.mine(1);
    let pipeline = Pipeline::of(&node, LogKind::Sqlite);
    let producer = pipeline.up();
    let mut view = pipeline.view();
    view.equals(&node);
    let block = view.chain_events.last().unwrap();
    assert!(block.size > 1_000_000_000 && block.tx_count == OTHERS as i64 + 2, "{} bytes", block.size);
    let peak = producer.peak_memory_bytes();
    eprintln!("a block of {} bytes took {peak} bytes of memory", block.size);
    assert!(peak < ALLOWED_BYTES, "{peak} bytes");
    assert!(producer.stop().success());
    pipeline.verify_against(&node);
}

/// Body of the block that is compared with another, bytes, where `SLUICE_HUGE_BYTES` names no other size.
const BODY_BYTES: u64 = 144_000_000;
/// Body of the other.
const SMALL_BODY_BYTES: u64 = 48_000_000;
/// Data in the largest transaction of both.
const LARGE_TRANSACTION_BYTES: u64 = 4_000_000;
/// The same in a block of at least a gigabyte.
const HUGE_TRANSACTION_BYTES: u64 = 128_000_000;
/// Data in each of the others: transactions of the usual size.
const FILLER_BYTES: u64 = 150;
/// What a process takes beside three times its largest transaction, bytes.
const BASE_BYTES: u64 = 256_000_000;
/// More than a small block a large one may not take: what allocators and caches keep.
const SLACK_BYTES: u64 = 24_000_000;
/// The same on Kafka, where a slow broker may have the client's queue fill for the one and not for the other: 64 MiB of
/// records, and some 200 bytes beside each of up to 200,000. All of the large block would take 190 MB more there.
const KAFKA_SLACK_BYTES: u64 = 128_000_000;

/// What the index may hold back and keep of what it read, bytes: so little that a small block fills it too.
const INDEX_BYTES: usize = 16 << 20;

/// The block of many small transactions and a large one in between, through the publisher onto a log, audited there, and
/// indexed. All in processes of their own, whose peaks of memory are compared.
fn a_generated_block_goes_through_flat(kind: LogKind) {
    if !kind.there() {
        return;
    }
    let size = parts::setting("SLUICE_HUGE_BYTES").map(|size| size.parse().expect("a number of bytes"));
    let body_bytes = size.unwrap_or(BODY_BYTES);
    let transaction_bytes =
        if body_bytes >= 1_000_000_000 { HUGE_TRANSACTION_BYTES } else { LARGE_TRANSACTION_BYTES };
    let small = Peaks::of(kind, SMALL_BODY_BYTES.max(2 * transaction_bytes), transaction_bytes);
    let large = Peaks::of(kind, body_bytes, transaction_bytes);
    eprintln!("{kind:?}: {small:?}, {large:?}, for a transaction of {transaction_bytes} bytes");
    // Gigabytes fill the client's queues, which a small block does not: then the bound alone counts.
    let slack = match (kind, size) {
        (LogKind::Sqlite, _) => SLACK_BYTES,
        (LogKind::Kafka, None) => KAFKA_SLACK_BYTES,
        (LogKind::Kafka, Some(_)) => u64::MAX / 2,
    };
    for (small, large) in [(small.publish, large.publish), (small.verify, large.verify)] {
        assert!(large < BASE_BYTES + 3 * transaction_bytes, "{large} bytes of memory");
        assert!(large < small + slack, "{large} bytes of memory, and {small} for a small block");
    }
    // What the store keeps of its files in memory grows with them, slowly: the bound alone counts.
    if let Some(index) = large.index {
        assert!(index < BASE_BYTES + 3 * transaction_bytes, "{index} bytes of memory");
    }
}

#[test]
fn a_generated_block_goes_through_flat_onto_sqlite() {
    a_generated_block_goes_through_flat(LogKind::Sqlite);
}

#[test]
fn a_generated_block_goes_through_flat_onto_kafka() {
    a_generated_block_goes_through_flat(LogKind::Kafka);
}

/// Bytes of memory at most.
#[derive(Debug)]
#[allow(dead_code, reason = "the size is for people")]
struct Peaks {
    body: u64,
    publish: u64,
    verify: u64,
    /// Of a log on SQLite only: what the index makes of a block does not depend on the log.
    index: Option<u64>,
}

impl Peaks {
    fn of(kind: LogKind, body: u64, transaction: u64) -> Self {
        let dir = Dir::new("huge");
        // A broker of its own, so that its files go with the test, where they are large.
        let broker = (kind == LogKind::Kafka && body >= 1_000_000_000).then(|| Kafka::start(""));
        let log = broker.as_ref().map_or_else(|| kind.url(&dir), Kafka::url);
        let prefix = unique_prefix("huge");
        let peak = |work: &str| {
            let began = Instant::now();
            let mut child = Command::new(std::env::current_exe().unwrap());
            child.args(["--exact", "the_work_of_a_process_of_its_own", "--nocapture", "--test-threads=1"]);
            child.env(
                "SLUICE_HUGE_WORK",
                format!("{work} {body} {transaction} {prefix} {log} {}", dir.path().display()),
            );
            let output = child.output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
            let peak = said.lines().find_map(|line| line.split("peak ").nth(1)).expect("it says its peak");
            eprintln!(
                "{kind:?}: {work} of {body} bytes took {:.1?}, {peak} bytes of memory",
                began.elapsed()
            );
            peak.parse().unwrap()
        };
        let (publish, verify) = (peak("publish"), peak("verify"));
        Self { body, publish, verify, index: (kind == LogKind::Sqlite).then(|| peak("index")) }
    }
}

/// No test: what the tests above run in other processes.
#[test]
fn the_work_of_a_process_of_its_own() {
    let Some(work) = parts::setting("SLUICE_HUGE_WORK") else { return };
    let [work, body, transaction, prefix, log, dir] = work.split(' ').collect::<Vec<_>>()[..] else {
        panic!("{work}")
    };
    let huge = HugeBlock {
        height: 2,
        body_bytes: body.parse().unwrap(),
        transaction_bytes: transaction.parse().unwrap(),
        filler_bytes: FILLER_BYTES,
    };
    let log = sluice_log::open(log).unwrap();
    let chain = ChainLog { log, codec: Codec::single_object(), topics: Topics::new(prefix) };
    match work {
        "publish" => {
            let blocks = huge.height.unsigned_abs() + 1;
            let network = Network::BsvRegtest;
            publish(
                &chain,
                Config::default(),
                LoadConfig { network, blocks, huge: Some(huge), ..LoadConfig::default() },
            );
        }
        "index" => index(chain, &Path::new(dir).join("index"), huge.height + 1),
        _ => {
            let summary = chain.verify(0, Depth::Content, &mut ()).unwrap();
            assert_eq!(summary.tip.unwrap().height, huge.height + 1);
        }
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kib: u64 = peak.trim().trim_end_matches("kB").trim().parse().unwrap();
    println!("peak {}", kib * 1024);
}

fn index(chain: ChainLog, directory: &Path, height: i32) {
    let settings =
        Settings { buffer_bytes: INDEX_BYTES, cache_bytes: INDEX_BYTES as u64, ..Settings::default() };
    let mut projector = Projector::open(chain.clone(), directory, settings).unwrap();
    let consumer = Consumer::new(chain, "huge");
    let (monitor, stop) = (consumer.monitor(), Shutdown::default());
    std::thread::scope(|scope| {
        let running = scope.spawn(|| {
            consumer.project(&mut projector, &stop).unwrap();
            projector
        });
        while !running.is_finished() && monitor.status().state != State::Live {
            std::thread::sleep(Duration::from_millis(20));
        }
        stop.request();
        let position = running.join().unwrap().position().unwrap();
        assert_eq!(position.map(|position| position.tip.height), Some(height));
    });
}
