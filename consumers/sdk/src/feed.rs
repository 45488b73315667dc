//! The log as a stream of changes, pulled one by one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant};

use sluice_log::chain::{ChainLog, Scanner};
use sluice_runtime::start::Start;
use sluice_schemas::{Action, ChainEvent};

use crate::change::{BlockChange, Change, MempoolChange};
use crate::error::Error;
use crate::mempool::{MempoolFeed, Taken};
use crate::position::{Cursor, Position};
use crate::projection::MempoolInterest;

/// A wait that is to end with a look at the mempool's partitions is no longer than this. The blocks topic wakes by itself.
const MEMPOOL_INTERVAL: Duration = Duration::from_millis(50);
/// How often the log is asked for its end while nothing comes: silence proves nothing.
const ASK_INTERVAL: Duration = Duration::from_secs(1);

/// Every change of the log from one place on, in order, each exactly once: what `Consumer::project` is built on, for
/// those who have no state of their own.
///
/// A mempool change comes after the chain event that it was published after, and before the next one where it is there in
/// time. There are none until the end of the chain has been reached once.
///
/// After an error that `is_transient`, the feed goes on where it was with the next call.
pub struct Feed {
    chain: ChainLog,
    /// `None` before the first look, and after an error; opened again with the next call.
    scanner: Option<Scanner>,
    /// Where the scanner goes on, by sequence and by offset on the blocks topic.
    next_sequence: i64,
    next_offset: i64,
    /// When the log was last asked for its end.
    asked: Option<Instant>,
    /// Whether the end of the chain has been reached once.
    caught_up: bool,
    mempool: MempoolFeed,
    /// After the last change given, or where the feed was resumed.
    position: Option<Position>,
    /// The chain event, or mempool change, given last.
    event: Option<ChainEvent>,
    taken: Option<Taken>,
    verify: bool,
    counter: Arc<AtomicU64>,
    /// Whether to go on within a block.
    lead: Option<Arc<AtomicBool>>,
}

/// What comes next.
enum Next {
    Block,
    Mempool,
    Nothing,
}

impl Feed {
    /// Begins at a place on the log.
    ///
    /// # Errors
    /// The place is not there, or the log cannot be read.
    pub fn start(chain: &ChainLog, start: Start) -> Result<Self, Error> {
        let next_sequence = start.sequence(chain)?;
        let next_offset = match chain.event_at_sequence(next_sequence)? {
            Some(located) => located.offset,
            None => chain.log.bounds(&chain.topics.blocks, 0)?.end,
        };
        Ok(Self::at(chain, next_sequence, next_offset, None))
    }

    /// Goes on after a cursor, or after the cursor of a position. Where its block has been disconnected since, the undo
    /// comes first.
    ///
    /// # Errors
    /// The log has another history than the cursor is of, or no longer has what comes after it; or it cannot be read.
    pub fn resume(chain: &ChainLog, cursor: Cursor) -> Result<Self, Error> {
        let Cursor { sequence, hash, mempool } = cursor;
        let Some(located) = chain.event_at_sequence(sequence)? else {
            let last = chain.tail()?.map_or(-1, |tail| tail.sequence);
            return Err(Error::LogEndsEarlier { last, sequence, hash });
        };
        let event = located.event;
        if event.sequence != sequence {
            return Err(Error::LogBeginsLater { first: event.sequence, sequence, hash });
        }
        let position = Position::after(&event, mempool);
        if position.tip.hash != hash {
            let (found, network) = (position.tip.hash, event.network);
            return Err(Error::LogReplaced { sequence, expected: hash, found, network });
        }
        Ok(Self::at(chain, sequence.saturating_add(1), located.offset + 1, Some(position)))
    }

    fn at(chain: &ChainLog, next_sequence: i64, next_offset: i64, position: Option<Position>) -> Self {
        Self {
            chain: chain.clone(),
            scanner: None,
            next_sequence,
            next_offset,
            asked: None,
            caught_up: false,
            mempool: MempoolFeed::new(chain, MempoolInterest::None, None),
            position,
            event: None,
            taken: None,
            verify: false,
            counter: Arc::default(),
            lead: None,
        }
    }

    /// Which mempool changes to bring, too. `Resumed` goes on after those that the cursor names. By default, none.
    pub fn mempool(mut self, interest: MempoolInterest) -> Self {
        let stored = self.position.and_then(|position| position.mempool);
        self.mempool = MempoolFeed::new(&self.chain, interest, stored);
        self
    }

    /// Whether to recompute each block's merkle root while its transactions are read. A block that fails is an error.
    pub fn verify_blocks(mut self, verify: bool) -> Self {
        self.verify = verify;
        self
    }

