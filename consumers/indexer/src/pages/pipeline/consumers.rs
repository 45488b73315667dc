//! Where the consumers of the log stand.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sluice_log::chain::ChainLog;
use sluice_runtime::status::groups::{self, Group};

use crate::pages::Moment;

/// How long a look is good for.
const GOOD_FOR: Duration = Duration::from_secs(2);
/// After how long without progress a group that is behind is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(300);
/// How long a group is watched before it is called so. The page waits for it, so it is short; the next look is soon.
const WATCH: Duration = Duration::from_millis(200);

/// What was found.
#[derive(Clone, Debug, Default)]
pub(super) struct Standing {
    pub(super) groups: Vec<Group>,
    /// When the first chain event that is not in the index was seen, milliseconds.
    pub(super) unindexed_since: Option<i64>,
}

/// What was found last.
#[derive(Default)]
pub(in crate::pages) struct Groups(Mutex<Option<(Instant, Standing)>>);

impl Groups {
    pub(super) fn standing(&self, chain: &ChainLog, moment: &Moment) -> sluice_log::Result<Standing> {
        // Held during the look: of many requests at once, one looks.
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, standing)) = &*kept
            && at.elapsed() < GOOD_FOR
        {
            return Ok(standing.clone());
        }
        let standing = look(chain, moment)?;
        *kept = Some((Instant::now(), standing.clone()));
        Ok(standing)
    }
}

fn look(chain: &ChainLog, moment: &Moment) -> sluice_log::Result<Standing> {
    let groups = groups::look(chain, moment.seen.tail.as_ref(), STUCK_AFTER, WATCH, || moment.now)?;
    let unindexed_since = match moment.progress.behind() {
        0 => None,
        _ => chain.event_at_sequence(moment.progress.done)?.map(|located| located.event.observed_at),
    };
    Ok(Standing { groups, unindexed_since })
}
