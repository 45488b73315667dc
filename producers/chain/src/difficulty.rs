//! Which target the network's rules demand of the next block (Bitcoin Core's and Bitcoin SV's `pow.cpp`).

use sluice_schemas::Network;

use crate::target::{from_compact, to_compact, work};
use crate::uint::U256;

/// Blocks between two retargets.
const INTERVAL: i32 = 2016;
/// Seconds a block should take.
const SPACING: i64 = 600;
/// Seconds that `INTERVAL` blocks should take.
const TIMESPAN: i64 = INTERVAL as i64 * SPACING;
/// Blocks whose times the median is of (BIP-113).
pub(crate) const MEDIAN_SPAN: i32 = 11;
/// Blocks of the window of Bitcoin SV's rule of November 2017.
const DAA_WINDOW: i32 = 144;
/// Seconds without progress, over six blocks, after which the emergency rule of August 2017 eases the target.
const EMERGENCY: i64 = 12 * 3600;
/// Seconds by which testnet4's first block of a period may be older than its parent (BIP-94).
const MAX_TIMEWARP: i64 = 600;

/// The ancestors that a rule wanted are not held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Missing {
    /// The lowest height wanted.
    pub(crate) height: i32,
}

/// What the rules look at in an ancestor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ancestor {
    pub(crate) time: u32,
    pub(crate) bits: u32,
    pub(crate) chain_work: U256,
}

/// The branch that a new block would extend.
pub(crate) trait Branch {
    /// Height of the block to extend.
    fn height(&self) -> i32;
    /// The ancestor of the new block at a height between 0 and `height()`.
    fn at(&self, height: i32) -> Result<Ancestor, Missing>;
}

/// How the target changes from block to block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Schedule {
    /// It does not.
    Never,
    /// Every 2016 blocks; `bip94` retargets from the period's first block, and binds its time.
    Bitcoin { bip94: bool },
    /// Every 2016 blocks with the emergency rule; from `daa_height` on with each block, over a window of 144.
    BitcoinSv { daa_height: i32 },
}

/// What a network demands of proof of work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PowRules {
    /// The easiest target.
    pub(crate) limit: U256,
    schedule: Schedule,
    /// Whether a block 20 minutes younger than its parent may have the easiest target.
    min_difficulty: bool,
}

const MAINNET_LIMIT: U256 = U256::from_limbs([0x0000_0000_ffff_ffff, u64::MAX, u64::MAX, u64::MAX]);
const SIGNET_LIMIT: U256 = U256::from_limbs([0x0000_0377_ae00_0000, 0, 0, 0]);
const REGTEST_LIMIT: U256 = U256::from_limbs([0x7fff_ffff_ffff_ffff, u64::MAX, u64::MAX, u64::MAX]);

impl PowRules {
    pub(crate) fn of(network: Network) -> Self {
        let (limit, schedule, min_difficulty) = match network {
            Network::BtcMainnet => (MAINNET_LIMIT, Schedule::Bitcoin { bip94: false }, false),
            Network::BtcTestnet4 => (MAINNET_LIMIT, Schedule::Bitcoin { bip94: true }, true),
            Network::BtcSignet => (SIGNET_LIMIT, Schedule::Bitcoin { bip94: false }, false),
            Network::BsvMainnet => (MAINNET_LIMIT, Schedule::BitcoinSv { daa_height: 504_031 }, false),
            Network::BsvTestnet => (MAINNET_LIMIT, Schedule::BitcoinSv { daa_height: 1_188_697 }, true),
            Network::BtcRegtest | Network::BsvRegtest => (REGTEST_LIMIT, Schedule::Never, false),
        };
        Self { limit, schedule, min_difficulty }
    }

    /// The `bits` demanded of a block with `time` on top of `branch`.
    pub(crate) fn required(&self, branch: &dyn Branch, time: u32) -> Result<u32, Missing> {
        match self.schedule {
            Schedule::Never => Ok(branch.at(branch.height())?.bits),
            Schedule::Bitcoin { bip94 } => self.periodic(branch, time, bip94, false),
            Schedule::BitcoinSv { daa_height } if branch.height() >= daa_height => self.moving(branch, time),
            Schedule::BitcoinSv { .. } => self.periodic(branch, time, false, true),
        }
    }

    /// Whether a block's time opens a period too far before its parent's (BIP-94; no other network asks).
    pub(crate) fn warps_time(&self, branch: &dyn Branch, time: u32) -> Result<bool, Missing> {
        let height = branch.height();
        if self.schedule != (Schedule::Bitcoin { bip94: true }) || (height + 1) % INTERVAL != 0 {
            return Ok(false);
        }
        Ok(i64::from(time) < i64::from(branch.at(height)?.time) - MAX_TIMEWARP)
    }

    fn limit_bits(&self) -> u32 {
        to_compact(self.limit)
    }

    fn at_most_limit(&self, target: U256) -> u32 {
        to_compact(target.min(self.limit))
    }

