//! The writer: collects a transaction, and has it made visible in one SQL transaction.
//!
//! ```text
//!   send ─► slots (batches in memory) ── commit ──► committer ─► database
//!                                     └─ submit ──► committer on a thread; the next transaction is sent meanwhile
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Shared;
use super::committer::{Committer, Whole};
use super::fault::{fatal, store};
use super::pipeline::Pipeline;
use super::slot::{Addition, Payload, Slot};
use crate::{AppendedRange, Class, Error, NewRecord, Result, Writer, chunk, headers};

/// As much of a transaction is held in memory. What a larger one has more is stored before its commit, where no reader
/// looks. The transaction being committed may hold as much again.
const HELD_BYTES: usize = 16 * 1024 * 1024;

pub(super) struct SqliteWriter {
    shared: Arc<Shared>,
    pipeline: Pipeline,
    topics: BTreeMap<String, Vec<Slot>>,
    is_open: bool,
    /// Bytes of sealed batches in memory.
    held_bytes: usize,
    /// Whether the open transaction has batches in the database already.
    has_staged: bool,
}

impl SqliteWriter {
    /// Fences every earlier writer of `transactional_id` and takes its place.
    pub(super) fn open(shared: Arc<Shared>, transactional_id: &str) -> Result<Self> {
        let pipeline = Pipeline::new(Committer::take_over(shared.clone(), transactional_id)?);
        Ok(Self {
            shared,
            pipeline,
            topics: BTreeMap::new(),
            is_open: false,
            held_bytes: 0,
            has_staged: false,
        })
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
            let conn = self.pipeline.committer()?.conn();
            let slots = Slot::load(conn, topic).map_err(store(format!("look up topic {topic}")))?;
            if slots.is_empty() {
                return Err(no_such());
            }
            self.topics.insert(topic.to_owned(), slots);
        }
        let slots = self.topics.get_mut(topic).ok_or_else(no_such)?;
        let slot =
            usize::try_from(partition).ok().and_then(|index| slots.get_mut(index)).ok_or_else(no_such)?;
        if slot.is_unplaced() {
            let end = match slot.coming_end() {
                Some(end) if self.pipeline.is_committing() => end,
                _ => slot.end(self.pipeline.committer()?.conn())?,
            };
            slot.foretell(end);
        }
        Ok(slot)
    }

    fn stage_if_full(&mut self) -> Result<()> {
        if self.held_bytes < HELD_BYTES { Ok(()) } else { self.stage() }
    }

    /// Stores the batches held in memory where no reader looks.
    fn stage(&mut self) -> Result<()> {
        let batches = self.topics.values_mut().flatten().flat_map(|slot| slot.addition_mut().batches_mut());
        let mut held: Vec<_> = batches
            .filter(|batch| matches!(batch.payload, Payload::Held(_)))
            .map(|b| &mut b.payload)
            .collect();
        let bytes = held.iter().filter_map(|payload| match payload {
            Payload::Held(bytes) => Some(bytes.as_slice()),
            Payload::Staged(_) => None,
        });
        let ids = self.pipeline.committer()?.stage(bytes)?;
        for (payload, id) in held.iter_mut().zip(ids) {
            **payload = Payload::Staged(id);
        }
        self.held_bytes = 0;
        self.has_staged = true;
        Ok(())
    }

    /// Closes the batches that are still being filled.
    fn seal(&mut self) {
        let compression = self.shared.options.compression;
        for slot in self.topics.values_mut().flatten() {
            self.held_bytes += slot.seal(compression);
        }
    }

    fn close(&mut self) {
        self.topics.values_mut().flatten().for_each(Slot::reset);
        self.held_bytes = 0;
        self.has_staged = false;
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
        // What is being committed was begun without leftovers.
        if !self.pipeline.is_committing() {
            self.pipeline.committer()?.discard_leftovers()?;
        }
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
        self.settle()?;
        self.seal();
        let additions = self.topics.values().flatten().filter_map(Slot::addition);
        let whole = Whole { additions, held_bytes: self.held_bytes, has_staged: self.has_staged };
        self.pipeline.committer()?.commit(whole)?;
        self.close();
        Ok(())
    }

    fn submit(&mut self) -> Result<()> {
        self.require_open("commit")?;
        self.settle()?;
        self.seal();
        let additions: Vec<Addition> = self.topics.values_mut().flatten().filter_map(Slot::take).collect();
        let held_bytes = std::mem::take(&mut self.held_bytes);
        let has_staged = std::mem::take(&mut self.has_staged);
        self.is_open = false;
        self.pipeline.start(Whole { additions, held_bytes, has_staged })
    }

    fn settle(&mut self) -> Result<()> {
        let settled = self.pipeline.settle();
        if settled.is_err() {
            // What is open was to follow the one that has failed. What it has staged goes now, or at the next `begin`.
            let _ = self.abort();
        }
        settled
    }

    fn abort(&mut self) -> Result<()> {
        let has_staged = self.has_staged;
        self.close();
        let committer = self.pipeline.idle()?;
        if has_staged {
            committer.leave_staged();
        }
        match committer.discard_leftovers() {
            // Deleting takes some space, too. It is done by the next `begin`.
            Err(error) if error.class() == Class::Retry => {
                tracing::warn!(%error, "aborted transaction not deleted yet");
                Ok(())
            }
            done => done,
        }
    }
}
