//! The simulated world: a pure function of its settings and the number of steps taken.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bitcoin::blockdata::constants::genesis_block;
use bitcoin::{BlockHash, ScriptBuf, Txid};
use sluice_schemas::{Flavour, RemovalReason};

use super::block::SimBlock;
use super::chance::Chance;
use super::coins::{Coin, Coins};
use super::config::SimulatorConfig;
use super::mining::Connected;
use super::pool::Pool;
use super::transaction::SimTransaction;
use super::wallet::Wallet;

/// Height up to which blocks come at once: from there on enough coinbases are mature to make payments.
pub const FIRST_LIVE_HEIGHT: i32 = 160;
/// One block in so many has a transaction that spends what an unconfirmed one spends.
const DOUBLE_SPEND_IN_BLOCK: u64 = 12;
/// One reorg in so many may be of any depth.
const DEEP_REORG: u64 = 20;

/// What happened in the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A transaction came into the mempool.
    Added {
        /// Which.
        transaction: Arc<SimTransaction>,
        /// Number of the change.
        sequence: u64,
    },
    /// A transaction left the mempool, but for a block that has it.
    Removed {
        /// Which.
        txid: Txid,
        /// Number of the change.
        sequence: u64,
        /// Why.
        reason: RemovalReason,
        /// Which took its place.
        by: Txid,
    },
    /// A block was mined. Its transactions leave the mempool with numbers of their own, as in Bitcoin Core.
    Mined {
        /// Which.
        block: Arc<SimBlock>,
        /// What it means for the best chain.
        place: Place,
    },
}

/// What a new block means for the best chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It is the tip; so many blocks before it are no longer on the best chain.
    Tip {
        /// Depth of the reorg, 0 for none.
        disconnected: u32,
    },
    /// It is on a branch with no more work than the best chain.
    Branch,
}

/// A coinbase that cannot be spent yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Immature {
    pub(super) height: i32,
    pub(super) coin: Coin,
}

/// A chain, a mempool and the people who use them. It knows no clock, no thread and no file.
///
/// Each [`step`](Self::step) decides by chance of its own number what happens and lets it happen. So the world after a
/// number of steps depends on the settings only, and a world that was saved and loaded goes on as the same one.
pub struct World {
    pub(super) config: SimulatorConfig,
    pub(super) flavour: Flavour,
    pub(super) wallet: Wallet,
    pub(super) coins: Coins,
    pub(super) pool: Pool,
    pub(super) immature: VecDeque<Immature>,
    /// Newest blocks of the best chain: what a reorg may disconnect.
    pub(super) recent: VecDeque<Arc<SimBlock>>,
    /// Times of the newest headers of the best chain, more than `recent`.
    pub(super) times: VecDeque<u32>,
    pub(super) tip: BlockHash,
    pub(super) height: i32,
    /// Steps taken.
    pub(super) steps: u64,
    /// Blocks mined, on all branches.
    pub(super) mined: u64,
    /// Changes of the mempool.
    pub(super) changes: u64,
    /// Nanoseconds since the start.
    pub(super) now: u64,
    pub(super) next_payment: u64,
    pub(super) next_block: u64,
}

impl World {
    /// A world that is only a genesis block.
    ///
    /// # Errors
    /// What is wrong with the settings.
    pub fn new(config: &SimulatorConfig) -> Result<Self, String> {
        config.check()?;
        let flavour = config.network.flavour();
        let genesis = genesis_block(config.network.bitcoin());
        Ok(Self {
            flavour,
            wallet: Wallet::new(config.seed, flavour),
            coins: Coins::default(),
            pool: Pool::default(),
            immature: VecDeque::new(),
            recent: VecDeque::new(),
            times: VecDeque::from([genesis.header.time]),
            tip: genesis.block_hash(),
            height: 0,
            steps: 0,
            mined: 0,
            changes: 0,
            now: 0,
            next_payment: config.payment_interval().unwrap_or(u64::MAX),
            next_block: config.interval(),
            config: config.clone(),
        })
    }

    /// Hash of the best block.
    pub fn tip(&self) -> BlockHash {
        self.tip
    }

    /// Height of the best block.
    pub fn height(&self) -> i32 {
        self.height
    }

    /// Steps taken so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Transactions in the mempool, parents before children.
    pub fn mempool(&self) -> impl Iterator<Item = &Arc<SimTransaction>> {
        self.pool.iter().map(|(_, transaction)| transaction)
    }

    /// A transaction in the mempool.
    pub fn transaction(&self, txid: &Txid) -> Option<&Arc<SimTransaction>> {
        self.pool.get(txid)
    }

    /// Number of the newest change of the mempool; 0 before the first.
    pub fn sequence(&self) -> u64 {
        self.changes
    }

