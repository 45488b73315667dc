//! The event log, behind one seam.
//!
//! ```text
//!   Writer ── begin · send* · mark ── commit ──►  topics / partitions / offsets  ──►  Reader, PartitionReader, Group
//!     one, fenced by its transactional id             kafka:// or sqlite:               read committed, any number
//! ```
//!
//! The contract is Kafka's: topics of partitions of records with offsets, an atomic append over several topics by one
//! fenced writer, read-committed reads from any offset, named groups with committed offsets. Nothing above this crate
//! knows which of the two stores the events. Calls block; each handle belongs to one thread at a time.

pub mod chain;
pub mod chunk;
mod error;
mod headers;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod sqlite;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sluice_schemas::TopicSpec;

pub use error::{Class, Error, Result};
pub use headers::MAX_HEADERS_BYTES;

/// A record as it is on the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Topic name.
    pub topic: Arc<str>,
    /// Partition of the topic.
    pub partition: i32,
    /// Offset in the partition. Ascending, not always consecutive (Kafka's transaction markers take offsets).
    pub offset: i64,
    /// Milliseconds since the Unix epoch, as the writer gave it.
    pub timestamp: i64,
    /// Key.
    pub key: Bytes,
    /// Value.
    pub value: Bytes,
    /// Headers in order.
    pub headers: Vec<(String, Bytes)>,
}

/// A record to append.
#[derive(Clone, Copy, Debug)]
pub struct NewRecord<'a> {
    /// Topic name.
    pub topic: &'a str,
    /// Partition of the topic.
    pub partition: i32,
    /// Milliseconds since the Unix epoch.
    pub timestamp: i64,
    /// Key.
    pub key: &'a [u8],
    /// Value; split into chunks by the writer where it is larger than the log takes.
    pub value: &'a [u8],
    /// Headers in order, `MAX_HEADERS_BYTES` of names and values at most. Each chunk of a value has them, and the chunk
    /// headers after them; a name of one of those is refused.
    pub headers: &'a [(&'a str, &'a [u8])],
}

/// Consecutive records appended to one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendedRange {
    /// Topic name.
    pub topic: Arc<str>,
    /// Partition of the topic.
    pub partition: i32,
    /// Offset of the first record.
    pub first_offset: i64,
    /// Records, chunks counted one by one.
    pub records: i64,
    /// Calls of `send`; less than `records` where a record was chunked.
    pub sent: i64,
}

/// A partition and the offset to read from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StartAt {
    /// Topic name.
    pub topic: String,
    /// Partition of the topic.
    pub partition: i32,
    /// First offset wanted.
    pub offset: i64,
}

/// The offsets a read-committed reader can see of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Offset of the earliest record still kept.
    pub start: i64,
    /// Offset after the last committed record (Kafka: the last stable offset).
    pub end: i64,
}

/// A topic as the log has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicInfo {
    /// Name.
    pub name: String,
    /// Number of partitions.
    pub partitions: i32,
    /// Retention in milliseconds, -1 is forever.
    pub retention_ms: i64,
}

/// What `ensure_topics` found or did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicOutcome {
    /// It was missing and has been created.
    Created,
    /// It was there, with the settings asked for.
    Present,
}

/// How far a group has read one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Topic name.
    pub topic: String,
    /// Partition of the topic.
    pub partition: i32,
    /// Next offset to read.
    pub offset: i64,
}

/// A group as the log knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupInfo {
    /// Name.
    pub name: String,
    /// Members alive now.
    pub members: usize,
    /// Committed offsets.
    pub committed: Vec<Committed>,
}

/// How to end a transaction that brokers have left without an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Its records become visible.
    Commit,
    /// They never do.
    Abort,
}

/// An event log. Shared by threads; the handles it gives are not.
pub trait Log: Send + Sync {
    /// For people: the URL without secrets.
    fn url(&self) -> &str;

    /// Creates the missing topics and checks those that are there.
    ///
    /// # Errors
    /// `Error::TopicMismatch` names the topic, the setting, what it is and what it must be.
    fn ensure_topics(&self, specs: &[TopicSpec]) -> Result<Vec<TopicOutcome>>;

