//! The log on one machine: SQLite.
//!
//! ```text
//!   PATH           the log: batches of records, in write-ahead mode (PATH-wal, PATH-shm)
//!   PATH-groups    committed offsets and members of groups
//!   PATH-wake      written to after each commit; waiting readers watch it
//!   PATH-ROLE.lock held by the leader of a role
//! ```
//! A commit is one SQL transaction, durable when it returns. Any number of processes read meanwhile; each writes in
//! short SQL transactions (16 MB, or the few bytes per batch of a commit), so writers of several transactional ids get
//! along: a call waits for another's, 10 s at most, and then fails with `Class::Retry`. PATH must be on a local disk.

mod batch;
mod catalog;
mod committer;
mod fault;
mod group;
mod layout;
mod lead;
mod pipeline;
mod point;
mod reader;
mod retention;
mod slot;
mod wake;
mod wal;
mod writer;

use std::ffi::OsString;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::Connection;
use sluice_schemas::TopicSpec;

pub use self::batch::Compression;
use self::fault::{fatal, store};
use crate::{
    Bounds, Candidate, Committed, Error, GroupInfo, GroupReader, Log, PartitionReader, PointReader, Reader,
    Result, StartAt, TopicInfo, TopicOutcome, Writer, chunk,
};

/// Idle connections kept for reading.
const MAX_IDLE_CONNECTIONS: usize = 8;

/// Settings of a log in SQLite.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Larger values are split into chunks.
    pub max_record_bytes: usize,
    /// How batches are stored.
    pub compression: Compression,
    /// A member of a group that has not been heard of for this long has lost its partitions.
    pub member_deadline: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_record_bytes: chunk::DEFAULT_MAX_RECORD_BYTES,
            compression: Compression::default(),
            member_deadline: Duration::from_secs(6),
        }
    }
}

/// A log in an SQLite database.
pub struct SqliteLog {
    shared: Arc<Shared>,
}

/// What the handles of one log share.
struct Shared {
    url: String,
    path: PathBuf,
    options: Options,
    idle: Mutex<Vec<Connection>>,
    bell: wake::Bell,
    groups: group::Groups,
}

impl SqliteLog {
    /// Opens or creates the log at `path`.
    ///
    /// # Errors
    /// `Error::Url` where `path` is none; `Error::Store` where it cannot be opened, or is not a log of this version.
    pub fn open(path: &str) -> Result<Self> {
        Self::open_with(path, Options::default())
    }

    /// Opens or creates the log at `path` with settings of its own.
    ///
    /// # Errors
    /// As `open`.
    pub fn open_with(path: &str, options: Options) -> Result<Self> {
        let url = format!("sqlite:{path}");
        if path.is_empty() || path.contains('\0') {
            return Err(Error::Url { url, reason: "it names no file".into() });
        }
        let path = std::path::absolute(path)
            .map_err(|error| Error::Url { url: url.clone(), reason: error.to_string() })?;
        let conn = layout::open(&path, &layout::LOG)?;
        let wake = beside(&path, "-wake");
        let bell = wake::Bell::open(&wake)
            .map_err(|error| fatal(format!("open {}", wake.display()), error.to_string()))?;
        let groups = group::Groups::open(&beside(&path, "-groups"), options.member_deadline)?;
        let idle = Mutex::new(vec![conn]);
        Ok(Self { shared: Arc::new(Shared { url, path, options, idle, bell, groups }) })
    }
}

/// `path` with something appended to its last part.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

impl Shared {
    fn open_connection(&self) -> Result<Connection> {
        layout::open(&self.path, &layout::LOG)
    }

    /// A connection to read with; goes back to the others on drop.
    fn connection(&self) -> Result<Pooled<'_>> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let conn = match idle {
            Some(conn) => conn,
            None => self.open_connection()?,
        };
        Ok(Pooled { shared: self, conn: Some(conn) })
    }
}

struct Pooled<'a> {
    shared: &'a Shared,
    /// `None` only while being dropped.
    conn: Option<Connection>,
}

