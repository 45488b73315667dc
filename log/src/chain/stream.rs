//! One partition, record by record.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::{Class, Error, Log, PartitionReader, Record, Result, StartAt};

/// Bytes asked for in one read of a partition. Bounds memory: with twelve partitions, a few megabytes.
pub(super) const FETCH_BYTES: usize = 256 * 1024;

/// How long one read may wait.
const READ_WAIT: Duration = Duration::from_millis(50);

/// How long a log may be silent where it has neither given a record, nor gone on, nor come to its end, unless more is borne.
const SILENCE: Duration = Duration::from_secs(30);

/// How long a record that is committed may take to come. On Kafka a commit becomes visible partition by partition.
const PATIENCE: Duration = Duration::from_secs(5);

/// A partition read forwards, with what was read ahead.
pub(super) struct Stream {
    topic: Arc<str>,
    partition: i32,
    reader: Box<dyn PartitionReader>,
    /// Every committed record of `from..ahead`.
    buffer: VecDeque<Record>,
    from: i64,
    ahead: i64,
    fetch_bytes: usize,
    silence: Duration,
    /// The end that was asked for since the reader was opened or sought: what it knows of its end may be older than any
    /// later one.
    horizon: Option<i64>,
}

impl Stream {
    /// Opens several partitions of a topic, in the order of `from`.
    pub(super) fn open_all(log: &dyn Log, from: &[StartAt]) -> Result<Vec<Self>> {
        let readers = log.partition_readers(from)?;
        Ok(readers.into_iter().zip(from).map(|(reader, start)| Self::new(reader, start)).collect())
    }

    /// Opens one partition.
    pub(super) fn open(log: &dyn Log, topic: &str, partition: i32, offset: i64) -> Result<Self> {
        let start = StartAt { topic: topic.to_owned(), partition, offset };
        let mut streams = Self::open_all(log, &[start])?;
        Ok(streams.pop().expect("a log gives as many readers as it was asked for"))
    }

    fn new(reader: Box<dyn PartitionReader>, start: &StartAt) -> Self {
        Self {
            topic: start.topic.as_str().into(),
            partition: start.partition,
            reader,
            buffer: VecDeque::new(),
            from: start.offset,
            ahead: start.offset,
            fetch_bytes: FETCH_BYTES,
            silence: SILENCE,
            horizon: None,
        }
    }

    /// Sets how much to read ahead, for reads that will not go on where they end.
    pub(super) fn fetch(&mut self, bytes: usize) {
        self.fetch_bytes = bytes.clamp(4 * 1024, FETCH_BYTES);
    }

    /// Sets how long the log may be silent before a read fails.
    pub(super) fn bear_silence(&mut self, silence: Duration) {
        self.silence = silence;
    }

    /// The next offset that may hold a record not taken yet.
    pub(super) fn position(&self) -> i64 {
        self.from
    }

    /// The next record below `end`, left in place; `None` where nothing committed is left below it.
    pub(super) fn peek(&mut self, end: i64) -> Result<Option<&Record>> {
        if self.buffer.is_empty() && self.ahead < end {
            self.read_or_end(end)?;
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
        if self.buffer.is_empty() && self.ahead <= offset {
            self.read_up_to(offset)?;
        }
        match self.buffer.front() {
            Some(record) if record.offset <= offset => self.next(offset + 1),
            _ => Ok(None),
        }
    }

    /// Reads on until a record comes, or has certainly gone missing.
    fn read_up_to(&mut self, offset: i64) -> Result<()> {
        let started = Instant::now();
        while !self.read()? {
            if started.elapsed() <= PATIENCE {
                continue;
            }
            // Before it counts as missing, the log must have said so, and that nothing is on its way: what was may have come.
            if self.has_come(offset)? {
                return Ok(());
            }
            let is_unfinished = self.reader.is_unfinished()?;
            if self.has_come(offset)? || !is_unfinished {
                return Ok(());
            }
            if started.elapsed() > self.silence {
                return Err(self.failed("a transaction there has not ended".into()));
            }
        }
        Ok(())
    }

    /// Reads on to the end that the log has now; says whether there was a record.
    fn has_come(&mut self, offset: i64) -> Result<bool> {
        self.horizon = Some(self.ahead);
        self.read_or_end(offset + 1)?;
        Ok(!self.buffer.is_empty())
    }

    /// Waits for a record that is not taken yet, `timeout` at most, and gives the offset after the last one read ahead;
    /// `None` where none has come.
    pub(super) fn wait(&mut self, timeout: Duration) -> Result<Option<i64>> {
        let came = !self.buffer.is_empty() || self.read_within(timeout)?;
        Ok(came.then_some(self.ahead))
    }

    /// Reads on; says whether there was a record.
    fn read(&mut self) -> Result<bool> {
        self.read_within(READ_WAIT)
    }

    fn read_within(&mut self, wait: Duration) -> Result<bool> {
        let records = self.reader.read(self.fetch_bytes, wait)?;
        let Some(last) = records.last() else { return Ok(false) };
        self.ahead = last.offset + 1;
        self.buffer.extend(records);
        Ok(true)
    }

    /// Reads on; without a record, the log has certainly come to `end`.
    fn read_or_end(&mut self, end: i64) -> Result<()> {
        if self.horizon.is_some_and(|horizon| horizon < end) && self.reader.is_at_end() {
            self.reader.seek(self.ahead)?;
        }
        self.horizon = self.horizon.max(Some(end));
        let started = Instant::now();
        while !self.read()? && !self.reader.is_at_end() {
            if self.reader.moved().map_or(started, |moved| moved.max(started)).elapsed() > self.silence {
                let reason = format!("the log has been silent for {} s", self.silence.as_secs());
                return Err(self.failed(reason));
            }
        }
        Ok(())
    }

    fn failed(&self, reason: String) -> Error {
        let attempt = format!("read {}/{} from offset {}", self.topic, self.partition, self.ahead);
        Error::Store { attempt, reason, class: Class::Retry }
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
            self.horizon = None;
        }
        self.from = offset;
        Ok(())
    }
}
