//! The mempool view: the newest epoch's events, replayed.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::panic::resume_unwind;
use std::thread;

use bitcoin::Txid;
use sluice_schemas::{MempoolEvent, MempoolKind};

use super::{Error, Invariant, Violation};
use crate::chain::ChainLog;
use crate::chain::locate::LAST_WINDOW;
use crate::chain::stream::{FETCH_BYTES, Stream};
use crate::chunk::Joiner;
use crate::{Bounds, Result as LogResult, StartAt};

/// Partitions looked at at the same time.
const THREADS: usize = 16;
/// How often to look for the events of a gap: a commit may become visible partition by partition.
const GAP_LOOKS: u32 = 5;

/// The mempool as the newest epoch's events make it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MempoolView {
    /// The producer's term.
    pub epoch: i64,
    /// Events of the epoch.
    pub events: u64,
    /// Number of the last event.
    pub sequence: i64,
    /// Last chain event published before the last mempool event.
    pub chain_sequence: i64,
    /// What is in the mempool; all of it is held in memory.
    pub txids: HashSet<Txid>,
    /// Whether the epoch's first events are no longer kept: then the view lacks what they added.
    pub truncated: bool,
}

impl ChainLog {
    /// The newest epoch of the mempool topic; `None` where it has no events.
    ///
    /// # Errors
    /// Why the log could not be read.
    pub fn newest_mempool_epoch(&self) -> LogResult<Option<i64>> {
        newest_epoch(self, &mut newest_of_all(self)?)
    }

    /// Replays the mempool events of the newest epoch; `None` where there are no mempool events.
    ///
    /// # Errors
    /// A `Violation` where events are missing or contradict the view so far, or why the log could not be read.
    pub fn mempool_view(&self) -> Result<Option<MempoolView>, Error> {
        let Some(mut replay) = Replay::open(self)? else { return Ok(None) };
        let epoch = replay.epoch;
        let mut resets = Resets { partitions: replay.lanes.len(), seen: HashSet::new() };
        let mut view = MempoolView { epoch, sequence: -1, chain_sequence: -1, ..MempoolView::default() };
        while let Some(((partition, offset), event)) = replay.next(view.sequence)? {
            resets.check(partition, event.kind).and_then(|()| view.apply(&event)).map_err(|reason| {
                let topic = self.topics.mempool.clone();
                let invariant = Invariant::Mempool;
                Error::Violation(Box::new(Violation { invariant, topic, partition, offset, reason }))
            })?;
        }
        Ok(Some(view))
    }
}

impl MempoolView {
    fn apply(&mut self, event: &MempoolEvent) -> Result<(), String> {
        let first = self.events == 0;
        if first {
            self.truncated = true;
        } else if event.sequence.checked_sub(1) != Some(self.sequence) {
            let (epoch, last, found) = (self.epoch, self.sequence, event.sequence);
            return Err(format!("in epoch {epoch}, sequence {found} comes after {last}"));
        }
        match event.kind {
            MempoolKind::Reset => {
                self.txids.clear();
                self.truncated = false;
            }
            MempoolKind::Added => {
                if !self.txids.insert(event.txid) {
                    return Err(format!("transaction {} is added twice", event.txid));
                }
                if event.transaction.as_ref().is_none_or(|transaction| transaction.txid != event.txid) {
                    return Err(format!("transaction {} is added without its content", event.txid));
                }
            }
            MempoolKind::Removed => {
                if !self.txids.remove(&event.txid) && !self.truncated {
                    return Err(format!("transaction {} is removed, but was not there", event.txid));
                }
            }
        }
        self.events += 1;
        self.sequence = event.sequence;
        self.chain_sequence = event.chain_sequence;
        Ok(())
    }
}

/// A reset under way: it comes in every partition, once, before anything else.
struct Resets {
    partitions: usize,
    seen: HashSet<i32>,
}

impl Resets {
    fn check(&mut self, partition: i32, kind: MempoolKind) -> Result<(), String> {
        if kind == MempoolKind::Reset {
            if !self.seen.insert(partition) {
                return Err("a partition is reset twice, and another one not".to_owned());
            }
            if self.seen.len() == self.partitions {
                self.seen.clear();
            }
        } else if !self.seen.is_empty() {
            return Err(format!("{} of {} partitions are reset", self.seen.len(), self.partitions));
        }
        Ok(())
    }
}