impl Deref for Pooled<'_> {
    type Target = Connection;
    fn deref(&self) -> &Connection {
        self.conn.as_ref().expect("only drop takes the connection")
    }
}

impl std::ops::DerefMut for Pooled<'_> {
    fn deref_mut(&mut self) -> &mut Connection {
        self.conn.as_mut().expect("only drop takes the connection")
    }
}

impl Drop for Pooled<'_> {
    fn drop(&mut self) {
        let mut idle = self.shared.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE_CONNECTIONS {
            idle.extend(self.conn.take());
        }
    }
}

impl Log for SqliteLog {
    fn url(&self) -> &str {
        &self.shared.url
    }

    fn ensure_topics(&self, specs: &[TopicSpec]) -> Result<Vec<TopicOutcome>> {
        catalog::ensure(&mut *self.shared.connection()?, specs)
    }

    fn topic(&self, name: &str) -> Result<Option<TopicInfo>> {
        catalog::topic(&*self.shared.connection()?, name)
    }

    fn campaign(&self, role: &str) -> Result<Box<dyn Candidate>> {
        let path = beside(&self.shared.path, &lead::file_suffix(role));
        Ok(Box::new(lead::LockCandidate::open(&path)?))
    }

    fn writer(&self, transactional_id: &str) -> Result<Box<dyn Writer>> {
        Ok(Box::new(writer::SqliteWriter::open(self.shared.clone(), transactional_id)?))
    }

    fn reader(&self, from: &[StartAt]) -> Result<Box<dyn Reader>> {
        Ok(Box::new(reader::Streams::open(self.shared.clone(), from)?))
    }

    fn partition_readers(&self, from: &[StartAt]) -> Result<Vec<Box<dyn PartitionReader>>> {
        let conn = self.shared.connection()?;
        let open = |start| -> Result<Box<dyn PartitionReader>> {
            Ok(Box::new(reader::Single::new(self.shared.clone(), reader::Cursor::open(&conn, start)?)))
        };
        from.iter().map(open).collect()
    }

    fn point_reader(&self, topic: &str) -> Result<Box<dyn PointReader>> {
        Ok(Box::new(point::Point::new(self.shared.clone(), topic)))
    }

    fn group(&self, group: &str, topics: &[&str]) -> Result<Box<dyn GroupReader>> {
        Ok(Box::new(group::Member::join(self.shared.clone(), group, topics)?))
    }

    fn bounds(&self, topic: &str, partition: i32) -> Result<Bounds> {
        let conn = self.shared.connection()?;
        let id = catalog::partition_id(&conn, topic, partition)?;
        catalog::bounds(&conn, id).map_err(store(format!("look up the bounds of {topic}/{partition}")))
    }

    fn offset_at(&self, topic: &str, partition: i32, timestamp: i64) -> Result<Option<i64>> {
        let conn = self.shared.connection()?;
        let attempt = || format!("look up the time {timestamp} in {topic}/{partition}");
        // One snapshot: retention may not delete the batch once it is found.
        let tx = conn.unchecked_transaction().map_err(store(attempt()))?;
        let id = catalog::partition_id(&tx, topic, partition)?;
        let Some(offset) = catalog::batch_at(&tx, id, timestamp).map_err(store(attempt()))? else {
            return Ok(None);
        };
        let mut cursor = reader::Cursor::open(&tx, &StartAt { topic: topic.to_owned(), partition, offset })?;
        let batch = cursor.next_batch(&tx)?;
        Ok(batch.into_iter().find(|record| record.timestamp >= timestamp).map(|record| record.offset))
    }

    fn groups(&self) -> Result<Vec<GroupInfo>> {
        self.shared.groups.list()
    }

    fn reset_group(&self, group: &str, offsets: &[Committed]) -> Result<()> {
        let conn = self.shared.connection()?;
        for offset in offsets {
            catalog::partition_id(&conn, &offset.topic, offset.partition)?;
        }
        self.shared.groups.reset(group, offsets)
    }
}
