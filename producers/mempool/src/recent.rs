//! The changes of the last moments: what a snapshot taken meanwhile can not be blamed for.

use std::collections::{HashSet, VecDeque};

use bitcoin::Txid;

use crate::MAX_RECENT_CHANGES;

/// From when on changes are asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Since {
    /// Later than this number.
    Number(u64),
    /// At this time or later.
    Time(i64),
}

/// A change and when it came.
#[derive(Clone, Copy, Debug)]
struct Change {
    at: i64,
    number: Option<u64>,
    txid: Txid,
}

/// The latest changes, oldest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recent {
    changes: VecDeque<Change>,
    /// The newest change let go for want of room.
    overflowed: Option<Change>,
}

impl Recent {
    pub(crate) fn push(&mut self, at: i64, number: Option<u64>, txid: Txid) {
        if self.changes.len() == MAX_RECENT_CHANGES {
            self.overflowed = self.changes.pop_front();
        }
        self.changes.push_back(Change { at, number, txid });
    }

    /// Lets go what is older than `at`.
    pub(crate) fn forget(&mut self, at: i64) {
        while self.changes.front().is_some_and(|change| change.at < at) {
            self.changes.pop_front();
        }
        self.overflowed = self.overflowed.filter(|change| change.at >= at);
    }

    /// The transactions changed since then; `None` where not all of them are remembered.
    pub(crate) fn since(&self, since: Since) -> Option<HashSet<Txid>> {
        // A change by a block has no number: it counts as later than any.
        let later = |change: &Change| match since {
            Since::Number(number) => change.number.is_none_or(|of| of > number),
            Since::Time(time) => change.at >= time,
        };
        if self.overflowed.as_ref().is_some_and(later) {
            return None;
        }
        Some(self.changes.iter().filter(|change| later(change)).map(|change| change.txid).collect())
    }
}
