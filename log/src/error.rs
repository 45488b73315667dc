//! What can go wrong with a log, and what the caller can do about it.

use bitcoin::BlockHash;
use sluice_schemas::codec;

/// Result of a call to the log.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What to do after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The same call may succeed later.
    Retry,
    /// The open transaction is lost; abort it and begin again.
    Abort,
    /// Another writer has taken over; this one is of no more use.
    Fenced,
    /// The log refuses it until a person changes one of its settings; the open transaction is lost.
    Refused,
    /// A person is needed.
    Fatal,
}

/// An error of the log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The log's URL cannot be used.
    #[error("log URL {url:?} cannot be used: {reason}")]
    Url {
        /// The URL without secrets.
        url: String,
        /// Why not.
        reason: String,
    },
    /// A topic is there with other settings.
    #[error("topic {topic} has {setting} {found}, but {wanted} is needed")]
    TopicMismatch {
        /// Topic name.
        topic: String,
        /// Which setting.
        setting: &'static str,
        /// What it is.
        found: String,
        /// What it must be.
        wanted: String,
    },
    /// There is no such topic or partition.
    #[error("topic {topic} has no partition {partition}")]
    NoSuchPartition {
        /// Topic name.
        topic: String,
        /// Partition.
        partition: i32,
    },
    /// Another writer has taken over the transactional id.
    #[error("writer {transactional_id} was fenced by a newer one")]
    Fenced {
        /// The transactional id.
        transactional_id: String,
    },
    /// A group that must be stopped is running.
    #[error("group {group} has {members} running members; stop them first")]
    GroupRunning {
        /// Group name.
        group: String,
        /// Living members.
        members: usize,
    },
    /// The partition is another member's by now.
    #[error("partition {partition} of {topic} is no longer assigned to this member of {group}")]
    NotAssigned {
        /// Group name.
        group: String,
        /// Topic name.
        topic: String,
        /// Partition.
        partition: i32,
    },
    /// Records asked for are no longer, or not yet, on the log.
    #[error("offset {offset} of {topic}/{partition} is not on the log, which holds {start}..{end}")]
    OutOfRange {
        /// Topic name.
        topic: String,
        /// Partition.
        partition: i32,
        /// What was asked for.
        offset: i64,
        /// Earliest offset.
        start: i64,
        /// Offset after the last.
        end: i64,
    },
    /// Stored bytes are damaged.
    #[error("{topic}/{partition} is damaged at offset {offset}: {reason}")]
    Corrupt {
        /// Topic name.
        topic: String,
        /// Partition.
        partition: i32,
        /// Where.
        offset: i64,
        /// What does not add up.
        reason: String,
    },
    /// A record is not the event that its topic is for.
    #[error("failed to read the event at offset {offset} of {topic}/{partition}")]
    Event {
        /// Topic name.
        topic: String,
        /// Partition.
        partition: i32,
        /// Where.
        offset: i64,
        /// What is wrong with it; names an unknown schema.
        source: Box<codec::Error>,
    },
    /// A chain event contradicts itself.
    #[error("chain event {sequence} of block {hash} contradicts itself: {reason}")]
    Contradiction {
        /// Its sequence.
        sequence: i64,
        /// Its block.
        hash: BlockHash,
        /// What does not add up.
        reason: String,
    },
    /// A transaction record lies outside the ranges of all chain events.
    #[error("the record at offset {offset} of {topic}/{partition} is of no chain event")]
    Stray {
        /// Topic name.
        topic: String,
        /// Partition.
        partition: i32,
        /// Where.
        offset: i64,
    },
    /// No event starts at the offset that was asked for.
    #[error("no event starts at offset {offset} of {topic}/{partition}")]
    NoSuchEvent {
        /// Topic name.
        topic: String,
        /// Partition.
        partition: i32,
        /// Where.
        offset: i64,
    },
    /// The store behind the log failed.
    #[error("failed to {attempt}: {reason}")]
    Store {
        /// What was attempted, with what.
        attempt: String,
        /// What the store said.
        reason: String,
        /// What to do about it.
        class: Class,
    },
}

impl Error {
    /// What the caller can do about it. The one place where errors of both logs are classified.
    pub fn class(&self) -> Class {
        match self {
            Self::Fenced { .. } => Class::Fenced,
            Self::Store { class, .. } => *class,
            _ => Class::Fatal,
        }
    }
}
