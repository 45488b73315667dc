//! Dead letters: what a handler refused, kept until someone decides.
//!
//! ```text
//!   handler refuses ─► rejected ──► sluice dlq retry ─► retrying ─► handled ─► done
//!                         │  ▲                              │
//!                         │  └────────── refused again ◄────┘
//!                         └───────► sluice dlq drop ──► dropped
//!   a later event of the same transaction ─► parked ─► handled in order, once all before it are done or dropped
//! ```
//!
//! The topic `<prefix>.<group>.dlq` is the whole state. It is made when it is first needed, keeps everything for ever, and has
//! the partitions of the topics that the group reads: the letters of a partition are in the partition of the same number. It
//! is only appended to. What stands is a fold over its records (`Letters`): a letter is there from its `rejected` or `parked`
//! record to its `done` or `dropped` one.
//!
//! Whoever has a partition of the transactions topic reads the same partition of this one from its start before anything
//! else, and then follows it. So a restart forgets nothing, a command needs no way to a running member but an append, and a
//! redriven event is handled by the very member that handles the live events of its transaction: neither can overtake the
//! other.

mod desk;
mod entry;
mod letters;
mod shelf;

use sluice_schemas::{Retention, TopicSpec, Topics};

pub use desk::{DeadLetter, Desk};
pub use entry::{Entry, MAX_ERROR_BYTES, Note, Source};
pub use letters::{Letter, Letters, State};
pub(crate) use shelf::Shelf;

/// Longest name that Kafka takes for a topic.
const MAX_TOPIC_BYTES: usize = 249;

/// Name of a group's dead letter topic.
pub fn topic(topics: &Topics, group: &str) -> String {
    format!("{}.{group}.dlq", topics.prefix)
}

/// What the topic must be set to, beside a topic of so many partitions.
pub fn spec(topics: &Topics, group: &str, partitions: i32) -> TopicSpec {
    TopicSpec { name: topic(topics, group), partitions, retention: Retention::Forever }
}

/// Refuses a group whose name cannot be part of a topic's.
///
/// # Errors
/// What such a name takes.
pub fn check_group(topics: &Topics, group: &str) -> Result<(), String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let longest = MAX_TOPIC_BYTES.saturating_sub(topics.prefix.len() + "..replay".len());
    match group.chars().all(legal) && (1..=longest).contains(&group.len()) {
        true => Ok(()),
        false => Err(format!(
            "a handler's group takes 1 to {longest} letters, digits, dots, dashes and underscores"
        )),
    }
}
