//! The networks Chainsluice knows, and what tells them apart.

use std::fmt;
use std::str::FromStr;

use bitcoin::BlockHash;
use bitcoin::blockdata::constants::genesis_block;

/// A network of one chain. Its name is the default topic prefix with a dot, and `--network` with a dash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Network {
    BtcMainnet,
    BtcTestnet4,
    BtcSignet,
    BtcRegtest,
    BsvMainnet,
    BsvTestnet,
    BsvRegtest,
}

/// The consensus family of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flavour {
    /// Bitcoin Core's rules: witnesses, 2016-block retarget.
    Btc,
    /// Bitcoin SV's rules: no witnesses, large blocks, 144-block retarget.
    Bsv,
}

impl Network {
    /// Every network.
    pub const ALL: [Self; 7] = [
        Self::BtcMainnet,
        Self::BtcTestnet4,
        Self::BtcSignet,
        Self::BtcRegtest,
        Self::BsvMainnet,
        Self::BsvTestnet,
        Self::BsvRegtest,
    ];

    /// As `--network` takes it: `btc-mainnet` ….
    pub fn name(self) -> &'static str {
        match self {
            Self::BtcMainnet => "btc-mainnet",
            Self::BtcTestnet4 => "btc-testnet4",
            Self::BtcSignet => "btc-signet",
            Self::BtcRegtest => "btc-regtest",
            Self::BsvMainnet => "bsv-mainnet",
            Self::BsvTestnet => "bsv-testnet",
            Self::BsvRegtest => "bsv-regtest",
        }
    }

    /// The default topic prefix: `btc.mainnet` ….
    pub fn topic_prefix(self) -> String {
        self.name().replace('-', ".")
    }

    /// Which rules it follows.
    pub fn flavour(self) -> Flavour {
        match self {
            Self::BtcMainnet | Self::BtcTestnet4 | Self::BtcSignet | Self::BtcRegtest => Flavour::Btc,
            Self::BsvMainnet | Self::BsvTestnet | Self::BsvRegtest => Flavour::Bsv,
        }
    }

    /// The matching network of rust-bitcoin, for addresses, limits and genesis blocks. Bitcoin SV shares them with
    /// mainnet, testnet3 and regtest.
    pub fn bitcoin(self) -> bitcoin::Network {
        match self {
            Self::BtcMainnet | Self::BsvMainnet => bitcoin::Network::Bitcoin,
            Self::BtcTestnet4 => bitcoin::Network::Testnet4,
            Self::BtcSignet => bitcoin::Network::Signet,
            Self::BsvTestnet => bitcoin::Network::Testnet,
            Self::BtcRegtest | Self::BsvRegtest => bitcoin::Network::Regtest,
        }
    }

    /// Hash of the genesis block.
    pub fn genesis(self) -> BlockHash {
        genesis_block(self.bitcoin()).block_hash()
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The name is none of the known networks.
#[derive(Debug, thiserror::Error)]
#[error("unknown network {0:?}; known are {known}", known = Network::ALL.map(Network::name).join(", "))]
pub struct UnknownNetwork(String);

impl FromStr for Network {
    type Err = UnknownNetwork;
    fn from_str(name: &str) -> Result<Self, UnknownNetwork> {
        Self::ALL.into_iter().find(|n| n.name() == name).ok_or_else(|| UnknownNetwork(name.to_owned()))
    }
}
