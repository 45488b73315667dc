//! What a simulator is told.

use std::path::PathBuf;
use std::time::Duration;

use sluice_schemas::{Flavour, Network};

/// Deepest reorg that can be asked for; a coinbase matures so much later that none is ever spent and then lost.
pub const MAX_REORG_DEPTH: u32 = 50;
/// Most data in one transaction of a signed world on Bitcoin; more would not fit into a block.
const MAX_BIG_BTC_BYTES: usize = 900_000;
/// Most data in one transaction of a signed world on Bitcoin SV; `LoadSource` has no such bound.
const MAX_BIG_BSV_BYTES: usize = 3_900_000;
/// Most transactions per block that can be asked for.
const MAX_FILL: usize = 100_000;
const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);
const MAX_TX_RATE: f64 = 1_000_000.0;
/// 2025-01-01, 00:00 UTC: long enough ago that no chain runs ahead of a node's clock.
const START_TIME: u32 = 1_735_689_600;

/// Settings of a simulator.
///
/// `network`, `seed`, `start_time`, `block_interval`, `tx_rate`, `reorg_rate`, `max_reorg_depth` and `fill` decide what
/// the chain is; the other settings only how far it goes, how fast and where it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct SimulatorConfig {
    /// `btc-regtest` or `bsv-regtest`.
    pub network: Network,
    /// What chance starts from.
    pub seed: u64,
    /// Simulated time between two blocks; at least 1 ms.
    pub block_interval: Duration,
    /// New transactions per second on average.
    pub tx_rate: f64,
    /// Probability that a block is the first of a branch that replaces the tip, 0 to 1.
    pub reorg_rate: f64,
    /// Most blocks that such a branch replaces, at most [`MAX_REORG_DEPTH`]. Most reorgs are of depth 1.
    pub max_reorg_depth: u32,
    /// Height at which everything stops.
    pub blocks: Option<u64>,
    /// Height up to which the chain is there from the start. It is at least 160, where the first payments can be made.
    pub history: u64,
    /// Time of the block at height 160, seconds since 1970. A state keeps the one it was made with.
    pub start_time: u32,
    /// Fuller blocks.
    pub fill: Option<BlockFill>,
    /// Folder that keeps blocks and state for the next start; without it blocks are kept in a nameless temporary file.
    pub state: Option<PathBuf>,
}

/// Makes blocks fuller than `tx_rate` does. All of it is valid and signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockFill {
    /// Transactions that wait in the mempool before a block is mined, at least.
    pub transactions: usize,
    /// Data in one transaction of every block, bytes; 0 for none.
    pub big_transaction_bytes: usize,
}

impl Default for SimulatorConfig {
    fn default() -> Self {
        Self {
            network: Network::BtcRegtest,
            seed: 1,
            block_interval: Duration::from_secs(10),
            tx_rate: 5.0,
            reorg_rate: 0.05,
            max_reorg_depth: 12,
            blocks: None,
            history: 0,
            start_time: START_TIME,
            fill: None,
            state: None,
        }
    }
}

impl SimulatorConfig {
    /// What is wrong with it, with the name of the setting.
    pub(super) fn check(&self) -> Result<(), String> {
        if !matches!(self.network, Network::BtcRegtest | Network::BsvRegtest) {
            return Err(format!(
                "network {} cannot be simulated; btc-regtest and bsv-regtest can",
                self.network
            ));
        }
        if self.block_interval < SHORTEST_INTERVAL {
            return Err(format!("block interval {:?} is below 1 ms", self.block_interval));
        }
        if !(0.0..=MAX_TX_RATE).contains(&self.tx_rate) {
            return Err(format!("transaction rate {} is not within 0 to {MAX_TX_RATE}", self.tx_rate));
        }
        if !(0.0..=1.0).contains(&self.reorg_rate) {
            return Err(format!("reorg rate {} is not within 0 to 1", self.reorg_rate));
        }
        if self.max_reorg_depth > MAX_REORG_DEPTH {
            return Err(format!("reorg depth {} is above {MAX_REORG_DEPTH}", self.max_reorg_depth));
        }
        let fill = self.fill.unwrap_or(BlockFill { transactions: 0, big_transaction_bytes: 0 });
        let most_bytes = match self.network.flavour() {
            Flavour::Btc => MAX_BIG_BTC_BYTES,
            Flavour::Bsv => MAX_BIG_BSV_BYTES,
        };
        if fill.transactions > MAX_FILL || fill.big_transaction_bytes > most_bytes {
            return Err(format!(
                "at most {MAX_FILL} transactions and {most_bytes} bytes of data can fill a block"
            ));
        }
        Ok(())
    }

    /// Mean of the simulated time between two transactions, nanoseconds; `None` when there are none.
    pub(super) fn payment_interval(&self) -> Option<u64> {
        (self.tx_rate > 0.0).then(|| ((1e9 / self.tx_rate) as u64).max(1))
    }

    /// The time between two blocks, nanoseconds.
    pub(super) fn interval(&self) -> u64 {
        u64::try_from(self.block_interval.as_nanos()).unwrap_or(u64::MAX)
    }

    /// The probability of a reorg in millionths.
    pub(super) fn reorgs_per_million(&self) -> u64 {
        (self.reorg_rate * 1e6) as u64
    }
}
