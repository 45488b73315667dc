//! The active member at work: change by change, commit by commit.

use std::time::{Duration, Instant};

use sluice_runtime::shutdown::Shutdown;
use tracing::{info, warn};

use crate::change::Change;
use crate::consumer::{Batch, Consumer};
use crate::error::Error;
use crate::feed::Feed;
use crate::member::Member;
use crate::position::Position;
use crate::projection::Projection;

/// How long one wait for a change lasts; a stop is seen as soon.
const WAIT: Duration = Duration::from_millis(200);
/// Time between two commits at the tip, at most.
const LIVE_TIME: Duration = Duration::from_millis(50);
/// Pause before the log is read again after an error that may pass.
pub(crate) const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// A projection, brought forward by the member that has its group's lead.
pub(crate) struct Active<'a, P: ?Sized> {
    consumer: &'a Consumer,
    projection: &'a mut P,
    feed: Feed,
    member: &'a Member,
    pending: Pending,
    /// After the last change applied.
    at: Option<Position>,
    /// Whether the tip has been reached once.
    was_live: bool,
    /// Whether the change being applied ended for a reason that may pass.
    is_interrupted: bool,
}

/// How following a log came to an end.
pub(crate) enum Followed {
    /// A stop was requested.
    Stopped,
    /// Another member may be the active one by now. Everything that was applied is committed.
    Superseded {
        /// What the projection's position was then.
        at: Option<Position>,
    },
    /// What was applied since the last commit is forgotten, for a reason that may pass.
    Interrupted(Error),
}

/// What came of one turn.
enum Step {
    /// A change was applied.
    Applied,
    /// There was none.
    Nothing,
    /// Another member may be the active one by now, and nothing was applied.
    Superseded,
}

impl<'a, P: Projection + ?Sized> Active<'a, P> {
    pub(crate) fn new(consumer: &'a Consumer, projection: &'a mut P, feed: Feed, member: &'a Member) -> Self {
        let at = feed.position();
        Self {
            consumer,
            projection,
            feed,
            member,
            pending: Pending::default(),
            at,
            was_live: false,
            is_interrupted: false,
        }
    }

    pub(crate) fn follow(&mut self, stop: &Shutdown) -> Result<Followed, Error> {
        let error = match self.run(stop) {
            Ok(ended) => return Ok(ended),
            Err(error) => error,
        };
        let may_pass = self.is_interrupted || matches!(error, Error::Superseded { .. });
        if may_pass && self.projection.rollback() {
            return Ok(Followed::Interrupted(error));
        }
        Err(error)
    }

    fn run(&mut self, stop: &Shutdown) -> Result<Followed, Error> {
        let monitor = &self.consumer.monitor;
        while !stop.is_requested() {
            let wait = if self.pending.is_empty() { WAIT } else { Duration::ZERO };
            match self.step(wait) {
                Ok(Step::Applied) => {}
                Ok(Step::Superseded) if self.pending.is_empty() => {
                    return Ok(Followed::Superseded { at: self.at });
                }
                Ok(Step::Superseded) => return Err(self.member.superseded()),
                Ok(Step::Nothing) => {
                    // Nothing more is there: the tip, for now.
                    self.commit()?;
                    monitor.caught_up();
                    if !std::mem::replace(&mut self.was_live, true) {
                        let height = self.feed.position().map(|position| position.tip.height);
                        info!(group = self.consumer.group, height, "caught up with the log");
                    }
                }
                Err(error) if error.is_transient() && !self.is_interrupted => {
                    warn!(group = self.consumer.group, %error, "the log cannot be read, trying again");
                    monitor.troubled(error.to_string());
                    // It may take long, and what has been applied is sound.
                    self.commit()?;
                    stop.sleep(RETRY_PAUSE);
                }
                Err(error) => return Err(error),
            }
            if self.pending.exceeds(&self.batch(), Instant::now()) {
                self.commit()?;
            }
        }
        self.commit()?;
        Ok(Followed::Stopped)
    }

    /// At the tip, what others see is never held back for long, even where changes of the mempool come without a pause.
    fn batch(&self) -> Batch {
        let batch = self.consumer.batch;
        let time = if self.was_live { batch.time.min(LIVE_TIME) } else { batch.time };
        Batch { time, ..batch }
    }

    /// Takes and applies the next change.
    fn step(&mut self, wait: Duration) -> Result<Step, Error> {
        let monitor = &self.consumer.monitor;
        let change = self.feed.next(wait)?;
        // After the wait, in which the lead may have been lost.
        if !self.member.leads()? {
            return Ok(Step::Superseded);
        }
        let began = Instant::now();
        let bytes = match change {
            None => return Ok(Step::Nothing),
            Some(Change::Block(mut change)) => {
                let (event, after) = (change.event, change.after);
                monitor.applies(event);
                let applied =
                    self.projection.apply(&mut change).map_err(|source| Error::apply(event, source));
                let applied = applied.and_then(|()| Ok(change.read_to_end()?));
                if let Err(error) = applied {
                    self.is_interrupted = change.is_interrupted();
                    // Whatever it said, it was this that made it fail.
                    self.member.still_leads()?;
                    return Err(error);
                }
                monitor.applied(event, after);
                event.size.unsigned_abs()
            }
            Some(Change::Mempool(change)) => {
                let size = change.event.transaction.as_ref().map_or(0, |transaction| transaction.size);
                self.projection
                    .apply_mempool(&change)
                    .map_err(|source| Error::apply_mempool(change.after, source))?;
                monitor.applied_mempool(self.feed.position());
                size.unsigned_abs()
            }
        };
        self.at = self.feed.position();
        self.pending.add(bytes, began);
        Ok(Step::Applied)
    }

    /// Makes durable what has been applied, and lets the group know.
    fn commit(&mut self) -> Result<(), Error> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.member.still_leads()?;
        let sequence = self.feed.next_sequence().saturating_sub(1);
        self.projection.commit().map_err(|source| Error::Commit { sequence, source })?;
        self.pending = Pending::default();
        self.member.commit(self.feed.next_offset());
        self.consumer.monitor.progressed();
        Ok(())
    }
}

/// What has been applied and not committed.
#[derive(Default)]
struct Pending {
    changes: u64,
    bytes: u64,
    since: Option<Instant>,
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.changes == 0
    }

    fn add(&mut self, bytes: u64, now: Instant) {
        self.changes += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        self.since.get_or_insert(now);
    }

    fn exceeds(&self, batch: &Batch, now: Instant) -> bool {
        let time = self.since.is_some_and(|since| now.saturating_duration_since(since) >= batch.time);
        time || self.changes >= batch.changes || self.bytes >= batch.bytes
    }
}
