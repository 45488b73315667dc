//! Reading committed records.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rusqlite::Connection;

use super::Shared;
use super::batch::{self, Place};
use super::catalog;
use super::fault::store;
use crate::{Error, PartitionReader, Reader, Record, Result, StartAt};

/// About as much one `poll` gives.
const POLL_BYTES: usize = 1024 * 1024;

/// A position in one partition.
pub(super) struct Cursor {
    topic: Arc<str>,
    partition: i32,
    id: i64,
    offset: i64,
}

impl Cursor {
    pub(super) fn open(conn: &Connection, from: &StartAt) -> Result<Self> {
        let id = catalog::partition_id(conn, &from.topic, from.partition)?;
        Ok(Self { topic: from.topic.as_str().into(), partition: from.partition, id, offset: from.offset })
    }

    fn is_at(&self, topic: &str, partition: i32) -> bool {
        *self.topic == *topic && self.partition == partition
    }

    /// Whole batches from the position on, until they pass `max_bytes`.
    pub(super) fn fetch(
        &mut self,
        conn: &Connection,
        max_bytes: usize,
        out: &mut impl Extend<Record>,
    ) -> Result<()> {
        let batches = self.batches(conn, max_bytes)?;
        for (place, payload) in batches {
            batch::decode(payload, &place, self.offset, out)?;
            self.offset = place.last + 1;
        }
        Ok(())
    }

    /// Goes on at `offset`.
    pub(super) fn seek(&mut self, offset: i64) {
        self.offset = offset;
    }

    /// The record at the position, as the caller's SQL transaction sees it; the next call gives that of the next batch.
    pub(super) fn next_record(&mut self, tx: &Connection) -> Result<Option<Record>> {
        Ok(self.next_batch(tx)?.into_iter().next())
    }

    /// The records of the batch at the position, as the caller's SQL transaction sees it.
    pub(super) fn next_batch(&mut self, tx: &Connection) -> Result<Vec<Record>> {
        let mut records = Vec::new();
        for (place, payload) in self.batches_in(tx, 1)? {
            batch::decode(payload, &place, self.offset, &mut records)?;
            self.offset = place.last + 1;
        }
        Ok(records)
    }

    fn batches(&self, conn: &Connection, max_bytes: usize) -> Result<Vec<(Place, Bytes)>> {
        // One snapshot, so that retention cannot come in between.
        let tx = conn.unchecked_transaction().map_err(store(self.attempt()))?;
        self.batches_in(&tx, max_bytes)
    }

    fn attempt(&self) -> String {
        format!("read {}/{} at offset {}", self.topic, self.partition, self.offset)
    }

    fn batches_in(&self, tx: &Connection, max_bytes: usize) -> Result<Vec<(Place, Bytes)>> {
        let bounds = catalog::bounds(tx, self.id).map_err(store(self.attempt()))?;
        if self.offset == bounds.end {
            return Ok(Vec::new());
        }
        if !(bounds.start..bounds.end).contains(&self.offset) {
            return Err(Error::OutOfRange {
                topic: self.topic.to_string(),
                partition: self.partition,
                offset: self.offset,
                start: bounds.start,
                end: bounds.end,
            });
        }
        let batches = self.query(tx, max_bytes).map_err(store(self.attempt()))?;
        self.require_no_gap(&batches)?;
        Ok(batches)
    }

    /// Offsets have no gaps here, so a missing batch is damage and not to be stepped over.
    fn require_no_gap(&self, batches: &[(Place, Bytes)]) -> Result<()> {
        let mut expected = self.offset;
        for (place, _) in batches {
            if place.base > expected || place.last < expected {
                break;
            }
            expected = place.last + 1;
        }
        if batches.last().is_some_and(|(place, _)| place.last + 1 == expected) {
            return Ok(());
        }
        let (topic, partition) = (self.topic.clone(), self.partition);
        Err(Place { topic, partition, base: expected, last: expected }.corrupt("a batch is missing"))
    }

