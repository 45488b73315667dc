//! Blocks that must be on a network's chain: what tells apart chains that share rules and history.

use bitcoin::BlockHash;
use bitcoin::hashes::Hash;
use sluice_schemas::Network;

/// A block that must be at its height.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Checkpoint {
    /// The height.
    pub height: i32,
    /// The hash of the only block allowed there.
    pub hash: BlockHash,
}

/// First block of Bitcoin SV's chain alone, internal byte order:
/// 000000000000000001d956714215d96ffc00e0afda4cd0a96c96f8d802b1662b, the block that its licence names.
const BSV_FIRST: [u8; 32] = [
    0x2b, 0x66, 0xb1, 0x02, 0xd8, 0xf8, 0x96, 0x6c, 0xa9, 0xd0, 0x4c, 0xda, 0xaf, 0xe0, 0x00, 0xfc, 0x6f,
    0xd9, 0x15, 0x42, 0x71, 0x56, 0xd9, 0x01, 0, 0, 0, 0, 0, 0, 0, 0,
];

/// The checkpoints shipped for a network, genesis first.
pub(crate) fn shipped(network: Network) -> Vec<Checkpoint> {
    let mut checkpoints = vec![Checkpoint { height: 0, hash: network.genesis() }];
    if network == Network::BsvMainnet {
        checkpoints.push(Checkpoint { height: 556_767, hash: BlockHash::from_byte_array(BSV_FIRST) });
    }
    checkpoints
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bitcoin_svs_first_own_block_reads_as_its_licence_names_it() {
        assert_eq!(
            shipped(Network::BsvMainnet)[1].hash.to_string(),
            "000000000000000001d956714215d96ffc00e0afda4cd0a96c96f8d802b1662b"
        );
    }
}
