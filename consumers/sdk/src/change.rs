//! What a projection is given.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bitcoin::TxMerkleNode;
use bitcoin::hashes::{Hash, sha256d};
use sluice_log::chain::{BlockTransactions, Location, MerkleRoot, MerkleTree};
use sluice_log::{Class, Error, Result};
use sluice_schemas::{ChainEvent, MempoolEvent, TransactionEvent};

use crate::position::{MempoolPosition, Position};

/// One change, of the chain or of the mempool.
pub enum Change<'a> {
    /// A block was connected or disconnected.
    Block(BlockChange<'a>),
    /// The mempool view changed.
    Mempool(MempoolChange<'a>),
}

/// One chain event with its transactions.
pub struct BlockChange<'a> {
    /// The block, and whether it was connected or disconnected.
    pub event: &'a ChainEvent,
    /// The position that the state must have before; `None` for the first change ever.
    pub before: Option<Position>,
    /// The position to store with the rows that come of this change.
    pub after: Position,
    transactions: BlockTransactions<'a>,
    /// The merkle tree in the making, where the block is verified.
    merkle: Option<MerkleTree>,
    /// Counts transactions as they are read.
    counter: Option<Arc<AtomicU64>>,
    /// Whether the consumer is still the active one.
    lead: Option<Arc<AtomicBool>>,
    /// The error that the transactions ended with.
    failed: Option<Failure>,
}

/// Why a block's transactions ended early.
struct Failure {
    reason: Box<str>,
    /// Whether that is of the moment, not of the block.
    is_interruption: bool,
}

impl<'a> BlockChange<'a> {
    /// Puts a change together, for whoever feeds a projection.
    pub fn new(event: &'a ChainEvent, before: Option<Position>, transactions: BlockTransactions<'a>) -> Self {
        let after = Position::after(event, before.and_then(|before| before.mempool));
        Self { event, before, after, transactions, merkle: None, counter: None, lead: None, failed: None }
    }

    /// Checks the header's merkle root, and that the header is the block's, while the transactions are read.
    pub(crate) fn verified(mut self) -> Self {
        self.merkle = Some(MerkleTree::default());
        self
    }

    /// Counts transactions as they are read, and fails once the lead is lost.
    pub(crate) fn watched(mut self, counter: Arc<AtomicU64>, lead: Option<Arc<AtomicBool>>) -> Self {
        (self.counter, self.lead) = (Some(counter), lead);
        self
    }

    /// The block's transactions in block order, read from the log as the iterator goes, in bounded memory. A block that
    /// does not add up is an error, which is the last item; a projection hands it back and stores nothing.
    pub fn transactions(&mut self) -> impl Iterator<Item = Result<TransactionEvent>> {
        std::iter::from_fn(|| Some(self.next_located()?.map(|(_, transaction)| transaction)))
    }

    /// As `transactions`, with where on the log each is.
    pub fn located_transactions(&mut self) -> impl Iterator<Item = Result<(Location, TransactionEvent)>> {
        std::iter::from_fn(|| self.next_located())
    }

    fn next_located(&mut self) -> Option<Result<(Location, TransactionEvent)>> {
        if self.failed.is_some() {
            return None;
        }
        let mut is_interruption = false;
        let item = if self.lead.as_ref().is_some_and(|lead| !lead.load(Ordering::Relaxed)) {
            is_interruption = true;
            Err(self.superseded())
        } else {
            match self.transactions.next_located() {
                Some(item) => item,
                None => Err(self.verify()?),
            }
        };
        match &item {
            Ok((_, transaction)) => {
                if let Some(merkle) = &mut self.merkle {
                    merkle.push(&transaction.transaction.txid);
                }
                if let Some(counter) = &self.counter {
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            }
            Err(error) => {
                is_interruption |= error.class() == Class::Retry;
                self.failed = Some(Failure { reason: error.to_string().into(), is_interruption });
            }
        }
        Some(item)
    }

    fn superseded(&self) -> Error {
        Error::Store {
            attempt: format!("read on in block {}", self.event.hash),
            reason: "another member of the group may have taken over".to_owned(),
            class: Class::Fatal,
        }
    }

    /// What is wrong with a block whose transactions have all been read.
    fn verify(&mut self) -> Option<Error> {
        let header = &self.event.header;
        let root = TxMerkleNode::from_slice(&header[36..68]).ok();
        let found = self.merkle.take()?.root();
        let reason = if sha256d::Hash::hash(header) != self.event.hash.to_raw_hash() {
            "its header is another block's".to_owned()
        } else {
            match found {
                Some(MerkleRoot::Unique(found)) if Some(found) == root => return None,
                Some(MerkleRoot::Ambiguous(_)) => {
                    "transactions are repeated at its end (CVE-2012-2459)".to_owned()
                }
                Some(MerkleRoot::Unique(found)) => {
                    format!("the merkle root of its transactions is {found}, which is not the header's")
                }
                None => "it has no transactions".to_owned(),
            }
        };
        Some(Error::Contradiction { sequence: self.event.sequence, hash: self.event.hash, reason })
    }

    /// Reads what the projection left, so that the whole block has been checked before anything of it is committed.
    ///
    /// # Errors
    /// The block does not add up, whether the projection has been told so already or not.
    pub fn finish(mut self) -> Result<()> {
        self.read_to_end()
    }

    /// Whether the transactions ended early for a reason that may pass.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.failed.as_ref().is_some_and(|failure| failure.is_interruption)
    }

    pub(crate) fn read_to_end(&mut self) -> Result<()> {
        while let Some(item) = self.next_located() {
            item?;
        }
        match &self.failed {
            None => Ok(()),
            Some(Failure { reason, .. }) => {
                let reason = format!("its transactions ended with an error: {reason}");
                Err(Error::Contradiction { sequence: self.event.sequence, hash: self.event.hash, reason })
            }
        }
    }
}

/// One change of the mempool view.
#[derive(Clone, Copy, Debug)]
pub struct MempoolChange<'a> {
    /// What happened. `Reset` comes once per epoch: from here on the view is empty.
    pub event: &'a MempoolEvent,
    /// The position of this change.
    pub after: MempoolPosition,
    /// Whether the view that this change is of holds everything. Where the first events of an epoch are no longer kept,
    /// a `Reset` comes in their place that begins a view without what they added, to the end of that epoch.
    pub is_complete: bool,
}
