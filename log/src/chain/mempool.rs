//! The mempool topic, forwards: the events of all partitions, merged by epoch and sequence.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::panic::resume_unwind;
use std::thread;
use std::time::Duration;

use sluice_schemas::MempoolEvent;

use super::ChainLog;
use super::locate::LAST_WINDOW;
use super::stream::{FETCH_BYTES, Stream};
use crate::chunk::Joiner;
use crate::{Bounds, Result, StartAt};

/// Partitions looked at at the same time.
const THREADS: usize = 16;

/// Number of an event: the producer's term, and its sequence in it.
type Number = (i64, i64);

/// An event of the mempool topic and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedMempoolEvent {
    /// Partition of `<prefix>.mempool`.
    pub partition: i32,
    /// Offset of its first record.
    pub offset: i64,
    /// The event.
    pub event: MempoolEvent,
}

/// Reads the events of all partitions of the mempool topic, lowest epoch and sequence first. Each partition is read
/// ahead by `FETCH_BYTES`, or by its largest event.
///
/// What it gives is in order only as far as it has come: the event between two others may lie in a partition whose
/// records the log has not shown yet. Numbers without a gap tell that nothing is missing.
pub struct MempoolScanner {
    chain: ChainLog,
    newest_epoch: Option<i64>,
    lanes: Vec<Lane>,
    /// The next event of each partition: its number, and index of the partition.
    heads: BinaryHeap<Reverse<(Number, usize)>>,
}

/// One partition.
struct Lane {
    stream: Stream,
    /// What is kept of the partition, and how far it is read.
    bounds: Bounds,
    joiner: Joiner,
    /// The event that is next, and the offset of its first record.
    head: Option<PlacedMempoolEvent>,
    /// Offset of the first record of an event whose last has not come.
    began: Option<i64>,
}

impl ChainLog {
    /// The newest epoch of the mempool topic; `None` where it has no events.
    ///
    /// # Errors
    /// Why the log could not be read.
    pub fn newest_mempool_epoch(&self) -> Result<Option<i64>> {
        newest_epoch(self, &mut newest_of_all(self)?)
    }

    /// The mempool events of the newest epoch, and what comes after them: from the epoch's start, or after an event of
    /// it, by epoch and sequence. An event of another epoch counts for nothing.
    ///
    /// # Errors
    /// Why the log could not be read.
    pub fn scan_mempool(&self, after: Option<(i64, i64)>) -> Result<MempoolScanner> {
        let mut lanes = newest_of_all(self)?;
        let newest_epoch = newest_epoch(self, &mut lanes)?;
        let after = after.filter(|(epoch, _)| Some(*epoch) == newest_epoch);
        let is_before = |event: &MempoolEvent| match after {
            Some(after) => (event.epoch, event.sequence) <= after,
            None => Some(event.epoch) < newest_epoch,
        };
        MempoolScanner::open(self, lanes, newest_epoch, is_before)
    }
}

impl MempoolScanner {
    fn open(
        chain: &ChainLog,
        mut lanes: Vec<Lane>,
        newest_epoch: Option<i64>,
        is_before: impl Fn(&MempoolEvent) -> bool + Sync,
    ) -> Result<Self> {
        on_threads(&mut lanes, |lane| {
            let first = chain.first_in(&mut lane.stream, lane.bounds, &is_before)?;
            lane.stream.seek(first.map_or(lane.bounds.end, |located| located.offset))?;
            lane.stream.fetch(FETCH_BYTES);
            Ok(())
        })?;
        let mut scanner = Self { chain: chain.clone(), newest_epoch, lanes, heads: BinaryHeap::new() };
        for index in 0..scanner.lanes.len() {
            scanner.advance(index)?;
        }
        Ok(scanner)
    }

    /// The newest epoch at the time of opening; `None` where there were no events.
    pub fn newest_epoch(&self) -> Option<i64> {
        self.newest_epoch
    }

    /// Number of partitions.
    pub fn partitions(&self) -> usize {
        self.lanes.len()
    }

    /// The next event of each partition that has one, in no order.
    pub fn heads(&self) -> impl Iterator<Item = &PlacedMempoolEvent> {
        self.lanes.iter().filter_map(|lane| lane.head.as_ref())
    }

