//! One partition, record by record.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::{Log, PartitionReader, Record, Result, StartAt};

/// Bytes asked for in one read of a partition. Bounds memory: with twelve partitions, a few megabytes.
pub(super) const FETCH_BYTES: usize = 256 * 1024;

/// How long one read may wait for a record below the end that the log itself named.
const READ_WAIT: Duration = Duration::from_secs(1);

/// How long a record that is committed may take to come. On Kafka a commit becomes visible partition by partition.
const PATIENCE: Duration = Duration::from_secs(5);

/// A partition read forwards, with what was read ahead.
pub(super) struct Stream {
    reader: Box<dyn PartitionReader>,
    /// Every committed record of `from..ahead`.
    buffer: VecDeque<Record>,
    from: i64,
    ahead: i64,
    fetch_bytes: usize,
}

impl Stream {
    /// Opens several partitions of a topic, in the order of `from`.
    pub(super) fn open_all(log: &dyn Log, from: &[StartAt]) -> Result<Vec<Self>> {
        let readers = log.partition_readers(from)?;
        Ok(readers.into_iter().zip(from).map(|(reader, start)| Self::new(reader, start.offset)).collect())
    }

    /// Opens one partition.
    pub(super) fn open(log: &dyn Log, topic: &str, partition: i32, offset: i64) -> Result<Self> {
        let start = StartAt { topic: topic.to_owned(), partition, offset };
        let mut streams = Self::open_all(log, &[start])?;
        Ok(streams.pop().expect("a log gives as many readers as it was asked for"))
    }

    fn new(reader: Box<dyn PartitionReader>, offset: i64) -> Self {
        Self { reader, buffer: VecDeque::new(), from: offset, ahead: offset, fetch_bytes: FETCH_BYTES }
    }

    /// Sets how much to read ahead, for reads that will not go on where they end.
    pub(super) fn fetch(&mut self, bytes: usize) {
        self.fetch_bytes = bytes.clamp(4 * 1024, FETCH_BYTES);
    }

    /// The next offset that may hold a record not taken yet.
    pub(super) fn position(&self) -> i64 {
        self.from
    }

    /// The next record below `end`, left in place; `None` where nothing committed is left below it.
    pub(super) fn peek(&mut self, end: i64) -> Result<Option<&Record>> {
        while self.buffer.is_empty() && self.ahead < end {
            let records = self.reader.read(self.fetch_bytes, READ_WAIT)?;
            let Some(last) = records.last() else { return Ok(None) };
            self.ahead = last.offset + 1;
            self.buffer.extend(records);
        }
        Ok(self.buffer.front().filter(|record| record.offset < end))
    }

    /// Takes the next record below `end`; `None` where nothing committed is left below it.
    pub(super) fn next(&mut self, end: i64) -> Result<Option<Record>> {
        if self.peek(end)?.is_none() {
            return Ok(None);
        }
        let record = self.buffer.pop_front();
        if let Some(record) = &record {
            self.from = record.offset + 1;
        }
        Ok(record)
    }

    /// Takes the next record, which must come at `offset` or before; `None` where it is not there.
    pub(super) fn expect(&mut self, offset: i64) -> Result<Option<Record>> {
        let started = Instant::now();
        loop {
            if let Some(record) = self.next(offset + 1)? {
                return Ok(Some(record));
            }
            if !self.buffer.is_empty() || self.ahead > offset || started.elapsed() > PATIENCE {
                return Ok(None);
            }
        }
    }

    /// Goes on at `offset`.
    pub(super) fn seek(&mut self, offset: i64) -> Result<()> {
        if (self.from..=self.ahead).contains(&offset) {
            while self.buffer.front().is_some_and(|record| record.offset < offset) {
                self.buffer.pop_front();
            }
        } else {
            self.reader.seek(offset)?;
            self.buffer.clear();
            self.ahead = offset;
        }
        self.from = offset;
        Ok(())
    }
}
