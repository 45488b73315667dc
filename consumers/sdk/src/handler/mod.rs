//! Stateless consumers: each event on its own, the partitions shared by the members of a group.
//!
//! ```text
//!                      ┌ lane of partition 0 ┐   key by key   ┌ handle ┐
//!  <prefix>.transactions ┤        …          ├───────────────►│ handle ├─ done ─► offsets, a run without holes
//!                      └ lane of partition 7 ┘  16 at once    └ handle ┘
//!                           ▲        ▲                            └ refused ─► <prefix>.<group>.dlq
//!     sluice dlq retry ─────┘        └───── sluice replay --range
//! ```
//!
//! - *At least once.* An offset is committed when the event and all before it in its partition are done. After a kill, or
//!   when a partition moves to another member, the events after that come again.
//! - *In order where it matters.* Events of one transaction are handled one at a time and in the order of the log. Different
//!   transactions are handled at the same time and in any order.
//! - *Bounded.* A member that cannot keep up stops reading.

mod gate;
mod lane;
mod member;
pub mod rerun;
mod retry;
mod settings;
mod side;
mod task;
mod tracker;
mod workers;

use std::future::Future;

use sluice_log::{Committed, GroupInfo};
use sluice_runtime::start;
use sluice_schemas::{EventKind, MempoolEvent, TransactionEvent};

use crate::{BoxError, ChainLog, Consumer, Shutdown, Start};

pub use member::run;
pub use retry::{Exhausted, LONGEST_RETRY, RetryPolicy};
pub use settings::{HandlerSettings, KeyOrder, MAX_CONCURRENCY, MempoolEvents};

/// Does something with each event, without keeping state in order.
///
/// Shared by all events that are handled at the same time. The process may be killed, and an event may come twice: what is
/// done twice must come to the same.
pub trait Handler: Send + Sync + 'static {
    /// Handles a transaction of a block that was connected or disconnected: `tx.action` says which.
    ///
    /// # Errors
    /// `HandlerError::Retry` for what may go well later, which is also what `?` makes of an error; `HandlerError::Reject`
    /// for what never will.
    fn handle(&self, tx: TransactionEvent) -> impl Future<Output = Result<(), HandlerError>> + Send;

    /// Handles a change of the mempool, where `HandlerSettings::mempool` asks for them.
    ///
    /// # Errors
    /// As `handle`.
    fn handle_mempool(&self, event: MempoolEvent) -> impl Future<Output = Result<(), HandlerError>> + Send {
        let _ = event;
        async { Ok(()) }
    }
}

/// Why a handler did not do with an event what it should.
#[derive(Debug)]
pub enum HandlerError {
    /// It may go well later: it is tried again after a pause, as `HandlerSettings::retry` says.
    Retry(BoxError),
    /// It will never go well: the event becomes a dead letter.
    Reject(BoxError),
}

impl HandlerError {
    /// It may go well later.
    pub fn retry(error: impl Into<BoxError>) -> Self {
        Self::Retry(error.into())
    }

    /// It will never go well.
    pub fn reject(error: impl Into<BoxError>) -> Self {
        Self::Reject(error.into())
    }
}

/// `?` means: try again.
impl<E: std::error::Error + Send + Sync + 'static> From<E> for HandlerError {
    fn from(error: E) -> Self {
        Self::Retry(error.into())
    }
}

/// What stops a member.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The log failed, or holds what this member cannot read.
    #[error(transparent)]
    Log(#[from] sluice_log::Error),
    /// There is no such place to start at.
    #[error("cannot start there")]
    Start(#[from] start::Error),
    /// The name of the group cannot be used.
    #[error("group {group:?} cannot be used: {reason}")]
    Group {
        /// The name.
        group: String,
        /// What it takes.
        reason: String,
    },
    /// A setting cannot be used.
    #[error("the handler's settings cannot be used: {reason}")]
    Settings {
        /// Which one, and what it takes.
        reason: String,
    },
    /// The last attempt at an event failed, and the settings say to stop then.
    #[error("gave up on {topic}/{partition} at offset {offset} after {attempts} attempts: {error}")]
    GaveUp {
        /// Topic of the event.
        topic: String,
        /// Its partition.
        partition: i32,
        /// Its offset.
        offset: i64,
        /// How often it was tried.
        attempts: u32,
        /// What the handler said last.
        error: String,
    },
    /// So many letters tell of a broken handler, not of broken events.
    #[error(
        "{topic}/{partition} has {letters} dead letters of group {group}; mend the handler, then `sluice dlq retry {group} all`"
    )]
    TooManyLetters {
        /// The group.
        group: String,
        /// Topic of the events.
        topic: String,
        /// Its partition.
        partition: i32,
        /// How many.
        letters: usize,
    },
    /// The threads that handlers run on could not be started.
    #[error("failed to start the threads that handlers run on")]
    Threads(#[source] std::io::Error),
}

impl Consumer {
    /// Runs a handler as a member of the group until `stop` is requested: as many members as there are partitions share the
    /// work, in this process or others. Blocks; handlers run on the caller's tokio runtime where there is one of several
    /// threads, else on threads of their own.
    ///
    /// A group that has committed nothing yet begins where the consumer is to start.
    ///
    /// # Errors
    /// What stopped the member. What was done before is committed, the rest comes again.
    pub fn handle<H: Handler>(
        &self,
        handler: H,
        settings: &HandlerSettings,
        stop: &Shutdown,
    ) -> Result<(), Error> {
        let monitor = self.monitor();
        let result = begin(self.log(), self.group(), settings, self.starts_at()).and_then(|()| {
            member::run_watched(handler, self.log(), self.group(), settings, stop, Some(self.monitor()))
        });
        monitor.ended(&result);
        result
    }
}

/// Places a group that has committed nothing yet.
fn begin(chain: &ChainLog, group: &str, settings: &HandlerSettings, start: Start) -> Result<(), Error> {
    if start == Start::Genesis {
        return Ok(());
    }
    let is_it = |info: &GroupInfo| info.name == group && !info.committed.is_empty();
    if chain.log.groups()?.iter().any(is_it) {
        return Ok(());
    }
    let mempool = (settings.mempool == MempoolEvents::Handled).then_some(EventKind::Mempool);
    let mut offsets = Vec::new();
    for kind in [EventKind::Transaction].into_iter().chain(mempool) {
        let places = start.locate(chain, kind)?.into_iter();
        offsets.extend(places.map(|at| Committed {
            topic: at.topic,
            partition: at.partition,
            offset: at.offset,
        }));
    }
    match chain.log.reset_group(group, &offsets) {
        // Another member has been faster.
        Ok(()) | Err(sluice_log::Error::GroupRunning { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
