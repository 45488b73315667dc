//! How the world mines: which transactions a block has, and what it changes.

use std::collections::HashSet;
use std::sync::Arc;

use bitcoin::{OutPoint, Txid};
use sluice_schemas::Flavour;

use super::block::{Draft, SimBlock};
use super::chance::Chance;
use super::coins::Coin;
use super::config::MAX_REORG_DEPTH;
use super::payments::SMALLEST_OUTPUT;
use super::transaction::SimTransaction;
use super::world::{FIRST_LIVE_HEIGHT, Immature, World};

/// Confirmations before a coinbase is spent: consensus's 100, and what a reorg may take away.
const MATURITY: i32 = 100 + MAX_REORG_DEPTH as i32;
/// Seconds between the blocks before the start.
const EARLY_INTERVAL_SECS: u32 = 600;
/// Room of a block, less header and coinbase: weight, or bytes on Bitcoin SV.
const BTC_BLOCK_WEIGHT: u64 = 3_980_000;
const BSV_BLOCK_BYTES: u64 = 32_000_000;
const BTC_SIGOP_COST: u64 = 79_000;
/// Blocks of which the bodies are kept for reorgs take no more than this; beyond it reorgs are less deep.
const MAX_RECENT_BYTES: usize = 64 << 20;
/// Headers that the median time past (BIP-113) is over.
const MEDIAN_OVER: usize = 11;
/// One transaction in so many is passed over by a block.
const PASSED_OVER: u64 = 12;

/// A block that was mined.
pub(super) struct Connected {
    pub(super) block: Arc<SimBlock>,
    /// Those of its transactions that were in the mempool.
    pub(super) from_pool: Vec<Txid>,
    /// What left the mempool, and what took its place.
    pub(super) conflicts: Vec<(Txid, Txid)>,
}

impl World {
    /// Mines a block on the tip and makes it the tip. `victim` is pushed out by a transaction of the block, if it can be.
    pub(super) fn connect(&mut self, victim: Option<Arc<SimTransaction>>, chance: &mut Chance) -> Connected {
        let height = self.height + 1;
        let mut conflicts = Vec::new();
        let rival = victim.and_then(|victim| self.rival(&victim, chance, &mut conflicts));
        let transactions = self.select(rival, chance);
        let miner = chance.below(self.wallet.len()) as u16;
        let draft = Draft {
            flavour: self.flavour,
            parent: self.tip,
            height,
            time: self.block_time(height),
            reward: self.wallet.script(miner),
            number: self.mined,
            transactions,
        };
        let block = Arc::new(draft.mine());
        self.mined += 1;
        self.tip = block.hash;
        self.height = height;
        let mut from_pool = Vec::with_capacity(block.transactions.len());
        for transaction in &block.transactions[1..] {
            from_pool.extend(self.pool.remove(&transaction.txid).map(|mined| mined.txid));
            for vout in 0..transaction.transaction.output.len() as u32 {
                self.coins.confirm(&OutPoint { txid: transaction.txid, vout });
            }
        }
        self.reward(&block, miner);
        self.remember(&block);
        Connected { block, from_pool, conflicts }
    }

    /// Transactions for the next block: in the order in which they came, without those whose parents have to wait.
    fn select(&self, rival: Option<Arc<SimTransaction>>, chance: &mut Chance) -> Vec<Arc<SimTransaction>> {
        let room = match self.flavour {
            Flavour::Btc => BTC_BLOCK_WEIGHT,
            Flavour::Bsv => BSV_BLOCK_BYTES,
        };
        let cost = |t: &SimTransaction| self.wallet.sigop_cost(&t.spent, &t.transaction.output);
        let mut taken: Vec<_> = rival.into_iter().collect();
        let mut used: u64 = taken.iter().map(|transaction| transaction.room(self.flavour)).sum();
        let mut sigops: u64 = taken.iter().map(|transaction| cost(transaction)).sum();
        let mut waiting: HashSet<Txid> = HashSet::new();
        for transaction in self.mempool() {
            let parent_waits = transaction
                .transaction
                .input
                .iter()
                .any(|input| waiting.contains(&input.previous_output.txid));
            let (size, cost) = (transaction.room(self.flavour), cost(transaction));
            let full = used + size > room || sigops + cost > BTC_SIGOP_COST && self.flavour == Flavour::Btc;
            if parent_waits || full || chance.one_in(PASSED_OVER) {
                waiting.insert(transaction.txid);
                continue;
            }
            used += size;
            sigops += cost;
            taken.push(transaction.clone());
        }
        taken
    }

    fn block_time(&self, height: i32) -> u32 {
        let early = u32::try_from(FIRST_LIVE_HEIGHT - height).unwrap_or(0);
        let due = self.config.start_time.saturating_sub(early * EARLY_INTERVAL_SECS);
        let due = due.saturating_add(u32::try_from(self.now / 1_000_000_000).unwrap_or(u32::MAX));
        let mut newest: Vec<u32> = self.times.iter().rev().take(MEDIAN_OVER).copied().collect();
        newest.sort_unstable();
        due.max(newest[newest.len() / 2].saturating_add(1))
    }

    fn reward(&mut self, block: &SimBlock, miner: u16) {
        let coinbase = &block.transactions[0];
        let value = coinbase.transaction.output[0].value.to_sat();
        let coin = Coin { outpoint: OutPoint { txid: coinbase.txid, vout: 0 }, value, key: miner, depth: 0 };
        self.immature.push_back(Immature { height: block.height, coin });
        while self.immature.front().is_some_and(|immature| immature.height + MATURITY <= block.height) {
            let ripe = self.immature.pop_front().map(|immature| immature.coin);
            if let Some(coin) = ripe.filter(|coin| coin.value >= SMALLEST_OUTPUT) {
                self.coins.insert(coin);
            }
        }
    }

    fn remember(&mut self, block: &Arc<SimBlock>) {
        self.times.push_back(block.header.time);
        if self.times.len() > MAX_REORG_DEPTH as usize + MEDIAN_OVER {
            self.times.pop_front();
        }
        self.recent.push_back(block.clone());
        let size = |block: &Arc<SimBlock>| block.transactions.iter().map(|t| t.raw.len()).sum::<usize>();
        let mut kept: usize = self.recent.iter().map(size).sum();
        while self.recent.len() > MAX_REORG_DEPTH as usize
            || (kept > MAX_RECENT_BYTES && self.recent.len() > 1)
        {
            kept -= self.recent.pop_front().as_ref().map(size).unwrap_or_default();
        }
    }
}
