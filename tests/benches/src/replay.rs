//! From the first record of a full log to its last: plain reads, scans, and the audit.

use std::process::Command;

use crate::backfill;
use crate::broker::Performance;
use crate::log::{Kind, Log};
use crate::process::{Process, Usage};
use crate::setting::{Setting, binary, median};
use crate::table::{Line, Target};
use crate::worker::How;

/// A read of all of a log.
pub(crate) struct Done {
    pub(crate) transactions: u64,
    pub(crate) bytes: u64,
    /// Transactions a second, without the start of the process.
    pub(crate) rate: f64,
    usage: Usage,
}

/// Reads all of a log, in a process of its own.
pub(crate) fn read(log: &Log, how: How) -> Done {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg("read").args(log.options());
    command.args(["--how", &format!("{how:?}").to_lowercase()]);
    let (_, usage, said) = Process::start(&mut command, &log.dir.join("read.log")).wait();
    let last = said.lines().last().unwrap_or_default();
    let [seconds, transactions, bytes] = last.split(' ').collect::<Vec<_>>()[..] else { panic!("{said}") };
    let transactions: u64 = transactions.parse().unwrap();
    let rate = transactions as f64 / seconds.parse::<f64>().unwrap();
    Done { transactions, bytes: bytes.parse().unwrap(), rate, usage }
}

/// `sluice verify`, the whole process.
fn verify(log: &Log) -> Done {
    let mut command = Command::new(binary("sluice"));
    command.args(log.options()).args(["verify", "--json"]);
    let (took, usage, said) = Process::start(&mut command, &log.dir.join("verify.log")).wait();
    let json = said.find('{').map_or("", |start| &said[start..]);
    let found: serde_json::Value = serde_json::from_str(json).unwrap_or_else(|e| panic!("{e}: {said}"));
    assert_eq!(found["sound"], true, "{said}");
    let transactions = found["transactions"].as_u64().unwrap();
    eprintln!("   verify: {took:.2?}, of which {:.2} s for the audit", found["seconds"].as_f64().unwrap());
    Done { transactions, bytes: 0, rate: transactions as f64 / took.as_secs_f64(), usage }
}

pub(crate) fn row(setting: &mut Setting, kind: Kind) -> Vec<Line> {
    let row = match kind {
        Kind::Sqlite => "replay-sqlite",
        Kind::Kafka => "replay-kafka",
    };
    let log = backfill::filled(setting, kind);
    let mut reference: Vec<Performance> = Vec::new();
    let mut measured: [Vec<Done>; 4] = Default::default();
    for _ in 0..setting.runs {
        for (done, how) in measured.iter_mut().zip([How::Records, How::Events, How::Scan]) {
            done.push(read(&log, how));
        }
        measured[3].push(verify(&log));
        if kind == Kind::Kafka {
            let topic = format!("{}.transactions", log.prefix);
            let said = setting.broker().consumer_performance(&topic, measured[0][0].transactions);
            eprintln!("   ConsumerPerformance: {said:?}");
            reference.push(said);
        }
        let rates: Vec<f64> = measured.iter().filter_map(|done| done.last()).map(|done| done.rate).collect();
        eprintln!("   tx/s: records, events, scan, verify: {rates:.0?}");
    }
    let what = [
        "read records",
        "read and decode",
        "scan, blocks with their transactions in order",
        "`sluice verify`, whole process",
    ];
    let line = |(index, (what, done)): (usize, (&str, &Vec<Done>))| {
        let rates: Vec<f64> = done.iter().map(|done| done.rate).collect();
        let cpu = |done: &Done| done.usage.cpu_secs * 1e6 / done.transactions as f64;
        let mut line = Line::new(row, format!("{kind:?}: {what}"), "tx/s", rates);
        line.cpu_us = done.iter().map(cpu).collect();
        line.peak_bytes = done.iter().map(|done| done.usage.peak_bytes).max().unwrap_or(0);
        if kind == Kind::Kafka {
            let rates: Vec<f64> = reference.iter().map(|said| said.records).collect();
            line = line.beside("ConsumerPerformance", &rates);
            let cpu = |said: &Performance| said.usage.cpu_secs * 1e6 / done[0].transactions as f64;
            line.reference_cpu_us = reference.iter().map(cpu).collect();
            if index < 3 {
                line = line.target(Target::Times(0.8));
            }
        }
        line
    };
    let lines: Vec<Line> = what.into_iter().zip(&measured).enumerate().map(line).collect();
    if kind == Kind::Sqlite {
        let per = measured[0][0].bytes as f64 / measured[0][0].transactions as f64;
        let rate = median(&measured[0].iter().map(|done| done.rate).collect::<Vec<_>>());
        eprintln!("   {:.0} MB/s", rate * per / 1e6);
    }
    lines
}
