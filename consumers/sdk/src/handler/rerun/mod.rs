//! Sending a range of blocks again, beside the live events, so that live ones always win.
//!
//! ```text
//!  partition of <prefix>.transactions
//!  ── ▓▓▓▓▓▓ ──── ▓▓▓▓ ─────────┊──────────── D ─────►  live
//!     └ runs to send again ┘    ┊             └ a DISCONNECTED behind the watermark: whatever is sent again
//!                           watermark           of its height or above, and is not at work yet, is left out
//! ```
//!
//! `sluice replay GROUP --range A..B` looks at the best chain as of some chain event S, and asks for the runs of offsets that
//! hold its blocks A to B: one record per partition on `<prefix>.<group>.replay`. Nothing is copied. The member that has the
//! partition reads these offsets once more and gives the events to its handler beside the live ones.
//!
//! *Why live events win.* As of S, the newest event of each of these transactions is the `CONNECTED` that is sent again. So
//! any newer one begins with a `DISCONNECTED` of the same transaction behind the watermark, in the same partition. The member
//! that has the partition sees all of these: the ones before its time, by reading the partition from the watermark on before
//! it sends anything again; those since, as it takes live events up. As blocks are disconnected tip first, a `DISCONNECTED` of
//! height h after S means that every block of height h and above, as the chain was at S, has been disconnected since. So one
//! number, the lowest such height, says of each event whether a newer one exists. It is looked at when the event gets its
//! turn; from then on the transaction is at work, and a live event of it waits. Neither memory nor time depends on how many
//! live events pass meanwhile.
//!
//! *After a kill* the request goes on where its last `progress` record says; what was handled since is handled again.

mod desk;
mod entry;
mod requests;
mod run;

use sluice_schemas::{Retention, TopicSpec, Topics};

pub use desk::{Desk, Refusal};
pub use entry::{Entry, Note, Request, Tally, heights};
pub use requests::{Open, Requests};
pub(crate) use run::{Fate, Rerun};

/// Name of a group's replay topic.
pub fn topic(topics: &Topics, group: &str) -> String {
    format!("{}.{group}.replay", topics.prefix)
}

/// What the topic must be set to, beside a transactions topic of so many partitions.
pub fn spec(topics: &Topics, group: &str, partitions: i32) -> TopicSpec {
    TopicSpec { name: topic(topics, group), partitions, retention: Retention::Forever }
}
