//! How far the index is.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sluice_consumer::Position;
use sluice_log::chain::ChainLog;
use sluice_schemas::ChainEvent;

/// How long a look at the log's end is good for.
const GOOD_FOR: Duration = Duration::from_secs(1);
/// Chain events that the index may be behind without a word.
const UNREMARKABLE: i64 = 6;

/// The last chain event of the log, looked up not more often than `GOOD_FOR`.
#[derive(Default)]
pub(super) struct Tail(Mutex<Option<(Instant, Option<ChainEvent>)>>);

impl Tail {
    pub(super) fn get(&self, chain: &ChainLog) -> sluice_log::Result<Option<ChainEvent>> {
        // Held during the look: of many requests at once, one looks.
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, tail)) = &*kept
            && at.elapsed() < GOOD_FOR
        {
            return Ok(tail.clone());
        }
        let tail = match chain.log.topic(&chain.topics.blocks)? {
            Some(_) => chain.tail()?,
            None => None,
        };
        *kept = Some((Instant::now(), tail.clone()));
        Ok(tail)
    }
}

/// How many of the log's chain events are indexed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) indexed: i64,
    pub(super) total: i64,
}

impl Progress {
    pub(super) fn of(tail: Option<&ChainEvent>, position: Option<Position>) -> Self {
        let indexed = position.map_or(0, |position| position.sequence.saturating_add(1));
        let total = tail.map_or(0, |tail| tail.sequence.saturating_add(1)).max(indexed);
        Self { indexed, total }
    }

    pub(super) fn behind(self) -> i64 {
        self.total - self.indexed
    }

    /// Whether the index is so far behind that a page should say so.
    pub(super) fn is_building(self) -> bool {
        self.behind() > UNREMARKABLE
    }

    /// Per cent, rounded down: 100 is all.
    pub(super) fn percent(self) -> i64 {
        match self.total {
            0 => 100,
            total => (i128::from(self.indexed) * 100 / i128::from(total)) as i64,
        }
    }
}