    /// A topic's settings, or `None` where there is no such topic.
    fn topic(&self, name: &str) -> Result<Option<TopicInfo>>;

    /// Starts to stand for `role`, of which one process at a time is the leader. The role is given up on drop, and
    /// when the process dies.
    fn campaign(&self, role: &str) -> Result<Box<dyn Candidate>>;

    /// Becomes the only writer of `transactional_id`: any earlier one is fenced, and its open transaction aborted.
    fn writer(&self, transactional_id: &str) -> Result<Box<dyn Writer>>;

    /// Where readers of these topics' partitions wait for a transaction to end, at the offset of its first record. Waits some
    /// seconds for those that are about to. After a writer has taken over and before it begins there can be none, but where
    /// the log has left out the end of one: `Writer::finish` mends that.
    fn unfinished(&self, topics: &[&str]) -> Result<Vec<StartAt>> {
        let _ = topics;
        Ok(Vec::new())
    }

    /// Reads several partitions as one stream, in order within each partition.
    fn reader(&self, from: &[StartAt]) -> Result<Box<dyn Reader>>;

    /// Reads several partitions, each at its own pace, in the order of `from`.
    fn partition_readers(&self, from: &[StartAt]) -> Result<Vec<Box<dyn PartitionReader>>>;

    /// Reads single records of a topic, at offsets known from elsewhere.
    fn point_reader(&self, topic: &str) -> Result<Box<dyn PointReader>>;

    /// Joins a named group that shares the partitions of `topics` among its members.
    fn group(&self, group: &str, topics: &[&str]) -> Result<Box<dyn GroupReader>>;

    /// What a read-committed reader can see of a partition.
    fn bounds(&self, topic: &str, partition: i32) -> Result<Bounds>;

    /// Offset of the first committed record whose timestamp is `timestamp` or later.
    fn offset_at(&self, topic: &str, partition: i32, timestamp: i64) -> Result<Option<i64>>;

    /// The groups that have committed an offset or have a member.
    fn groups(&self) -> Result<Vec<GroupInfo>>;

    /// Sets a group's committed offsets.
    ///
    /// # Errors
    /// `Error::GroupRunning` where the group has a living member.
    fn reset_group(&self, group: &str, offsets: &[Committed]) -> Result<()>;
}

/// Stands for a role until dropped.
pub trait Candidate: Send {
    /// Waits at most `wait` and says whether this process leads now. Must be called again and again while leading
    /// (at least every second) to keep the lead and to learn of its loss.
    fn leads(&mut self, wait: Duration) -> Result<bool>;
}

/// The one writer. Records become visible together at `commit`, or never.
pub trait Writer: Send {
    /// Opens a transaction.
    fn begin(&mut self) -> Result<()>;

