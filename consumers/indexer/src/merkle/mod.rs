//! Proofs that a transaction is in a block, in three forms.
//!
//! ```text
//!   txids, one by one ──► BranchBuilder ──► Branch ─┬─ electrum()      hashes, leaf to root
//!                         one hash per level        ├─ merkle_block()  Bitcoin Core's `gettxoutproof`
//!                                                   └─ bump()          BRC-74
//! ```

mod bump;
mod merkle_block;

use bitcoin::hashes::{Hash, HashEngine, sha256d};
use bitcoin::{TxMerkleNode, Txid};

/// Most levels of a tree: four billion transactions.
const MAX_LEVELS: u32 = 32;

/// What a block's transactions must be for a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is no such position.
    #[error("position {position} is not in a block of {tx_count} transactions")]
    Position {
        /// As asked for.
        position: u64,
        /// As told.
        tx_count: u64,
    },
    /// Fewer or more transactions came than were told.
    #[error("a block of {told} transactions came with {came}")]
    Count {
        /// As told.
        told: u64,
        /// As they came.
        came: u64,
    },
}

/// The hashes beside the way from one transaction up to the merkle root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Branch {
    /// The transaction.
    pub txid: Txid,
    /// Index in the block.
    pub position: u64,
    /// Transactions in the block.
    pub tx_count: u64,
    /// From the leaf's sibling up; `None` where there is none and a hash is paired with itself.
    pub siblings: Vec<Option<TxMerkleNode>>,
}

impl Branch {
    /// The merkle root that the branch proves.
    pub fn root(&self) -> TxMerkleNode {
        let mut hash = self.txid.to_raw_hash();
        for (level, sibling) in self.siblings.iter().enumerate() {
            let sibling = sibling.map_or(hash, |sibling| sibling.to_raw_hash());
            let is_right = self.position >> level & 1 == 1;
            hash = if is_right { pair(&sibling, &hash) } else { pair(&hash, &sibling) };
        }
        TxMerkleNode::from_raw_hash(hash)
    }

    /// The hashes of Electrum's `blockchain.transaction.get_merkle`, leaf to root. A hash without a sibling stands for it.
    pub fn electrum(&self) -> Vec<TxMerkleNode> {
        let mut hash = self.txid.to_raw_hash();
        let beside = self.siblings.iter().enumerate().map(|(level, sibling)| {
            let sibling = sibling.map_or(hash, |sibling| sibling.to_raw_hash());
            let is_right = self.position >> level & 1 == 1;
            hash = if is_right { pair(&sibling, &hash) } else { pair(&hash, &sibling) };
            TxMerkleNode::from_raw_hash(sibling)
        });
        beside.collect()
    }
}

/// Finds a branch in transactions that come one by one; keeps two hashes per level.
#[derive(Clone, Debug)]
pub struct BranchBuilder {
    position: u64,
    tx_count: u64,
    came: u64,
    txid: Option<Txid>,
    /// One per level below the root.
    siblings: Vec<Option<TxMerkleNode>>,
    /// Roots of the full subtrees so far with their levels, which descend.
    subtrees: Vec<(u32, sha256d::Hash)>,
}

impl BranchBuilder {
    /// For the transaction at `position` of a block of `tx_count`.
    ///
    /// # Errors
    /// `Error::Position`.
    pub fn new(position: u64, tx_count: u64) -> Result<Self, Error> {
        if position >= tx_count || tx_count > 1 << MAX_LEVELS {
            return Err(Error::Position { position, tx_count });
        }
        let levels = tx_count.next_power_of_two().trailing_zeros();
        let siblings = vec![None; levels as usize];
        Ok(Self { position, tx_count, came: 0, txid: None, siblings, subtrees: Vec::new() })
    }

    /// Takes the next transaction, in block order.
    pub fn push(&mut self, txid: &Txid) {
        let index = self.came;
        self.came += 1;
        if index == self.position {
            self.txid = Some(*txid);
        }
        let (mut level, mut hash) = (0, txid.to_raw_hash());
        self.visit(level, index, hash);
        while let Some((_, left)) = self.subtrees.pop_if(|(left_level, _)| *left_level == level) {
            hash = pair(&left, &hash);
            level += 1;
            self.visit(level, index >> level, hash);
        }
        self.subtrees.push((level, hash));
    }

