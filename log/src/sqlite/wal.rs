//! The write-ahead log: what is durable when, and when it is copied to the database.

use std::time::Duration;

use rusqlite::Connection;

use super::layout::{BUSY_TIMEOUT, PAGE_BYTES};

/// After so many bytes written, the write-ahead log is copied to the database as far as readers let it.
const CHECKPOINT_BYTES: usize = 64 * 1024 * 1024;

/// From this length on readers are waited for, so that the write-ahead log can start from its beginning again.
const MAX_WAL_BYTES: i64 = 512 * 1024 * 1024;

/// For so long. A reader that stands still within a read holds up a commit by no more.
const READER_TIMEOUT: Duration = Duration::from_millis(500);

/// Its file keeps no more than this when it starts again.
const KEPT_WAL_BYTES: i64 = 128 * 1024 * 1024;

/// Pages a writer caches, in KiB.
const WRITER_CACHE_KIB: i64 = 32 * 1024;

/// Sets a connection that writes to the log.
pub(super) fn configure_writer(conn: &Connection) -> rusqlite::Result<()> {
    // FULL syncs the write-ahead log at each commit; NORMAL would lose the last commits with the power.
    conn.pragma_update(None, "synchronous", "FULL")?;
    conn.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
    conn.pragma_update(None, "wal_autocheckpoint", 0)?;
    conn.pragma_update_and_check(None, "journal_size_limit", KEPT_WAL_BYTES, |_| Ok(()))
}

/// Decides when to checkpoint.
#[derive(Default)]
pub(super) struct Policy {
    written: usize,
}

impl Policy {
    /// To be told after each SQL transaction.
    pub(super) fn wrote(&mut self, conn: &Connection, bytes: usize) {
        // A commit of a few records writes some pages as well.
        self.written += bytes + 4 * PAGE_BYTES as usize;
        if self.written < CHECKPOINT_BYTES {
            return;
        }
        self.written = 0;
        // What is committed is safe in the write-ahead log, whatever becomes of the checkpoint.
        if let Err(error) = checkpoint(conn) {
            tracing::warn!(%error, "write-ahead log not copied to the database yet");
        }
    }
}

fn checkpoint(conn: &Connection) -> rusqlite::Result<()> {
    let frames: i64 = conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(1))?;
    if frames * PAGE_BYTES > MAX_WAL_BYTES {
        conn.busy_timeout(READER_TIMEOUT)?;
        let busy = conn.query_row("PRAGMA wal_checkpoint(RESTART)", [], |row| row.get(0));
        conn.busy_timeout(BUSY_TIMEOUT)?;
        if busy? {
            tracing::warn!(frames, "a reader keeps the write-ahead log from starting again");
        }
    }
    Ok(())
}
