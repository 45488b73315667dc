//! The merkle root of a block whose transactions come one by one.

use bitcoin::hashes::{Hash, HashEngine, sha256d};
use bitcoin::{TxMerkleNode, Txid};

/// A merkle tree in the making: keeps one hash per level, 32 at most for four billion transactions.
#[derive(Clone, Debug, Default)]
pub struct MerkleTree {
    /// Roots of the full subtrees so far with their levels, which descend.
    subtrees: Vec<(u32, sha256d::Hash)>,
    mutated: bool,
}

/// A merkle root, and whether it can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MerkleRoot {
    /// The root of exactly these transactions.
    Unique(TxMerkleNode),
    /// Two subtrees are equal: another list of transactions has the same root (CVE-2012-2459).
    Ambiguous(TxMerkleNode),
}

impl MerkleTree {
    /// Adds the next transaction.
    pub fn push(&mut self, txid: &Txid) {
        let subtree = self.join(0, txid.to_raw_hash());
        self.subtrees.push(subtree);
    }

    /// The root; `None` without transactions.
    pub fn root(mut self) -> Option<MerkleRoot> {
        let (mut level, mut hash) = self.subtrees.pop()?;
        while !self.subtrees.is_empty() {
            // The last subtree has no sibling and is paired with itself.
            hash = pair(&hash, &hash);
            (level, hash) = self.join(level + 1, hash);
        }
        let root = TxMerkleNode::from_raw_hash(hash);
        Some(if self.mutated { MerkleRoot::Ambiguous(root) } else { MerkleRoot::Unique(root) })
    }

    /// Pairs a subtree with its left siblings, as far as there are any.
    fn join(&mut self, mut level: u32, mut hash: sha256d::Hash) -> (u32, sha256d::Hash) {
        while let Some((_, left)) = self.subtrees.pop_if(|(left_level, _)| *left_level == level) {
            self.mutated |= left == hash;
            hash = pair(&left, &hash);
            level += 1;
        }
        (level, hash)
    }
}

fn pair(left: &sha256d::Hash, right: &sha256d::Hash) -> sha256d::Hash {
    let mut engine = sha256d::Hash::engine();
    engine.input(left.as_byte_array());
    engine.input(right.as_byte_array());
    sha256d::Hash::from_engine(engine)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn txids(count: u8) -> Vec<Txid> {
        (0..count).map(|n| Txid::hash(&[n])).collect()
    }

    fn streamed(txids: &[Txid]) -> Option<MerkleRoot> {
        let mut tree = MerkleTree::default();
        txids.iter().for_each(|txid| tree.push(txid));
        tree.root()
    }

    #[test]
    fn the_streamed_root_is_the_one_of_the_whole_list() {
        assert_eq!(streamed(&[]), None);
        for count in 1..70 {
            let txids = txids(count);
            let root = bitcoin::merkle_tree::calculate_root(txids.iter().copied()).unwrap();
            let root = TxMerkleNode::from_raw_hash(root.to_raw_hash());
            assert_eq!(streamed(&txids), Some(MerkleRoot::Unique(root)), "{count}");
        }
    }

    #[test]
    fn a_list_with_its_end_repeated_is_ambiguous() {
        let mut list = txids(6);
        let Some(MerkleRoot::Unique(root)) = streamed(&list) else { panic!("six different txids") };
        list.extend_from_within(4..);
        assert_eq!(streamed(&list), Some(MerkleRoot::Ambiguous(root)));
    }
}
