//! How many things happened in each of the last minutes, as the log tells.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sluice_consumer::{MempoolPosition, Position};
use sluice_log::chain::ChainLog;
use sluice_schemas::{ChainEvent, MempoolEvent};

/// Minutes that are told of.
const MINUTES: i64 = 30;
const MINUTE: i64 = 60_000;
/// Chain events that are looked at: while a producer catches up there may be more in half an hour.
const MAX_EVENTS: i64 = 3_000;
/// How long a look is good for.
const GOOD_FOR: Duration = Duration::from_secs(2);

/// Numbers per minute, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PerMinute {
    pub(super) blocks: Vec<i64>,
    pub(super) transactions: Vec<i64>,
    pub(super) mempool: Vec<i64>,
}

/// The last look, and what will not change any more.
#[derive(Default)]
pub(in crate::pages) struct Rates(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    at: Option<(Instant, PerMinute)>,
    /// The first mempool event of a minute or later, by minute since the Unix epoch.
    marks: BTreeMap<i64, MempoolPosition>,
}

impl Rates {
    pub(super) fn at(
        &self,
        chain: &ChainLog,
        position: Option<Position>,
        now: i64,
    ) -> sluice_log::Result<PerMinute> {
        // Held during the look: of many requests at once, one looks.
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, counts)) = &kept.at
            && at.elapsed() < GOOD_FOR
        {
            return Ok(counts.clone());
        }
        let first = now.div_euclid(MINUTE) - MINUTES + 1;
        let (blocks, transactions) = chain_events(chain, first)?;
        let newest = position.and_then(|position| position.mempool);
        let counts = PerMinute { blocks, transactions, mempool: kept.mempool_events(chain, first, newest)? };
        kept.at = Some((Instant::now(), counts.clone()));
        Ok(counts)
    }
}

fn chain_events(chain: &ChainLog, first: i64) -> sluice_log::Result<(Vec<i64>, Vec<i64>)> {
    let mut blocks = vec![0; MINUTES as usize];
    let mut transactions = vec![0; MINUTES as usize];
    let topic = &chain.topics.blocks;
    let before = |event: &ChainEvent| event.observed_at < first * MINUTE;
    if let Some(start) = chain.first_event(topic, 0, before)? {
        let end = chain.log.bounds(topic, 0)?.end;
        for located in chain.events::<ChainEvent>(topic, 0, start.offset.max(end - MAX_EVENTS))? {
            let event = located?.event;
            let index = usize::try_from(event.observed_at.div_euclid(MINUTE) - first).unwrap_or(usize::MAX);
            if let (Some(blocks), Some(transactions)) = (blocks.get_mut(index), transactions.get_mut(index)) {
                *blocks += 1;
                *transactions += event.tx_count;
            }
        }
    }
    Ok((blocks, transactions))
}

impl Kept {
    /// Mempool events are numbered over all partitions: the difference between the first numbers of two minutes is what
    /// happened in between.
    fn mempool_events(
        &mut self,
        chain: &ChainLog,
        first: i64,
        newest: Option<MempoolPosition>,
    ) -> sluice_log::Result<Vec<i64>> {
        self.marks = self.marks.split_off(&first);
        let Some(newest) = newest else { return Ok(vec![0; MINUTES as usize]) };
        let end = MempoolPosition { sequence: newest.sequence.saturating_add(1), ..newest };
        let mut marks = Vec::new();
        for minute in first..first + MINUTES {
            if !self.marks.contains_key(&minute)
                && let Some(mark) = mark(chain, minute)?
            {
                self.marks.insert(minute, mark);
            }
            marks.push(self.marks.get(&minute).copied().unwrap_or(end).min(end));
        }
        marks.push(end);
        Ok(marks.windows(2).map(|pair| between(pair[0], pair[1])).collect())
    }
}

/// The first mempool event of a minute or later.
fn mark(chain: &ChainLog, minute: i64) -> sluice_log::Result<Option<MempoolPosition>> {
    let topic = &chain.topics.mempool;
    let partitions = chain.log.topic(topic)?.map_or(0, |info| info.partitions);
    let mut first: Option<MempoolPosition> = None;
    for partition in 0..partitions {
        let Some(offset) = chain.log.offset_at(topic, partition, minute * MINUTE)? else { continue };
        let Some(located) = chain.events::<MempoolEvent>(topic, partition, offset)?.next() else { continue };
        let MempoolEvent { epoch, sequence, .. } = located?.event;
        let found = MempoolPosition { epoch, sequence };
        first = Some(first.map_or(found, |first| first.min(found)));
    }
    Ok(first)
}

/// Events between two marks. Where the epoch changed in between, those of the newer one.
fn between(from: MempoolPosition, to: MempoolPosition) -> i64 {
    let start = if from.epoch == to.epoch { from.sequence } else { 0 };
    to.sequence.saturating_sub(start).max(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_in_a_minute_is_the_difference_of_its_marks() {
        let at = |epoch, sequence| MempoolPosition { epoch, sequence };
        assert_eq!(between(at(1, 5), at(1, 12)), 7);
        assert_eq!(between(at(1, 5), at(2, 3)), 3);
        assert_eq!(between(at(1, 5), at(1, 5)), 0);
        assert_eq!(between(at(1, 5), at(1, 4)), 0);
    }
}
