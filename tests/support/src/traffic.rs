//! A network that does not stand still: payments, chains of payments, double spends, blocks and reorganisations.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use sluice_schemas::Flavour;

use crate::block::Branch;
use crate::node::Node;
use crate::rpc::CallError;
use crate::wallet::{Coin, FEE, Lock, Wallet};

/// Rest between two actions.
const PACE: Duration = Duration::from_millis(8);
/// Satoshis: well above the highest fee of a replacement.
const WORTH_SPENDING: u64 = 1_000_000;
/// Deepest reorganisation.
const DEEPEST: usize = 6;

/// What was done. Tells whether a test met what it is about.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Transactions that the node took.
    pub sent: u32,
    /// Spends of something that another transaction spends.
    pub double_spends: u32,
    /// Blocks mined.
    pub mined: u32,
    /// Reorganisations.
    pub reorganisations: u32,
    /// Calls that failed, say because the node was down.
    pub failed: u32,
}

/// Runs until stopped.
pub struct Traffic {
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<Tally>>,
}

impl Traffic {
    /// Starts it. What happens follows from `seed`; when it happens does not.
    pub fn start(node: Arc<Node>, wallet: Wallet, seed: u64) -> Self {
        let stopped = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let stopped = Arc::clone(&stopped);
            move || {
                let rng = ChaCha8Rng::seed_from_u64(seed);
                let mut run = Run { node, wallet, rng, tally: Tally::default(), last: None };
                while !stopped.load(Ordering::Relaxed) {
                    if run.step().is_err() {
                        run.tally.failed += 1;
                    }
                    std::thread::sleep(PACE);
                }
                run.tally
            }
        });
        Self { stopped, thread: Some(thread) }
    }

    /// Stops it and says what it did.
    pub fn stop(mut self) -> Tally {
        self.stopped.store(true, Ordering::Relaxed);
        self.thread.take().expect("it is stopped once").join().expect("the traffic did not panic")
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Run {
    node: Arc<Node>,
    wallet: Wallet,
    rng: ChaCha8Rng,
    tally: Tally,
    /// The coin that was spent last, for who wants to spend it again.
    last: Option<Coin>,
}

impl Run {
    fn step(&mut self) -> Result<(), CallError> {
        match self.rng.random_range(0..1000) {
            0..800 => self.pay(),
            800..880 => self.double_spend(),
            880..980 => {
                self.node.try_mine()?;
                self.tally.mined += 1;
                Ok(())
            }
            _ => self.reorganise(),
        }
    }

    fn pay(&mut self) -> Result<(), CallError> {
        // A coin that was halved too often is not worth its fees.
        let Some(coin) = self.wallet.coins.pop().filter(|coin| coin.value > WORTH_SPENDING) else {
            return Ok(());
        };
        let lock = match self.node.flavour {
            Flavour::Btc if self.rng.random_bool(0.5) => Lock::AnyoneByWitness,
            _ => Lock::Anyone,
        };
        let tx = Wallet::pay(&coin, lock, FEE);
        self.node.try_send(&tx)?;
        self.tally.sent += 1;
        self.last = Some(coin);
        // Some change is spent next: a chain of unconfirmed transactions. The rest waits until it is likely mined.
        let change = Coin::of(&tx);
        match self.rng.random_bool(0.3) {
            true => self.wallet.coins.extend(change),
            false => self.wallet.coins.splice(0..0, change).for_each(drop),
        }
        Ok(())
    }

    /// A replacement where the network has them, else a conflict that a block decides.
    fn double_spend(&mut self) -> Result<(), CallError> {
        let Some(coin) = self.last.take() else { return Ok(()) };
        let fee = FEE * self.rng.random_range(5..20);
        let tx = Wallet::pay(&coin, Lock::Anyone, fee);
        match self.node.flavour {
            Flavour::Btc => drop(self.node.try_send(&tx)?),
            Flavour::Bsv => {
                // Refused by the mempool, as it must be; then mined all the same.
                let _ = self.node.try_send(&tx);
                let branch = Branch::grow(&self.node.try_tip()?, 1, vec![tx]);
                self.node.try_submit(&branch.blocks[0])?;
            }
        }
        self.tally.double_spends += 1;
        Ok(())
    }

    fn reorganise(&mut self) -> Result<(), CallError> {
        let depth = self.rng.random_range(1..=DEEPEST);
        let tip = self.node.try_tip()?;
        let fork = self.node.try_block_at(tip.height - depth as i32)?;
        for block in Branch::grow(&fork, depth + 1, vec![]).blocks {
            self.node.try_submit(&block)?;
        }
        self.tally.reorganisations += 1;
        Ok(())
    }
}
