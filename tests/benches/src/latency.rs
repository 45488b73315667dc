//! From a transaction or block that the node has accepted to its event, read by a read-committed reader in another
//! process than the producer's.

use std::collections::HashMap;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sluice_log::StartAt;
use sluice_log::chain::ChainLog;
use sluice_schemas::{ChainEvent, MempoolEvent, MempoolKind};
use sluice_test_support::{Flavour, Lock, Node, Salt, Wallet, block_on, soon};

use crate::log::{Kind, Log};
use crate::process::{Process, Usage};
use crate::setting::{Setting, binary};
use crate::table::{Line, Target};

/// Transactions a second.
const RATE: u32 = 500;
/// For so long, in each run.
const SENDING: Duration = Duration::from_secs(10);
/// Sent before, and not counted: the connections are made, the statements prepared.
const WARM_UP: u32 = RATE;
/// Blocks submitted, one after the other, in each run.
const BLOCKS: usize = 20;
/// Transactions in each, unknown to the mempool.
const BLOCK_TRANSACTIONS: usize = 200;
/// From block to block.
const BETWEEN: Duration = Duration::from_millis(300);
/// How long the last events may take.
const PATIENCE: Duration = Duration::from_secs(20);
const FEE: u64 = 500;

/// When something was accepted, or read, by its id.
type Times = HashMap<[u8; 32], Instant>;

/// Of one run, in milliseconds, ascending.
struct Latencies {
    mempool: Vec<f64>,
    blocks: Vec<f64>,
    /// Transactions a second as sent.
    rate: f64,
    usage: Usage,
}

pub(crate) fn row(setting: &mut Setting, kind: Kind) -> Vec<Line> {
    let row = match kind {
        Kind::Sqlite => "latency-sqlite",
        Kind::Kafka => "latency-kafka",
    };
    let runs: Vec<Latencies> = (0..setting.runs)
        .map(|_| {
            let log = setting.log(kind);
            let run = run(&log);
            for (what, of) in [("mempool", &run.mempool), ("blocks", &run.blocks)] {
                let [p50, p90, p99, max] = [0.5, 0.9, 0.99, 1.0].map(|share| percentile(of, share));
                eprintln!(
                    "   {what}: {} at {:.0}/s, ms p50 {p50:.1} p90 {p90:.1} p99 {p99:.1} max {max:.1}, {:?}",
                    of.len(),
                    run.rate,
                    run.usage
                );
            }
            setting.discard(log);
            run
        })
        .collect();
    let of = |pick: fn(&Latencies) -> &Vec<f64>, share| {
        runs.iter().map(|run| percentile(pick(run), share)).collect::<Vec<f64>>()
    };
    let mempool = |share| of(|run| &run.mempool, share);
    let blocks = |share| of(|run| &run.blocks, share);
    let mut lines = vec![
        Line::new(row, format!("{kind:?}: mempool at {RATE} tx/s, p50"), "ms", mempool(0.5)),
        Line::new(row, "p99", "ms", mempool(0.99)),
        Line::new(row, format!("{kind:?}: block of {BLOCK_TRANSACTIONS} tx, p50"), "ms", blocks(0.5)),
        Line::new(row, "p99", "ms", blocks(0.99)),
    ];
    if kind == Kind::Sqlite {
        lines[0] = lines[0].clone().target(Target::AtMost(10.0));
        lines[1] = lines[1].clone().target(Target::AtMost(50.0));
    }
    lines[0].peak_bytes = runs.iter().map(|run| run.usage.peak_bytes).max().unwrap_or(0);
    lines
}

pub(crate) fn percentile(ascending: &[f64], share: f64) -> f64 {
    let last = ascending.len().saturating_sub(1);
    ascending.get((last as f64 * share).round() as usize).copied().unwrap_or(f64::NAN)
}

