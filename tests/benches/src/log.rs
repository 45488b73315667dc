//! A log that is filled, and looked at while it is.

use std::path::PathBuf;

use sluice_log::chain::ChainLog;
use sluice_schemas::{Codec, Topics};

use crate::setting::disk_bytes;

/// Where events go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Sqlite,
    Kafka,
}

/// A log of one run.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    pub(crate) kind: Kind,
    pub(crate) url: String,
    pub(crate) prefix: String,
    pub(crate) dir: PathBuf,
}

impl Log {
    /// The options of our binaries that name it.
    pub(crate) fn options(&self) -> [String; 6] {
        let data = self.dir.join("data").display().to_string();
        let [log, prefix] = [self.url.clone(), self.prefix.clone()];
        ["--data-dir".into(), data, "--log".into(), log, "--prefix".into(), prefix]
    }

    /// Bytes on disk, of a log in SQLite.
    pub(crate) fn bytes(&self) -> u64 {
        let files = ["log.db", "log.db-wal", "log.db-shm"];
        files.iter().map(|name| disk_bytes(&self.dir.join(name))).sum()
    }

    pub(crate) fn open(&self) -> ChainLog {
        open(&self.url, &self.prefix)
    }
}

pub(crate) fn open(url: &str, prefix: &str) -> ChainLog {
    ChainLog {
        log: sluice_log::open(url).unwrap(),
        codec: Codec::single_object(),
        topics: Topics::new(prefix),
    }
}

/// What a reader sees of the log.
pub(crate) struct Progress {
    log: ChainLog,
    blocks_end: i64,
    /// Height of the last chain event.
    pub(crate) height: i32,
}

impl Progress {
    pub(crate) fn of(log: &Log) -> Self {
        Self { log: log.open(), blocks_end: 0, height: -1 }
    }

    /// Whether a chain event has come since the last look.
    pub(crate) fn has_grown(&mut self) -> bool {
        let end = self.log.log.bounds(&self.log.topics.blocks, 0).map_or(0, |bounds| bounds.end);
        std::mem::replace(&mut self.blocks_end, end) != end
    }

    /// Looks up the height.
    pub(crate) fn update(&mut self) {
        if let Ok(Some(event)) = self.log.tail() {
            self.height = event.height;
        }
    }

    /// Transaction records that can be read now.
    pub(crate) fn transactions(&self) -> i64 {
        let topic = &self.log.topics.transactions;
        let partitions = self.log.log.topic(topic).ok().flatten().map_or(0, |topic| topic.partitions);
        (0..partitions)
            .map(|partition| self.log.log.bounds(topic, partition).map_or(0, |b| b.end - b.start))
            .sum()
    }
}
