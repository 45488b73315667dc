//! The mempool of one source as a view that is published change by change. Pure: no clock, no socket, no log.
//!
//! ```text
//!   feed ── Added Removed Gap Restarted ──┐                    ┌──► Reset Add Remove      to the log
//!   chain ── BlockConnected/Disconnected ─┼──► Mempool::apply ─┼──► GapDetected/Repaired  to the status topic
//!   source ── Snapshot Fetched ───────────┘    (now, input)    └──► WantSnapshot WantTransactions
//! ```
//!
//! **What is known and what is published.** The feed says which transactions the source *has*; one is *published* once
//! its body is there. A removal for which the source gave no reason stays published for up to [`HOLD_REMOVAL_MS`], so
//! that the transaction that replaced it, or the block that conflicts with it, can be named.
//!
//! **How losses are found.** Three ways, from sharp to blunt:
//! 1. the feed itself misses message numbers ([`Input::Gap`]);
//! 2. the source numbers its changes, and by the time of a snapshot more numbers are missing than transactions were
//!    mined (Bitcoin Core gives a number to each mined transaction too, and sends no message for it);
//! 3. a snapshot differs from what is known. A difference counts only when it is confirmed: with numbered changes, when
//!    every change up to the snapshot's number has come, or [`SETTLE_MS`] have passed; without numbers, when a second
//!    snapshot [`CONFIRM_MS`] later shows the same. A transaction that the feed or a block has touched meanwhile is no
//!    difference.
//!
//! Snapshots are wanted at the start, after each block, after each doubt, and every [`RECONCILE_MS`]. After a reorg or a
//! restart of the source a difference is repaired without being called a loss: the feed runs ahead of the blocks and
//! the order between them is not known. Only the feed's own numbers tell a loss there. At the start that holds only for
//! transactions that the feed told of until [`FEED_LAG_MS`] after the first snapshot.
//!
//! **What the caller owes.** It takes a snapshot only while the published tip is the source's tip, before and after the
//! call, and hands it over before the next block; it sends [`Input::Tick`] after each batch of notices and at least
//! every second.

mod block;
mod excused;
mod fetch;
mod mempool;
mod numbers;
mod recent;
mod reconcile;
#[cfg(test)]
mod tests;
mod view;

use bitcoin::{BlockHash, Txid};
use sluice_schemas::{Flavour, RemovalReason, Transaction};

pub use block::BlockEffect;
pub use mempool::Mempool;

/// Milliseconds between two snapshots when nothing else asks for one.
pub const RECONCILE_MS: i64 = 60_000;
/// Milliseconds after a block, a gap or a reorg until a snapshot is wanted: what was under way has come by then.
pub const DOUBT_MS: i64 = 2_000;
/// Milliseconds that numbered changes may take to arrive after a snapshot that contains them.
pub const SETTLE_MS: i64 = 5_000;
/// Milliseconds between the two snapshots that confirm a difference where changes have no numbers.
pub const CONFIRM_MS: i64 = 5_000;
/// Milliseconds by which the feed may be behind what a snapshot shows.
pub const FEED_LAG_MS: i64 = 2_000;
/// Milliseconds after which an unanswered request is made again.
pub const REQUEST_TIMEOUT_MS: i64 = 120_000;
/// Milliseconds that a removal without a reason is held back to learn one.
pub const HOLD_REMOVAL_MS: i64 = 3_000;
/// Removals held back; the oldest goes out first when there are more.
pub const MAX_HELD_REMOVALS: usize = 4_096;
/// Bodies asked for at once.
pub const FETCH_BATCH: usize = 500;
/// Transactions known; more are not taken in until others leave.
pub const MAX_TRANSACTIONS: usize = 20_000_000;
/// Changes remembered to tell what a snapshot can not know of yet.
pub const MAX_RECENT_CHANGES: usize = 200_000;
/// Mined transactions remembered because the feed may be behind the blocks and still announce them.
pub const MAX_RECENT_MINED: usize = 200_000;
/// Recent blocks whose transactions are remembered.
pub const RECENT_BLOCKS: usize = 1024;
/// Transactions remembered that the feed announced and that were not taken in.
pub const MAX_EXCUSED: usize = 100_000;
/// Gaps whose repair is announced one by one; of more than these at once only the detection is.
pub const MAX_OPEN_GAPS: usize = 64;

