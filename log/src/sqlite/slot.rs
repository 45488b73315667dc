//! What an open transaction adds to one partition.

use std::sync::Arc;

use rusqlite::{Connection, Transaction};

use super::batch::{Builder, Compression, Sealed};
use super::fault::store;
use crate::chunk::Chunk;
use crate::{AppendedRange, Class, Error, NewRecord, Result};

/// One partition, and what the open transaction adds to it.
pub(super) struct Slot {
    topic: Arc<str>,
    partition: i32,
    id: i64,
    /// Offset of the transaction's first record, as foretold when it was sent.
    first_offset: i64,
    records: i64,
    /// Whether `mark` has told an offset to the caller, so that it must come true.
    is_foretold: bool,
    unmarked_records: i64,
    unmarked_sent: i64,
    builder: Builder,
    /// Whether the batch in the builder starts within a chunked value.
    continues: bool,
    sealed: Vec<Batch>,
}

/// A batch that has no offset yet.
pub(super) struct Batch {
    records: i64,
    max_timestamp: i64,
    continues: bool,
    pub(super) payload: Payload,
}

/// Where a batch's bytes are.
pub(super) enum Payload {
    Held(Vec<u8>),
    Staged(i64),
}

impl Slot {
    fn new(topic: Arc<str>, partition: i32, id: i64) -> Self {
        Self {
            topic,
            partition,
            id,
            first_offset: 0,
            records: 0,
            is_foretold: false,
            unmarked_records: 0,
            unmarked_sent: 0,
            builder: Builder::new(),
            continues: false,
            sealed: Vec::new(),
        }
    }

    /// The partitions of a topic; none where there is no such topic.
    pub(super) fn load(conn: &Connection, topic: &str) -> rusqlite::Result<Vec<Self>> {
        let name: Arc<str> = topic.into();
        let mut select = conn.prepare("SELECT number, id FROM partition WHERE topic = ?1 ORDER BY number")?;
        select.query_map([topic], |row| Ok(Self::new(name.clone(), row.get(0)?, row.get(1)?)))?.collect()
    }

    pub(super) fn is_touched(&self) -> bool {
        self.records > 0
    }

    pub(super) fn reset(&mut self) {
        *self = Self::new(self.topic.clone(), self.partition, self.id);
    }

    /// Foretells the offset of the transaction's first record, before it is added.
    pub(super) fn foretell(&mut self, conn: &Connection) -> Result<()> {
        if self.records == 0 {
            self.first_offset = conn
                .prepare_cached("SELECT end FROM partition WHERE id = ?1")
                .and_then(|mut select| select.query_row([self.id], |row| row.get(0)))
                .map_err(store(format!("look up the end of {}/{}", self.topic, self.partition)))?;
        }
        Ok(())
    }

    /// Adds one record, and says how many bytes of batches this has closed.
    pub(super) fn push(
        &mut self,
        record: &NewRecord<'_>,
        chunk: Option<&Chunk<'_>>,
        compression: Compression,
    ) -> usize {
        let mut closed = 0;
        // Chunks share a batch with nothing else, so that retention never parts them.
        if chunk.is_some() || !self.builder.has_room(record) {
            closed += self.seal(compression);
        }
        self.continues = chunk.is_some_and(|chunk| chunk.index > 0);
        self.builder.push(record);
        self.records += 1;
        self.unmarked_records += 1;
        if chunk.is_some() {
            closed += self.seal(compression);
        }
        closed
    }

    /// Counts a call of `send`.
    pub(super) fn sent(&mut self) {
        self.unmarked_sent += 1;
    }

    /// Closes the batch in the builder, if there is any, and says how many bytes it takes.
    pub(super) fn seal(&mut self, compression: Compression) -> usize {
        if self.builder.is_empty() {
            return 0;
        }
        let Sealed { payload, records, max_timestamp } = self.builder.seal(compression);
        let bytes = payload.len();
        let (continues, payload) = (self.continues, Payload::Held(payload));
        self.sealed.push(Batch { records, max_timestamp, continues, payload });
        bytes
    }

    /// The records since the last mark, if there are any.
    pub(super) fn mark(&mut self) -> Option<AppendedRange> {
        if self.unmarked_records == 0 {
            return None;
        }
        self.is_foretold = true;
        Some(AppendedRange {
            topic: self.topic.clone(),
            partition: self.partition,
            first_offset: self.first_offset + self.records - self.unmarked_records,
            records: std::mem::take(&mut self.unmarked_records),
            sent: std::mem::take(&mut self.unmarked_sent),
        })
    }

    pub(super) fn sealed(&self) -> &[Batch] {
        &self.sealed
    }

    pub(super) fn sealed_mut(&mut self) -> &mut [Batch] {
        &mut self.sealed
    }

    /// Gives the batches their offsets, after the end of the partition.
    pub(super) fn publish(&self, tx: &Transaction<'_>, attempt: &str) -> Result<()> {
        let (first, newest): (i64, i64) = tx
            .prepare_cached("SELECT end, newest FROM partition WHERE id = ?1")
            .and_then(|mut select| select.query_row([self.id], |row| Ok((row.get(0)?, row.get(1)?))))
            .map_err(store(attempt))?;
        if self.is_foretold && first != self.first_offset {
            return Err(Error::Store {
                attempt: attempt.to_owned(),
                reason: format!(
                    "another writer has appended to {}/{}, which ends at {first} and not at {}",
                    self.topic, self.partition, self.first_offset
                ),
                class: Class::Abort,
            });
        }
        self.publish_from(tx, first, newest).map_err(store(attempt))
    }

    fn publish_from(&self, tx: &Transaction<'_>, first: i64, mut newest: i64) -> rusqlite::Result<()> {
        let mut insert = tx.prepare_cached(
            "INSERT INTO batch (partition, base, last, max_timestamp, newest, continues, payload)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?;
        let mut base = first;
        for batch in &self.sealed {
            let payload = match &batch.payload {
                Payload::Staged(id) => *id,
                Payload::Held(bytes) => insert_payload(tx, bytes)?,
            };
            newest = newest.max(batch.max_timestamp);
            let next = base + batch.records;
            insert.execute((
                self.id,
                base,
                next - 1,
                batch.max_timestamp,
                newest,
                batch.continues,
                payload,
            ))?;
            base = next;
        }
        tx.prepare_cached("UPDATE partition SET end = ?2, newest = ?3 WHERE id = ?1")?
            .execute((self.id, base, newest))?;
        Ok(())
    }
}

/// Stores a batch, and gives its key.
pub(super) fn insert_payload(tx: &Transaction<'_>, bytes: &[u8]) -> rusqlite::Result<i64> {
    tx.prepare_cached("INSERT INTO payload (bytes) VALUES (?1)")?.insert([bytes])
}
