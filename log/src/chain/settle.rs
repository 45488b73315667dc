//! What a new producer does first: it ends what brokers have left without an end, as it was meant to end.

use std::collections::HashMap;
use std::ops::Range;

use sluice_schemas::EventKind;
use tracing::warn;

use super::ChainLog;
use super::best_chain::Backwards;
use crate::{Class, Ending, Error, Result, StartAt, Writer};

impl ChainLog {
    /// Ends the transactions of earlier writers that the log has left without an end (`Log::unfinished`). `writer` must have
    /// taken over, and not begun.
    ///
    /// What a visible chain event names was committed. Of the rest nobody knows how it was to end, and unless a part of it is
    /// visible nobody has seen it either: it is aborted, and comes again.
    ///
    /// # Errors
    /// What the log said; with `Class::Fatal` where this writer cannot end it.
    pub fn settle(&self, writer: &mut dyn Writer) -> Result<()> {
        let topics = &self.topics;
        let names = EventKind::ALL.map(|kind| topics.name(kind));
        let unfinished = self.log.unfinished(&names)?;
        if unfinished.is_empty() {
            return Ok(());
        }
        let partitions = 0..self.log.topic(&topics.transactions)?.map_or(0, |topic| topic.partitions);
        let named = self.named(partitions.clone())?;
        let is_named = |at: &StartAt| {
            at.topic == topics.transactions && named.get(&at.partition).is_some_and(|end| at.offset < *end)
        };
        let (mut committed, mut aborted): (Vec<_>, Vec<_>) = unfinished.into_iter().partition(is_named);
        if aborted.iter().any(|at| at.topic == topics.blocks) && self.is_more_than(&named, partitions)? {
            committed.append(&mut aborted);
        }
        for (partitions, ending) in [(committed, Ending::Commit), (aborted, Ending::Abort)] {
            if !partitions.is_empty() {
                warn!(?partitions, ?ending, "brokers have left out the end of a transaction: it gets one");
                writer.finish(&partitions, ending)?;
            }
        }
        match self.log.unfinished(&names)?.first() {
            None => Ok(()),
            Some(at) => Err(Error::Store {
                attempt: format!(
                    "end a transaction in {}/{} at offset {}",
                    at.topic, at.partition, at.offset
                ),
                reason: "it is another producer's: see kafka-transactions.sh find-hanging, and abort".into(),
                class: Class::Fatal,
            }),
        }
    }

    /// The offsets after what visible chain events name, in each of these partitions of transactions.
    fn named(&self, partitions: Range<i32>) -> Result<HashMap<i32, i64>> {
        let mut named = HashMap::new();
        for event in Backwards::open(self)? {
            for range in event?.transactions {
                named.entry(range.partition).or_insert(range.first_offset + range.records);
            }
            if partitions.clone().all(|partition| named.contains_key(&partition)) {
                break;
            }
        }
        Ok(named)
    }

    /// Whether more transactions are visible than chain events name.
    fn is_more_than(&self, named: &HashMap<i32, i64>, partitions: Range<i32>) -> Result<bool> {
        let topic = &self.topics.transactions;
        for partition in partitions {
            let bounds = self.log.bounds(topic, partition)?;
            let offset = named.get(&partition).map_or(bounds.start, |end| bounds.start.max(*end));
            if self.is_any_left(&StartAt { topic: topic.clone(), partition, offset }, bounds.end)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
