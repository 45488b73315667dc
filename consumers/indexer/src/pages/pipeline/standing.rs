//! What the log tells of its stages.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sluice_log::chain::ChainLog;
use sluice_runtime::status::gaps::Gaps;
use sluice_runtime::status::groups::{self, Group};
use sluice_schemas::{ChainEvent, StatusEvent, StatusKind};

use crate::pages::Moment;

/// How long a look is good for.
const GOOD_FOR: Duration = Duration::from_secs(2);
/// Offsets of the status topic that the first look takes in: a day and more of heartbeats.
const STATUS_WINDOW: i64 = 20_000;
/// Pieces of news that are kept.
const NEWS: usize = 20;
/// After how long without progress a group that is behind is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(300);
/// How long a group is watched before it is called so. The page waits for it, so it is short; the next look is soon.
const WATCH: Duration = Duration::from_millis(200);

/// What was found.
#[derive(Clone, Debug, Default)]
pub(super) struct Standing {
    pub(super) tail: Option<ChainEvent>,
    /// The last status event.
    pub(super) last: Option<StatusEvent>,
    pub(super) gaps: Gaps,
    /// All but heartbeats, newest first.
    pub(super) news: VecDeque<StatusEvent>,
    pub(super) groups: Vec<Group>,
    /// When the first chain event that is not in the index was seen, milliseconds.
    pub(super) unindexed_since: Option<i64>,
}

/// What was found last, and where to go on.
#[derive(Default)]
pub(in crate::pages) struct News(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    at: Option<Instant>,
    standing: Standing,
    /// Next offset of the status topic.
    offset: Option<i64>,
}

impl News {
    pub(super) fn standing(&self, chain: &ChainLog, moment: &Moment) -> sluice_log::Result<Standing> {
        // Held during the look: of many requests at once, one looks.
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.at.is_none_or(|at| at.elapsed() >= GOOD_FOR) {
            kept.look(chain, moment)?;
            kept.at = Some(Instant::now());
        }
        Ok(kept.standing.clone())
    }
}

impl Kept {
    fn look(&mut self, chain: &ChainLog, moment: &Moment) -> sluice_log::Result<()> {
        self.standing.tail = chain.tail()?;
        self.read_status(chain)?;
        let now = || moment.now;
        self.standing.groups = groups::look(chain, self.standing.tail.as_ref(), STUCK_AFTER, WATCH, now)?;
        let next = moment.progress.indexed;
        self.standing.unindexed_since = match moment.progress.behind() {
            0 => None,
            _ => chain.event_at_sequence(next)?.map(|located| located.event.observed_at),
        };
        Ok(())
    }

    fn read_status(&mut self, chain: &ChainLog) -> sluice_log::Result<()> {
        let topic = &chain.topics.status;
        if chain.log.topic(topic)?.is_none() {
            return Ok(());
        }
        let bounds = chain.log.bounds(topic, 0)?;
        let from = self.offset.unwrap_or(bounds.end.saturating_sub(STATUS_WINDOW)).max(bounds.start);
        for located in chain.events::<StatusEvent>(topic, 0, from)? {
            let located = located?;
            self.offset = Some(located.offset + 1);
            self.standing.gaps.told(&located.event);
            if located.event.kind != StatusKind::Heartbeat {
                self.standing.news.push_front(located.event.clone());
                self.standing.news.truncate(NEWS);
            }
            self.standing.last = Some(located.event);
        }
        Ok(())
    }
}
