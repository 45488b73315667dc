//! How far a stage is.

use sluice_consumer::Position;
use sluice_schemas::ChainEvent;

/// What a stage may be behind without a word.
const UNREMARKABLE: i64 = 6;

/// How much of what there is has been done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) done: i64,
    pub(super) total: i64,
}

impl Progress {
    /// How many of the log's chain events are in the index.
    pub(super) fn of_index(tail: Option<&ChainEvent>, position: Option<Position>) -> Self {
        let done = position.map_or(0, |position| position.sequence.saturating_add(1));
        let total = tail.map_or(0, |tail| tail.sequence.saturating_add(1)).max(done);
        Self { done, total }
    }

    pub(super) fn behind(self) -> i64 {
        self.total - self.done
    }

    /// Whether it is so far behind that a page should say so.
    pub(super) fn is_remarkable(self) -> bool {
        self.behind() > UNREMARKABLE
    }

    /// Per cent, rounded down: 100 is all.
    pub(super) fn percent(self) -> i64 {
        match self.total {
            ..=0 => 100,
            total => (i128::from(self.done) * 100 / i128::from(total)) as i64,
        }
    }
}
