//! The writer: collects a transaction and makes it visible in one SQL transaction.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};

use super::Shared;
use super::fault::{fatal, store};
use super::layout;
use super::retention;
use super::slot::{Payload, Slot, insert_payload};
use super::wal;
use crate::{AppendedRange, Class, Error, NewRecord, Result, Writer, chunk, headers};

/// As much of a transaction is held in memory. What a larger one has more is stored before its commit, where no reader
/// looks.
const HELD_BYTES: usize = 16 * 1024 * 1024;

/// Staged payloads deleted in one SQL transaction after an abort.
const DISCARD_ROWS: u32 = 256;

/// How often retention is enforced.
const RETENTION_INTERVAL: Duration = Duration::from_secs(60);

pub(super) struct SqliteWriter {
    shared: Arc<Shared>,
    conn: Connection,
    transactional_id: String,
    epoch: i64,
    topics: BTreeMap<String, Vec<Slot>>,
    is_open: bool,
    /// Bytes of sealed batches in memory.
    held_bytes: usize,
    /// Whether the open transaction has batches in the database already.
    has_staged: bool,
    /// Whether an aborted transaction may have.
    has_leftovers: bool,
    retention_due: Instant,
    wal: wal::Policy,
}

impl SqliteWriter {
    /// Fences every earlier writer of `transactional_id` and takes its place.
    pub(super) fn open(shared: Arc<Shared>, transactional_id: &str) -> Result<Self> {
        let mut conn = shared.open_connection()?;
        let attempt = || format!("take over as writer {transactional_id} of {}", shared.path.display());
        wal::configure_writer(&conn).map_err(store(attempt()))?;
        let epoch = take_over(&mut conn, transactional_id).map_err(store(attempt()))?;
        let mut writer = Self {
            shared: shared.clone(),
            conn,
            transactional_id: transactional_id.to_owned(),
            epoch,
            topics: BTreeMap::new(),
            is_open: false,
            held_bytes: 0,
            has_staged: false,
            has_leftovers: true,
            retention_due: Instant::now(),
            wal: wal::Policy::default(),
        };
        writer.discard_leftovers()?;
        Ok(writer)
    }

    fn append(&mut self, record: &NewRecord<'_>) -> Result<()> {
        let max = self.shared.options.max_record_bytes;
        if record.key.len() > max {
            let reason = format!("its key of {} bytes is larger than {max}", record.key.len());
            return Err(fatal(format!("append to {}/{}", record.topic, record.partition), reason));
        }
        headers::check(record)?;
        // Before anything is added: after an error the same call can be made again.
        self.stage_if_full()?;
        match chunk::split(record.value, max) {
            None => self.push(record, None)?,
            Some(chunks) => {
                // A full disk in the middle of a value shows at the next call. Until then the rest of the value is
                // held, which the caller holds as well.
                let mut can_stage = true;
                for chunk in chunks {
                    let of_chunk = chunk.headers();
                    let headers = chunk::after(record.headers, &of_chunk);
                    let part = NewRecord { value: chunk.value, headers: &headers, ..*record };
                    self.push(&part, Some(&chunk))?;
                    can_stage = can_stage && self.stage_if_full().is_ok();
                }
            }
        }
        self.slot(record.topic, record.partition)?.sent();
        Ok(())
    }

    fn push(&mut self, record: &NewRecord<'_>, chunk: Option<&chunk::Chunk<'_>>) -> Result<()> {
        let compression = self.shared.options.compression;
        let closed = self.slot(record.topic, record.partition)?.push(record, chunk, compression);
        self.held_bytes += closed;
        Ok(())
    }

    /// The partition, with the offset of the transaction's first record foretold.
    fn slot(&mut self, topic: &str, partition: i32) -> Result<&mut Slot> {
        let no_such = || Error::NoSuchPartition { topic: topic.to_owned(), partition };
        if !self.topics.contains_key(topic) {
            let slots = Slot::load(&self.conn, topic).map_err(store(format!("look up topic {topic}")))?;
            if slots.is_empty() {
                return Err(no_such());
            }
            self.topics.insert(topic.to_owned(), slots);
        }
        let slots = self.topics.get_mut(topic).ok_or_else(no_such)?;
        let slot =
            usize::try_from(partition).ok().and_then(|index| slots.get_mut(index)).ok_or_else(no_such)?;
        slot.foretell(&self.conn)?;
        Ok(slot)
    }

