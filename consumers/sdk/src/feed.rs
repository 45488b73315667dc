//! The log as a stream of changes, pulled one by one.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use sluice_log::chain::{ChainLog, Scanner};
use sluice_runtime::start::Start;
use sluice_schemas::{Action, ChainEvent};

use crate::change::{BlockChange, Change};
use crate::error::Error;
use crate::position::{Cursor, Position};

/// Time from one look for more to the next.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Every change of the log from one place on, in order, each exactly once: what `Consumer::project` is built on, for
/// those who have no state of their own.
///
/// After an error that `is_transient`, the feed goes on where it was with the next call.
pub struct Feed {
    chain: ChainLog,
    /// `None` after an error; opened again with the next call.
    scanner: Option<Scanner>,
    /// Where the scanner goes on.
    next_sequence: i64,
    /// After the last change given, or where the feed was resumed.
    position: Option<Position>,
    /// The event given last, and its offset on the blocks topic.
    event: Option<(i64, ChainEvent)>,
    verify: bool,
    counter: Arc<AtomicU64>,
}

impl Feed {
    /// Begins at a place on the log.
    ///
    /// # Errors
    /// The place is not there, or the log cannot be read.
    pub fn start(chain: &ChainLog, start: Start) -> Result<Self, Error> {
        Ok(Self::at(chain, start.sequence(chain)?, None))
    }

    /// Goes on after a cursor, or after the cursor of a position. Where its block has been disconnected since, the undo
    /// comes first.
    ///
    /// # Errors
    /// The log has another history than the cursor is of, or no longer has what comes after it; or it cannot be read.
    pub fn resume(chain: &ChainLog, cursor: Cursor) -> Result<Self, Error> {
        let Cursor { sequence, hash, mempool } = cursor;
        let Some(event) = chain.event_at_sequence(sequence)?.map(|located| located.event) else {
            let last = chain.tail()?.map_or(-1, |tail| tail.sequence);
            return Err(Error::LogEndsEarlier { last, sequence, hash });
        };
        if event.sequence != sequence {
            return Err(Error::LogBeginsLater { first: event.sequence, sequence, hash });
        }
        let position = Position::after(&event, mempool);
        if position.tip.hash != hash {
            let (found, network) = (position.tip.hash, event.network);
            return Err(Error::LogReplaced { sequence, expected: hash, found, network });
        }
        Ok(Self::at(chain, sequence.saturating_add(1), Some(position)))
    }

    fn at(chain: &ChainLog, next_sequence: i64, position: Option<Position>) -> Self {
        Self {
            chain: chain.clone(),
            scanner: None,
            next_sequence,
            position,
            event: None,
            verify: false,
            counter: Arc::default(),
        }
    }

    /// Whether to recompute each block's merkle root while its transactions are read. A block that fails is an error.
    pub fn verify_blocks(mut self, verify: bool) -> Self {
        self.verify = verify;
        self
    }

    /// After the last change given; `None` before the first one of a log that is read from a place on.
    pub fn position(&self) -> Option<Position> {
        self.position
    }

    /// The next change; `None` where none came within `wait`. What was left of the change before is read and checked.
    ///
    /// # Errors
    /// The log could not be read, or does not add up.
    pub fn next(&mut self, wait: Duration) -> Result<Option<Change<'_>>, Error> {
        let deadline = Instant::now() + wait;
        while !self.advance()? {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            std::thread::sleep(left.min(LOOK_INTERVAL));
        }
        let (Some(scanner), Some((_, event))) = (&mut self.scanner, &self.event) else { return Ok(None) };
        let mut change = BlockChange::new(event, self.position, scanner.transactions()?);
        if self.verify {
            change = change.verified();
        }
        self.position = Some(change.after);
        Ok(Some(Change::Block(change.counted_by(self.counter.clone()))))
    }

    /// Takes the next chain event. Says whether there is one.
    fn advance(&mut self) -> Result<bool, Error> {
        let mut scanner = match self.scanner.take() {
            Some(scanner) => scanner,
            None => self.chain.scan(self.next_sequence)?,
        };
        let located = match scanner.next_event()? {
            None if scanner.extend()? => scanner.next_event()?,
            located => located,
        };
        self.scanner = Some(scanner);
        let Some(located) = located else { return Ok(false) };
        if let Some(position) = &self.position {
            check(position, &located.event)?;
        }
        self.next_sequence = located.event.sequence.saturating_add(1);
        self.event = Some((located.offset, located.event));
        Ok(true)
    }
}

/// Whether a chain event follows from the position before it.
fn check(before: &Position, event: &ChainEvent) -> Result<(), Error> {
    let tip = before.tip;
    let wrong = |reason: &str| Error::DoesNotFollow {
        sequence: event.sequence,
        hash: event.hash,
        after: before.sequence,
        tip,
        reason: reason.to_owned(),
    };
    if before.sequence.checked_add(1) != Some(event.sequence) {
        return Err(wrong("sequences have a gap"));
    }
    match event.action {
        Action::Connected if event.prev_hash != tip.hash => Err(wrong("its parent is not the tip")),
        Action::Connected if tip.height.checked_add(1) != Some(event.height) => {
            Err(wrong("it connects at another height"))
        }
        Action::Disconnected if (event.height, event.hash) != (tip.height, tip.hash) => {
            Err(wrong("it disconnects another block than the tip"))
        }
        _ => Ok(()),
    }
}
