//! One request at work in one partition.

use std::collections::VecDeque;
use std::time::Duration;

use sluice_log::chain::ChainLog;
use sluice_log::{Record, Result};
use sluice_schemas::{Action, TransactionEvent};

use super::entry::Tally;
use super::requests::Open;
use crate::beside::Follow;
use crate::handler::tracker::{Ticket, Tracker};

/// Events read ahead.
const AHEAD: usize = 256;

/// One request at work in one partition.
pub(crate) struct Rerun {
    /// Tells its events from those of another.
    pub(crate) number: u64,
    open: Open,
    chain: ChainLog,
    follow: Follow,
    phase: Phase,
    newer: Newer,
    tracker: Tracker,
    queue: VecDeque<Record>,
}

/// What it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Looks at what others may have handled behind the watermark, up to an offset.
    Looking { until: i64 },
    /// Reads a run.
    Reading { run: usize },
    /// Has read everything.
    Read,
}

/// Which blocks of the best chain as of a chain event have been disconnected since.
///
/// One number is enough. A `DISCONNECTED` of height h leaves a tip below h: whatever the chain held at h and above is no
/// longer on it, and was disconnected by this event or, tip first, by one before it.
#[derive(Clone, Copy, Debug)]
struct Newer {
    sequence: i64,
    /// The lowest height disconnected.
    lowest: i32,
}

impl Newer {
    fn after(sequence: i64) -> Self {
        Self { sequence, lowest: i32::MAX }
    }

    fn saw(&mut self, sequence: i64, action: Action, height: i32) {
        if action == Action::Disconnected && sequence > self.sequence {
            self.lowest = self.lowest.min(height);
        }
    }

    fn has(&self, height: i32) -> bool {
        height >= self.lowest
    }
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The handler had it.
    Sent,
    /// A live event wins.
    Superseded,
}

impl Rerun {
    /// Begins or resumes a request. From now on it must be told of every live event that is taken up.
    pub(crate) fn begin(chain: &ChainLog, partition: i32, open: &Open, number: u64) -> Result<Self> {
        let topic = &chain.topics.transactions;
        // Whoever had the partition before can have handled nothing beyond.
        let until = chain.log.bounds(topic, partition)?.end;
        let from = [(partition, Some(open.request.watermark.min(until)))];
        let mut opened = Follow::open(&*chain.log, topic, &from)?;
        Ok(Self {
            number,
            open: open.clone(),
            chain: chain.clone(),
            follow: opened.pop().expect("a log gives as many readers as it was asked for"),
            phase: Phase::Looking { until },
            newer: Newer::after(open.request.sequence),
            tracker: Tracker::default(),
            queue: VecDeque::new(),
        })
    }

    /// Names the request.
    pub(crate) fn id(&self) -> &str {
        &self.open.id
    }

    /// A live event has been taken up.
    pub(crate) fn saw(&mut self, event: &TransactionEvent) {
        self.newer.saw(event.sequence, event.action, event.height);
    }

    /// Whether an event of a block of this height has a newer live event of the same transaction.
    pub(crate) fn is_superseded(&self, height: i32) -> bool {
        self.newer.has(height)
    }

    /// Reads some more, as far as that goes without waiting.
    pub(crate) fn read_on(&mut self) -> Result<()> {
        match self.phase {
            Phase::Looking { until } => self.look(until),
            Phase::Reading { run } if self.queue.len() < AHEAD => self.read(run),
            Phase::Reading { .. } | Phase::Read => Ok(()),
        }
    }

    fn look(&mut self, until: i64) -> Result<()> {
        let records = self.follow.read(Duration::ZERO)?;
        let is_over =
            records.last().map_or_else(|| self.follow.is_at_end(), |(_, record)| record.offset + 1 >= until);
        for (_, record) in records {
            self.saw(&self.chain.decode(&record)?);
        }
        if is_over { self.enter_run(0) } else { Ok(()) }
    }

    fn read(&mut self, run: usize) -> Result<()> {
        let end = self.open.request.runs.get(run).map_or(0, |run| run.end);
        let records = self.follow.read(Duration::ZERO)?;
        let is_over =
            records.last().map_or_else(|| self.follow.is_at_end(), |(_, record)| record.offset + 1 >= end);
        self.queue.extend(records.into_iter().filter(|(place, _)| *place < end).map(|(_, record)| record));
        if is_over { self.enter_run(run + 1) } else { Ok(()) }
    }

    /// Goes to the first run from `run` on that is not done.
    fn enter_run(&mut self, run: usize) -> Result<()> {
        let done = self.open.next.unwrap_or(0);
        let left = self.open.request.runs.iter().enumerate().skip(run).find(|(_, run)| run.end > done);
        let Some((run, offsets)) = left else {
            self.phase = Phase::Read;
            return Ok(());
        };
        self.follow.seek(offsets.start.max(done))?;
        self.phase = Phase::Reading { run };
        Ok(())
    }

    /// The next event to give to the handler, which is to be asked for at its turn whether it is superseded.
    pub(crate) fn next(&mut self) -> Result<Option<(Ticket, i32, Record)>> {
        let Some(record) = self.queue.pop_front() else { return Ok(None) };
        let event: TransactionEvent = self.chain.decode(&record)?;
        Ok(Some((self.tracker.begin(record.offset + 1), event.height, record)))
    }

    /// An event has ended.
    pub(crate) fn done(&mut self, ticket: Ticket, fate: Fate) {
        self.tracker.done(ticket);
        match fate {
            Fate::Sent => self.open.tally.sent += 1,
            Fate::Superseded => self.open.tally.superseded += 1,
        }
    }

    /// Events between the first one that is not done and the last one taken up.
    pub(crate) fn len(&self) -> usize {
        self.tracker.len()
    }

    /// How much was done, where everything is.
    pub(crate) fn finished(&self) -> Option<Tally> {
        let is_over = self.phase == Phase::Read && self.queue.is_empty() && self.tracker.len() == 0;
        is_over.then_some(self.open.tally)
    }

    /// Where to go on after a restart, where that has moved since the last call.
    pub(crate) fn progress(&mut self) -> Option<(i64, Tally)> {
        self.tracker.take_ready().map(|next| (next, self.open.tally))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Chains that grow and reorganise by chance: after each event, the number says of each block of the chain as it was
        /// at the watermark whether it has been disconnected since.
        #[test]
        fn the_lowest_height_disconnected_tells_every_block_that_was(
            steps in prop::collection::vec(any::<bool>(), 1..120), watermark in 0..120_usize,
        ) {
            let watermark = watermark.min(steps.len() - 1);
            // Each block is the sequence that connected it.
            let mut chain: Vec<usize> = Vec::new();
            let (mut asked, mut gone) = (Vec::new(), Vec::new());
            let mut newer = Newer::after(watermark as i64);
            for (sequence, connects) in steps.into_iter().enumerate() {
                if connects || chain.is_empty() {
                    newer.saw(sequence as i64, Action::Connected, chain.len() as i32);
                    chain.push(sequence);
                } else {
                    gone.extend(chain.pop().filter(|_| sequence > watermark));
                    newer.saw(sequence as i64, Action::Disconnected, chain.len() as i32);
                }
                if sequence == watermark {
                    asked.clone_from(&chain);
                }
                for (height, block) in asked.iter().enumerate() {
                    prop_assert_eq!(newer.has(height as i32), gone.contains(block), "block {} at {}", block, height);
                }
            }
        }
    }
}
