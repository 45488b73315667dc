//! What a simulator tells, and the queues in which it waits.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::source::Shared;
use super::world::{Event, Place};
use crate::{Feed, Notice, Result};

/// Notices that wait for a slow caller; what comes then is lost, and the caller is told so.
pub(super) const MAX_WAITING: usize = 50_000;
/// Most notices in one answer.
const MAX_ANSWER: usize = 2_000;
const NAME: &str = "simulator";

/// Notices that wait for one feed.
#[derive(Default)]
pub(super) struct Queue {
    waiting: VecDeque<Notice>,
    /// Notices so far, also lost ones.
    numbered: u64,
    lost_from: Option<u64>,
}

impl Queue {
    pub(super) fn push(&mut self, notice: Notice) {
        if self.lost_from.is_some() || self.waiting.len() >= MAX_WAITING {
            self.lost_from.get_or_insert(self.numbered);
        } else {
            self.waiting.push_back(notice);
        }
        self.numbered += 1;
    }

    fn take(&mut self) -> Vec<Notice> {
        let count = self.waiting.len().min(MAX_ANSWER);
        let mut taken: Vec<Notice> = self.waiting.drain(..count).collect();
        if self.waiting.is_empty()
            && let Some(from) = self.lost_from.take()
        {
            taken.push(Notice::Gap { feed: NAME, from, to: self.numbered - 1 });
            taken.push(Notice::TipChanged);
        }
        taken
    }
}

/// The notice of an event, if it is one for the outside.
pub(super) fn notice(event: &Event) -> Option<Notice> {
    match event {
        Event::Added { transaction, sequence } => Some(Notice::Added {
            txid: transaction.txid,
            sequence: Some(*sequence),
            raw: Some(transaction.raw.clone()),
        }),
        Event::Removed { txid, sequence, reason, by } => Some(Notice::Removed {
            txid: *txid,
            sequence: Some(*sequence),
            reason: Some(*reason),
            by: Some(*by),
        }),
        Event::Mined { place: Place::Tip { .. }, .. } => Some(Notice::TipChanged),
        Event::Mined { place: Place::Branch, .. } => None,
    }
}

/// A simulator's stream of notices. Whoever waits on it also keeps the world going.
pub(super) struct SimulatorFeed {
    pub(super) shared: Arc<Shared>,
    pub(super) number: u64,
}

impl Feed for SimulatorFeed {
    fn wait(&mut self, wait: Duration) -> Result<Vec<Notice>> {
        let deadline = Instant::now() + wait;
        let mut inner = self.shared.lock();
        loop {
            let now = Instant::now();
            let due = inner.advance(now)?;
            let taken = inner.feeds.get_mut(&self.number).map(Queue::take).unwrap_or_default();
            if !taken.is_empty() || now >= deadline {
                return Ok(taken);
            }
            let until = due.map_or(deadline, |due| due.min(deadline));
            inner = self.shared.wait(inner, until.saturating_duration_since(now));
        }
    }
}

impl Drop for SimulatorFeed {
    fn drop(&mut self) {
        self.shared.lock().feeds.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_tells_what_it_lost() {
        let mut queue = Queue::default();
        (0..MAX_WAITING + 3).for_each(|_| queue.push(Notice::Restarted { feed: NAME }));
        let mut taken = Vec::new();
        while !queue.waiting.is_empty() {
            taken.extend(queue.take());
        }
        assert_eq!(taken.len(), MAX_WAITING + 2);
        let (from, to) = (MAX_WAITING as u64, MAX_WAITING as u64 + 2);
        assert_eq!(taken[MAX_WAITING..], [Notice::Gap { feed: NAME, from, to }, Notice::TipChanged]);
        queue.push(Notice::TipChanged);
        assert_eq!(queue.take(), [Notice::TipChanged], "after the gap it goes on");
    }
}
