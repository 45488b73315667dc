//! What a block does to the mempool, gathered while its transactions stream by.

use std::collections::{HashSet, VecDeque};

use bitcoin::{BlockHash, OutPoint, Txid};

use crate::{MAX_UNSEEN, Mempool, RECENT_BLOCKS, TipTime};

/// What a block does to the mempool. Holds only what concerns it, never the whole block.
#[derive(Clone, Debug)]
pub struct BlockEffect {
    pub(crate) hash: BlockHash,
    pub(crate) tip: TipTime,
    /// Transactions of the block that the source had.
    pub(crate) mined: Vec<Txid>,
    /// Transactions in the mempool that spend what the block spends, each with the spender in the block.
    pub(crate) conflicts: Vec<(Txid, Txid)>,
    /// Transactions of the block that were not known; the newest `MAX_UNSEEN`.
    pub(crate) unseen: VecDeque<Txid>,
}

impl BlockEffect {
    /// Starts with a block: its hash, height and median time.
    pub fn new(hash: BlockHash, tip: TipTime) -> Self {
        Self { hash, tip, mined: Vec::new(), conflicts: Vec::new(), unseen: VecDeque::new() }
    }

    /// Notes the next transaction of the block, and what it spends.
    pub fn transaction(&mut self, mempool: &Mempool, txid: Txid, spends: impl Iterator<Item = OutPoint>) {
        if mempool.is_following() {
            if mempool.knows(&txid) {
                self.mined.push(txid);
            } else {
                if self.unseen.len() == MAX_UNSEEN {
                    self.unseen.pop_front();
                }
                self.unseen.push_back(txid);
            }
            for outpoint in spends {
                if let Some(rival) = mempool.spender_of(&outpoint).filter(|rival| *rival != txid) {
                    self.conflicts.push((rival, txid));
                }
            }
        }
    }
}

/// Transactions of recent blocks that were not known when their block was published. The feed may be behind: what it
/// still announces of them is mined already.
#[derive(Clone, Debug, Default)]
pub(crate) struct RecentBlocks {
    unseen: VecDeque<HashSet<Txid>>,
}

impl RecentBlocks {
    pub(crate) fn connected(&mut self, unseen: impl Iterator<Item = Txid>) {
        self.unseen.push_back(unseen.collect());
        while self.unseen.len() > RECENT_BLOCKS
            || self.unseen.iter().map(HashSet::len).sum::<usize>() > MAX_UNSEEN
        {
            self.unseen.pop_front();
        }
    }

    pub(crate) fn disconnected(&mut self) {
        self.unseen.pop_back();
    }

    /// Whether a recent block has the transaction; asked once for each.
    pub(crate) fn take(&mut self, txid: &Txid) -> bool {
        self.unseen.iter_mut().any(|block| block.remove(txid))
    }
}
