//! The database file: its tables, its version, and how connections to it are set.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use super::fault::{fatal, store};
use crate::Result;

/// Larger than SQLite's default of 4 KiB: a batch is a chain of pages.
pub(super) const PAGE_BYTES: i64 = 16 * 1024;

/// How long a call waits for another process's short SQL transaction.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause between two tries to open a file that others are just creating.
const CREATE_PAUSE: Duration = Duration::from_millis(5);

const PREPARED_STATEMENTS: usize = 64;

/// What makes a file one of ours.
pub(super) struct Layout {
    /// For people.
    pub(super) what: &'static str,
    /// SQLite's `application_id`.
    pub(super) application_id: i32,
    /// SQLite's `user_version`.
    pub(super) version: i32,
    /// The tables.
    pub(super) schema: &'static str,
}

/// The log itself.
///
/// `payload` holds batches, `batch` gives them their offsets. They are two tables so that a transaction of many
/// gigabytes can be stored piece by piece (`staged`), each in a short SQL transaction, and become visible by writing a
/// few bytes per batch. `newest` is the largest timestamp in the partition up to and with the batch: it ascends, so
/// that a time can be looked up. A batch that `continues` starts within a chunked value.
pub(super) const LOG: Layout = Layout {
    what: "event log",
    application_id: 0x534c_5543,
    version: 1,
    schema: "
        CREATE TABLE topic (
            name TEXT NOT NULL PRIMARY KEY, partitions INTEGER NOT NULL, retention_ms INTEGER NOT NULL
        ) WITHOUT ROWID;
        CREATE TABLE partition (
            id INTEGER PRIMARY KEY, topic TEXT NOT NULL REFERENCES topic, number INTEGER NOT NULL,
            start INTEGER NOT NULL DEFAULT 0, end INTEGER NOT NULL DEFAULT 0, newest INTEGER NOT NULL,
            UNIQUE (topic, number)
        );
        CREATE TABLE payload (id INTEGER PRIMARY KEY, bytes BLOB NOT NULL);
        CREATE TABLE batch (
            partition INTEGER NOT NULL, base INTEGER NOT NULL, last INTEGER NOT NULL,
            max_timestamp INTEGER NOT NULL, newest INTEGER NOT NULL, continues INTEGER NOT NULL,
            payload INTEGER NOT NULL,
            PRIMARY KEY (partition, base)
        ) WITHOUT ROWID;
        CREATE INDEX batch_by_time ON batch (partition, newest, base);
        CREATE TABLE writer (transactional_id TEXT NOT NULL PRIMARY KEY, epoch INTEGER NOT NULL) WITHOUT ROWID;
        CREATE TABLE staged (
            transactional_id TEXT NOT NULL, payload INTEGER NOT NULL, PRIMARY KEY (transactional_id, payload)
        ) WITHOUT ROWID;
    ",
};

/// The groups, in a file of their own: their commits never wait for a producer.
pub(super) const GROUPS: Layout = Layout {
    what: "file of groups",
    application_id: 0x534c_5547,
    version: 1,
    schema: "
        CREATE TABLE consumer_group (name TEXT NOT NULL PRIMARY KEY, generation INTEGER NOT NULL) WITHOUT ROWID;
        CREATE TABLE member (
            id INTEGER PRIMARY KEY AUTOINCREMENT, consumer_group TEXT NOT NULL, heartbeat INTEGER NOT NULL,
            deadline_ms INTEGER NOT NULL
        );
        CREATE INDEX member_by_group ON member (consumer_group);
        CREATE TABLE subscription (
            member INTEGER NOT NULL, topic TEXT NOT NULL, PRIMARY KEY (member, topic)
        ) WITHOUT ROWID;
        CREATE TABLE committed (
            consumer_group TEXT NOT NULL, topic TEXT NOT NULL, partition INTEGER NOT NULL,
            next_offset INTEGER NOT NULL,
            PRIMARY KEY (consumer_group, topic, partition)
        ) WITHOUT ROWID;
    ",
};

/// Opens the database at `path`, and creates it where there is none.
pub(super) fn open(path: &Path, layout: &Layout) -> Result<Connection> {
    let attempt = || format!("open the {} {}", layout.what, path.display());
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut conn = Connection::open_with_flags(path, flags).map_err(store(attempt()))?;
    conn.busy_timeout(BUSY_TIMEOUT).map_err(store(attempt()))?;
    conn.set_prepared_statement_cache_capacity(PREPARED_STATEMENTS);
    let (application_id, version) = prepare_patiently(&mut conn, layout).map_err(store(attempt()))?;
    if application_id != layout.application_id {
        return Err(fatal(attempt(), format!("it is another program's database, not an {}", layout.what)));
    }
    if version != layout.version {
        return Err(fatal(
            attempt(),
            format!("its layout is version {version}, this program knows version {}", layout.version),
        ));
    }
    Ok(conn)
}

/// Prepares the file. Where several processes create it at the same time, SQLite refuses all but one at once, for the
/// change to a write-ahead log does not heed the busy timeout.
fn prepare_patiently(conn: &mut Connection, layout: &Layout) -> rusqlite::Result<(i32, i32)> {
    let deadline = Instant::now() + BUSY_TIMEOUT;
    loop {
        match prepare(conn, layout) {
            Err(error)
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                    && Instant::now() < deadline =>
            {
                std::thread::sleep(CREATE_PAUSE);
            }
            prepared => return prepared,
        }
    }
}

/// Creates what is missing, and says what the file is. Nothing is written before it is known to be ours or empty.
fn prepare(conn: &mut Connection, layout: &Layout) -> rusqlite::Result<(i32, i32)> {
    if is_empty(conn)? {
        create(conn, layout)?;
    }
    identity(conn)
}

fn identity(conn: &Connection) -> rusqlite::Result<(i32, i32)> {
    let pragma = |name| conn.pragma_query_value(None, name, |row| row.get(0));
    Ok((pragma("application_id")?, pragma("user_version")?))
}

fn is_empty(conn: &Connection) -> rusqlite::Result<bool> {
    let tables: i64 = conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    Ok(tables == 0 && identity(conn)? == (0, 0))
}

fn create(conn: &mut Connection, layout: &Layout) -> rusqlite::Result<()> {
    conn.pragma_update(None, "page_size", PAGE_BYTES)?;
    // The wrong answer, "delete", only says that another process is just creating it.
    conn.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if is_empty(&tx)? {
        tx.execute_batch(layout.schema)?;
        tx.pragma_update(None, "application_id", layout.application_id)?;
        tx.pragma_update(None, "user_version", layout.version)?;
    }
    tx.commit()
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn a_file_that_is_not_there_yet_is_opened_by_many_at_once() {
        const OPENERS: usize = 8;
        for _ in 0..40 {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("new.db");
            let barrier = Barrier::new(OPENERS);
            std::thread::scope(|scope| {
                for _ in 0..OPENERS {
                    scope.spawn(|| {
                        barrier.wait();
                        open(&path, &GROUPS).unwrap();
                    });
                }
            });
        }
    }
}
