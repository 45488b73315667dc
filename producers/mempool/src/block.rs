//! What a block does to the mempool, gathered while its transactions stream by.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use bitcoin::{BlockHash, OutPoint, Txid};

use crate::{MAX_RECENT_MINED, Mempool, RECENT_BLOCKS, TipTime};

/// What a block does to the mempool. Holds only what concerns it, never the whole block.
#[derive(Clone, Debug)]
pub struct BlockEffect {
    pub(crate) hash: BlockHash,
    pub(crate) tip: TipTime,
    /// Transactions of the block that the source had.
    pub(crate) mined: Vec<Txid>,
    /// Transactions in the mempool that spend what the block spends, each with the spender in the block.
    pub(crate) conflicts: Vec<(Txid, Txid)>,
    /// Transactions of the block that were not known; the newest `MAX_RECENT_MINED`.
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
                if self.unseen.len() == MAX_RECENT_MINED {
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

/// Transactions that recent blocks have or conflict with, and whether the feed announced them after their block was published: it may be behind
/// the blocks, and what it announces of them is gone already, or returns by a reorg that is not published yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct RecentBlocks {
    blocks: VecDeque<Vec<Txid>>,
    /// Each with the number of its block, and whether it was announced since.
    transactions: HashMap<Txid, (u64, bool)>,
    /// Number of the oldest block remembered.
    first: u64,
}

impl RecentBlocks {
    /// The newest `MAX_RECENT_MINED` transactions of the newest `RECENT_BLOCKS` blocks are remembered.
    pub(crate) fn connected(&mut self, transactions: impl Iterator<Item = Txid>) {
        let number = self.first + self.blocks.len() as u64;
        let block: Vec<Txid> = transactions.take(MAX_RECENT_MINED).collect();
        for txid in &block {
            self.transactions.insert(*txid, (number, false));
        }
        self.blocks.push_back(block);
        while self.blocks.len() > RECENT_BLOCKS || self.transactions.len() > MAX_RECENT_MINED {
            let block = self.blocks.pop_front().unwrap_or_default();
            self.forget(block, self.first);
            self.first += 1;
        }
    }

    /// Forgets the newest block; gives what was announced since it was published.
    pub(crate) fn disconnected(&mut self) -> Vec<Txid> {
        let block = self.blocks.pop_back().unwrap_or_default();
        self.forget(block, self.first + self.blocks.len() as u64)
    }

    /// Whether a recent block has a transaction that the feed announces.
    pub(crate) fn announced(&mut self, txid: &Txid) -> bool {
        self.transactions.get_mut(txid).map(|(_, announced)| *announced = true).is_some()
    }

    fn forget(&mut self, block: Vec<Txid>, number: u64) -> Vec<Txid> {
        let mut announced = Vec::new();
        for txid in block {
            if let Entry::Occupied(entry) = self.transactions.entry(txid)
                && entry.get().0 == number
                && entry.remove().1
            {
                announced.push(txid);
            }
        }
        announced
    }
}