    fn query(&self, conn: &Connection, max_bytes: usize) -> rusqlite::Result<Vec<(Place, Bytes)>> {
        let mut select = conn.prepare_cached(
            "SELECT base, last, bytes FROM batch JOIN payload ON payload.id = batch.payload
             WHERE partition = ?1
             AND base >= (SELECT max(base) FROM batch WHERE partition = ?1 AND base <= ?2)
             ORDER BY base",
        )?;
        let mut rows = select.query((self.id, self.offset))?;
        let mut batches = Vec::new();
        let mut bytes = 0;
        while bytes < max_bytes {
            let Some(row) = rows.next()? else { break };
            let payload = Bytes::copy_from_slice(row.get_ref(2)?.as_blob()?);
            bytes += payload.len();
            let place = Place {
                topic: self.topic.clone(),
                partition: self.partition,
                base: row.get(0)?,
                last: row.get(1)?,
            };
            batches.push((place, payload));
        }
        Ok(batches)
    }
}

/// Several partitions as one stream.
pub(super) struct Streams {
    shared: Arc<Shared>,
    cursors: VecDeque<Cursor>,
}

impl Streams {
    pub(super) fn open(shared: Arc<Shared>, from: &[StartAt]) -> Result<Self> {
        let mut streams = Self { shared, cursors: VecDeque::new() };
        streams.add(from)?;
        Ok(streams)
    }

    pub(super) fn add(&mut self, from: &[StartAt]) -> Result<()> {
        let conn = self.shared.connection()?;
        for start in from {
            self.cursors.push_back(Cursor::open(&conn, start)?);
        }
        Ok(())
    }

    /// Leaves only the partitions that `keep`.
    pub(super) fn retain(&mut self, keep: impl Fn(&str, i32) -> bool) {
        self.cursors.retain(|cursor| keep(&cursor.topic, cursor.partition));
    }

    pub(super) fn contains(&self, topic: &str, partition: i32) -> bool {
        self.cursors.iter().any(|cursor| cursor.is_at(topic, partition))
    }

    /// What is there now, without waiting. The partition that gave least recently is asked first.
    pub(super) fn fetch(&mut self) -> Result<Vec<Record>> {
        let mut records = Vec::new();
        let conn = self.shared.connection()?;
        for index in 0..self.cursors.len() {
            self.cursors[index].fetch(&conn, POLL_BYTES, &mut records)?;
            if !records.is_empty() {
                let served = self.cursors.remove(index);
                self.cursors.extend(served);
                break;
            }
        }
        Ok(records)
    }
}

impl Reader for Streams {
    fn poll(&mut self, wait: Duration) -> Result<Vec<Record>> {
        let shared = self.shared.clone();
        until_some(&shared, wait, || self.fetch())
    }
}

/// Asks `fetch` again whenever something may have been committed, until it gives some records or `wait` is over.
fn until_some(
    shared: &Shared,
    wait: Duration,
    mut fetch: impl FnMut() -> Result<Vec<Record>>,
) -> Result<Vec<Record>> {
    let until = Instant::now().checked_add(wait);
    loop {
        let rings = shared.bell.count();
        let records = fetch()?;
        if !records.is_empty() || until.is_some_and(|until| Instant::now() >= until) {
            return Ok(records);
        }
        shared.bell.wait(rings, until);
    }
}

/// One partition at its own pace.
pub(super) struct Single {
    shared: Arc<Shared>,
    cursor: Cursor,
    /// The rest of a batch of which a call wanted only a part.
    rest: VecDeque<Record>,
}

impl Single {
    pub(super) fn new(shared: Arc<Shared>, cursor: Cursor) -> Self {
        Self { shared, cursor, rest: VecDeque::new() }
    }
}

impl PartitionReader for Single {
    fn read(&mut self, max_bytes: usize, wait: Duration) -> Result<Vec<Record>> {
        if self.rest.is_empty() {
            let (shared, cursor) = (self.shared.clone(), &mut self.cursor);
            let records = until_some(&shared, wait, || {
                let mut records = Vec::new();
                cursor.fetch(&*shared.connection()?, max_bytes, &mut records)?;
                Ok(records)
            })?;
            self.rest = records.into();
        }
        let mut bytes = 0;
        let mut taken = 0;
        for record in &self.rest {
            bytes += record.key.len() + record.value.len();
            if taken > 0 && bytes > max_bytes {
                break;
            }
            taken += 1;
        }
        Ok(self.rest.drain(..taken).collect())
    }

    fn seek(&mut self, offset: i64) -> Result<()> {
        self.rest.clear();
        self.cursor.seek(offset);
        Ok(())
    }
}