    /// `GetNextWorkRequired` of Bitcoin Core, and Bitcoin SV's before the November 2017 rule.
    fn periodic(&self, branch: &dyn Branch, time: u32, bip94: bool, emergency: bool) -> Result<u32, Missing> {
        let height = branch.height();
        let parent = branch.at(height)?;
        if (height + 1) % INTERVAL == 0 {
            let first = branch.at(height - (INTERVAL - 1))?;
            return Ok(self.retarget(parent, first, if bip94 { first.bits } else { parent.bits }));
        }
        if self.min_difficulty {
            if is_late(parent, time) {
                return Ok(self.limit_bits());
            }
            return self.last_regular_bits(branch);
        }
        if emergency && parent.bits != self.limit_bits() {
            let progress =
                i64::from(median_time(branch, height)?) - i64::from(median_time(branch, height - 6)?);
            if progress >= EMERGENCY {
                let target = from_compact(parent.bits).unwrap_or(self.limit);
                return Ok(self.at_most_limit(target.checked_add(target.shr(2)).unwrap_or(self.limit)));
            }
        }
        Ok(parent.bits)
    }

    /// `CalculateNextWorkRequired`.
    fn retarget(&self, last: Ancestor, first: Ancestor, from_bits: u32) -> u32 {
        let timespan = (i64::from(last.time) - i64::from(first.time)).clamp(TIMESPAN / 4, TIMESPAN * 4);
        let target = from_compact(from_bits).unwrap_or(self.limit);
        self.at_most_limit(target.wrapping_mul_u64(timespan as u64).div_u64(TIMESPAN as u64))
    }

    /// The bits of the newest block of the period that did not use the 20-minute rule.
    fn last_regular_bits(&self, branch: &dyn Branch) -> Result<u32, Missing> {
        let mut height = branch.height();
        loop {
            let block = branch.at(height)?;
            if height % INTERVAL == 0 || block.bits != self.limit_bits() {
                return Ok(block.bits);
            }
            height -= 1;
        }
    }

    /// `GetNextCashWorkRequired`: from the work and the time of the last 144 blocks.
    fn moving(&self, branch: &dyn Branch, time: u32) -> Result<u32, Missing> {
        let height = branch.height();
        if self.min_difficulty && is_late(branch.at(height)?, time) {
            return Ok(self.limit_bits());
        }
        let first = suitable(branch, height - DAA_WINDOW)?;
        let last = suitable(branch, height)?;
        let window = i64::from(DAA_WINDOW);
        let timespan =
            (i64::from(last.time) - i64::from(first.time)).clamp(window / 2 * SPACING, window * 2 * SPACING);
        let done = last.chain_work.checked_sub(first.chain_work).unwrap_or(U256::ONE);
        let per_block = done.wrapping_mul_u64(SPACING as u64).div_u64(timespan as u64).max(U256::ONE);
        // (2^256 - w) / w, with 2^256 - w as ~w + 1.
        let target = per_block.not().checked_add(U256::ONE).unwrap_or(U256::ZERO).div(per_block);
        Ok(self.at_most_limit(target))
    }
}

/// Whether a block comes more than 20 minutes after its parent.
fn is_late(parent: Ancestor, time: u32) -> bool {
    i64::from(time) > i64::from(parent.time) + 2 * SPACING
}

/// Of the block at `height` and the two before it the one with the median time (`GetSuitableBlock`).
fn suitable(branch: &dyn Branch, height: i32) -> Result<Ancestor, Missing> {
    let oldest = (height - 2).max(0);
    let (mut a, mut b, mut c) =
        (branch.at(oldest)?, branch.at((height - 1).max(0))?, branch.at(height.max(0))?);
    // The nodes' own sorting network: which of two blocks with equal times is taken decides the work.
    if a.time > c.time {
        std::mem::swap(&mut a, &mut c);
    }
    if a.time > b.time {
        std::mem::swap(&mut a, &mut b);
    }
    if b.time > c.time {
        std::mem::swap(&mut b, &mut c);
    }
    Ok(b)
}

/// Median of the times of the block at `height` and the ten before it (BIP-113).
pub(crate) fn median_time(branch: &dyn Branch, height: i32) -> Result<u32, Missing> {
    let height = height.max(0);
    let lowest = (height - (MEDIAN_SPAN - 1)).max(0);
    let mut times = [0; MEDIAN_SPAN as usize];
    let span = (height - lowest + 1) as usize;
    for (slot, at) in times.iter_mut().zip((lowest..=height).rev()) {
        *slot = branch.at(at).map_err(|_| Missing { height: lowest })?.time;
    }
    times[..span].sort_unstable();
    Ok(times[span / 2])
}

/// Work of a block with these bits; zero where they are no target.
pub(crate) fn block_work(bits: u32) -> U256 {
    from_compact(bits).map_or(U256::ZERO, work)
}
