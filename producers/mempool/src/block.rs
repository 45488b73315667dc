//! What a block does to the mempool, gathered while its transactions stream by.

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

/// Transactions of recent blocks, and whether the feed announced them after their block was published: it may be behind
/// the blocks, and what it announces of them is mined already, or returns by a reorg that is not published yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct RecentBlocks {
    blocks: VecDeque<HashMap<Txid, bool>>,
    held: usize,
}

impl RecentBlocks {
    /// The newest `MAX_RECENT_MINED` transactions of the newest `RECENT_BLOCKS` blocks are remembered.
    pub(crate) fn connected(&mut self, transactions: impl Iterator<Item = Txid>) {
        let block: HashMap<Txid, bool> =
            transactions.take(MAX_RECENT_MINED).map(|txid| (txid, false)).collect();
        self.held += block.len();
        self.blocks.push_back(block);
        while self.blocks.len() > RECENT_BLOCKS || self.held > MAX_RECENT_MINED {
            self.held -= self.blocks.pop_front().map_or(0, |block| block.len());
        }
    }

    /// Forgets the newest block; gives what was announced since it was published.
    pub(crate) fn disconnected(&mut self) -> Vec<Txid> {
        let block = self.blocks.pop_back().unwrap_or_default();
        self.held -= block.len();
        block.into_iter().filter(|(_, announced)| *announced).map(|(txid, _)| txid).collect()
    }

    /// Whether a recent block has a transaction that the feed announces.
    pub(crate) fn announced(&mut self, txid: &Txid) -> bool {
        let found = self.blocks.iter_mut().rev().find_map(|block| block.get_mut(txid));
        found.map(|announced| *announced = true).is_some()
    }
}
