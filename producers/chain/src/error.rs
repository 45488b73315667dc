//! What can be wrong with headers, and with the caller's use of the tracker.

use std::fmt;

use bitcoin::BlockHash;

use crate::BlockRef;

/// Result of a call to the tracker.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The rule that a header breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rule {
    /// It names the header before it in the run as its parent.
    Link,
    /// Its hash meets its own target, and the target is one that the network allows.
    ProofOfWork,
    /// Its target is the one that the network's rules demand.
    Difficulty,
    /// Its time is above the median of the eleven blocks before it.
    MedianTime,
    /// It does not open a difficulty period long before its parent (BIP-94, testnet4).
    TimeWarp,
    /// It is the block known to be at its height.
    Checkpoint,
    /// It does not descend from a block that was rejected.
    NotRejected,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Link => "link",
            Self::ProofOfWork => "proof-of-work",
            Self::Difficulty => "difficulty",
            Self::MedianTime => "median-time",
            Self::TimeWarp => "time-warp",
            Self::Checkpoint => "checkpoint",
            Self::NotRejected => "not-rejected",
        })
    }
}

/// Why headers could not be taken, or a published block not be noted. The tracker is as it was before the call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A header breaks a rule: its source is wrong or dishonest.
    #[error("header {hash} at height {height} breaks the {rule} rule: {detail}")]
    Rule {
        /// Which rule.
        rule: Rule,
        /// Hash of the header.
        hash: BlockHash,
        /// Height it would have.
        height: i32,
        /// What it has and what it should have.
        detail: String,
    },
    /// Blocks older than those held are needed: `extend_back`, then try again.
    #[error("blocks from height {needed} on are needed, but none below {} are held", oldest.height)]
    NeedsOlder {
        /// Oldest block held.
        oldest: BlockRef,
        /// Height from which on blocks are needed; where the parent of a header is unknown, the height below
        /// `oldest`.
        needed: i32,
    },
    /// The run follows no block of this chain, and everything down to genesis is held.
    #[error("header {hash} follows {prev_hash}, which is not known")]
    UnknownParent {
        /// Hash of the first header of the run.
        hash: BlockHash,
        /// The parent that it names.
        prev_hash: BlockHash,
    },
    /// A branch leaves the chain below the block that the log starts with.
    #[error(
        "header {hash} forks off at height {fork_height}, below the start of the log at height {start_height}"
    )]
    BelowStart {
        /// Hash of the first header of the branch.
        hash: BlockHash,
        /// Height of the last common block.
        fork_height: i32,
        /// Height of the first block of the log.
        start_height: i32,
    },
    /// No more headers are held until some of them are published.
    #[error("{limit} headers are held, which is the limit")]
    Full {
        /// The limit.
        limit: usize,
    },
    /// What was said to be published does not follow the tip.
    #[error("block {block} can not be published on top of {tip:?}")]
    OutOfOrder {
        /// The block said to be published.
        block: BlockRef,
        /// The tip as published.
        tip: Option<BlockRef>,
    },
    /// Headers given as history do not join the oldest block held.
    #[error("header {hash} at height {height} does not precede the blocks held: {detail}")]
    Broken {
        /// Hash of the header.
        hash: BlockHash,
        /// Height it would have.
        height: i32,
        /// What does not add up.
        detail: String,
    },
    /// Nothing was given to start from.
    #[error("no published block was given to start from")]
    NoStart,
}
