//! Where chain events come from.
//!
//! A source answers three questions and knows nothing of the log: what is the best chain (headers), give me the body of
//! this block (a stream of bytes), what is in the mempool and what changed. Calls block; a source is shared by threads.

mod error;
pub mod node;
pub mod simulator;

use std::io::Read;
use std::time::Duration;

use bitcoin::block::Header;
use bitcoin::{BlockHash, Txid};
use bytes::Bytes;
use sluice_schemas::{Network, RemovalReason};

pub use error::{Error, Result};

/// The source's best block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tip {
    /// Its hash.
    pub hash: BlockHash,
    /// Its height.
    pub height: i32,
}

/// A run of the source's best chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Headers {
    /// Hash of the block before the first header: the newest block of the locator that is on the source's best chain,
    /// or `None` when `headers` starts with genesis.
    pub after: Option<BlockHash>,
    /// Headers in ascending order, at most as many as were asked for; empty when `after` is the source's tip.
    pub headers: Vec<Header>,
}

/// The body of one block, as bytes that arrive.
pub struct Body {
    /// Size in bytes, where the source says it beforehand.
    pub size: Option<u64>,
    /// The serialized block, header first.
    pub bytes: Box<dyn Read + Send>,
    /// What the block spends, where the source can tell: as Bitcoin Core's `/rest/spenttxouts/HASH.bin`, one vector of
    /// outputs per transaction, the coinbase's empty.
    pub spent: Option<Box<dyn Read + Send>>,
}

/// A numbered mempool snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// All transactions in the source's mempool.
    pub txids: Vec<Txid>,
    /// Number of the last change it contains, where the source numbers its changes.
    pub sequence: Option<u64>,
}

/// What a source tells on its own account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The best block may have changed: ask for headers.
    TipChanged,
    /// A transaction came into the mempool.
    Added {
        /// Its id.
        txid: Txid,
        /// Number of the change, where the source numbers them.
        sequence: Option<u64>,
        /// Its raw bytes, where the source sent them along.
        raw: Option<Bytes>,
    },
    /// A transaction left the mempool for another reason than a block that has it.
    Removed {
        /// Its id.
        txid: Txid,
        /// Number of the change, where the source numbers them.
        sequence: Option<u64>,
        /// Why, where the source says so.
        reason: Option<RemovalReason>,
        /// Which transaction took its place, where the source says so.
        by: Option<Txid>,
    },
    /// Messages `from..=to` of a feed were lost.
    Gap {
        /// Which feed, in the source's own name for it.
        feed: &'static str,
        /// First number lost.
        from: u64,
        /// Last number lost.
        to: u64,
    },
    /// The numbers of a feed began again: the node was restarted.
    Restarted {
        /// Which feed.
        feed: &'static str,
    },
}

/// The stream of notices. One per source, owned by the thread that waits on it.
pub trait Feed: Send {
    /// Waits at most `wait` for the next notices, in the order in which they came; empty when there are none. Bounded:
    /// a caller that is too slow is told of what it missed by `Notice::Gap`.
    fn wait(&mut self, wait: Duration) -> Result<Vec<Notice>>;
}

/// A source of chain events.
pub trait Source: Send + Sync {
    /// For events and people: `node:127.0.0.1:8332`, `simulator:7`.
    fn id(&self) -> &str;

    /// Its network.
    fn network(&self) -> Network;

    /// Its best block.
    fn tip(&self) -> Result<Tip>;

    /// Up to `max` headers of the best chain that follow the newest block of `locator` that is on it. The locator runs
    /// from the caller's tip backwards; with none of it on the best chain the run starts with genesis.
    fn headers(&self, locator: &[BlockHash], max: usize) -> Result<Headers>;

    /// The body of a block.
    fn body(&self, hash: &BlockHash) -> Result<Body>;

    /// Opens the stream of notices.
    fn feed(&self) -> Result<Box<dyn Feed>>;

    /// The mempool now.
    fn mempool(&self) -> Result<Snapshot>;

    /// Raw bytes of mempool transactions, in the order asked for; `None` for one that is no longer there.
    fn transactions(&self, txids: &[Txid]) -> Result<Vec<Option<Bytes>>>;
}
