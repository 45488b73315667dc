//! Chain events: one log transaction each, or several small blocks together while backfilling. One is committed while the
//! next is filled.

use std::collections::VecDeque;
use std::time::Instant;

use bitcoin::BlockHash;
use bitcoin::hashes::Hash;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use sluice_chain::{Block, BlockRef, Step};
use sluice_log::{AppendedRange, NewRecord};
use sluice_mempool::{BlockEffect, TipTime};
use sluice_schemas::{Action, ChainEvent, Flavour, PartitionRange, Phase, StatusKind, topics};
use tracing::trace;

use crate::error::{Error, Result};
use crate::fetch::{Part, Plan, READ_AHEAD_BLOCKS};
use crate::leader::{Leader, now_ms};
use crate::status::News;

/// How long the publisher waits for a part of a body before it looks after its lead again.
const PART_WAIT: std::time::Duration = std::time::Duration::from_millis(200);

/// Steps in the open log transaction.
struct Batch {
    opened: Instant,
    bytes: usize,
    done: Vec<Done>,
}

/// A step that becomes true with the commit.
struct Done {
    step: Step,
    /// What it does to the mempool view, where it connects a block.
    effect: Option<BlockEffect>,
    tx_count: u64,
    size: u64,
}

impl Batch {
    fn new() -> Self {
        Self { opened: Instant::now(), bytes: 0, done: Vec::new() }
    }
}

