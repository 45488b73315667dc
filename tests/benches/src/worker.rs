//! Processes that the product has no binary for.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use sluice_log::StartAt;
use sluice_log::chunk::Joiner;
use sluice_publisher::{Config, Monitor, Publisher};
use sluice_schemas::{Network, TransactionEvent};
use sluice_sources::simulator::{LoadConfig, LoadSource};

/// How long a reader waits for more.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a publisher of a generated chain says once the chain is there.
pub(crate) const READY: &str = "ready";

#[derive(clap::Args)]
pub(crate) struct Publish {
    #[arg(long)]
    log: String,
    #[arg(long)]
    prefix: String,
    #[arg(long)]
    data_dir: String,
    #[arg(long)]
    network: Network,
    #[arg(long)]
    blocks: u32,
    #[arg(long)]
    transactions: u64,
}

impl Publish {
    /// Runs until it is ended.
    pub(crate) fn run(self) {
        let _ = self.data_dir;
        let config = LoadConfig {
            network: self.network,
            blocks: self.blocks,
            transactions: self.transactions,
            ..LoadConfig::default()
        };
        let source = Arc::new(LoadSource::new(config).unwrap());
        println!("{READY}");
        let log = crate::log::open(&self.log, &self.prefix);
        let config = Config { mempool: false, ..Config::default() };
        let (monitor, stop) = (Arc::new(Monitor::default()), Arc::new(AtomicBool::new(false)));
        Publisher::new(config, log, source, monitor, stop).run().unwrap();
    }
}

/// How a log is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum How {
    /// The records of the transactions topic as they are.
    Records,
    /// Decoded to events.
    Events,
    /// The chain, block by block, with the transactions of each in their order.
    Scan,
}

#[derive(clap::Args)]
pub(crate) struct Read {
    #[arg(long)]
    log: String,
    #[arg(long)]
    prefix: String,
    #[arg(long)]
    data_dir: String,
    #[arg(long)]
    how: How,
}

impl Read {
    /// Reads all, and says seconds, transactions, and bytes of values.
    pub(crate) fn run(self) {
        let _ = self.data_dir;
        let chain = crate::log::open(&self.log, &self.prefix);
        let wanted = total(&chain);
        let began = Instant::now();
        let (mut transactions, mut bytes) = (0i64, 0u64);
        if self.how == How::Scan {
            let mut scan = chain.scan(0).unwrap();
            while scan.next_event().unwrap().is_some() {
                for event in scan.transactions().unwrap() {
                    transactions += 1;
                    bytes += event.unwrap().transaction.size.unsigned_abs();
                }
            }
        } else {
            let topic = &chain.topics.transactions;
            let partitions = chain.log.topic(topic).unwrap().unwrap().partitions;
            let bounds: Vec<_> = (0..partitions).map(|p| chain.log.bounds(topic, p).unwrap()).collect();
            let starts = (0..).zip(&bounds).map(|(partition, bounds)| StartAt {
                topic: topic.clone(),
                partition,
                offset: bounds.start,
            });
            let mut joiners: Vec<Joiner> = bounds.iter().map(|_| Joiner::default()).collect();
            let mut reader = chain.log.reader(&starts.collect::<Vec<_>>()).unwrap();
            // On Kafka the last offset of a partition holds no record: so much is read as the blocks name.
            while transactions < wanted {
                let records = reader.poll(PATIENCE).unwrap();
                assert!(!records.is_empty(), "{transactions} of {wanted} transactions came");
                for record in records {
                    let partition = record.partition as usize;
                    bytes += record.value.len() as u64;
                    if let Some(whole) = joiners[partition].push(record).unwrap() {
                        transactions += 1;
                        if self.how == How::Events {
                            let event: TransactionEvent = chain.codec.decode(&whole.value).unwrap();
                            std::hint::black_box(&event);
                        }
                    }
                }
            }
        }
        println!("{} {transactions} {bytes}", began.elapsed().as_secs_f64());
    }
}

/// Transactions that the chain events name.
fn total(chain: &sluice_log::chain::ChainLog) -> i64 {
    chain.best_chain().unwrap().map(|event| event.unwrap().tx_count).sum()
}