    /// Counts transactions as they are read, and ends a block early when the lead is lost.
    pub(crate) fn watched(mut self, counter: Arc<AtomicU64>, lead: Arc<AtomicBool>) -> Self {
        (self.counter, self.lead) = (counter, Some(lead));
        self
    }

    /// After the last change given; `None` before the first one of a log that is read from a place on.
    pub fn position(&self) -> Option<Position> {
        self.position
    }

    /// The sequence of the next chain event.
    pub fn next_sequence(&self) -> i64 {
        self.next_sequence
    }

    /// Where on the blocks topic the next chain event is, or will be.
    pub(crate) fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// The next change; `None` where none came within `wait`. What was left of the change before is read and checked.
    ///
    /// # Errors
    /// The log could not be read, or does not add up.
    pub fn next(&mut self, wait: Duration) -> Result<Option<Change<'_>>, Error> {
        let deadline = Instant::now() + wait;
        let next = loop {
            match self.look()? {
                Next::Nothing => {}
                next => break next,
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.rest(left)?;
        };
        match next {
            Next::Block => self.block().map(Some),
            Next::Mempool => Ok(self.mempool_change()),
            Next::Nothing => Ok(None),
        }
    }

    fn look(&mut self) -> Result<Next, Error> {
        if self.caught_up && self.take_mempool()? {
            return Ok(Next::Mempool);
        }
        if self.take_block()? {
            return Ok(Next::Block);
        }
        if !std::mem::replace(&mut self.caught_up, true) && self.take_mempool()? {
            return Ok(Next::Mempool);
        }
        Ok(Next::Nothing)
    }

    /// Waits for something to look at.
    fn rest(&mut self, left: Duration) -> Result<(), Error> {
        let follows_mempool = self.mempool.interest() != MempoolInterest::None;
        let wait = if follows_mempool { left.min(MEMPOOL_INTERVAL) } else { left.min(ASK_INTERVAL) };
        // Out of its place until it has done its work: after an error it is opened again.
        if let Some(mut scanner) = self.scanner.take() {
            scanner.wait(wait)?;
            self.scanner = Some(scanner);
        }
        Ok(())
    }

    fn take_mempool(&mut self) -> Result<bool, Error> {
        let Some(taken) = self.mempool.next(self.next_sequence.saturating_sub(1))? else { return Ok(false) };
        if self.mempool.interest() == MempoolInterest::Resumed
            && let Some(position) = &mut self.position
        {
            position.mempool = Some(taken.after);
        }
        self.taken = Some(taken);
        Ok(true)
    }

    fn take_block(&mut self) -> Result<bool, Error> {
        let mut scanner = match self.scanner.take() {
            Some(scanner) => scanner,
            None => self.chain.scan(self.next_sequence)?,
        };
        let mut located = scanner.next_event()?;
        if located.is_none() && (scanner.wait(Duration::ZERO)? || self.ask(&mut scanner)?) {
            located = scanner.next_event()?;
        }
        if located.is_some() {
            // Begun now, so that a failure leaves the feed before this event.
            scanner.transactions()?;
        }
        self.scanner = Some(scanner);
        let Some(located) = located else { return Ok(false) };
        if let Some(position) = &self.position {
            check(position, &located.event)?;
        }
        self.next_sequence = located.event.sequence.saturating_add(1);
        self.next_offset = located.offset + 1;
        self.event = Some(located.event);
        Ok(true)
    }

    /// Asks for the log's end now and then. Says whether it is a later one.
    fn ask(&mut self, scanner: &mut Scanner) -> Result<bool, Error> {
        if self.asked.is_some_and(|asked| asked.elapsed() < ASK_INTERVAL) {
            return Ok(false);
        }
        self.asked = Some(Instant::now());
        Ok(scanner.extend()?)
    }

    fn block(&mut self) -> Result<Change<'_>, Error> {
        let (Some(scanner), Some(event)) = (&mut self.scanner, &self.event) else {
            unreachable!("a block was taken from the scanner")
        };
        let transactions = scanner.transactions()?;
        let change = BlockChange::new(event, self.position, transactions)
            .watched(self.counter.clone(), self.lead.clone());
        self.position = Some(change.after);
        Ok(Change::Block(if self.verify { change.verified() } else { change }))
    }

    fn mempool_change(&self) -> Option<Change<'_>> {
        let Taken { event, after, is_complete } = self.taken.as_ref()?;
        Some(Change::Mempool(MempoolChange { event, after: *after, is_complete: *is_complete }))
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