    /// The branch.
    ///
    /// # Errors
    /// `Error::Count`.
    pub fn finish(mut self) -> Result<Branch, Error> {
        let count = Error::Count { told: self.tx_count, came: self.came };
        let (Some(txid), true) = (self.txid, self.came == self.tx_count) else { return Err(count) };
        let last = self.came - 1;
        if let Some((mut level, mut hash)) = self.subtrees.pop() {
            // The last subtree has no sibling and is paired with itself, until it is as high as the one on its left.
            while let Some((left_level, left)) = self.subtrees.last().copied() {
                hash = if left_level == level {
                    self.subtrees.pop();
                    pair(&left, &hash)
                } else {
                    pair(&hash, &hash)
                };
                level += 1;
                self.visit(level, last >> level, hash);
            }
        }
        let Self { position, tx_count, siblings, .. } = self;
        Ok(Branch { txid, position, tx_count, siblings })
    }

    /// Keeps a node of the tree if it is beside the way.
    fn visit(&mut self, level: u32, index: u64, hash: sha256d::Hash) {
        let on_the_way = self.position >> level;
        if let Some(sibling) = self.siblings.get_mut(level as usize)
            && index == on_the_way ^ 1
        {
            *sibling = Some(TxMerkleNode::from_raw_hash(hash));
        }
    }
}

fn pair(left: &sha256d::Hash, right: &sha256d::Hash) -> sha256d::Hash {
    let mut engine = sha256d::Hash::engine();
    engine.input(left.as_byte_array());
    engine.input(right.as_byte_array());
    sha256d::Hash::from_engine(engine)
}

/// Bitcoin's CompactSize, shortest form.
fn compact_size(n: u64, out: &mut Vec<u8>) {
    let bytes = n.to_le_bytes();
    let (mark, len) = match n {
        0..=0xfc => (None, 1),
        0xfd..=0xffff => (Some(0xfd), 2),
        0x1_0000..=0xffff_ffff => (Some(0xfe), 4),
        _ => (Some(0xff), 8),
    };
    out.extend(mark);
    out.extend_from_slice(&bytes[..len]);
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn txids(count: u64) -> Vec<Txid> {
        (0..count).map(|n| Txid::hash(&n.to_le_bytes())).collect()
    }

    pub(crate) fn branch(txids: &[Txid], position: usize) -> Branch {
        let mut builder = BranchBuilder::new(position as u64, txids.len() as u64).unwrap();
        txids.iter().for_each(|txid| builder.push(txid));
        builder.finish().unwrap()
    }

    pub(crate) fn root(txids: &[Txid]) -> TxMerkleNode {
        let root = bitcoin::merkle_tree::calculate_root(txids.iter().copied()).unwrap();
        TxMerkleNode::from_raw_hash(root.to_raw_hash())
    }

    #[test]
    fn the_branch_of_every_transaction_proves_the_root_of_the_whole_block() {
        for count in 1..40 {
            let txids = txids(count);
            for position in 0..txids.len() {
                let branch = branch(&txids, position);
                assert_eq!(branch.txid, txids[position]);
                assert_eq!(branch.root(), root(&txids), "{position} of {count}");
            }
        }
    }

    #[test]
    fn an_electrum_branch_has_a_hash_for_each_level_and_repeats_what_has_no_sibling() {
        let txids = txids(3);
        let electrum = branch(&txids, 2).electrum();
        assert_eq!(electrum.len(), 2);
        assert_eq!(electrum[0].to_raw_hash(), txids[2].to_raw_hash());
        assert_eq!(branch(&txids[..1], 0).electrum(), []);
    }

    #[test]
    fn a_block_that_is_not_as_told_gives_no_proof() {
        let three = txids(3);
        assert!(matches!(BranchBuilder::new(3, 3), Err(Error::Position { .. })));
        assert!(matches!(BranchBuilder::new(0, 0), Err(Error::Position { .. })));
        assert!(matches!(BranchBuilder::new(0, u64::MAX), Err(Error::Position { .. })));
        for (told, position) in [(2, 0), (4, 0), (4, 3)] {
            let mut builder = BranchBuilder::new(position, told).unwrap();
            three.iter().for_each(|txid| builder.push(txid));
            assert_eq!(builder.finish(), Err(Error::Count { told, came: 3 }));
        }
    }

    proptest! {
        #[test]
        fn a_branch_of_a_large_block_proves_its_root(count in 1_u64..3000, position: proptest::sample::Index) {
            let txids = txids(count);
            let branch = branch(&txids, position.index(txids.len()));
            prop_assert_eq!(branch.root(), root(&txids));
        }
    }
}
