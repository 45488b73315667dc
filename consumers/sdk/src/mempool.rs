//! The mempool view's changes, in order, each once.

use std::time::{Duration, Instant};

use bitcoin::Txid;
use bitcoin::hashes::Hash;
use sluice_log::Error as LogError;
use sluice_log::chain::{ChainLog, MempoolScanner, PlacedMempoolEvent};
use sluice_schemas::{MempoolEvent, MempoolKind};
use tracing::warn;

use crate::error::Error;
use crate::position::MempoolPosition;
use crate::projection::MempoolInterest;

/// How long an event that is missing between others may take to be shown: on Kafka, a commit becomes visible partition by
/// partition.
const PATIENCE: Duration = Duration::from_secs(5);

/// Looks at all partitions are at least this far apart, however fast blocks are applied meanwhile.
const POLL_INTERVAL: Duration = Duration::from_millis(40);

/// The mempool topic as a stream of changes.
pub(crate) struct MempoolFeed {
    chain: ChainLog,
    interest: MempoolInterest,
    /// `None` before the first look, and after an error; opened again with the next call.
    scanner: Option<MempoolScanner>,
    /// The last event taken.
    last: Option<MempoolPosition>,
    /// Whether the epoch is read from a stored position on, not from its start.
    resumed: bool,
    /// The resets of an epoch that have been taken, while it opens.
    resets: usize,
    /// Since when an event is missing.
    gap_since: Option<Instant>,
    /// Whether the epoch's first events are no longer kept.
    truncated: bool,
    /// The reset of a truncated view, until its time has come.
    reset: Option<Taken>,
    /// When the partitions were last looked at with nothing left of what was read ahead.
    polled: Option<Instant>,
}

/// A change, ready to be given.
pub(crate) struct Taken {
    pub(crate) event: MempoolEvent,
    pub(crate) after: MempoolPosition,
    /// See `MempoolChange::is_complete`.
    pub(crate) is_complete: bool,
}

impl MempoolFeed {
    pub(crate) fn new(chain: &ChainLog, interest: MempoolInterest, stored: Option<MempoolPosition>) -> Self {
        let last = stored.filter(|_| interest == MempoolInterest::Resumed);
        Self {
            chain: chain.clone(),
            interest,
            scanner: None,
            last,
            resumed: last.is_some(),
            resets: 0,
            gap_since: None,
            truncated: false,
            reset: None,
            polled: None,
        }
    }

    pub(crate) fn interest(&self) -> MempoolInterest {
        self.interest
    }

    /// The next change, of those that were published before the chain event after `chain_sequence`; `None` where there
    /// is none yet.
    pub(crate) fn next(&mut self, chain_sequence: i64) -> Result<Option<Taken>, Error> {
        if self.interest == MempoolInterest::None {
            return Ok(None);
        }
        // Out of its place until it has done its work: after an error it is opened again.
        let taken = self.scanner.take().map_or_else(|| self.open(), Ok).and_then(|mut scanner| {
            if scanner.peek().is_none() && self.polled.is_none_or(|polled| polled.elapsed() >= POLL_INTERVAL)
            {
                self.polled = Some(Instant::now());
                scanner.poll()?;
            }
            let taken = self.take(&mut scanner, chain_sequence)?;
            self.scanner = Some(scanner);
            Ok(taken)
        });
        match taken {
            Err(Error::Log(LogError::OutOfRange { topic, partition, offset, start, .. })) => {
                warn!(topic, partition, offset, start, "mempool events were gone before they were read");
                self.restart();
                Ok(None)
            }
            taken => taken,
        }
    }

    /// Opens the topic after the last event taken, where its epoch is the newest; else at the newest epoch's first event.
    /// Where that is not a reset any more, the view is truncated.
    fn open(&mut self) -> Result<MempoolScanner, Error> {
        let mut scanner = self.chain.scan_mempool(self.last.map(|last| (last.epoch, last.sequence)))?;
        // What was committed while the partitions were opened counts in all of them.
        scanner.extend()?;
        if self.last.is_some_and(|last| Some(last.epoch) == scanner.newest_epoch()) {
            return Ok(scanner);
        }
        self.restart();
        if let Some(sequence) = first_whole(&scanner) {
            self.truncate(&mut scanner, sequence)?;
        }
        Ok(scanner)
    }