    /// Simulated time since the start.
    pub fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.now)
    }

    /// When the next step is due, since the start; `None` when all is over.
    pub fn next_at(&self) -> Option<Duration> {
        if self.config.blocks.is_some_and(|blocks| self.height as u64 >= blocks) {
            None
        } else if self.height < FIRST_LIVE_HEIGHT {
            Some(Duration::ZERO)
        } else {
            Some(Duration::from_nanos(self.next_payment.min(self.next_block)))
        }
    }

    /// Takes the next step, whatever the time.
    pub fn step(&mut self) -> Vec<Event> {
        if self.next_at().is_none() {
            return Vec::new();
        }
        let mut chance = Chance::of_step(self.config.seed, self.steps);
        self.steps += 1;
        let mut events = Vec::new();
        if self.height < FIRST_LIVE_HEIGHT {
            self.early_block(&mut chance, &mut events);
        } else if self.next_payment < self.next_block {
            self.now = self.next_payment;
            let mean = self.config.payment_interval().unwrap_or(u64::MAX / 4);
            self.next_payment = self.now.saturating_add(chance.between(1, mean.saturating_mul(2)));
            self.pay(&mut chance, &mut events);
        } else {
            self.now = self.next_block;
            self.next_block = self.now.saturating_add(self.config.interval());
            self.fill(&mut chance, &mut events);
            match self.reorg_depth(&mut chance) {
                0 => self.extend(&mut chance, &mut events),
                depth => self.reorganise(depth, &mut chance, &mut events),
            }
        }
        events
    }

    /// One of the blocks before the start. As soon as there is money it is spread, so that many can pay at once.
    fn early_block(&mut self, chance: &mut Chance, events: &mut Vec<Event>) {
        for _ in 0..self.coins.len().min(8) {
            self.pay(chance, events);
        }
        self.extend(chance, events);
    }

    fn extend(&mut self, chance: &mut Chance, events: &mut Vec<Event>) {
        let double_spend = chance.one_in(DOUBLE_SPEND_IN_BLOCK);
        let victim = if double_spend { self.pool.pick(chance).cloned() } else { None };
        let Connected { block, from_pool, conflicts } = self.connect(victim, chance);
        self.changes += from_pool.len() as u64;
        for (txid, by) in conflicts {
            events.push(self.removed(txid, RemovalReason::Conflicted, by));
        }
        events.push(Event::Mined { block, place: Place::Tip { disconnected: 0 } });
    }

    fn reorg_depth(&self, chance: &mut Chance) -> u32 {
        let room = u32::try_from(self.height - FIRST_LIVE_HEIGHT).unwrap_or(0).min(self.recent.len() as u32);
        let most = room.min(self.config.max_reorg_depth);
        if most == 0 || !chance.per_million(self.config.reorgs_per_million()) {
            return 0;
        }
        if chance.one_in(DEEP_REORG) {
            return chance.between(1, most.into()) as u32;
        }
        let mut depth = 1;
        while depth < most && chance.one_in(3) {
            depth += 1;
        }
        depth
    }

    /// Mines a branch that leaves the best chain `depth` blocks before its tip and is one block longer.
    fn reorganise(&mut self, depth: u32, chance: &mut Chance, events: &mut Vec<Event>) {
        let mut returned: VecDeque<Arc<SimTransaction>> = VecDeque::new();
        for _ in 0..depth {
            let Some(block) = self.recent.pop_back() else { break };
            self.times.pop_back();
            self.immature.pop_back();
            self.tip = block.header.prev_blockhash;
            self.height = block.height - 1;
            block.transactions[1..]
                .iter()
                .rev()
                .for_each(|transaction| returned.push_front(transaction.clone()));
        }
        let confirmed: HashSet<Txid> = returned.iter().map(|transaction| transaction.txid).collect();
        let victim = returned.front().filter(|_| chance.one_in(2)).cloned();
        self.pool = std::mem::take(&mut self.pool).behind(returned);

        let mut gone = Vec::new();
        for number in 0..=depth {
            let victim = victim.clone().filter(|_| number == 0);
            let Connected { block, from_pool, conflicts } = self.connect(victim, chance);
            gone.extend(conflicts);
            self.changes += from_pool.iter().filter(|txid| !confirmed.contains(*txid)).count() as u64;
            let place = if number < depth { Place::Branch } else { Place::Tip { disconnected: depth } };
            events.push(Event::Mined { block, place });
        }
        for (txid, by) in gone {
            // what was in a disconnected block and lost there was never in the mempool to leave it
            if !confirmed.contains(&txid) {
                events.push(self.removed(txid, RemovalReason::Conflicted, by));
            }
        }
        let back: Vec<_> =
            self.mempool().filter(|transaction| confirmed.contains(&transaction.txid)).cloned().collect();
        for transaction in back {
            self.changes += 1;
            events.push(Event::Added { transaction, sequence: self.changes });
        }
    }

    fn removed(&mut self, txid: Txid, reason: RemovalReason, by: Txid) -> Event {
        self.changes += 1;
        Event::Removed { txid, sequence: self.changes, reason, by }
    }

    /// A script of somebody.
    pub(super) fn somebody(&self, chance: &mut Chance) -> ScriptBuf {
        self.wallet.script(chance.below(self.wallet.len()) as u16).clone()
    }
}