    /// The event with the lowest number, left in place; `None` where nothing is left of what the log had when it was
    /// opened, extended or polled last.
    pub fn peek(&self) -> Option<&PlacedMempoolEvent> {
        let Reverse((_, index)) = self.heads.peek()?;
        self.lanes[*index].head.as_ref()
    }

    /// Takes the event that `peek` shows.
    ///
    /// # Errors
    /// What the log said of the event after it in its partition.
    pub fn next_event(&mut self) -> Result<Option<PlacedMempoolEvent>> {
        let Some(Reverse((_, index))) = self.heads.pop() else { return Ok(None) };
        let head = self.lanes[index].head.take();
        self.advance(index)?;
        Ok(head)
    }

    /// Takes the ends that the partitions have now. Certain, at the cost of a question for each.
    ///
    /// # Errors
    /// What the log said.
    pub fn extend(&mut self) -> Result<()> {
        for index in 0..self.lanes.len() {
            let partition = index as i32;
            self.lanes[index].bounds = self.chain.log.bounds(&self.chain.topics.mempool, partition)?;
            if self.lanes[index].head.is_none() {
                self.advance(index)?;
            }
        }
        Ok(())
    }

    /// Takes what the log shows by itself, without a wait and without asking: cheap, but silence proves nothing.
    ///
    /// # Errors
    /// What the log said.
    pub fn poll(&mut self) -> Result<()> {
        for index in 0..self.lanes.len() {
            let lane = &mut self.lanes[index];
            if lane.head.is_some() {
                continue;
            }
            if let Some(ahead) = lane.stream.wait(Duration::ZERO)? {
                lane.bounds.end = lane.bounds.end.max(ahead);
                self.advance(index)?;
            }
        }
        Ok(())
    }

    fn advance(&mut self, index: usize) -> Result<()> {
        let lane = &mut self.lanes[index];
        while let Some(record) = lane.stream.next(lane.bounds.end)? {
            let offset = *lane.began.get_or_insert(record.offset);
            let Some(whole) = lane.joiner.push(record)? else { continue };
            lane.began = None;
            let event: MempoolEvent = self.chain.decode(&whole)?;
            self.heads.push(Reverse(((event.epoch, event.sequence), index)));
            lane.head = Some(PlacedMempoolEvent { partition: whole.partition, offset, event });
            return Ok(());
        }
        Ok(())
    }
}

/// Every partition, opened at its newest events, so that they are fetched at the same time.
fn newest_of_all(chain: &ChainLog) -> Result<Vec<Lane>> {
    let topic = &chain.topics.mempool;
    let partitions = chain.log.topic(topic)?.map_or(0, |info| info.partitions);
    let bounds =
        (0..partitions).map(|partition| chain.log.bounds(topic, partition)).collect::<Result<Vec<_>>>()?;
    let newest = |bounds: &Bounds| bounds.start.max(bounds.end - LAST_WINDOW);
    let from: Vec<_> = (0..partitions)
        .zip(&bounds)
        .map(|(partition, bounds)| StartAt { topic: topic.clone(), partition, offset: newest(bounds) })
        .collect();
    let streams = Stream::open_all(&*chain.log, &from)?;
    let lane = |(stream, bounds)| Lane { stream, bounds, joiner: Joiner::default(), head: None, began: None };
    Ok(streams.into_iter().zip(bounds).map(lane).collect())
}

/// Epochs ascend within a partition: its last event has its newest.
fn newest_epoch(chain: &ChainLog, lanes: &mut [Lane]) -> Result<Option<i64>> {
    let last = on_threads(lanes, |lane| {
        let last = chain.last_in::<MempoolEvent>(&mut lane.stream, lane.bounds)?;
        Ok(last.map(|located| located.event.epoch))
    })?;
    Ok(last.into_iter().flatten().max())
}

/// Does the same with every partition, several at a time: a look costs a cluster a round trip or two.
fn on_threads<T: Send>(lanes: &mut [Lane], work: impl Fn(&mut Lane) -> Result<T> + Sync) -> Result<Vec<T>> {
    let mut results = Vec::with_capacity(lanes.len());
    for some in lanes.chunks_mut(THREADS) {
        let done: Result<Vec<T>> = thread::scope(|scope| {
            let threads: Vec<_> = some.iter_mut().map(|lane| scope.spawn(|| work(lane))).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
                .collect()
        });
        results.extend(done?);
    }
    Ok(results)
}
