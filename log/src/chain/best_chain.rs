//! The blocks topic, read backwards.

use sluice_schemas::{Action, ChainEvent};

use super::ChainLog;
use super::stream::Stream;
use crate::{Error, Result};

/// Offsets in the first page: enough for the tail and a usual reorg.
const FIRST_PAGE: i64 = 64;
/// Offsets in the largest page. Bounds memory: about a thousand bytes each.
const LARGEST_PAGE: i64 = 4096;

/// Every chain event, last one first. Pages are windows of offsets, for Kafka's transaction markers leave holes.
pub(super) struct Backwards {
    chain: ChainLog,
    stream: Stream,
    start: i64,
    /// The page ends where the one after it starts.
    end: i64,
    page_size: i64,
    /// What is left of the page, in ascending order.
    page: Vec<(i64, ChainEvent)>,
    next_sequence: Option<i64>,
}

impl Backwards {
    pub(super) fn open(chain: &ChainLog) -> Result<Self> {
        let bounds = chain.log.bounds(&chain.topics.blocks, 0)?;
        let first = bounds.start.max(bounds.end - FIRST_PAGE);
        Ok(Self {
            chain: chain.clone(),
            stream: Stream::open(&*chain.log, &chain.topics.blocks, 0, first)?,
            start: bounds.start,
            end: bounds.end,
            page_size: FIRST_PAGE,
            page: Vec::new(),
            next_sequence: None,
        })
    }

    /// Reads pages until one holds an event.
    fn fill(&mut self) -> Result<()> {
        while self.page.is_empty() && self.start < self.end {
            let first = self.start.max(self.end - self.page_size);
            self.stream.seek(first)?;
            while let Some(record) = self.stream.next(self.end)? {
                self.page.push((record.offset, self.chain.decode(&record)?));
            }
            self.end = first;
            self.page_size = (self.page_size * 2).min(LARGEST_PAGE);
        }
        Ok(())
    }

    fn advance(&mut self) -> Result<Option<ChainEvent>> {
        self.fill()?;
        let Some((offset, event)) = self.page.pop() else { return Ok(None) };
        if let Some(next) = self.next_sequence.replace(event.sequence)
            && next.checked_sub(1) != Some(event.sequence)
        {
            let reason = format!("sequence {} comes before sequence {next}", event.sequence);
            return Err(Error::Corrupt {
                topic: self.chain.topics.blocks.clone(),
                partition: 0,
                offset,
                reason,
            });
        }
        Ok(Some(event))
    }

    /// Makes the iterator end.
    fn stop(&mut self) {
        self.page.clear();
        self.end = self.start;
    }
}

impl Iterator for Backwards {
    type Item = Result<ChainEvent>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.advance();
        if item.is_err() {
            self.stop();
        }
        item.transpose()
    }
}

/// The events that make up the best chain, tip first.
///
/// Backwards, a `DISCONNECTED` is met before the `CONNECTED` that it takes back; as the two nest like brackets, counting
/// how many are open is enough to leave both out.
pub(super) struct BestChain {
    events: Backwards,
    taken_back: u64,
}

impl BestChain {
    pub(super) fn open(chain: &ChainLog) -> Result<Self> {
        Ok(Self { events: Backwards::open(chain)?, taken_back: 0 })
    }
}

impl Iterator for BestChain {
    type Item = Result<ChainEvent>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let event = match self.events.next()? {
                Ok(event) => event,
                Err(error) => return Some(Err(error)),
            };
            match event.action {
                Action::Disconnected => self.taken_back += 1,
                Action::Connected if self.taken_back > 0 => self.taken_back -= 1,
                Action::Connected => return Some(Ok(event)),
            }
        }
    }
}
