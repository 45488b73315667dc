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

/// What the feed tells of a transaction that a recent block has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Announced {
    /// It came into the mempool before the block: the feed is behind.
    First,
    /// It had been announced before: it was mined, and came back by a reorg.
    Again,
}

/// A transaction of a recent block.
#[derive(Clone, Copy, Debug)]
struct Recent {
    /// Number of the block.
    block: u64,
    /// Whether the feed has told of it, before its block was published or since.
    known: bool,
    /// Whether the feed has told of it since.
    since: bool,
}

/// Transactions that recent blocks have or conflict with. The feed may be behind the blocks: what it announces of them
/// is gone already, or returns by a reorg that is not published yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct RecentBlocks {
    blocks: VecDeque<Vec<Txid>>,
    transactions: HashMap<Txid, Recent>,
    /// Number of the oldest block remembered.
    first: u64,
}

impl RecentBlocks {
    /// Takes in a block: the transactions that had been known, and those that had not. The newest `MAX_RECENT_MINED` of
    /// the newest `RECENT_BLOCKS` blocks are remembered.
    pub(crate) fn connected(
        &mut self,
        known: impl Iterator<Item = Txid>,
        unknown: impl Iterator<Item = Txid>,
    ) {
        let block = self.first + self.blocks.len() as u64;
        let mut txids = Vec::new();
        let transactions = known.map(|txid| (txid, true)).chain(unknown.map(|txid| (txid, false)));
        for (txid, known) in transactions.take(MAX_RECENT_MINED) {
            self.transactions.insert(txid, Recent { block, known, since: false });
            txids.push(txid);
        }
        self.blocks.push_back(txids);
        while self.blocks.len() > RECENT_BLOCKS || self.transactions.len() > MAX_RECENT_MINED {
            let Some(block) = self.blocks.pop_front() else { break };
            self.forget(block, self.first);
            self.first += 1;
        }
    }

    /// Forgets the newest block; gives what was announced since it was published.
    pub(crate) fn disconnected(&mut self) -> Vec<Txid> {
        let block = self.blocks.pop_back().unwrap_or_default();
        self.forget(block, self.first + self.blocks.len() as u64)
    }

    /// Notes that the feed announces a transaction; says how, where a recent block has it.
    pub(crate) fn announced(&mut self, txid: &Txid) -> Option<Announced> {
        let recent = self.transactions.get_mut(txid)?;
        recent.since = true;
        match std::mem::replace(&mut recent.known, true) {
            true => Some(Announced::Again),
            false => Some(Announced::First),
        }
    }

    fn forget(&mut self, block: Vec<Txid>, number: u64) -> Vec<Txid> {
        let mut since = Vec::new();
        for txid in block {
            if let Entry::Occupied(entry) = self.transactions.entry(txid)
                && entry.get().block == number
                && entry.remove().since
            {
                since.push(txid);
            }
        }
        since
    }
}
