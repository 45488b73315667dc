//! How fast the whole is, beside named references: whole processes on real parts.
//!
//! `tests/benches/run` fetches the parts, builds for release and calls `table`; the other commands are the processes
//! that it measures and that the product has no binary for. A harness fails by panicking.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a harness for people")]

mod backfill;
mod broker;
mod chain;
mod codec;
mod electrs;
mod etl;
mod huge;
mod index;
mod latency;
mod log;
mod lookup;
mod mempool;
mod process;
mod replay;
mod setting;
mod signing;
mod table;
mod worker;

use clap::{Parser, Subcommand};

use setting::Setting;

#[derive(Parser)]
#[command(name = "sluice-bench")]
enum Command {
    /// Measures and prints the table.
    Table(Options),
    #[command(flatten)]
    Worker(Worker),
}

/// The processes that are measured.
#[derive(Subcommand)]
enum Worker {
    /// Publishes a generated chain.
    Publish(worker::Publish),
    /// Reads a log.
    Read(worker::Read),
    /// Reads single transactions of a log.
    Lookup(lookup::Lookup),
    /// Builds an index of a log.
    Index(index::Index),
}

#[derive(clap::Args)]
struct Options {
    /// Only this row; may be given several times.
    #[arg(long)]
    row: Vec<String>,
    /// Names the rows.
    #[arg(long)]
    list: bool,
    /// Runs of each; the table has their median.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Transactions of the chains.
    #[arg(long, default_value_t = 400_000)]
    transactions: usize,
}

/// Measures a row.
type Measure = fn(&mut Setting) -> Vec<table::Line>;

const ROWS: [(&str, Measure); 17] = [
    ("codec", codec::row),
    ("backfill-sqlite", |setting| backfill::from_node(setting, log::Kind::Sqlite)),
    ("backfill-kafka", |setting| backfill::from_node(setting, log::Kind::Kafka)),
    ("load-sqlite", |setting| backfill::from_load(setting, log::Kind::Sqlite)),
    ("load-kafka", |setting| backfill::from_load(setting, log::Kind::Kafka)),
    ("replay-sqlite", |setting| replay::row(setting, log::Kind::Sqlite)),
    ("replay-kafka", |setting| replay::row(setting, log::Kind::Kafka)),
    ("lookup-sqlite", |setting| lookup::row(setting, log::Kind::Sqlite)),
    ("lookup-kafka", |setting| lookup::row(setting, log::Kind::Kafka)),
    ("index-sqlite", |setting| index::row(setting, log::Kind::Sqlite)),
    ("index-kafka", |setting| index::row(setting, log::Kind::Kafka)),
    ("index-electrs", electrs::row),
    ("mempool-sqlite", |setting| mempool::row(setting, log::Kind::Sqlite)),
    ("mempool-kafka", |setting| mempool::row(setting, log::Kind::Kafka)),
    ("latency-sqlite", |setting| latency::row(setting, log::Kind::Sqlite)),
    ("latency-kafka", |setting| latency::row(setting, log::Kind::Kafka)),
    ("huge", huge::row),
];

fn main() {
    match Command::parse() {
        Command::Table(options) => measure(&options),
        Command::Worker(Worker::Publish(publish)) => publish.run(),
        Command::Worker(Worker::Read(read)) => read.run(),
        Command::Worker(Worker::Lookup(lookup)) => lookup.run(),
        Command::Worker(Worker::Index(index)) => index.run(),
    }
}

fn measure(options: &Options) {
    if options.list {
        ROWS.iter().for_each(|(name, _)| println!("{name}"));
        return;
    }
    for row in &options.row {
        assert!(ROWS.iter().any(|(name, _)| name == row), "no row {row}: --list names them");
    }
    let mut setting = Setting::new(options.runs, options.transactions);
    let mut lines = Vec::new();
    for (name, row) in ROWS {
        if options.row.is_empty() || options.row.iter().any(|wanted| wanted == name) {
            eprintln!("== {name}");
            let measured = row(&mut setting);
            measured.iter().for_each(|line| eprintln!("{line}"));
            lines.extend(measured);
        }
    }
    drop(setting);
    println!("{}", table::table(&lines));
}