    /// Appends a record to the open transaction. May block to bound memory.
    fn send(&mut self, record: &NewRecord<'_>) -> Result<()>;

    /// Where the records sent since the last `mark` (or `begin`) are, ordered by topic and partition.
    ///
    /// The offsets are certain once `commit` has succeeded: a writer may foretell them, and then fails the commit with
    /// `Class::Abort` if the log put a record elsewhere.
    fn mark(&mut self) -> Result<Vec<AppendedRange>>;

    /// Makes the transaction durable and visible.
    ///
    /// # Errors
    /// With `Class::Abort` nothing of it is visible and the writer can begin again after `abort`. With `Class::Fenced`
    /// another writer has taken over. Whether it is visible after any other error must be learnt from the log.
    fn commit(&mut self) -> Result<()>;

    /// Starts to `commit`, where the log can do that while the next transaction is begun and filled; else commits. One
    /// is on its way at a time: another is waited for first. How it ends is told by `settle`, and until then nothing of it may
    /// be taken for done.
    ///
    /// # Errors
    /// As `commit`, of this transaction or of the one on its way.
    fn submit(&mut self) -> Result<()> {
        self.commit()
    }

    /// Waits until the transaction submitted last is durable and visible. Does nothing where none is on its way.
    ///
    /// # Errors
    /// As `commit`. The transaction begun since is given up, for it was to follow the one that failed.
    fn settle(&mut self) -> Result<()> {
        Ok(())
    }

    /// Ends what `Log::unfinished` has found of this writer or of one before it, by a transaction of a record without a value in
    /// each of these partitions, which readers pass over. No transaction may be open.
    ///
    /// # Errors
    /// As `commit`.
    fn finish(&mut self, unfinished: &[StartAt], ending: Ending) -> Result<()> {
        let _ = (unfinished, ending);
        Ok(())
    }

    /// Gives the open transaction up, not one on its way. Does nothing where none is open.
    fn abort(&mut self) -> Result<()>;
}

/// Reads several partitions as one stream.
pub trait Reader: Send {
    /// The next committed records, in order within each partition; empty when none came within `wait`.
    fn poll(&mut self, wait: Duration) -> Result<Vec<Record>>;
}

/// Reads one partition.
pub trait PartitionReader: Send {
    /// The next committed records in offset order, at least one and about `max_bytes` at most; empty when none came
    /// within `wait`.
    fn read(&mut self, max_bytes: usize, wait: Duration) -> Result<Vec<Record>>;

    /// Whether the reader has come to the end of what was committed when it was opened, or sought last. Where a read is
    /// empty and this is `false`, the log did not answer in time, and nothing follows from the silence.
    fn is_at_end(&self) -> bool {
        true
    }

    /// Whether there is more than can be seen: a transaction that has begun here and not ended. Takes some seconds.
    fn is_unfinished(&self) -> Result<bool> {
        Ok(false)
    }

    /// When the log was last seen to have gone on towards the next record, where it can tell: on Kafka that may be behind
    /// gigabytes of aborted ones.
    fn moved(&self) -> Option<Instant> {
        None
    }

    /// Goes on at `offset`.
    fn seek(&mut self, offset: i64) -> Result<()>;
}

/// Reads single records, each at an offset of its own.
pub trait PointReader: Send {
    /// The value whose first record is at `offset`, joined where it is chunked (as `chunk::Joiner` does); `None` where
    /// no committed value starts there.
    ///
    /// # Errors
    /// `Error::NoSuchPartition`; `Error::OutOfRange`; with `Class::Retry` where the log does not answer within `wait`.
    fn read_at(&mut self, partition: i32, offset: i64, wait: Duration) -> Result<Option<Record>>;
}

/// A member of a group.
pub trait GroupReader: Send {
    /// The next committed records of the partitions that are this member's now. A partition without a committed
    /// offset starts at its earliest record. Must be called often enough to stay a member.
    fn poll(&mut self, wait: Duration) -> Result<Vec<Record>>;

    /// The partitions that are this member's now.
    fn assignment(&self) -> Result<Vec<(String, i32)>>;

    /// Commits the next offset to read of some partitions.
    ///
    /// # Errors
    /// `Error::NotAssigned` where a partition is another member's by now.
    fn commit(&mut self, offsets: &[Committed]) -> Result<()>;
}

/// Opens the log at a URL: `sqlite:PATH` or `kafka://host:port,…[?option=value]`.
///
/// # Errors
/// `Error::Url` says what is wrong with the URL.
pub fn open(url: &str) -> Result<Arc<dyn Log>> {
    if let Some(path) = url.strip_prefix("sqlite:") {
        return Ok(Arc::new(sqlite::SqliteLog::open(path.trim_start_matches("//"))?));
    }
    if url.starts_with("kafka://") {
        #[cfg(feature = "kafka")]
        return Ok(Arc::new(kafka::KafkaLog::connect(url)?));
        #[cfg(not(feature = "kafka"))]
        return Err(Error::Url {
            url: "kafka:".into(),
            reason: "this program was built without Kafka".into(),
        });
    }
    Err(Error::Url { url: url.to_owned(), reason: "it starts with neither sqlite: nor kafka://".into() })
}
