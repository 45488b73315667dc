//! The header tree, the fork choice, and what must be published to follow it. Pure: no clock, no socket, no log.
//!
//! ```text
//!   published chain ──► ChainTracker ◄── observe(headers) ── source
//!                            │
//!                            ├─ change()          Unchanged | Extended | Reorganised
//!                            └─ next_steps(max)   Disconnect(tip) … Connect(block) …
//!                                     │ published
//!                            advance(step) ◄──┘
//! ```
//!
//! The best chain is the one with the most work; of two with the same work the one seen first. A caller publishes a
//! few steps at a time and tells with `advance` what has become durable; new headers may come in between.
//!
//! Only a suffix of the chain is held: [`Settings::keep`] blocks below the last common block of the published and the
//! best chain, and at most [`Settings::max_held`] blocks in all. Where a branch or a rule needs more,
//! [`Error::NeedsOlder`] says so, nothing is changed, and the call succeeds after [`ChainTracker::extend_back`].

mod checkpoints;
mod difficulty;
mod error;
mod target;
#[cfg(test)]
mod tests;
mod tracker;
mod uint;

use std::fmt;

use bitcoin::BlockHash;
use bitcoin::block::Header;
use sluice_schemas::Network;

pub use checkpoints::Checkpoint;
pub use error::{Error, Result, Rule};
pub use tracker::ChainTracker;

/// Default of [`Settings::keep`]: two difficulty periods, enough for every network's rules at a fork a whole period
/// deep.
pub const DEFAULT_KEEP: usize = 2 * 2016;

/// Default of [`Settings::max_held`]: about 20 MB.
pub const DEFAULT_MAX_HELD: usize = 100_000;

/// Rejected blocks that are remembered; the oldest is forgotten first.
pub const MAX_REJECTED: usize = 1024;

/// A block by hash and height.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlockRef {
    /// Its hash.
    pub hash: BlockHash,
    /// Its height, genesis is 0.
    pub height: i32,
}

impl fmt::Display for BlockRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at height {}", self.hash, self.height)
    }
}

/// A block with what the chain before it says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Its header.
    pub header: Header,
    /// Its height, genesis is 0.
    pub height: i32,
    /// Total work up to and with it, 256-bit big-endian.
    pub chain_work: [u8; 32],
    /// Median of its time and those of the ten blocks before it (BIP-113), seconds since the Unix epoch.
    pub median_time: u32,
}

impl Block {
    /// Its hash and height. Hashes the header.
    pub fn block_ref(&self) -> BlockRef {
        BlockRef { hash: self.header.block_hash(), height: self.height }
    }
}

/// What must be published next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant)]
pub enum Step {
    /// The published tip leaves the best chain.
    Disconnect(BlockRef),
    /// A block is put on top of the published tip.
    Connect {
        /// Its hash.
        hash: BlockHash,
        /// The block.
        block: Block,
    },
}

impl Step {
    /// The block that is connected or disconnected.
    pub fn block_ref(&self) -> BlockRef {
        match self {
            Self::Disconnect(block) => *block,
            Self::Connect { hash, block } => BlockRef { hash: *hash, height: block.height },
        }
    }
}

/// How the best chain differs from the published one. The blocks themselves come from [`ChainTracker::next_steps`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainChange {
    /// The published tip is the best block.
    Unchanged,
    /// The best chain goes on from the published tip.
    Extended {
        /// The best block.
        best: BlockRef,
        /// Blocks to connect.
        connected: usize,
    },
    /// The published tip is not on the best chain.
    Reorganised {
        /// The last common block.
        fork: BlockRef,
        /// The best block.
        best: BlockRef,
        /// Blocks to disconnect: the depth of the reorg.
        disconnected: usize,
        /// Blocks to connect.
        connected: usize,
    },
}

/// Whether a header's target is compared with what the network's rules demand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DifficultyRule {
    /// The source, a node, has done so. Proof of work, link, median time and checkpoints are checked all the same.
    Trust,
    /// The source, a peer or a file, is not trusted. Where too little history is held the header is refused with
    /// [`Error::NeedsOlder`], never let pass.
    Check,
}

/// What a tracker follows and how much of it is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The network, which decides the rules.
    pub network: Network,
    /// Whether the difficulty rule is checked.
    pub difficulty: DifficultyRule,
    /// Blocks held below the last common block of the published and the best chain.
    pub keep: usize,
    /// Blocks held in all.
    pub max_held: usize,
    /// Blocks that must be on the chain.
    pub checkpoints: Vec<Checkpoint>,
}

impl Settings {
    /// Default limits, and the checkpoints shipped for the network.
    pub fn new(network: Network, difficulty: DifficultyRule) -> Self {
        Self {
            network,
            difficulty,
            keep: DEFAULT_KEEP,
            max_held: DEFAULT_MAX_HELD,
            checkpoints: checkpoints::shipped(network),
        }
    }
}
