//! A merkle root of hashes that come one by one.

use crate::wire::double_sha256;

/// The open left halves of the tree: at most one hash per level.
#[derive(Clone, Debug, Default)]
pub(crate) struct MerkleTree {
    levels: Vec<Option<[u8; 32]>>,
    mutated: bool,
}

impl MerkleTree {
    /// Adds the next leaf.
    pub(crate) fn push(&mut self, leaf: [u8; 32]) {
        let mut hash = leaf;
        for level in &mut self.levels {
            match level.take() {
                None => {
                    *level = Some(hash);
                    return;
                }
                Some(left) => {
                    self.mutated |= left == hash;
                    hash = double_sha256(&[&left, &hash]);
                }
            }
        }
        self.levels.push(Some(hash));
    }

    /// The root, or `None` without leaves.
    pub(crate) fn root(&self) -> Option<[u8; 32]> {
        self.fold().0
    }

    /// Whether two neighbours are the same: another list of leaves has the same root (CVE-2012-2459).
    pub(crate) fn is_mutated(&self) -> bool {
        self.mutated || self.fold().1
    }

    fn fold(&self) -> (Option<[u8; 32]>, bool) {
        let mut right: Option<[u8; 32]> = None;
        let mut mutated = false;
        for (level, left) in self.levels.iter().enumerate() {
            let top = level + 1 == self.levels.len();
            right = match (left, right) {
                (None, None) => None,
                (Some(left), None) if top => Some(*left),
                (Some(lone), None) => Some(double_sha256(&[lone, lone])),
                (None, Some(lone)) => Some(double_sha256(&[&lone, &lone])),
                (Some(left), Some(right)) => {
                    mutated |= *left == right;
                    Some(double_sha256(&[left, &right]))
                }
            };
        }
        (right, mutated)
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::hashes::{Hash, sha256d};

    use super::*;

    fn leaf(n: u16) -> [u8; 32] {
        double_sha256(&[&n.to_le_bytes()])
    }

    #[test]
    fn the_root_is_that_of_rust_bitcoin_for_any_number_of_leaves() {
        let mut tree = MerkleTree::default();
        assert_eq!(tree.root(), None);
        for n in 0..200 {
            tree.push(leaf(n));
            let leaves = (0..=n).map(|n| sha256d::Hash::from_byte_array(leaf(n)));
            let expected = bitcoin::merkle_tree::calculate_root(leaves).unwrap();
            assert_eq!(tree.root(), Some(expected.to_byte_array()), "{n}");
            assert!(!tree.is_mutated(), "{n}");
        }
    }

    #[test]
    fn every_list_that_hides_repeated_leaves_behind_the_same_root_is_found() {
        for count in 1u16..100 {
            let mut honest = MerkleTree::default();
            (0..count).for_each(|n| honest.push(leaf(n)));
            // Repeating the last 2^k leaves keeps the root where the level k has an odd number of nodes.
            for repeated in
                (0..7).map(|k| 1u16 << k).filter(|r| count % r == 0 && (count / r) % 2 == 1 && count > *r)
            {
                let mut forged = honest.clone();
                (count - repeated..count).for_each(|n| forged.push(leaf(n)));
                assert_eq!(forged.root(), honest.root(), "{count} {repeated}");
                assert!(forged.is_mutated(), "{count} {repeated}");
            }
        }
    }
}
