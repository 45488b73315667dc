//! When librdkafka sends: batches that are full at once, and the rest when it is told to flush.
//!
//! It sends nothing to a partition while five records or more are on their way there. Where others have lingered for long
//! enough meanwhile, its thread polls without a rest until the answer comes (`rd_kafka_toppar_producer_serve`, 2.12): a core
//! for nothing, and on a small machine the one that the broker needs to answer. So records linger for long, and what is left
//! of a transaction is flushed while nothing is on its way, as far as one can tell.

use std::time::{Duration, Instant};

use rdkafka::bindings::rd_kafka_flush;
use rdkafka::producer::{BaseProducer, Producer};

use super::delivery::{Deliveries, REPORTS_PAUSE, take_in};
use crate::kafka::ledger::Slot;

/// Bytes of a partition's records, keys included, that are sent and compressed together, give or take the last one. To read
/// one record, a reader fetches and decompresses all of them.
pub(super) const BATCH_BYTES: usize = 256 * 1024;
/// How long librdkafka's threads are told to flush at a time, milliseconds; the least it takes.
const FLUSH_MILLIS: i32 = 1;
/// After how long without reports nothing is taken to be on its way; twice as long at each time without an answer.
const QUIET: Duration = Duration::from_millis(5);
/// The longest that it gets.
const LONGEST_QUIET: Duration = Duration::from_secs(1);

/// What librdkafka was given since everything was reported.
#[derive(Debug, Default)]
pub(super) struct Unreported {
    /// Bytes by slot.
    bytes: Vec<usize>,
}

impl Unreported {
    /// Counts a record.
    pub(super) fn add(&mut self, slot: Slot, bytes: usize) {
        if self.bytes.len() <= slot {
            self.bytes.resize(slot + 1, 0);
        }
        self.bytes[slot] += bytes;
    }

    /// Everything has been reported.
    pub(super) fn clear(&mut self) {
        self.bytes.fill(0);
    }

    /// Begins to have all of it sent.
    pub(super) fn flush(&self) -> Flush {
        if self.bytes.iter().any(|bytes| *bytes >= BATCH_BYTES) {
            Flush::new(QUIET, Left::Batches)
        } else {
            Flush::new(Duration::ZERO, Left::Rests)
        }
    }
}

/// What there may be to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    /// Less than a batch of each partition: they go one after another as there is room, and none waits for another.
    Rests,
    /// Batches, which librdkafka sends by itself.
    Batches,
    /// What is left of them.
    RestsOfBatches,
    /// More comes; rests may wait.
    More,
}

/// A wait for reports, in which nothing is left unsent.
#[derive(Debug)]
pub(super) struct Flush {
    /// How long there must have been no reports before rests are sent.
    quiet: Duration,
    left: Left,
    /// When reports came last, or rests were sent.
    heard: Instant,
}

impl Flush {
    /// A wait for room while more comes.
    pub(super) fn late() -> Self {
        Self::new(LONGEST_QUIET, Left::More)
    }

    fn new(quiet: Duration, left: Left) -> Self {
        Self { quiet, left, heard: Instant::now() }
    }

    /// Takes in the reports that are there. Where there are none, has rests sent or waits. Returns within milliseconds.
    pub(super) fn step(&mut self, producer: &BaseProducer<Deliveries>) {
        if take_in(producer) {
            self.answered();
        } else if self.heard.elapsed() >= self.quiet {
            send_rests(producer);
            self.sent();
        } else {
            std::thread::sleep(REPORTS_PAUSE);
        }
    }

    fn answered(&mut self) {
        self.heard = Instant::now();
        // There is room for the next rests.
        if self.left == Left::RestsOfBatches {
            self.quiet = Duration::ZERO;
        }
    }

    fn sent(&mut self) {
        self.heard = Instant::now();
        if matches!(self.left, Left::Batches | Left::RestsOfBatches) {
            self.left = Left::RestsOfBatches;
            self.quiet = (self.quiet * 2).clamp(QUIET, LONGEST_QUIET);
        }
    }
}

/// Has librdkafka send batches that are not full. rdkafka's own `flush` tells its threads for no time at all, so that they
/// notice by chance only.
#[allow(unsafe_code)]
fn send_rests(producer: &BaseProducer<Deliveries>) {
    // SAFETY: the pointer is of a producer that lives at least as long as this borrow, and librdkafka locks what it touches.
    // All it could answer is that there is more to send than time.
    unsafe { rd_kafka_flush(producer.client().native_ptr(), FLUSH_MILLIS) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_batch_is_flushed_at_once_and_what_does_when_it_is_quiet() {
        let mut unreported = Unreported::default();
        unreported.add(3, BATCH_BYTES - 1);
        unreported.add(0, BATCH_BYTES - 1);
        assert_eq!(unreported.flush().quiet, Duration::ZERO);
        unreported.add(3, 1);
        assert_eq!(unreported.flush().quiet, QUIET);
        unreported.clear();
        unreported.add(3, 1);
        assert_eq!(unreported.flush().quiet, Duration::ZERO);
    }

    #[test]
    fn rests_follow_each_other_while_they_are_answered_and_more_and_more_seldom_where_not() {
        let mut flush = Flush::new(QUIET, Left::Batches);
        flush.answered();
        assert_eq!(flush.quiet, QUIET, "batches were answered");
        flush.sent();
        assert_eq!(flush.quiet, QUIET * 2);
        flush.answered();
        assert_eq!(flush.quiet, Duration::ZERO);
        (0..20).for_each(|_| flush.sent());
        assert_eq!(flush.quiet, LONGEST_QUIET);
        for (mut flush, quiet) in
            [(Flush::new(Duration::ZERO, Left::Rests), Duration::ZERO), (Flush::late(), LONGEST_QUIET)]
        {
            flush.sent();
            flush.answered();
            flush.sent();
            assert_eq!(flush.quiet, quiet);
        }
    }
}