    fn stage_if_full(&mut self) -> Result<()> {
        if self.held_bytes < HELD_BYTES { Ok(()) } else { self.stage() }
    }

    /// Stores the batches held in memory where no reader looks, in an SQL transaction of its own.
    fn stage(&mut self) -> Result<()> {
        let attempt = format!("store a part of a transaction in {}", self.shared.path.display());
        let tx = begin(&mut self.conn, &self.transactional_id, self.epoch, &attempt)?;
        let held = || {
            self.topics.values().flatten().flat_map(Slot::sealed).filter_map(|batch| {
                if let Payload::Held(bytes) = &batch.payload { Some(bytes) } else { None }
            })
        };
        let mut ids = Vec::new();
        for payload in held() {
            let id = insert_payload(&tx, payload).and_then(|id| {
                tx.prepare_cached("INSERT INTO staged (transactional_id, payload) VALUES (?1, ?2)")?
                    .execute((&self.transactional_id, id))?;
                Ok(id)
            });
            ids.push(id.map_err(store(attempt.as_str()))?);
        }
        tx.commit().map_err(store(attempt.as_str()))?;
        let batches = self.topics.values_mut().flatten().flat_map(Slot::sealed_mut);
        let held = batches.filter(|batch| matches!(batch.payload, Payload::Held(_)));
        for (batch, id) in held.zip(ids) {
            batch.payload = Payload::Staged(id);
        }
        self.wal.wrote(&self.conn, self.held_bytes);
        self.held_bytes = 0;
        self.has_staged = true;
        Ok(())
    }

    /// Deletes what an aborted transaction, this writer's or an earlier one's, has stored.
    fn discard_leftovers(&mut self) -> Result<()> {
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

    /// The one SQL transaction by which everything becomes visible.
    fn make_visible(&mut self) -> Result<()> {
        let attempt = format!("commit to {}", self.shared.path.display());
        let tx = begin(&mut self.conn, &self.transactional_id, self.epoch, &attempt)?;
        let now = Instant::now();
        let is_retention_due = now >= self.retention_due;
        for slot in self.topics.values().flatten().filter(|slot| slot.is_touched()) {
            slot.publish(&tx, &attempt)?;
        }
        if self.has_staged {
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
        self.has_staged = false;
        if is_retention_due && !retention_goes_on {
            self.retention_due = now + RETENTION_INTERVAL;
        }
        Ok(())
    }

    fn close(&mut self) {
        self.topics.values_mut().flatten().for_each(Slot::reset);
        self.held_bytes = 0;
        self.is_open = false;
    }

    fn require_open(&self, attempt: &str) -> Result<()> {
        if self.is_open { Ok(()) } else { Err(fatal(attempt, "no transaction is open")) }
    }
}

impl Writer for SqliteWriter {
    fn begin(&mut self) -> Result<()> {
        if self.is_open {
            return Err(fatal("begin a transaction", "one is open already"));
        }
        self.discard_leftovers()?;
        self.is_open = true;
        Ok(())
    }

    fn send(&mut self, record: &NewRecord<'_>) -> Result<()> {
        self.require_open("append a record")?;
        self.append(record)
    }

    fn mark(&mut self) -> Result<Vec<AppendedRange>> {
        self.require_open("mark a range")?;
        Ok(self.topics.values_mut().flatten().filter_map(Slot::mark).collect())
    }

    fn commit(&mut self) -> Result<()> {
        self.require_open("commit")?;
        let compression = self.shared.options.compression;
        for slot in self.topics.values_mut().flatten() {
            self.held_bytes += slot.seal(compression);
        }
        self.make_visible()?;
        self.shared.bell.ring();
        let bytes = self.held_bytes;
        self.close();
        self.wal.wrote(&self.conn, bytes);
        Ok(())
    }

    fn abort(&mut self) -> Result<()> {
        self.close();
        self.has_leftovers |= std::mem::take(&mut self.has_staged);
        match self.discard_leftovers() {
            // Deleting takes some space, too. It is done by the next `begin`.
            Err(error) if error.class() == Class::Retry => {
                tracing::warn!(%error, "aborted transaction not deleted yet");
                Ok(())
            }
            done => done,
        }
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
