//! The connection of a writer, and what it does in SQL transactions.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};

use super::Shared;
use super::fault::store;
use super::layout;
use super::retention;
use super::slot::{Addition, insert_payload};
use super::wal;
use crate::{Error, Result};

/// Staged payloads deleted in one SQL transaction after an abort.
const DISCARD_ROWS: u32 = 256;

/// How often retention is enforced.
const RETENTION_INTERVAL: Duration = Duration::from_secs(60);

/// What is committed at once.
pub(super) struct Whole<A> {
    pub(super) additions: A,
    /// Bytes of batches that are not in the database yet.
    pub(super) held_bytes: usize,
    /// Whether other batches are.
    pub(super) has_staged: bool,
}

pub(super) struct Committer {
    shared: Arc<Shared>,
    conn: Connection,
    transactional_id: String,
    epoch: i64,
    /// Whether an aborted transaction may have batches in the database.
    has_leftovers: bool,
    retention_due: Instant,
    wal: wal::Policy,
}

impl Committer {
    /// Fences every earlier writer of `transactional_id` and takes its place.
    pub(super) fn take_over(shared: Arc<Shared>, transactional_id: &str) -> Result<Self> {
        let mut conn = shared.open_connection()?;
        let attempt = || format!("take over as writer {transactional_id} of {}", shared.path.display());
        wal::configure_writer(&conn).map_err(store(attempt()))?;
        let epoch = take_over(&mut conn, transactional_id).map_err(store(attempt()))?;
        let mut committer = Self {
            shared: shared.clone(),
            conn,
            transactional_id: transactional_id.to_owned(),
            epoch,
            has_leftovers: true,
            retention_due: Instant::now(),
            wal: wal::Policy::default(),
        };
        committer.discard_leftovers()?;
        Ok(committer)
    }

    pub(super) fn conn(&self) -> &Connection {
        &self.conn
    }

    /// Stores batches where no reader looks, in an SQL transaction of its own; gives their keys.
    pub(super) fn stage<'a>(&mut self, batches: impl Iterator<Item = &'a [u8]>) -> Result<Vec<i64>> {
        let attempt = format!("store a part of a transaction in {}", self.shared.path.display());
        let tx = begin(&mut self.conn, &self.transactional_id, self.epoch, &attempt)?;
        let mut ids = Vec::new();
        let mut bytes = 0;
        for payload in batches {
            bytes += payload.len();
            let id = insert_payload(&tx, payload).and_then(|id| {
                tx.prepare_cached("INSERT INTO staged (transactional_id, payload) VALUES (?1, ?2)")?
                    .execute((&self.transactional_id, id))?;
                Ok(id)
            });
            ids.push(id.map_err(store(attempt.as_str()))?);
        }
        tx.commit().map_err(store(attempt.as_str()))?;
        self.wal.wrote(&self.conn, bytes);
        Ok(ids)
    }

    /// Notes that an aborted transaction has staged batches.
    pub(super) fn leave_staged(&mut self) {
        self.has_leftovers = true;
    }

    /// Deletes what an aborted transaction, this writer's or an earlier one's, has stored.
    pub(super) fn discard_leftovers(&mut self) -> Result<()> {
        let attempt = format!("delete an aborted transaction from {}", self.shared.path.display());
        while self.has_leftovers {
            let tx = begin(&mut self.conn, &self.transactional_id, self.epoch, &attempt)?;
            let discarded = discard(&tx, &self.transactional_id).map_err(store(attempt.as_str()))?;
            tx.commit().map_err(store(attempt.as_str()))?;
            self.has_leftovers = discarded == DISCARD_ROWS as usize;
            self.wal.wrote(&self.conn, discarded * layout::PAGE_BYTES as usize);
        }
        Ok(())
    }

    /// Makes a transaction durable and visible, and tells readers.
    pub(super) fn commit<'a>(&mut self, whole: Whole<impl Iterator<Item = &'a Addition>>) -> Result<()> {
        let bytes = whole.held_bytes;
        self.make_visible(whole)?;
        self.shared.bell.ring();
        self.wal.wrote(&self.conn, bytes);
        Ok(())
    }

    /// The one SQL transaction by which everything becomes visible.
    fn make_visible<'a>(&mut self, whole: Whole<impl Iterator<Item = &'a Addition>>) -> Result<()> {
        let attempt = format!("commit to {}", self.shared.path.display());
        let tx = begin(&mut self.conn, &self.transactional_id, self.epoch, &attempt)?;
        let now = Instant::now();
        let is_retention_due = now >= self.retention_due;
        for addition in whole.additions {
            addition.publish(&tx, &attempt)?;
        }
        if whole.has_staged {
            tx.prepare_cached("DELETE FROM staged WHERE transactional_id = ?1")
                .and_then(|mut delete| delete.execute([&self.transactional_id]))
                .map_err(store(attempt.as_str()))?;
        }
        let mut retention_goes_on = false;
        if is_retention_due {
            retention_goes_on =
                retention::enforce(&tx, SystemTime::now()).map_err(store(attempt.as_str()))?;
        }
        tx.commit().map_err(store(attempt.as_str()))?;
        if is_retention_due && !retention_goes_on {
            self.retention_due = now + RETENTION_INTERVAL;
        }
        Ok(())
    }
}

/// Begins an SQL transaction that only the writer of the present epoch gets.
fn begin<'a>(
    conn: &'a mut Connection,
    transactional_id: &str,
    epoch: i64,
    attempt: &str,
) -> Result<Transaction<'a>> {
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate).map_err(store(attempt))?;
    let present: Option<i64> = tx
        .prepare_cached("SELECT epoch FROM writer WHERE transactional_id = ?1")
        .and_then(|mut select| select.query_row([transactional_id], |row| row.get(0)).optional())
        .map_err(store(attempt))?;
    if present != Some(epoch) {
        return Err(Error::Fenced { transactional_id: transactional_id.to_owned() });
    }
    Ok(tx)
}

fn take_over(conn: &mut Connection, transactional_id: &str) -> rusqlite::Result<i64> {
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let epoch = tx.query_row(
        "INSERT INTO writer (transactional_id, epoch) VALUES (?1, 1)
         ON CONFLICT DO UPDATE SET epoch = epoch + 1 RETURNING epoch",
        [transactional_id],
        |row| row.get(0),
    )?;
    tx.commit()?;
    Ok(epoch)
}

/// Deletes some of what is staged; fewer than `DISCARD_ROWS` when nothing is left.
fn discard(tx: &Transaction<'_>, transactional_id: &str) -> rusqlite::Result<usize> {
    tx.execute(
        "DELETE FROM payload WHERE id IN (SELECT payload FROM staged WHERE transactional_id = ?1 ORDER BY payload LIMIT ?2)",
        (transactional_id, DISCARD_ROWS),
    )?;
    tx.execute(
        "DELETE FROM staged WHERE transactional_id = ?1 AND payload IN
         (SELECT payload FROM staged WHERE transactional_id = ?1 ORDER BY payload LIMIT ?2)",
        (transactional_id, DISCARD_ROWS),
    )
}
