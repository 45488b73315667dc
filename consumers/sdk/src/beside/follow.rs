//! One partition of a topic beside the chain's, record by record, as far as it goes.

use std::time::{Duration, Instant};

use sluice_log::chunk::Joiner;
use sluice_log::{Class, Error, Log, PartitionReader, Record, Result, StartAt};

/// Bytes of one read.
const READ_BYTES: usize = 256 * 1024;
/// How long one read waits where something must come.
const READ_WAIT: Duration = Duration::from_millis(50);
/// How long the log may give neither a record nor its end.
const SILENCE: Duration = Duration::from_secs(30);

/// A partition, read forwards.
pub(crate) struct Follow {
    topic: String,
    partition: i32,
    reader: Box<dyn PartitionReader>,
    joiner: Joiner,
    /// The offset after the last record read.
    next: i64,
    /// Where the value that is being joined starts.
    first: i64,
}

impl Follow {
    /// Opens partitions of a topic from their starts, or from the offsets given.
    pub(crate) fn open(log: &dyn Log, topic: &str, from: &[(i32, Option<i64>)]) -> Result<Vec<Self>> {
        let starts = from.iter().map(|(partition, offset)| {
            let offset = match offset {
                Some(offset) => *offset,
                None => log.bounds(topic, *partition)?.start,
            };
            Ok(StartAt { topic: topic.to_owned(), partition: *partition, offset })
        });
        let starts = starts.collect::<Result<Vec<_>>>()?;
        let readers = log.partition_readers(&starts)?;
        let follow = |(reader, StartAt { topic, partition, offset })| Self {
            topic,
            partition,
            reader,
            joiner: Joiner::default(),
            next: offset,
            first: offset,
        };
        Ok(readers.into_iter().zip(starts).map(follow).collect())
    }

    /// Goes on at an offset, which no value spans.
    pub(crate) fn seek(&mut self, offset: i64) -> Result<()> {
        self.joiner = Joiner::default();
        self.next = offset;
        self.reader.seek(offset)
    }

    /// The next whole records, each with the offset of its first chunk; empty where none are there within `wait`.
    pub(crate) fn read(&mut self, wait: Duration) -> Result<Vec<(i64, Record)>> {
        let mut whole = Vec::new();
        for record in self.reader.read(READ_BYTES, wait)? {
            self.next = record.offset + 1;
            if !self.joiner.is_partial() {
                self.first = record.offset;
            }
            whole.extend(self.joiner.push(record)?.map(|record| (self.first, record)));
        }
        Ok(whole)
    }

    /// Whether everything has been read that was committed when the partition was opened or sought, after a read that
    /// was empty.
    pub(crate) fn is_at_end(&self) -> bool {
        self.reader.is_at_end()
    }

    /// Reads everything that is there.
    pub(crate) fn read_to_end(&mut self, mut take: impl FnMut(i64, Record) -> Result<()>) -> Result<()> {
        let mut heard = Instant::now();
        loop {
            let before = self.next;
            for (place, record) in self.read(READ_WAIT)? {
                take(place, record)?;
            }
            match self.next == before {
                true if self.is_at_end() => return Ok(()),
                true => self.expect_news(heard)?,
                false => heard = Instant::now(),
            }
        }
    }

    /// Reads up to the record at `offset`, which has been committed.
    pub(crate) fn read_through(
        &mut self,
        offset: i64,
        mut take: impl FnMut(i64, Record) -> Result<()>,
    ) -> Result<()> {
        let mut heard = Instant::now();
        while self.next <= offset {
            let before = self.next;
            for (place, record) in self.read(READ_WAIT)? {
                take(place, record)?;
            }
            match self.next == before {
                true => self.expect_news(heard)?,
                false => heard = Instant::now(),
            }
        }
        Ok(())
    }

    fn expect_news(&self, heard: Instant) -> Result<()> {
        if heard.elapsed() < SILENCE {
            return Ok(());
        }
        Err(Error::Store {
            attempt: format!("read {}/{} from offset {}", self.topic, self.partition, self.next),
            reason: format!("the log has been silent for {} s", SILENCE.as_secs()),
            class: Class::Retry,
        })
    }

    /// An error about a record of this partition.
    pub(crate) fn corrupt(record: &Record, reason: String) -> Error {
        Error::Corrupt {
            topic: record.topic.to_string(),
            partition: record.partition,
            offset: record.offset,
            reason,
        }
    }
}
