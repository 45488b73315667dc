//! What the projection has just applied, for whoever wants to know at once.

use std::sync::Arc;

use bitcoin::{BlockHash, Txid};
use sluice_consumer::{BlockRef, Cursor};
use sluice_schemas::RemovalReason;
use tokio::sync::broadcast;

use crate::ScriptHash;

/// Announcements kept for a slow listener. One that is further behind is told how many it has missed
/// (`RecvError::Lagged`), and goes on from the log with the cursor it has.
pub const BACKLOG: usize = 4096;

/// Most transactions of a block that are listed in its announcement.
pub const MAX_LISTED: usize = 10_000;

/// Something that has been applied: a `View` taken now shows it. Blocks in the order of the log, mempool changes in the
/// order of their epoch, each placed between the blocks that it was published between.
#[derive(Clone, Debug)]
pub struct Announcement {
    /// The position after it.
    pub cursor: Cursor,
    /// What happened.
    pub change: Change,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Change {
    /// The block became the tip.
    Connected {
        /// The block.
        block: BlockRef,
        /// Its parent.
        prev_hash: BlockHash,
        /// Its transactions in block order.
        touched: Touched,
    },
    /// The block was the tip and left the best chain; its parent is the tip now.
    Disconnected {
        /// The block.
        block: BlockRef,
        /// Its parent, the tip now.
        prev_hash: BlockHash,
        /// Its transactions in block order.
        touched: Touched,
    },
    /// The mempool view begins again, empty.
    MempoolReset,
    /// A transaction came into the mempool.
    Added {
        /// The transaction and its scripts.
        transaction: TouchedTransaction,
    },
    /// A transaction left the mempool.
    Removed {
        /// The transaction and its scripts.
        transaction: TouchedTransaction,
        /// Why.
        reason: RemovalReason,
        /// What took its place, where known.
        replaced_by: Option<Txid>,
    },
}

/// The transactions of a block.
#[derive(Clone, Debug)]
pub enum Touched {
    /// All of them.
    Listed(Arc<[TouchedTransaction]>),
    /// There are more than `MAX_LISTED`, or nobody was listening when the block was applied: whoever filters must take
    /// the block as touching everything.
    Unlisted {
        /// How many.
        tx_count: i64,
    },
}

/// A transaction, and the scripts it pays or spends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TouchedTransaction {
    /// Its id.
    pub txid: Txid,
    /// Hashes of the locking scripts of its outputs and of the outputs it spends, each once.
    pub scripts: Box<[ScriptHash]>,
}

/// Where announcements are made.
#[derive(Clone, Debug)]
pub(crate) struct Announcer(broadcast::Sender<Arc<Announcement>>);

/// Where announcements are heard.
pub type Listener = broadcast::Receiver<Arc<Announcement>>;

impl Default for Announcer {
    fn default() -> Self {
        Self(broadcast::Sender::new(BACKLOG))
    }
}

impl Announcer {
    /// Hears everything from now on.
    pub(crate) fn listen(&self) -> Listener {
        self.0.subscribe()
    }

    /// Whether anybody listens.
    pub(crate) fn is_heard(&self) -> bool {
        self.0.receiver_count() > 0
    }

    /// Tells everybody who listens.
    pub(crate) fn announce(&self, announcement: Arc<Announcement>) {
        // An error says that nobody listens any more.
        let _ = self.0.send(announcement);
    }
}
