//! Read-ahead: bodies of the next blocks are fetched, parsed and encoded on threads of their own, and handed over in
//! block order as parts of bounded size. One path for a block of any size.
//!
//! ```text
//!  plans ─► thread ─ body ─► parse, hash, encode ─► parts (bounded) ─┐
//!       └─► thread ─ …                              parts (bounded) ─┴─► publisher, oldest block first
//! ```
//!
//! Memory: `READ_AHEAD_BLOCKS × PARTS_IN_FLIGHT × PART_BYTES`, plus the largest transaction of each thread.

use std::io::Read;
use std::sync::Arc;
use std::thread::JoinHandle;

use bitcoin::block::Header;
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, OutPoint, Txid};
use crossbeam_channel::{Receiver, Sender, bounded};
use sluice_body::{BlockReader, Limits, SpentReader, Summary};
use sluice_schemas::{Action, Codec, Network, TransactionEvent, topics};
use sluice_sources::Source;

use crate::error::{Error, Result};

/// Blocks fetched ahead of the one being published.
pub(crate) const READ_AHEAD_BLOCKS: usize = 8;
/// Threads that fetch.
const FETCH_THREADS: usize = 2;
/// A part is handed over once it holds this many encoded bytes.
const PART_BYTES: usize = 256 << 10;
/// Parts of one block that wait for the publisher.
const PARTS_IN_FLIGHT: usize = 8;

/// A block to fetch, with what its events must say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) sequence: i64,
    pub(crate) hash: BlockHash,
    pub(crate) header: Header,
    pub(crate) height: i32,
}

/// A block of no more transactions does not need the room of a whole part.
const FEW: u64 = 100;
/// Room for the event that fills a part up, unless it is a large one.
const PART_SPARE_BYTES: usize = 16 << 10;

/// Encoded transaction events, ready to be sent.
pub(crate) struct Records {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    outpoints: Vec<OutPoint>,
}

struct Entry {
    txid: Txid,
    partition: i32,
    value_end: usize,
    outpoints_end: usize,
}

/// One encoded transaction event.
pub(crate) struct Encoded<'a> {
    pub(crate) txid: Txid,
    pub(crate) partition: i32,
    pub(crate) value: &'a [u8],
    pub(crate) outpoints: &'a [OutPoint],
}

impl Records {
    /// An empty part with room for `bytes`: one that grows is copied over and over.
    fn with_room(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), entries: Vec::new(), outpoints: Vec::new() }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Encoded<'_>> {
        let mut value_start = 0;
        let mut outpoints_start = 0;
        self.entries.iter().map(move |entry| {
            let encoded = Encoded {
                txid: entry.txid,
                partition: entry.partition,
                value: &self.bytes[value_start..entry.value_end],
                outpoints: &self.outpoints[outpoints_start..entry.outpoints_end],
            };
            (value_start, outpoints_start) = (entry.value_end, entry.outpoints_end);
            encoded
        })
    }
}

/// What a fetch thread hands over.
pub(crate) enum Part {
    Records(Records),
    /// The body is complete and its merkle root is the header's.
    End(Summary),
}

struct Job {
    plan: Plan,
    parts: Sender<Result<Part>>,
}

/// The threads that fetch.
pub(crate) struct Fetcher {
    jobs: Option<Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

/// What every job needs.
#[derive(Clone)]
pub(crate) struct Encoder {
    pub(crate) source: Arc<dyn Source>,
    pub(crate) codec: Codec,
    pub(crate) network: Network,
    pub(crate) partitions: i32,
}

impl Fetcher {
    pub(crate) fn start(encoder: Encoder) -> Self {
        let (jobs, queue) = bounded::<Job>(READ_AHEAD_BLOCKS);
        let threads = (0..FETCH_THREADS)
            .map(|n| {
                let (encoder, queue) = (encoder.clone(), queue.clone());
                std::thread::Builder::new()
                    .name(format!("fetch-{n}"))
                    .spawn(move || queue.iter().for_each(|job| encoder.run(job)))
                    .expect("the system can start a thread")
            })
            .collect();
        Self { jobs: Some(jobs), threads }
    }

    /// Starts to fetch a block. Dropping the receiver cancels.
    pub(crate) fn fetch(&self, plan: Plan) -> Receiver<Result<Part>> {
        let (parts, receiver) = bounded(PARTS_IN_FLIGHT);
        let jobs = self.jobs.as_ref().expect("present until drop");
        // The threads outlive the queue, so a closed queue can only mean a panic in one: the receiver then ends early.
        let _ = jobs.send(Job { plan, parts });
        receiver
    }
}

impl Drop for Fetcher {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// The receiver is gone: nobody wants the block any more.
struct Cancelled;

impl Encoder {
    fn run(&self, job: Job) {
        let mut cancelled = false;
        let result = self.encode(&job.plan, |part| {
            job.parts.send(Ok(part)).map_err(|_| {
                cancelled = true;
                Cancelled
            })
        });
        if let (Err(error), false) = (result, cancelled) {
            let _ = job.parts.send(Err(error));
        }
    }

    fn encode(&self, plan: &Plan, mut hand_over: impl FnMut(Part) -> Result<(), Cancelled>) -> Result<()> {
        let unusable = |source| Error::Body { hash: plan.hash, height: plan.height, source };
        let body = self.source.body(&plan.hash)?;
        let limits = Limits::of(self.network.flavour());
        let mut spent = body.spent.map(|bytes| SpentReader::new(bytes, limits));
        let mut block: BlockReader<Box<dyn Read + Send>> =
            BlockReader::new(body.bytes, plan.hash, limits).map_err(unusable)?;
        let block_time = i64::from(plan.header.time) * 1000;
        let mut position = 0;
        let room = if block.tx_count() > FEW { PART_BYTES + PART_SPARE_BYTES } else { 0 };
        let mut records = Records::with_room(room);
        while let Some(raw) = block.next_tx().map_err(unusable)? {
            let spends = match &mut spent {
                Some(reader) => Some(reader.next_for(&raw).map_err(unusable)?),
                None => None,
            };
            let event = TransactionEvent {
                sequence: plan.sequence,
                action: Action::Connected,
                block_hash: plan.hash,
                height: plan.height,
                block_time,
                position,
                transaction: sluice_body::transaction(&raw, self.network, spends.as_deref()),
            };
            position += 1;
            records.outpoints.extend(raw.outpoints());
            drop(raw);
            self.codec.encode(&event, &mut records.bytes);
            let txid = event.transaction.txid;
            records.entries.push(Entry {
                txid,
                partition: topics::partition(txid.as_byte_array(), self.partitions),
                value_end: records.bytes.len(),
                outpoints_end: records.outpoints.len(),
            });
            if records.bytes.len() >= PART_BYTES
                && hand_over(Part::Records(std::mem::replace(&mut records, Records::with_room(room))))
                    .is_err()
            {
                return Ok(());
            }
        }
        let summary = block.finish().map_err(unusable)?;
        if let Some(reader) = spent {
            reader.finish().map_err(unusable)?;
        }
        if !records.entries.is_empty() && hand_over(Part::Records(records)).is_err() {
            return Ok(());
        }
        let _ = hand_over(Part::End(summary));
        Ok(())
    }
}
