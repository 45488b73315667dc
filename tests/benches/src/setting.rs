//! What the rows share: the directory, the nodes with their chains, the broker. Started when first asked for.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sluice_test_support::{Dir, Flavour};

use crate::broker::Broker;
use crate::chain::Chain;
use crate::etl::Exported;
use crate::log::{Kind, Log};

/// The unit in which the system counts what a file takes (`st_blocks`).
const BLOCK_BYTES: u64 = 512;

/// What the rows share.
pub(crate) struct Setting {
    pub(crate) runs: usize,
    pub(crate) transactions: usize,
    chain: Option<Chain>,
    core: Option<Chain>,
    broker: Option<Broker>,
    next: usize,
    /// The newest log of each kind that holds the chain.
    pub(crate) filled: [Option<Log>; 2],
    /// What bitcoin-etl reached on the chain, once measured.
    pub(crate) etl: Option<Exported>,
    /// Removed last, when nothing runs in it any more.
    dir: Dir,
}

impl Setting {
    pub(crate) fn new(runs: usize, transactions: usize) -> Self {
        Self {
            runs,
            transactions,
            chain: None,
            core: None,
            broker: None,
            next: 0,
            filled: [None, None],
            etl: None,
            dir: Dir::new("bench"),
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Bitcoin SV's.
    pub(crate) fn chain(&mut self) -> &Chain {
        let transactions = self.transactions;
        self.chain.get_or_insert_with(|| Chain::start(Flavour::Bsv, transactions))
    }

    /// Bitcoin Core's.
    pub(crate) fn core(&mut self) -> &Chain {
        let transactions = self.transactions;
        self.core.get_or_insert_with(|| Chain::start(Flavour::Btc, transactions))
    }

    pub(crate) fn broker(&mut self) -> &Broker {
        let dir = self.dir.join("kafka");
        self.broker.get_or_insert_with(|| Broker::start(dir))
    }

    /// A new log.
    pub(crate) fn log(&mut self, kind: Kind) -> Log {
        self.next += 1;
        let prefix = format!("bench{}", self.next);
        let dir = self.dir.join(&prefix);
        std::fs::create_dir_all(&dir).unwrap();
        let url = match kind {
            Kind::Sqlite => format!("sqlite:{}", dir.join("log.db").display()),
            Kind::Kafka => self.broker().url(),
        };
        Log { kind, url, prefix, dir }
    }

    /// Removes what a log has taken on the disk.
    pub(crate) fn discard(&mut self, log: Log) {
        if log.kind == Kind::Kafka {
            self.broker().delete_topics(&log.prefix);
        }
        let _ = std::fs::remove_dir_all(&log.dir);
    }
}

/// A binary of the product.
pub(crate) fn binary(name: &str) -> PathBuf {
    PathBuf::from(std::env::var("SLUICE_TEST_BIN_DIR").expect("tests/benches/run sets it")).join(name)
}

/// What a file, or all files in a directory, take on the disk; nothing where there is none.
pub(crate) fn disk_bytes(path: &Path) -> u64 {
    match std::fs::read_dir(path) {
        Ok(entries) => entries.map(|entry| disk_bytes(&entry.unwrap().path())).sum(),
        Err(_) => std::fs::metadata(path).map_or(0, |file| file.blocks() * BLOCK_BYTES),
    }
}

pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}