    /// Forgets the place: the newest epoch comes from its start.
    fn restart(&mut self) {
        (self.last, self.resumed, self.resets) = (None, false, 0);
        (self.gap_since, self.truncated, self.reset) = (None, false, None);
    }

    /// Starts the view at the first event of `sequence` or later, for those before are gone.
    fn truncate(&mut self, scanner: &mut MempoolScanner, sequence: i64) -> Result<(), Error> {
        while scanner.peek().is_some_and(|head| head.event.sequence < sequence) {
            scanner.next_event()?;
        }
        let Some(PlacedMempoolEvent { event, .. }) = scanner.peek() else { return Ok(()) };
        let (epoch, first) = (event.epoch, event.sequence);
        warn!(
            epoch,
            first, "the first events of the mempool's epoch are no longer kept, the view lacks them"
        );
        let after = MempoolPosition { epoch, sequence: first.saturating_sub(1) };
        let event = MempoolEvent {
            sequence: after.sequence,
            kind: MempoolKind::Reset,
            txid: Txid::all_zeros(),
            transaction: None,
            reason: None,
            block_hash: None,
            replaced_by: None,
            first_seen: None,
            ..event.clone()
        };
        (self.last, self.resumed, self.resets, self.truncated) = (Some(after), false, 0, true);
        self.reset = Some(Taken { event, after, is_complete: false });
        Ok(())
    }

    fn take(&mut self, scanner: &mut MempoolScanner, chain_sequence: i64) -> Result<Option<Taken>, Error> {
        loop {
            if let Some(reset) = self.reset.take_if(|reset| reset.event.chain_sequence <= chain_sequence) {
                return Ok(Some(reset));
            }
            let head = scanner.peek().map(|head| &head.event).filter(|_| self.reset.is_none());
            let Some(event) = head.filter(|event| event.chain_sequence <= chain_sequence) else {
                return Ok(None);
            };
            let found = MempoolPosition { epoch: event.epoch, sequence: event.sequence };
            if found != self.expected(found.epoch) {
                if !self.is_missed(scanner, found)? {
                    return Ok(None);
                }
                continue;
            }
            self.gap_since = None;
            if found.sequence == 0 {
                (self.resumed, self.resets, self.truncated) = (false, 0, false);
            }
            self.last = Some(found);
            let Some(PlacedMempoolEvent { event, .. }) = scanner.next_event()? else { return Ok(None) };
            if event.kind == MempoolKind::Reset {
                // One comes in every partition; the last of them opens the view.
                self.resets += 1;
                if self.resets < scanner.partitions() {
                    continue;
                }
                self.resets = 0;
            }
            return Ok(Some(Taken { event, after: found, is_complete: !self.truncated }));
        }
    }

    /// What comes after the last event, or first in another epoch.
    fn expected(&self, epoch: i64) -> MempoolPosition {
        let last = self.last.filter(|last| last.epoch == epoch);
        MempoolPosition { epoch, sequence: last.map_or(0, |last| last.sequence.saturating_add(1)) }
    }

    /// Events before `found` have not come. Says whether they are given up, and the view goes on without them.
    fn is_missed(&mut self, scanner: &mut MempoolScanner, found: MempoolPosition) -> Result<bool, Error> {
        let since = *self.gap_since.get_or_insert_with(Instant::now);
        if since.elapsed() < PATIENCE {
            scanner.extend()?;
            return Ok(false);
        }
        self.gap_since = None;
        match self.last.filter(|last| last.epoch == found.epoch) {
            // The first events of an epoch go first. From its start on and without a gap so far, nothing may be missing.
            Some(last) if !self.truncated && !self.resumed && self.resets == 0 => {
                Err(Error::MempoolGap { epoch: found.epoch, last: last.sequence, found: found.sequence })
            }
            // What came after the stored position may be gone, but more may be kept than this.
            Some(_) if self.resumed => {
                self.restart();
                *scanner = self.open()?;
                Ok(true)
            }
            _ => {
                self.truncate(scanner, found.sequence)?;
                Ok(true)
            }
        }
    }
}

/// Where the newest epoch's start is cut away: the sequence from which on every partition has all of its events, as far as
/// can be told. `None` where the epoch is whole.
fn first_whole(scanner: &MempoolScanner) -> Option<i64> {
    let cut = scanner.heads().filter(|head| head.event.kind != MempoolKind::Reset);
    cut.map(|head| head.event.sequence).max()
}
