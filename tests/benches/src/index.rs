//! An index built from a full log, beside reading that log alone.

use std::process::Command;
use std::time::{Duration, Instant};

use sluice_consumer::{Batch, Consumer, Shutdown, State};
use sluice_indexer::{Projector, Settings};

use crate::backfill;
use crate::log::{Kind, Log};
use crate::process::{Process, Usage};
use crate::replay;
use crate::setting::Setting;
use crate::table::{Line, Target};
use crate::worker::How;

/// As the indexer's process has it.
const BATCH: Batch = Batch { changes: 100_000, bytes: 1 << 30, time: Duration::from_secs(20) };

/// An index that was built.
pub(crate) struct Built {
    /// Transactions a second, until everything is durable.
    rate: f64,
    /// Bytes on disk for each.
    bytes_each: f64,
    /// Microseconds of processor time for each.
    cpu_us: f64,
    /// The whole process, from its start to its end.
    pub(crate) took: Duration,
    pub(crate) usage: Usage,
}

pub(crate) fn build(log: &Log) -> Built {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg("index").args(log.options());
    let (took, usage, said) = Process::start(&mut command, &log.dir.join("index.log")).wait();
    let last = said.lines().last().unwrap_or_default();
    let [seconds, transactions, bytes] = last.split(' ').collect::<Vec<_>>()[..] else { panic!("{said}") };
    let transactions: f64 = transactions.parse().unwrap();
    Built {
        rate: transactions / seconds.parse::<f64>().unwrap(),
        bytes_each: bytes.parse::<f64>().unwrap() / transactions,
        cpu_us: usage.cpu_secs * 1e6 / transactions,
        took,
        usage,
    }
}

pub(crate) fn row(setting: &mut Setting, kind: Kind) -> Vec<Line> {
    let row = match kind {
        Kind::Sqlite => "index-sqlite",
        Kind::Kafka => "index-kafka",
    };
    let log = backfill::filled(setting, kind);
    let (mut built, mut reads) = (Vec::new(), Vec::new());
    for _ in 0..setting.runs {
        reads.push(replay::read(&log, How::Scan).rate);
        built.push(build(&log));
        eprintln!(
            "   tx/s: {:.0}, of the scan {:.0}",
            built.last().map_or(0.0, |built| built.rate),
            reads.last().unwrap()
        );
    }
    let of = |value: fn(&Built) -> f64| built.iter().map(value).collect::<Vec<f64>>();
    let what = format!("{kind:?}: index of a chain whose node tells no prevouts");
    let mut line = Line::new(row, what, "tx/s", of(|built| built.rate)).beside("scan", &reads);
    line = line.target(Target::Times(0.7));
    line.cpu_us = of(|built| built.cpu_us);
    line.peak_bytes = built.iter().map(|built| built.usage.peak_bytes).max().unwrap_or(0);
    vec![line, Line::new(row, "the same on disk, for each transaction", "B", of(|built| built.bytes_each))]
}

#[derive(clap::Args)]
pub(crate) struct Index {
    #[arg(long)]
    log: String,
    #[arg(long)]
    prefix: String,
    #[arg(long)]
    data_dir: String,
}

impl Index {
    /// Builds an index, and says seconds, transactions, and bytes on disk.
    pub(crate) fn run(self) {
        let chain = crate::log::open(&self.log, &self.prefix);
        let directory = std::path::Path::new(&self.data_dir).join("index");
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(&directory).unwrap();
        let mut projector = Projector::open(chain.clone(), &directory, Settings::default()).unwrap();
        let index = projector.index().clone();
        let consumer = Consumer::new(chain, &format!("bench-{}", std::process::id())).batch(BATCH);
        let (monitor, stop) = (consumer.monitor(), Shutdown::default());
        let began = Instant::now();
        let took = std::thread::scope(|threads| {
            let projected = threads.spawn(|| consumer.project(&mut projector, &stop));
            while monitor.status().state != State::Live {
                assert!(!projected.is_finished(), "{:?}", monitor.status().trouble);
                std::thread::sleep(Duration::from_millis(2));
            }
            let took = began.elapsed();
            stop.request();
            projected.join().unwrap().unwrap();
            took
        });
        let transactions = monitor.status().transactions;
        drop(projector);
        println!("{} {transactions} {}", took.as_secs_f64(), index.disk_bytes().unwrap());
    }
}
