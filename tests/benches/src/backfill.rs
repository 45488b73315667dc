//! From the first block of a chain to its last, into an empty log.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::broker::Performance;
use crate::etl;
use crate::log::{Kind, Log, Progress};
use crate::process::{LOOK, Process, Usage};
use crate::replay;
use crate::setting::{Setting, binary};
use crate::table::{Line, Target};
use crate::worker::{How, READY};

/// How long a backfill may stand still.
const PATIENCE: Duration = Duration::from_secs(120);

/// A backfill that has been watched.
pub(crate) struct Watched {
    /// Transactions a second of the whole process, from its start until the last block could be read.
    pub(crate) whole: f64,
    /// From the first blocks that could be read on: without the time to connect, and to become the leader.
    steady: f64,
    pub(crate) usage: Usage,
}

/// Watches a producer until the log has the height.
pub(crate) fn watch(
    mut producer: Process,
    began: Instant,
    log: &Log,
    height: i32,
    transactions: u64,
) -> Watched {
    let mut progress = Progress::of(log);
    let mut first: Option<(Instant, i64)> = None;
    let mut last = Instant::now();
    loop {
        let usage = producer.usage();
        if progress.has_grown() {
            last = Instant::now();
            let (from, seen) = *first.get_or_insert_with(|| (last, progress.transactions()));
            progress.update();
            if progress.height >= height {
                let rest = transactions as f64 - seen as f64;
                let watched = Watched {
                    whole: transactions as f64 / (last - began).as_secs_f64(),
                    steady: rest / (last - from).as_secs_f64(),
                    usage,
                };
                producer.stop();
                return watched;
            }
        }
        assert!(last.elapsed() < PATIENCE, "it stands still at {}\n{}", progress.height, producer.output());
        std::thread::sleep(LOOK);
    }
}

/// A log that holds the node's chain, filled now where none has been.
pub(crate) fn filled(setting: &mut Setting, kind: Kind) -> Log {
    if setting.filled[kind as usize].is_none() {
        let runs = std::mem::replace(&mut setting.runs, 1);
        from_node(setting, kind);
        setting.runs = runs;
    }
    setting.filled[kind as usize].clone().expect("filled above")
}

/// From a real node: `sluice-producer` beside bitcoin-etl and Kafka's own producer.
pub(crate) fn from_node(setting: &mut Setting, kind: Kind) -> Vec<Line> {
    let row = match kind {
        Kind::Sqlite => "backfill-sqlite",
        Kind::Kafka => "backfill-kafka",
    };
    let (url, height) = (setting.chain().url(), setting.chain().height());
    let transactions = setting.chain().transactions();
    let block_bytes = setting.chain().bytes;
    let start = |log: &Log| {
        let mut command = Command::new(binary("sluice-producer"));
        command.args(log.options()).args(["--node", &url, "--no-mempool"]);
        let producer = Process::start(&mut command, &log.dir.join("producer.log"));
        let began = producer.began;
        (producer, began)
    };
    let measured = runs(setting, kind, height, transactions, start);
    let etl = etl::measure(setting);
    let of_chain = block_bytes as f64 / transactions as f64;
    let what = format!("node → {kind:?}, {transactions} tx of {of_chain:.0} B");
    let mut lines = measured.lines(row, &what);
    lines[0] = lines[0]
        .clone()
        .beside(format!("bitcoin-etl, {} workers", etl::WORKERS), &etl.rates)
        .target(Target::Times(100.0));
    lines[0].reference_cpu_us = etl.cpu_us;
    lines
}

/// From a generated chain.
pub(crate) fn from_load(setting: &mut Setting, kind: Kind) -> Vec<Line> {
    /// Transactions of each block.
    const BLOCK: u64 = 10_000;
    let row = match kind {
        Kind::Sqlite => "load-sqlite",
        Kind::Kafka => "load-kafka",
    };
    // The first block is only a coinbase.
    let blocks = setting.transactions as u64 / BLOCK + 1;
    let transactions = 2 + (blocks - 1) * BLOCK;
    let start = |log: &Log| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("publish").args(log.options()).args(["--network", "bsv-regtest"]);
        command.args(["--blocks", &blocks.to_string(), "--transactions", &BLOCK.to_string()]);
        let mut producer = Process::start(&mut command, &log.dir.join("producer.log"));
        while !producer.output().contains(READY) {
            producer.usage();
            std::thread::sleep(LOOK);
        }
        (producer, Instant::now())
    };
    let measured = runs(setting, kind, blocks as i32, transactions, start);
    measured.lines(row, &format!("generated → {kind:?}, {transactions} tx of 192 B"))
}

