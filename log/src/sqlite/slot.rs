//! What an open transaction adds to one partition.

use std::sync::Arc;

use rusqlite::{Connection, Transaction};

use super::batch::{Builder, Compression, Sealed};
use super::fault::store;
use crate::chunk::Chunk;
use crate::{AppendedRange, Class, Error, NewRecord, Result};

/// One partition, and what the open transaction adds to it.
pub(super) struct Slot {
    addition: Addition,
    unmarked_records: i64,
    unmarked_sent: i64,
    builder: Builder,
    /// Whether the batch in the builder starts within a chunked value.
    continues: bool,
    /// Where the partition ends once the transaction that is being committed has been.
    coming_end: Option<i64>,
}

/// What a transaction adds to one partition.
pub(super) struct Addition {
    topic: Arc<str>,
    partition: i32,
    id: i64,
    /// Offset of the transaction's first record, as foretold when it was sent.
    first_offset: i64,
    records: i64,
    /// Whether `mark` has told an offset to the caller, so that it must come true.
    is_foretold: bool,
    batches: Vec<Batch>,
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
            addition: Addition {
                topic,
                partition,
                id,
                first_offset: 0,
                records: 0,
                is_foretold: false,
                batches: Vec::new(),
            },
            unmarked_records: 0,
            unmarked_sent: 0,
            builder: Builder::new(),
            continues: false,
            coming_end: None,
        }
    }

    /// The partitions of a topic; none where there is no such topic.
    pub(super) fn load(conn: &Connection, topic: &str) -> rusqlite::Result<Vec<Self>> {
        let name: Arc<str> = topic.into();
        let mut select = conn.prepare("SELECT number, id FROM partition WHERE topic = ?1 ORDER BY number")?;
        select.query_map([topic], |row| Ok(Self::new(name.clone(), row.get(0)?, row.get(1)?)))?.collect()
    }

    /// What the open transaction adds, if anything.
    pub(super) fn addition(&self) -> Option<&Addition> {
        (self.addition.records > 0).then_some(&self.addition)
    }

    pub(super) fn addition_mut(&mut self) -> &mut Addition {
        &mut self.addition
    }

    pub(super) fn reset(&mut self) {
        drop(self.take());
        self.coming_end = None;
    }

    /// Takes out what is to be committed; the next transaction goes on after it.
    pub(super) fn take(&mut self) -> Option<Addition> {
        let Addition { topic, partition, id, .. } = &self.addition;
        let taken = std::mem::replace(self, Self::new(topic.clone(), *partition, *id)).addition;
        let taken = Some(taken).filter(|addition| addition.records > 0);
        self.coming_end = taken.as_ref().map(|addition| addition.first_offset + addition.records);
        taken
    }

    /// Whether the offset of the transaction's first record has not been foretold.
    pub(super) fn is_unplaced(&self) -> bool {
        self.addition.records == 0
    }

    /// Where the partition will end, while a transaction that adds to it is being committed.
    pub(super) fn coming_end(&self) -> Option<i64> {
        self.coming_end
    }

    /// Foretells the offset of the transaction's first record, before it is added.
    pub(super) fn foretell(&mut self, end: i64) {
        self.addition.first_offset = end;
    }

    /// Where the partition ends now.
    pub(super) fn end(&self, conn: &Connection) -> Result<i64> {
        let Addition { topic, partition, id, .. } = &self.addition;
        conn.prepare_cached("SELECT end FROM partition WHERE id = ?1")
            .and_then(|mut select| select.query_row([id], |row| row.get(0)))
            .map_err(store(format!("look up the end of {topic}/{partition}")))
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
        self.addition.records += 1;
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
        self.addition.batches.push(Batch { records, max_timestamp, continues, payload });
        bytes
    }

    /// The records since the last mark, if there are any.
    pub(super) fn mark(&mut self) -> Option<AppendedRange> {
        if self.unmarked_records == 0 {
            return None;
        }
        let addition = &mut self.addition;
        addition.is_foretold = true;
        Some(AppendedRange {
            topic: addition.topic.clone(),
            partition: addition.partition,
            first_offset: addition.first_offset + addition.records - self.unmarked_records,
            records: std::mem::take(&mut self.unmarked_records),
            sent: std::mem::take(&mut self.unmarked_sent),
        })
    }
}

impl Addition {
    pub(super) fn batches_mut(&mut self) -> &mut [Batch] {
        &mut self.batches
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
        for batch in &self.batches {
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