/// Feed named in a gap that was found by the source's numbering of mempool changes.
pub const SEQUENCE_FEED: &str = "mempool-sequence";
/// Feed named in a gap that was found by comparing with a snapshot.
pub const SNAPSHOT_FEED: &str = "mempool-snapshot";

/// What differs from source to source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The rules of its chain. A Bitcoin SV node announces non-final transactions, which its mempool does not have.
    pub flavour: Flavour,
    /// How long the source keeps an unconfirmed transaction, milliseconds.
    pub expiry_ms: i64,
    /// Milliseconds between two snapshots when nothing else asks for one.
    pub reconcile_ms: i64,
}

impl Settings {
    /// Bitcoin Core's and Bitcoin SV's own default: two weeks.
    pub const DEFAULT_EXPIRY_MS: i64 = 336 * 3_600_000;

    /// Defaults for a flavour.
    pub fn new(flavour: Flavour) -> Self {
        Self { flavour, expiry_ms: Self::DEFAULT_EXPIRY_MS, reconcile_ms: RECONCILE_MS }
    }
}

/// The published tip, which decides what is final.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TipTime {
    /// Height of the tip.
    pub height: i32,
    /// Median time of the tip (BIP-113), seconds.
    pub median_time: u32,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// An epoch starts, or backfill is over: the view begins anew.
    Start(TipTime),
    /// Backfill: nothing is followed until the next `Start`.
    Suspend,
    /// A transaction came into the mempool.
    Added {
        /// Its id.
        txid: Txid,
        /// Number of the change, where the source numbers them.
        sequence: Option<u64>,
        /// The transaction, where it came along; asked for otherwise.
        transaction: Option<Box<Transaction>>,
    },
    /// A transaction left the mempool, not because a block has it.
    Removed {
        /// Its id.
        txid: Txid,
        /// Number of the change, where the source numbers them.
        sequence: Option<u64>,
        /// Why, where the source says so.
        reason: Option<RemovalReason>,
        /// What took its place, where the source says so.
        by: Option<Txid>,
    },
    /// Messages `from..=to` of a feed were lost.
    Gap {
        /// Which feed.
        feed: &'static str,
        /// First number lost.
        from: u64,
        /// Last number lost.
        to: u64,
    },
    /// The source was restarted: its numbers begin again.
    Restarted,
    /// The whole mempool, as `Output::WantSnapshot` asked for.
    Snapshot {
        /// Its transactions.
        txids: Vec<Txid>,
        /// Number of the last change it contains, where the source numbers them.
        sequence: Option<u64>,
    },
    /// The bodies that one `Output::WantTransactions` asked for; `None` for one that is no longer there.
    Fetched(Vec<(Txid, Option<Box<Transaction>>)>),
    /// A block was published as connected.
    BlockConnected(BlockEffect),
    /// A block was published as disconnected; the tip is its parent.
    BlockDisconnected(TipTime),
    /// Time has passed.
    Tick,
}

/// What was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// Messages or changes with these numbers; of mempool numbers some in between may be those of mined transactions.
    Numbers {
        /// First number.
        from: u64,
        /// Last number.
        to: u64,
    },
    /// This many changes, without numbers.
    Changes(u64),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Publish that the view starts again, empty.
    Reset,
    /// Publish a transaction as added.
    Add {
        /// The transaction.
        transaction: Box<Transaction>,
        /// When it was first heard of, milliseconds.
        first_seen: i64,
    },
    /// Publish a transaction as removed.
    Remove {
        /// Its id.
        txid: Txid,
        /// Why it left.
        reason: RemovalReason,
        /// The block that has it, on `Mined`.
        block: Option<BlockHash>,
        /// What took its place, on `Replaced` and `Conflicted`, where known.
        replaced_by: Option<Txid>,
        /// When it was first heard of, milliseconds.
        first_seen: i64,
    },
    /// Ask the source for a snapshot, under the conditions of the crate's documentation.
    WantSnapshot,
    /// Ask the source for bodies, at most [`FETCH_BATCH`], and answer with one `Input::Fetched`.
    WantTransactions(Vec<Txid>),
    /// Announce that changes were lost.
    GapDetected {
        /// Which feed.
        feed: &'static str,
        /// What was lost.
        lost: Lost,
    },
    /// Announce that the view is whole again. One for each `GapDetected`, up to [`MAX_OPEN_GAPS`] at once.
    GapRepaired {
        /// Which feed.
        feed: &'static str,
        /// What had been lost.
        lost: Lost,
        /// Published changes that the repair made. Where several gaps were repaired together the first has them all.
        recovered: u64,
    },
}