/// Every partition, opened at its newest events, so that they are fetched at the same time.
fn newest_of_all(chain: &ChainLog) -> LogResult<Vec<Lane>> {
    let topic = &chain.topics.mempool;
    let partitions = chain.log.topic(topic)?.map_or(0, |info| info.partitions);
    let bounds =
        (0..partitions).map(|partition| chain.log.bounds(topic, partition)).collect::<LogResult<Vec<_>>>()?;
    let newest = |bounds: &Bounds| bounds.start.max(bounds.end - LAST_WINDOW);
    let from: Vec<_> = (0..partitions)
        .zip(&bounds)
        .map(|(partition, bounds)| StartAt { topic: topic.clone(), partition, offset: newest(bounds) })
        .collect();
    let streams = Stream::open_all(&*chain.log, &from)?;
    let lane = |(stream, bounds)| Lane { stream, bounds, joiner: Joiner::default(), head: None };
    Ok(streams.into_iter().zip(bounds).map(lane).collect())
}

/// Epochs ascend within a partition: its last event has its newest.
fn newest_epoch(chain: &ChainLog, lanes: &mut [Lane]) -> LogResult<Option<i64>> {
    let last = on_threads(lanes, |lane| {
        let last = chain.last_in::<MempoolEvent>(&mut lane.stream, lane.bounds)?;
        Ok(last.map(|located| located.event.epoch))
    })?;
    Ok(last.into_iter().flatten().max())
}

/// Does the same with every partition, several at a time: a look costs a cluster a round trip or two.
fn on_threads<T: Send>(
    lanes: &mut [Lane],
    work: impl Fn(&mut Lane) -> LogResult<T> + Sync,
) -> LogResult<Vec<T>> {
    let mut results = Vec::with_capacity(lanes.len());
    for some in lanes.chunks_mut(THREADS) {
        let done: LogResult<Vec<T>> = thread::scope(|scope| {
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

/// Partition and offset of a record.
type Place = (i32, i64);

/// The epoch's events of all partitions, merged by sequence.
struct Replay<'a> {
    chain: &'a ChainLog,
    epoch: i64,
    lanes: Vec<Lane>,
    /// The next event of each partition: sequence, and index of the partition.
    heads: BinaryHeap<Reverse<(i64, usize)>>,
}

struct Lane {
    stream: Stream,
    /// What is kept of the partition, and how far it is read.
    bounds: Bounds,
    joiner: Joiner,
    head: Option<(Place, MempoolEvent)>,
}

impl<'a> Replay<'a> {
    /// `None` where there are no events.
    fn open(chain: &'a ChainLog) -> LogResult<Option<Self>> {
        let mut lanes = newest_of_all(chain)?;
        let Some(epoch) = newest_epoch(chain, &mut lanes)? else { return Ok(None) };
        on_threads(&mut lanes, |lane| {
            let earlier = |event: &MempoolEvent| event.epoch < epoch;
            let first = chain.first_in(&mut lane.stream, lane.bounds, earlier)?;
            lane.stream.seek(first.map_or(lane.bounds.end, |located| located.offset))?;
            lane.stream.fetch(FETCH_BYTES);
            Ok(())
        })?;
        let mut replay = Self { chain, epoch, lanes, heads: BinaryHeap::new() };
        replay.extend()?;
        Ok(Some(replay))
    }

    /// Takes the ends that the partitions have now.
    fn extend(&mut self) -> LogResult<()> {
        for index in 0..self.lanes.len() {
            let partition = index as i32;
            self.lanes[index].bounds = self.chain.log.bounds(&self.chain.topics.mempool, partition)?;
            if self.lanes[index].head.is_none() {
                self.advance(index)?;
            }
        }
        Ok(())
    }

    /// The event after number `last`, or the one that comes in its place.
    fn next(&mut self, last: i64) -> LogResult<Option<(Place, MempoolEvent)>> {
        for _ in 0..GAP_LOOKS {
            match self.heads.peek() {
                Some(Reverse((sequence, _))) if last >= 0 && sequence.saturating_sub(1) > last => {
                    self.extend()?
                }
                _ => break,
            }
        }
        let Some(Reverse((_, index))) = self.heads.pop() else { return Ok(None) };
        let head = self.lanes[index].head.take();
        self.advance(index)?;
        Ok(head)
    }

    fn advance(&mut self, index: usize) -> LogResult<()> {
        let lane = &mut self.lanes[index];
        while let Some(record) = lane.stream.next(lane.bounds.end)? {
            let Some(whole) = lane.joiner.push(record)? else { continue };
            let event: MempoolEvent = self.chain.decode(&whole)?;
            // A newer epoch began while this one is read: what it adds is not this view's.
            if event.epoch != self.epoch {
                lane.bounds.end = whole.offset;
                return Ok(());
            }
            self.heads.push(Reverse((event.sequence, index)));
            lane.head = Some(((whole.partition, whole.offset), event));
            return Ok(());
        }
        Ok(())
    }
}
