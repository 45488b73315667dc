//! BRC-74: the BSV Unified Merkle Path.

use bitcoin::hashes::Hash;

use super::{Branch, compact_size};

/// A hash that is none of the client's transactions.
const HASH: u8 = 0x00;
/// No hash: the one on the left stands for it.
const DUPLICATE: u8 = 0x01;
/// The client's transaction.
const CLIENT_TXID: u8 = 0x02;

impl Branch {
    /// The binary BUMP of this one transaction in the block at `height`.
    pub fn bump(&self, height: u64) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(16 + 42 * (self.siblings.len() + 1));
        compact_size(height, &mut bytes);
        // A block of one transaction has a level all the same: the transaction's own.
        bytes.push(self.siblings.len().max(1) as u8);
        if self.siblings.is_empty() {
            compact_size(1, &mut bytes);
            self.put_txid(&mut bytes);
        }
        for level in 0..self.siblings.len() {
            // Offsets ascend; the transaction is on the lowest level only.
            let is_right = self.position >> level & 1 == 1;
            compact_size(if level == 0 { 2 } else { 1 }, &mut bytes);
            if level == 0 && !is_right {
                self.put_txid(&mut bytes);
            }
            self.put_sibling(level, &mut bytes);
            if level == 0 && is_right {
                self.put_txid(&mut bytes);
            }
        }
        bytes
    }

    fn put_txid(&self, bytes: &mut Vec<u8>) {
        compact_size(self.position, bytes);
        bytes.push(CLIENT_TXID);
        bytes.extend_from_slice(self.txid.as_byte_array());
    }

    fn put_sibling(&self, level: usize, bytes: &mut Vec<u8>) {
        compact_size(self.position >> level ^ 1, bytes);
        match &self.siblings[level] {
            Some(hash) => {
                bytes.push(HASH);
                bytes.extend_from_slice(hash.as_byte_array());
            }
            None => bytes.push(DUPLICATE),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::merkle::tests::{branch, txids};

    #[test]
    fn a_block_of_one_transaction_is_one_level_with_it() {
        let txids = txids(1);
        let expected = format!("fd0002010100{}{}", "02", hex::encode(txids[0]));
        assert_eq!(hex::encode(branch(&txids, 0).bump(0x200)), expected);
    }

    #[test]
    fn what_has_no_sibling_is_a_duplicate_without_a_hash() {
        let txids = txids(3);
        let branch = branch(&txids, 2);
        let sibling = branch.siblings[1].unwrap();
        let expected = format!("09 02 02 0202{} 0301 01 0000{}", hex::encode(txids[2]), hex::encode(sibling));
        assert_eq!(hex::encode(branch.bump(9)), expected.replace(' ', ""));
    }
}
