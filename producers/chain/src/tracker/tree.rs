//! The tree below the tracker: ancestors, the best branch, what is let go.

use std::collections::HashSet;

use bitcoin::BlockHash;
use bitcoin::block::Header;

use super::{ChainTracker, Node};
use crate::difficulty::{MEDIAN_SPAN, block_work};
use crate::{BlockRef, Error, Result, Step};

/// Pruning waits until it can drop this many heights at once.
const PRUNE_BATCH: i32 = 64;

impl ChainTracker {
    /// The ancestor of a block at a height, where held. Walks only as far as the best chain.
    pub(super) fn ancestor(&self, mut hash: BlockHash, height: i32) -> Option<BlockHash> {
        let mut node = self.nodes.get(&hash)?;
        if height > node.height {
            return None;
        }
        while node.height != height {
            if self.is_best(BlockRef { hash, height: node.height }) {
                return self.best_at(height);
            }
            hash = node.header.prev_blockhash;
            node = self.nodes.get(&hash)?;
        }
        Some(hash)
    }

    pub(super) fn best_at(&self, height: i32) -> Option<BlockHash> {
        self.best.get(usize::try_from(height.checked_sub(self.lowest)?).ok()?).copied()
    }

    pub(super) fn is_best(&self, block: BlockRef) -> bool {
        self.best_at(block.height) == Some(block.hash)
    }

    pub(super) fn block_ref(&self, hash: BlockHash) -> BlockRef {
        BlockRef { hash, height: self.nodes[&hash].height }
    }

    pub(super) fn parent(&self, block: BlockRef) -> BlockRef {
        BlockRef { hash: self.nodes[&block.hash].header.prev_blockhash, height: block.height - 1 }
    }

    /// The last block of the best chain that `block` descends from.
    pub(super) fn fork(&self, mut block: BlockRef) -> BlockRef {
        while !self.is_best(block) {
            block = self.parent(block);
        }
        block
    }

    /// Height of the first block that an empty log is to hold.
    pub(super) fn first_height(&self) -> i32 {
        self.start.unwrap_or(self.lowest)
    }

    /// The step that connects the block of the best chain at a height.
    pub(super) fn connect(&self, height: i32) -> Option<Step> {
        let hash = self.best_at(height)?;
        Some(Step::Connect { hash, block: self.block(&hash)? })
    }

    /// Moves the best chain to end with a block held.
    pub(super) fn make_best(&mut self, head: BlockHash) {
        let mut path = Vec::new();
        let mut block = self.block_ref(head);
        while !self.is_best(block) {
            path.push(block);
            block = self.parent(block);
        }
        self.shorten_best(block.height);
        for block in path.into_iter().rev() {
            self.remove_from_side(block);
            self.best.push_back(block.hash);
        }
    }

    /// Cuts the best chain above a height; the blocks become side blocks.
    pub(super) fn shorten_best(&mut self, height: i32) {
        while self.best().height > height {
            let BlockRef { hash, height } = self.best();
            self.side.entry(height).or_default().push(hash);
            self.best.pop_back();
        }
    }

    pub(super) fn remove_from_side(&mut self, block: BlockRef) {
        if let Some(hashes) = self.side.get_mut(&block.height) {
            hashes.retain(|hash| *hash != block.hash);
            if hashes.is_empty() {
                self.side.remove(&block.height);
            }
        }
    }

    /// Drops side blocks at a height, and all side blocks that descend from them.
    pub(super) fn drop_from_side(&mut self, mut height: i32, mut doomed: HashSet<BlockHash>) {
        while !doomed.is_empty() {
            let mut next = HashSet::new();
            for hash in self.side.get(&(height + 1)).into_iter().flatten() {
                if doomed.contains(&self.nodes[hash].header.prev_blockhash) {
                    next.insert(*hash);
                }
            }
            for hash in doomed {
                self.nodes.remove(&hash);
                self.remove_from_side(BlockRef { hash, height });
            }
            (height, doomed) = (height + 1, next);
        }
    }

    /// Adds a header below the oldest block held.
    pub(super) fn push_oldest(&mut self, header: &Header) -> Result<BlockHash> {
        let hash = header.block_hash();
        let height = self.lowest - 1;
        let broken = |detail: &str| Error::Broken { hash, height, detail: detail.into() };
        let oldest = self.nodes[&self.best[0]];
        if oldest.header.prev_blockhash != hash {
            return Err(broken("the oldest block held names another parent"));
        }
        if height < 0 {
            return Err(broken("nothing comes before genesis"));
        }
        let work = block_work(oldest.header.bits.to_consensus());
        let chain_work = oldest
            .chain_work
            .checked_sub(work)
            .ok_or_else(|| broken("the chain has less work than its blocks"))?;
        let node = Node { header: *header, height, chain_work, median_time: None, arrival: 0 };
        self.nodes.insert(hash, node);
        self.best.push_front(hash);
        self.lowest = height;
        Ok(hash)
    }

    pub(super) fn pop_oldest(&mut self) {
        if let Some(hash) = self.best.pop_front() {
            self.nodes.remove(&hash);
            self.lowest += 1;
        }
    }

    /// Drops what is more than `keep` below the last common block, and the branches that leave the chain there.
    pub(super) fn prune(&mut self) {
        let Some(tip) = self.tip() else { return };
        let keep = i32::try_from(self.settings.keep).unwrap_or(i32::MAX).max(MEDIAN_SPAN);
        let lowest = self.fork(tip).height.saturating_sub(keep);
        if lowest < self.lowest.saturating_add(PRUNE_BATCH) {
            return;
        }
        while self.lowest < lowest {
            self.pop_oldest();
            let doomed: HashSet<_> = self.side.get(&self.lowest).into_iter().flatten().copied().collect();
            self.drop_from_side(self.lowest, doomed);
        }
        self.start = self.start.filter(|start| *start >= self.lowest);
    }
}
