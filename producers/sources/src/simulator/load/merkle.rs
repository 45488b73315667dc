//! A merkle root over hashes that come one by one, in memory for one hash per level.

use bitcoin::hashes::{Hash, HashEngine, sha256d};

/// Collects leaves.
#[derive(Default)]
pub(super) struct Merkle {
    /// Root of the full subtree of each size, smallest first, that still waits for its right neighbour.
    waiting: Vec<Option<sha256d::Hash>>,
}

impl Merkle {
    pub(super) fn push(&mut self, leaf: sha256d::Hash) {
        let mut node = leaf;
        for level in &mut self.waiting {
            match level.take() {
                Some(left) => node = pair(&left, &node),
                None => {
                    *level = Some(node);
                    return;
                }
            }
        }
        self.waiting.push(Some(node));
    }

    /// The root; a node without a right neighbour is paired with itself. `None` without leaves.
    pub(super) fn root(self) -> Option<sha256d::Hash> {
        let top = self.waiting.len().checked_sub(1)?;
        let mut last: Option<sha256d::Hash> = None;
        for (level, left) in self.waiting.into_iter().enumerate() {
            last = match (left, last) {
                (Some(left), None) if level == top => Some(left),
                (Some(left), None) => Some(pair(&left, &left)),
                (Some(left), Some(right)) => Some(pair(&left, &right)),
                (None, Some(node)) => Some(pair(&node, &node)),
                (None, None) => None,
            };
        }
        last
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

    #[test]
    fn the_root_is_the_one_of_the_bitcoin_crate_for_any_count() {
        for count in 0..70u32 {
            let leaves = || (0..count).map(|number| sha256d::Hash::hash(&number.to_le_bytes()));
            let mut merkle = Merkle::default();
            leaves().for_each(|leaf| merkle.push(leaf));
            assert_eq!(merkle.root(), bitcoin::merkle_tree::calculate_root(leaves()), "{count} leaves");
        }
    }
}