fn run(log: &Log) -> Latencies {
    let counted = RATE * SENDING.as_secs() as u32;
    let coins = (WARM_UP + counted) as usize + BLOCKS * BLOCK_TRANSACTIONS;
    let (node, mut wallet) = Node::start_funded(Flavour::Bsv, coins);
    let mut command = Command::new(binary("sluice-producer"));
    command.args(log.options()).args(["--node", &node.url(), "--zmq", node.zmq()]);
    let mut producer = Process::start(&mut command, &log.dir.join("producer.log"));
    soon("the mempool view to start", || {
        let events =
            log.open().log.bounds(&format!("{}.mempool", log.prefix), 0).map_or(0, |bounds| bounds.end);
        if events > 0 { Ok(()) } else { Err(producer.usage()) }
    });
    let chain = log.open();
    let done = AtomicBool::new(false);
    let starts = ends(&chain);
    let (mempool, blocks, rate, read) = std::thread::scope(|scope| {
        let reader = scope.spawn(|| follow(&chain, &starts, &done));
        send(&node, &mut wallet, WARM_UP);
        let began = Instant::now();
        let mempool = send(&node, &mut wallet, counted);
        let rate = f64::from(counted) / began.elapsed().as_secs_f64();
        std::thread::sleep(Duration::from_secs(1));
        let blocks = submit(&node, &mut wallet);
        std::thread::sleep(Duration::from_secs(1));
        done.store(true, Ordering::Relaxed);
        (mempool, blocks, rate, reader.join().unwrap())
    });
    let usage = producer.usage();
    producer.stop();
    Latencies { mempool: between(&mempool, &read), blocks: between(&blocks, &read), rate, usage }
}

/// Sends so many transactions at the rate; when the node had accepted each.
fn send(node: &Node, wallet: &mut Wallet, count: u32) -> Times {
    let transactions: Vec<_> = (0..count).map(|_| Wallet::pay(&wallet.take(), Lock::Anyone, FEE)).collect();
    let began = Instant::now();
    let mut accepted = Times::new();
    for (n, tx) in (0..).zip(&transactions) {
        let due = began + Duration::from_secs(1) * n / RATE;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let txid = node.send(tx);
        accepted.insert(bytes(txid), Instant::now());
    }
    accepted
}

/// Submits blocks; when the node had accepted each.
fn submit(node: &Node, wallet: &mut Wallet) -> Times {
    let mut accepted = Times::new();
    let mut tip = node.tip();
    for _ in 0..BLOCKS {
        let transactions =
            (0..BLOCK_TRANSACTIONS).map(|_| Wallet::pay(&wallet.take(), Lock::Anyone, FEE)).collect();
        let block = block_on(&tip, transactions, 1, Salt::fresh());
        tip = tip.child(&block);
        assert_eq!(node.try_submit(&block).unwrap(), None);
        accepted.insert(bytes(block.block_hash()), Instant::now());
        std::thread::sleep(BETWEEN);
    }
    accepted
}

fn bytes(hash: impl bitcoin::hashes::Hash<Bytes = [u8; 32]>) -> [u8; 32] {
    hash.to_byte_array()
}

/// The ends of all partitions of the mempool and blocks topics.
fn ends(chain: &ChainLog) -> Vec<StartAt> {
    let topics = [&chain.topics.mempool, &chain.topics.blocks];
    let partitions = topics.into_iter().flat_map(|topic| {
        let partitions = chain.log.topic(topic).unwrap().unwrap().partitions;
        (0..partitions).map(move |partition| (topic, partition))
    });
    let end = |(topic, partition): (&String, i32)| StartAt {
        topic: topic.clone(),
        partition,
        offset: chain.log.bounds(topic, partition).unwrap().end,
    };
    partitions.map(end).collect()
}

/// Reads until it is done; when each event could be read.
fn follow(chain: &ChainLog, from: &[StartAt], done: &AtomicBool) -> Times {
    let mut reader = chain.log.reader(from).unwrap();
    let mut read = Times::new();
    let mut last = Instant::now();
    while !done.load(Ordering::Relaxed) && last.elapsed() < PATIENCE {
        for record in reader.poll(Duration::from_millis(200)).unwrap() {
            last = Instant::now();
            if *record.topic == *chain.topics.blocks {
                let event: ChainEvent = chain.codec.decode(&record.value).unwrap();
                read.entry(bytes(event.hash)).or_insert(last);
            } else {
                let event: MempoolEvent = chain.codec.decode(&record.value).unwrap();
                if event.kind == MempoolKind::Added {
                    read.entry(bytes(event.txid)).or_insert(last);
                }
            }
        }
    }
    read
}

/// Milliseconds from accepted to read, ascending. What was read before the node's answer had arrived counts as 0.
fn between(accepted: &Times, read: &Times) -> Vec<f64> {
    let latency = |(id, accepted): (&[u8; 32], &Instant)| {
        let read = read.get(id).unwrap_or_else(|| panic!("an event did not come"));
        read.saturating_duration_since(*accepted).as_secs_f64() * 1e3
    };
    let mut latencies: Vec<f64> = accepted.iter().map(latency).collect();
    latencies.sort_by(f64::total_cmp);
    latencies
}