impl Leader<'_> {
    /// Publishes steps in order. What is committed when it fails stays published; the rest is aborted by the caller.
    pub(crate) fn publish(&mut self, steps: &[Step]) -> Result<()> {
        let mut submitted = Vec::new();
        let published = self.publish_steps(steps, &mut submitted);
        // Also after a failure: what is on its way may have been committed, and would else be published twice.
        self.settle(&mut submitted)?;
        published
    }

    /// As `publish`, but leaves the last log transaction on its way, with the steps `submitted` in it.
    fn publish_steps(&mut self, steps: &[Step], submitted: &mut Vec<Done>) -> Result<()> {
        let first = self.next_sequence;
        let connects = steps.iter().enumerate().filter_map(|(i, step)| match step {
            Step::Disconnect(_) => None,
            Step::Connect { hash, block } => Some(Plan {
                sequence: first + i as i64,
                hash: *hash,
                header: block.header,
                height: block.height,
            }),
        });
        let mut connects = connects.fuse();
        let mut ahead: VecDeque<Receiver<Result<Part>>> = VecDeque::new();
        let disconnects = steps.iter().take_while(|step| matches!(step, Step::Disconnect(_))).count();
        let mut published: VecDeque<ChainEvent> =
            if disconnects == 0 { VecDeque::new() } else { self.newest_published(disconnects)? };

        let mut batch = Batch::new();
        for (i, step) in steps.iter().enumerate() {
            self.check()?;
            while ahead.len() < READ_AHEAD_BLOCKS
                && let Some(plan) = connects.next()
            {
                ahead.push_back(self.fetcher.fetch(plan));
            }
            if batch.done.is_empty() {
                batch = Batch::new();
                self.writer.begin()?;
            }
            if self.heartbeat_is_due() {
                batch.bytes += self.send_status(StatusKind::Heartbeat, News::default())?;
            }
            let sequence = first + i as i64;
            match step {
                Step::Disconnect(block) => {
                    let event = published
                        .pop_front()
                        .filter(|event| event.hash == block.hash)
                        .ok_or_else(|| Error::Inconsistent(format!("{block} is not the published tip")))?;
                    self.disconnect(sequence, event, &mut batch)?;
                }
                Step::Connect { hash, block } => {
                    self.disconnected_bodies = None;
                    let parts = ahead.pop_front().expect("a fetch was started for every block to connect");
                    self.connect(sequence, *hash, block, &parts, &mut batch)?;
                }
            }
            if self.is_full(&batch, step) {
                self.submit(&mut batch, submitted)?;
            }
        }
        if !batch.done.is_empty() {
            self.submit(&mut batch, submitted)?;
        }
        Ok(())
    }

    fn is_full(&self, batch: &Batch, step: &Step) -> bool {
        self.careful
            || self.phase(step.block_ref().height) == Phase::Live
            || batch.bytes >= self.config.batch_bytes
            || batch.opened.elapsed() >= self.config.batch_interval
    }

    fn phase(&self, height: i32) -> Phase {
        match self.source_height {
            Some(tip) if height.saturating_add(self.config.live_within_blocks) < tip => Phase::Backfill,
            _ => Phase::Live,
        }
    }

    fn newest_published(&self, count: usize) -> Result<VecDeque<ChainEvent>> {
        Ok(self.chain_log.best_chain()?.take(count).collect::<Result<_, _>>()?)
    }

    fn connect(
        &mut self,
        sequence: i64,
        hash: BlockHash,
        block: &Block,
        parts: &Receiver<Result<Part>>,
        batch: &mut Batch,
    ) -> Result<()> {
        let time = i64::from(block.header.time) * 1000;
        let tip = TipTime { height: block.height, median_time: block.median_time };
        let mut effect = BlockEffect::new(hash, tip);
        let summary = loop {
            let part = match parts.recv_timeout(PART_WAIT) {
                Ok(part) => part?,
                Err(RecvTimeoutError::Timeout) => {
                    self.check()?;
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::Inconsistent(format!("the thread that fetched {hash} ended early")));
                }
            };
            match part {
                Part::Records(records) => {
                    self.check()?;
                    for record in records.iter() {
                        self.writer.send(&NewRecord {
                            topic: &self.chain_log.topics.transactions,
                            partition: record.partition,
                            timestamp: time,
                            key: record.txid.as_byte_array(),
                            value: record.value,
                            headers: &[],
                        })?;
                        batch.bytes += record.value.len();
                        self.view.note(record.txid, record.outpoints, &mut effect);
                    }
                }
                Part::End(summary) => break summary,
            }
        };
        let event = ChainEvent {
            sequence,
            action: Action::Connected,
            hash,
            prev_hash: block.header.prev_blockhash,
            height: block.height,
            header: header_bytes(block),
            chain_work: block.chain_work,
            time,
            median_time: i64::from(block.median_time) * 1000,
            tx_count: summary.tx_count as i64,
            size: summary.size as i64,
            weight: (self.network.flavour() == Flavour::Btc).then(|| summary.weight() as i64),
            transactions: self.ranges()?,
            phase: self.phase(block.height),
            observed_at: now_ms(),
            epoch: self.epoch,
            network: self.network.name().to_owned(),
        };
        self.send_chain_event(&event, batch)?;
        let step = Step::Connect { hash, block: *block };
        batch.done.push(Done { step, effect: Some(effect), tx_count: summary.tx_count, size: summary.size });
        Ok(())
    }

    /// Undo is data: the block's transactions again, from our own log, since the source may have pruned them.
    fn disconnect(&mut self, sequence: i64, connected: ChainEvent, batch: &mut Batch) -> Result<()> {
        let partitions = self.view.partitions();
        let bodies = match &mut self.disconnected_bodies {
            Some(bodies) => bodies,
            none => none.insert(self.chain_log.transaction_reader()?),
        };
        for event in bodies.transactions(&connected)? {
            let mut event = event?;
            event.sequence = sequence;
            event.action = Action::Disconnected;
            let key: &[u8; 32] = event.transaction.txid.as_byte_array();
            let partition = topics::partition(key, partitions);
            batch.bytes += self.events.send(&mut *self.writer, &event, partition, event.block_time, key)?;
        }
        self.check()?;
        let block = BlockRef { hash: connected.hash, height: connected.height };
        let event = ChainEvent {
            sequence,
            action: Action::Disconnected,
            transactions: self.ranges()?,
            phase: self.phase(block.height),
            observed_at: now_ms(),
            epoch: self.epoch,
            ..connected
        };
        self.send_chain_event(&event, batch)?;
        batch.done.push(Done { step: Step::Disconnect(block), effect: None, tx_count: 0, size: 0 });
        Ok(())
    }

    /// Where the transactions sent since the last chain event are.
    fn ranges(&mut self) -> Result<Vec<PartitionRange>> {
        let topic = &self.chain_log.topics.transactions;
        let ours = |range: &AppendedRange| *range.topic == **topic;
        let ranges = self.writer.mark()?.into_iter().filter(ours);
        let ranges = ranges.map(|range| PartitionRange {
            partition: range.partition,
            first_offset: range.first_offset,
            records: range.records,
            count: range.sent,
        });
        Ok(ranges.collect())
    }

    fn send_chain_event(&mut self, event: &ChainEvent, batch: &mut Batch) -> Result<()> {
        batch.bytes +=
            self.events.send(&mut *self.writer, event, 0, event.time, event.hash.as_byte_array())?;
        Ok(())
    }

    /// Has the batch committed while the next one is filled.
    fn submit(&mut self, batch: &mut Batch, submitted: &mut Vec<Done>) -> Result<()> {
        self.settle(submitted)?;
        self.writer.submit()?;
        submitted.append(&mut batch.done);
        batch.bytes = 0;
        Ok(())
    }

    /// Waits for what was submitted; only when it is committed it is true.
    fn settle(&mut self, submitted: &mut Vec<Done>) -> Result<()> {
        if let Err(error) = self.writer.settle() {
            // Whether they are published must be learnt from the log.
            submitted.clear();
            return Err(error.into());
        }
        for done in submitted.drain(..) {
            self.next_sequence += 1;
            self.tracker.advance(&done.step).map_err(|error| Error::Inconsistent(error.to_string()))?;
            let block = done.step.block_ref();
            trace!(height = block.height, hash = %block.hash, sequence = self.next_sequence - 1, "published");
            let connected = done.effect.is_some();
            match (done.effect, self.tip_time()) {
                (Some(effect), _) => self.view.connected(effect),
                (None, Some(tip)) => self.view.disconnected(tip),
                (None, None) => {}
            }
            self.monitor.update(|status| {
                status.tip = self.tracker.tip().map(|tip| (tip.height, tip.hash));
                status.chain_sequence = self.next_sequence - 1;
                status.blocks += u64::from(connected);
                status.transactions += done.tx_count;
                status.bytes += done.size;
            });
        }
        Ok(())
    }
}

fn header_bytes(block: &Block) -> [u8; 80] {
    let bytes = bitcoin::consensus::serialize(&block.header);
    bytes.try_into().expect("a header has 80 bytes")
}