/// What several backfills reached.
struct Measured {
    watched: Vec<Watched>,
    transactions: u64,
    /// Bytes of all values in the transactions topic.
    event_bytes: f64,
    /// `ProducerPerformance`, by compression.
    kafka: Vec<(&'static str, Vec<Performance>)>,
    startup_cpu_secs: f64,
}

fn runs(
    setting: &mut Setting,
    kind: Kind,
    height: i32,
    transactions: u64,
    start: impl Fn(&Log) -> (Process, Instant),
) -> Measured {
    let mut watched = Vec::new();
    let mut event_bytes = 0.0;
    let mut kafka: Vec<(&'static str, Vec<Performance>)> =
        if kind == Kind::Kafka { vec![("zstd", vec![]), ("none", vec![])] } else { vec![] };
    let mut startup_cpu_secs = 0.0;
    for _ in 0..setting.runs {
        let log = setting.log(kind);
        let (mut producer, began) = start(&log);
        startup_cpu_secs = if began == producer.began { 0.0 } else { producer.usage().cpu_secs };
        let run = watch(producer, began, &log, height, transactions);
        eprintln!("   {:.0} tx/s, {:.0} tx/s steady, {:?}", run.whole, run.steady, run.usage);
        watched.push(run);
        let read = replay::read(&log, How::Records);
        assert_eq!(read.transactions, transactions, "every transaction is there once");
        event_bytes = read.bytes as f64;
        for (compression, reached) in &mut kafka {
            let bytes = event_bytes / transactions as f64 + 32.0;
            let said = setting.broker().producer_performance(transactions, bytes.round() as u64, compression);
            eprintln!("   ProducerPerformance {compression}: {said:?}");
            reached.push(said);
        }
        if let Some(old) = setting.filled[kind as usize].replace(log) {
            setting.discard(old);
        }
    }
    Measured { watched, transactions, event_bytes, kafka, startup_cpu_secs }
}

impl Measured {
    fn lines(&self, row: &'static str, what: &str) -> Vec<Line> {
        let of = |rate: fn(&Watched) -> f64| self.watched.iter().map(rate).collect::<Vec<_>>();
        let mut whole = Line::new(row, format!("{what}, whole process"), "tx/s", of(|run| run.whole));
        let cpu =
            |run: &Watched| (run.usage.cpu_secs - self.startup_cpu_secs) * 1e6 / self.transactions as f64;
        whole.cpu_us = self.watched.iter().map(cpu).collect();
        whole.peak_bytes = self.watched.iter().map(|run| run.usage.peak_bytes).max().unwrap_or(0);
        let cpu_us = whole.cpu_us.clone();
        let mut lines =
            vec![whole, Line::new(row, "the same without its start", "tx/s", of(|run| run.steady))];
        // Key and value, as they go to Kafka.
        let bytes = self.event_bytes / self.transactions as f64 + 32.0;
        let megabytes = |rates: &[f64]| rates.iter().map(|rate| rate * bytes / 1e6).collect::<Vec<_>>();
        let steady = megabytes(&of(|run| run.steady));
        let what = format!("the same in events of {bytes:.0} B with key");
        match self.kafka.as_slice() {
            [] => lines.push(Line::new(row, what, "MB/s", steady)),
            all => lines.extend(all.iter().map(|(compression, reached)| {
                let rates: Vec<f64> = reached.iter().map(|reached| reached.records).collect();
                let cpu = |reached: &Performance| reached.usage.cpu_secs * 1e6 / self.transactions as f64;
                let mut line = Line::new(row, what.clone(), "MB/s", steady.clone())
                    .beside(format!("ProducerPerformance, acks=all, {compression}"), &megabytes(&rates))
                    .target(Target::Times(0.8));
                line.cpu_us = cpu_us.clone();
                line.reference_cpu_us = reached.iter().map(cpu).collect();
                line
            })),
        }
        lines
    }
}
