//! Where on the log a sequence, a height or an epoch is: binary search over offsets.

use sluice_schemas::{Action, ChainEvent, Event};

use super::ChainLog;
use super::stream::Stream;
use crate::chunk::{self, Joiner};
use crate::{Bounds, Result};

/// Offsets left at which reading on beats seeking again.
const SMALL_WINDOW: i64 = 64;
/// Offsets looked at first for the last event.
pub(super) const LAST_WINDOW: i64 = 8;
/// Bytes to read for one look.
const LOOK_BYTES: usize = 16 * 1024;

/// An event and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located<E> {
    /// Offset of its first record.
    pub offset: i64,
    /// The event.
    pub event: E,
}

impl ChainLog {
    /// The first event of a partition for which `is_before` does not hold. The events for which it holds must all come
    /// before the others.
    ///
    /// # Errors
    /// What the log said, or `Error::Event` where a record is not such an event.
    pub fn first_event<E: Event>(
        &self,
        topic: &str,
        partition: i32,
        is_before: impl Fn(&E) -> bool,
    ) -> Result<Option<Located<E>>> {
        let bounds = self.log.bounds(topic, partition)?;
        if bounds.start >= bounds.end {
            return Ok(None);
        }
        let mut stream = Stream::open(&*self.log, topic, partition, bounds.start)?;
        self.first_in(&mut stream, bounds, is_before)
    }

    /// `first_event`, with a stream of the partition that is open already. Leaves it anywhere.
    pub(super) fn first_in<E: Event>(
        &self,
        stream: &mut Stream,
        bounds: Bounds,
        is_before: impl Fn(&E) -> bool,
    ) -> Result<Option<Located<E>>> {
        let (mut low, mut high) = (bounds.start, bounds.end);
        stream.fetch(LOOK_BYTES);
        while high - low > SMALL_WINDOW {
            let middle = low + (high - low) / 2;
            stream.seek(middle)?;
            match self.next_whole::<E>(stream, high)? {
                Some(found) if is_before(&found.event) => low = stream.position(),
                _ => high = middle,
            }
        }
        // The answer starts at `low` or later, though a chunked one may end, and a hole may reach, beyond `high`.
        stream.seek(low)?;
        while let Some(found) = self.next_whole::<E>(stream, bounds.end)? {
            if !is_before(&found.event) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The events of a partition that start at `from` or later, as far as the log goes now.
    ///
    /// # Errors
    /// What the log said. An item is an error where a record is not such an event.
    pub fn events<E: Event>(
        &self,
        topic: &str,
        partition: i32,
        from: i64,
    ) -> Result<impl Iterator<Item = Result<Located<E>>> + use<E>> {
        let bounds = self.log.bounds(topic, partition)?;
        let mut stream = Stream::open(
            &*self.log,
            topic,
            partition,
            from.clamp(bounds.start, bounds.end.max(bounds.start)),
        )?;
        stream.fetch(LOOK_BYTES);
        let chain = self.clone();
        Ok(std::iter::from_fn(move || chain.next_whole(&mut stream, bounds.end).transpose()))
    }

    /// The last event of a partition.
    ///
    /// # Errors
    /// What the log said, or `Error::Event` where a record is not such an event.
    pub fn last_event<E: Event>(&self, topic: &str, partition: i32) -> Result<Option<Located<E>>> {
        let bounds = self.log.bounds(topic, partition)?;
        let mut stream =
            Stream::open(&*self.log, topic, partition, bounds.start.max(bounds.end - LAST_WINDOW))?;
        self.last_in(&mut stream, bounds)
    }

    /// `last_event`, with a stream of the partition that is open already. Leaves it at the end.
    pub(super) fn last_in<E: Event>(
        &self,
        stream: &mut Stream,
        bounds: Bounds,
    ) -> Result<Option<Located<E>>> {
        let mut window = LAST_WINDOW;
        loop {
            // A window may hold nothing but holes, or the chunks of one large event.
            let first = bounds.start.max(bounds.end - window);
            stream.seek(first)?;
            let mut last = None;
            while let Some(found) = self.next_whole(stream, bounds.end)? {
                last = Some(found);
            }
            if last.is_some() || first <= bounds.start {
                return Ok(last);
            }
            window = window.saturating_mul(8);
        }
    }

    /// The chain event of a sequence, and its offset.
    ///
    /// # Errors
    /// As `first_event`.
    pub fn event_at_sequence(&self, sequence: i64) -> Result<Option<Located<ChainEvent>>> {
        self.first_event(&self.topics.blocks, 0, |event: &ChainEvent| event.sequence < sequence)
    }

    /// A `CONNECTED` event of a height at which the log passed it upwards, and its offset: reading from there meets
    /// every height from this one to the tip. `None` where the log has not come that high; the first event where it
    /// starts higher.
    ///
    /// # Errors
    /// As `first_event`.
    pub fn event_at_height(&self, height: i32) -> Result<Option<Located<ChainEvent>>> {
        // The tip's height changes by one per event, so that between a lower and a higher one lies every other: the
        // search ends where the height is passed, though heights do not ascend. Events after a tip that is lower (the
        // chain may be in the middle of a reorg) are out of its sight.
        let below = |event: &ChainEvent| match event.action {
            Action::Connected => event.height < height,
            Action::Disconnected => event.height <= height,
        };
        self.first_event(&self.topics.blocks, 0, below)
    }

    /// The next event that starts at the stream's position or later, and ends below `end`.
    fn next_whole<E: Event>(&self, stream: &mut Stream, end: i64) -> Result<Option<Located<E>>> {
        let mut joiner = Joiner::default();
        let mut first_offset = None;
        while let Some(record) = stream.next(end)? {
            if first_offset.is_none() && chunk::is_continuation(&record) {
                continue;
            }
            let offset = *first_offset.get_or_insert(record.offset);
            if let Some(whole) = joiner.push(record)? {
                return Ok(Some(Located { offset, event: self.decode(&whole)? }));
            }
        }
        Ok(None)
    }
}
