//! Why a consumer stopped.

use bitcoin::BlockHash;
use sluice_log::Class;
use sluice_runtime::start;
use sluice_schemas::{Action, ChainEvent};

use crate::BoxError;
use crate::position::{BlockRef, MempoolPosition};

/// Why a consumer stopped, or could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The log could not be read, or does not add up.
    #[error(transparent)]
    Log(#[from] sluice_log::Error),
    /// There is no such place to start at.
    #[error("cannot start there")]
    Start(#[from] start::Error),
    /// What the position says comes next is no longer on the log.
    #[error(
        "the log begins with sequence {first}, but this consumer stands at sequence {sequence}, block {hash}: what is \
         between them is gone"
    )]
    LogBeginsLater {
        /// The log's first.
        first: i64,
        /// The consumer's.
        sequence: i64,
        /// The consumer's tip.
        hash: BlockHash,
    },
    /// The position is beyond the end of the log.
    #[error(
        "the log ends with sequence {last}, but this consumer stands at sequence {sequence}, block {hash}: it is another \
         log, or an older copy of it"
    )]
    LogEndsEarlier {
        /// The log's last, -1 where it is empty.
        last: i64,
        /// The consumer's.
        sequence: i64,
        /// The consumer's tip.
        hash: BlockHash,
    },
    /// The log has another history than the one that the position is of.
    #[error(
        "the log was replaced: at sequence {sequence} its tip is block {found} of {network}, but this consumer has \
         applied block {expected}"
    )]
    LogReplaced {
        /// The consumer's.
        sequence: i64,
        /// The consumer's tip.
        expected: BlockHash,
        /// The log's tip there.
        found: BlockHash,
        /// The log's network.
        network: String,
    },
    /// A chain event does not follow from the one before it.
    #[error(
        "chain event {sequence} of block {hash} cannot come after sequence {after} with tip {} at height {}: {reason}",
        tip.hash, tip.height
    )]
    DoesNotFollow {
        /// The event's.
        sequence: i64,
        /// The event's block.
        hash: BlockHash,
        /// Sequence applied before it.
        after: i64,
        /// The tip applied before it.
        tip: BlockRef,
        /// What does not fit.
        reason: String,
    },
    /// A mempool event is missing within an epoch.
    #[error("mempool events are missing: in epoch {epoch}, sequence {found} comes after {last}")]
    MempoolGap {
        /// The producer's term.
        epoch: i64,
        /// The last event taken.
        last: i64,
        /// The next one there is.
        found: i64,
    },
    /// Another member of the group has become the active one.
    #[error("another member of group {group} has taken over; start again to stand by")]
    Superseded {
        /// The group.
        group: String,
    },
    /// The projection could not tell its position.
    #[error("failed to read the position from the consumer's store")]
    Position(#[source] BoxError),
    /// The projection refused a chain event.
    #[error("failed to apply chain event {sequence}, which {action} block {hash} at height {height}")]
    Apply {
        /// The event's.
        sequence: i64,
        /// connects, or disconnects.
        action: &'static str,
        /// The event's block.
        hash: BlockHash,
        /// Its height.
        height: i32,
        /// What the projection said.
        source: BoxError,
    },
    /// The projection refused a change of the mempool.
    #[error("failed to apply mempool event {sequence} of epoch {epoch}")]
    ApplyMempool {
        /// The event's.
        epoch: i64,
        /// The event's.
        sequence: i64,
        /// What the projection said.
        source: BoxError,
    },
    /// The projection could not make its state durable.
    #[error("failed to commit up to sequence {sequence}")]
    Commit {
        /// Last one applied.
        sequence: i64,
        /// What the projection said.
        source: BoxError,
    },
}

impl Error {
    /// A projection refused a chain event.
    pub fn apply(event: &ChainEvent, source: BoxError) -> Self {
        let action = match event.action {
            Action::Connected => "connects",
            Action::Disconnected => "disconnects",
        };
        Self::Apply { sequence: event.sequence, action, hash: event.hash, height: event.height, source }
    }

    /// A projection refused the change of the mempool at a position.
    pub fn apply_mempool(at: MempoolPosition, source: BoxError) -> Self {
        Self::ApplyMempool { epoch: at.epoch, sequence: at.sequence, source }
    }

    /// Whether the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Log(error) | Self::Start(start::Error::Log(error)) => error.class() == Class::Retry,
            _ => false,
        }
    }
}
