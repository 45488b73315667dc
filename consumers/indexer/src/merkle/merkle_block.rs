//! BIP-37's `merkleblock`, as Bitcoin Core's `gettxoutproof` gives it.

use bitcoin::hashes::Hash;

use super::{Branch, compact_size};

impl Branch {
    /// The serialized `merkleblock` with this one transaction: header, count, hashes and flags of a walk from the root
    /// down, depth first.
    ///
    /// The count is cut to 32 bits, as the format has it.
    pub fn merkle_block(&self, header: &[u8; 80]) -> Vec<u8> {
        // On the way down, left siblings come before what is below, right ones after it.
        let (mut before, mut after) = (Vec::new(), Vec::new());
        let (mut bits_before, mut bits_after) = (vec![true], Vec::new());
        for (level, sibling) in self.siblings.iter().enumerate().rev() {
            let is_right = self.position >> level & 1 == 1;
            if is_right {
                before.extend(*sibling);
                bits_before.push(false);
            } else if let Some(sibling) = sibling {
                after.push(*sibling);
                bits_after.push(false);
            }
            bits_before.push(true);
        }
        let hashes = before.len() + 1 + after.len();
        bits_after.reverse();
        let bits = [bits_before, bits_after].concat();

        let mut bytes = Vec::with_capacity(80 + 4 + 9 + 32 * hashes + 9 + bits.len().div_ceil(8));
        bytes.extend_from_slice(header);
        bytes.extend_from_slice(&(self.tx_count as u32).to_le_bytes());
        compact_size(hashes as u64, &mut bytes);
        before.iter().for_each(|hash| bytes.extend_from_slice(hash.as_byte_array()));
        bytes.extend_from_slice(self.txid.as_byte_array());
        after.iter().rev().for_each(|hash| bytes.extend_from_slice(hash.as_byte_array()));
        compact_size(bits.len().div_ceil(8) as u64, &mut bytes);
        for eight in bits.chunks(8) {
            bytes.push(eight.iter().rev().fold(0, |byte, bit| byte << 1 | u8::from(*bit)));
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::MerkleBlock;
    use bitcoin::block::{Header, Version};
    use bitcoin::consensus::{deserialize, serialize};
    use bitcoin::hashes::Hash;
    use bitcoin::{BlockHash, CompactTarget};

    use crate::merkle::tests::{branch, root, txids};

    #[test]
    fn it_is_what_the_bitcoin_crate_makes_and_proves_the_one_transaction() {
        for count in 1..36 {
            let txids = txids(count);
            let header = Header {
                version: Version::TWO,
                prev_blockhash: BlockHash::all_zeros(),
                merkle_root: root(&txids),
                time: 1,
                bits: CompactTarget::from_consensus(0x207f_ffff),
                nonce: 7,
            };
            let header_bytes: [u8; 80] = serialize(&header).try_into().unwrap();
            for (position, txid) in txids.iter().enumerate() {
                let ours = branch(&txids, position).merkle_block(&header_bytes);
                let theirs =
                    MerkleBlock::from_header_txids_with_predicate(&header, &txids, |other| other == txid);
                assert_eq!(ours, serialize(&theirs), "{position} of {count}");
                let (mut matches, mut positions) = (vec![], vec![]);
                deserialize::<MerkleBlock>(&ours)
                    .unwrap()
                    .extract_matches(&mut matches, &mut positions)
                    .unwrap();
                assert_eq!((matches, positions), (vec![*txid], vec![position as u32]));
            }
        }
    }
}
