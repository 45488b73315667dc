//! What the log tells beyond the index: how long the chain is on it, and what its producer says.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, RwLock, TryLockError};
use std::time::{Duration, Instant};

use sluice_log::chain::ChainLog;
use sluice_runtime::status;
use sluice_runtime::status::gaps::Gaps;
use sluice_schemas::{ChainEvent, StatusEvent, StatusKind};
use tracing::warn;

/// How long a look is good for.
const GOOD_FOR: Duration = Duration::from_secs(1);
/// Rest after a look that failed: with a broker that is away each one takes a while.
const REST: Duration = Duration::from_secs(15);
/// Pieces of news that are kept.
const NEWS: usize = 20;
/// Milliseconds without a sign of life after which a producer counts as silent. Heartbeats come every few seconds.
const SILENT_MS: i64 = 60_000;

/// What was seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// The last chain event.
    pub(super) tail: Option<ChainEvent>,
    /// The last status event.
    pub(super) last: Option<StatusEvent>,
    /// What told that the source is down, while it is.
    pub(super) down: Option<StatusEvent>,
    pub(super) gaps: Gaps,
    /// All but heartbeats, newest first.
    pub(super) news: VecDeque<StatusEvent>,
    /// Since when the log cannot be read, milliseconds.
    pub(super) lost_since: Option<i64>,
}

/// Why a page may be older than it looks. Times in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The log cannot be read.
    LogLost { since: i64 },
    /// The producer has said nothing.
    Silent { since: i64 },
    /// The producer says that its source does not answer.
    SourceDown { since: i64, detail: String },
}

impl Seen {
    pub(super) fn trouble(&self, now: i64) -> Option<Trouble> {
        if let Some(since) = self.lost_since {
            return Some(Trouble::LogLost { since });
        }
        match (self.silent_since(now), &self.down) {
            (Some(since), _) => Some(Trouble::Silent { since }),
            (None, Some(down)) => {
                Some(Trouble::SourceDown { since: down.observed_at, detail: down.detail.clone() })
            }
            (None, None) => None,
        }
    }

    /// The last sign of life of a producer, if it is an old one. Also of a log whose status events are past their retention.
    pub(super) fn silent_since(&self, now: i64) -> Option<i64> {
        let told = self.last.as_ref().map(|last| last.observed_at);
        let published = self.tail.as_ref().map(|tail| tail.observed_at);
        told.max(published).filter(|sign| now.saturating_sub(*sign) >= SILENT_MS)
    }

    /// Height of the published chain.
    pub(super) fn height(&self) -> Option<i32> {
        Some(self.tail.as_ref()?.tip().0)
    }

    /// Height of the source's chain, as its producer said last.
    pub(super) fn source_height(&self) -> Option<i32> {
        self.last.as_ref()?.source_height
    }

    fn told(&mut self, event: StatusEvent) {
        self.gaps.told(&event);
        match event.kind {
            StatusKind::SourceDown => self.down = Some(event.clone()),
            // A new producer says so itself, where it cannot reach the source either.
            StatusKind::SourceUp | StatusKind::Takeover => self.down = None,
            _ => {}
        }
        if event.kind != StatusKind::Heartbeat {
            self.news.push_front(event.clone());
            self.news.truncate(NEWS);
        }
        self.last = Some(event);
    }
}

/// The last look.
#[derive(Default)]
pub(super) struct Watch {
    seen: RwLock<Arc<Seen>>,
    looker: Mutex<Looker>,
}

/// Whoever looks, and where to go on.
#[derive(Default)]
struct Looker {
    next: Option<Instant>,
    seen: Seen,
    /// Next offset of the status topic.
    offset: Option<i64>,
}

impl Watch {
    /// What was seen a moment ago. Of many requests at once one looks, and the others wait for none but the first look: a
    /// log that does not answer holds up one request at a time.
    pub(super) fn get(&self, chain: &ChainLog, now: i64) -> Arc<Seen> {
        let mut looker = match self.looker.try_lock() {
            Ok(looker) => looker,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                let seen = self.last();
                if seen.tail.is_some() || seen.lost_since.is_some() {
                    return seen;
                }
                self.looker.lock().unwrap_or_else(PoisonError::into_inner)
            }
        };
        if looker.next.is_none_or(|next| next <= Instant::now()) {
            let rest = match looker.look(chain) {
                Ok(()) => {
                    looker.seen.lost_since = None;
                    GOOD_FOR
                }
                Err(error) => {
                    warn!(error = &error as &dyn std::error::Error, "failed to look at the end of the log");
                    looker.seen.lost_since.get_or_insert(now);
                    REST
                }
            };
            looker.next = Some(Instant::now() + rest);
            *self.seen.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(looker.seen.clone());
        }
        self.last()
    }

    fn last(&self) -> Arc<Seen> {
        Arc::clone(&self.seen.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Looker {
    fn look(&mut self, chain: &ChainLog) -> sluice_log::Result<()> {
        if chain.log.topic(&chain.topics.blocks)?.is_some() {
            self.seen.tail = chain.tail()?;
        }
        for located in status::events(chain, self.offset)? {
            let located = located?;
            self.offset = Some(located.offset + 1);
            self.seen.told(located.event);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000_000;

    fn said(kind: StatusKind, ago: i64) -> StatusEvent {
        StatusEvent {
            kind,
            source: "node".into(),
            epoch: 1,
            tip_hash: None,
            tip_height: None,
            chain_sequence: -1,
            source_height: None,
            feed: None,
            from: None,
            to: None,
            recovered: None,
            detail: "refused".into(),
            observed_at: NOW - ago,
        }
    }

    fn after(events: &[(StatusKind, i64)]) -> Option<Trouble> {
        let mut seen = Seen::default();
        events.iter().for_each(|(kind, ago)| seen.told(said(*kind, *ago)));
        seen.trouble(NOW)
    }

    #[test]
    fn a_source_is_down_until_it_is_up_again_whatever_else_is_told() {
        use StatusKind::{Heartbeat, SourceDown, SourceUp, Takeover};
        let down = Some(Trouble::SourceDown { since: NOW - 30_000, detail: "refused".into() });
        assert_eq!(after(&[(SourceDown, 30_000), (Heartbeat, 2_000)]), down);
        assert_eq!(after(&[(SourceDown, 30_000), (Heartbeat, 2_000), (SourceUp, 1_000)]), None);
        assert_eq!(after(&[(SourceDown, 30_000), (Takeover, 1_000)]), None);
    }

    #[test]
    fn who_says_nothing_for_a_minute_is_silent_whatever_was_said_last() {
        use StatusKind::{Heartbeat, SourceDown};
        assert_eq!(after(&[]), None);
        assert_eq!(after(&[(Heartbeat, SILENT_MS - 1)]), None);
        let silent = Some(Trouble::Silent { since: NOW - SILENT_MS });
        assert_eq!(after(&[(Heartbeat, SILENT_MS)]), silent);
        assert_eq!(after(&[(SourceDown, SILENT_MS)]), silent);
    }

    #[test]
    fn a_log_that_cannot_be_read_is_told_of_first() {
        let mut seen = Seen { lost_since: Some(NOW - 5), ..Seen::default() };
        seen.told(said(StatusKind::Heartbeat, SILENT_MS));
        assert_eq!(seen.trouble(NOW), Some(Trouble::LogLost { since: NOW - 5 }));
    }
}
