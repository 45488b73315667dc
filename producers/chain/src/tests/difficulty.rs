//! The difficulty rules: vectors of the nodes' own tests, and real blocks.

use bitcoin::consensus::encode::deserialize_hex;
use sluice_schemas::Network;

use super::*;
use crate::difficulty::{Ancestor, Branch, Missing, PowRules, block_work};
use crate::target::{from_compact, to_compact};
use crate::uint::U256;
use crate::{Error, Rule};

/// A chain of times and targets; heights start at `first`, and nothing below is held.
struct Chain {
    first: i32,
    blocks: Vec<Ancestor>,
}

impl Chain {
    fn new(first: i32, time: u32, bits: u32) -> Self {
        Self { first, blocks: vec![Ancestor { time, bits, chain_work: block_work(bits) }] }
    }

    fn push(&mut self, seconds: i64, bits: u32) {
        let tip = *self.blocks.last().expect("never empty");
        self.blocks.push(Ancestor {
            time: (i64::from(tip.time) + seconds) as u32,
            bits,
            chain_work: tip.chain_work.checked_add(block_work(bits)).expect("small"),
        });
    }

    fn repeat(mut self, blocks: usize, seconds: i64, bits: u32) -> Self {
        (0..blocks).for_each(|_| self.push(seconds, bits));
        self
    }

    fn tip_time(&self) -> u32 {
        self.blocks.last().expect("never empty").time
    }

    fn next(&self, network: Network) -> u32 {
        PowRules::of(network).required(self, self.tip_time()).expect("held")
    }
}

impl Branch for Chain {
    fn height(&self) -> i32 {
        self.first + self.blocks.len() as i32 - 1
    }

    fn at(&self, height: i32) -> Result<Ancestor, Missing> {
        let index = usize::try_from(height - self.first).map_err(|_| Missing { height })?;
        self.blocks.get(index).copied().ok_or(Missing { height })
    }
}

/// A whole period of which only the times of the first and the last block matter.
fn period(last_height: i32, first_time: u32, last_time: u32, bits: u32) -> Chain {
    let mut chain = Chain::new(last_height - 2015, first_time, bits).repeat(2014, 0, bits);
    chain.push(i64::from(last_time) - i64::from(first_time), bits);
    chain
}

#[test]
fn retargets_are_those_of_bitcoin_cores_pow_tests() {
    for (height, first, last, bits, required) in [
        (32_255, 1_261_130_161, 1_262_152_739, 0x1d00_ffff, 0x1d00_d86a), // mainnet's first change
        (2_015, 1_231_006_505, 1_233_061_996, 0x1d00_ffff, 0x1d00_ffff),  // at the limit
        (68_543, 1_279_008_237, 1_279_297_671, 0x1c05_a3f4, 0x1c01_68fd), // four times harder at most
        (46_367, 1_263_163_443, 1_269_211_443, 0x1c38_7f6f, 0x1d00_e1fd), // four times easier at most
    ] {
        let chain = period(height, first, last, bits);
        assert_eq!(chain.next(Network::BtcMainnet), required, "{height}");
        assert_eq!(chain.next(Network::BsvMainnet), required, "one history");
    }
}

#[test]
fn between_retargets_the_target_stays() {
    let chain = Chain::new(40_320, 1_270_000_000, 0x1c3a_bcde).repeat(100, 60, 0x1c3a_bcde);
    for network in [Network::BtcMainnet, Network::BtcSignet, Network::BsvMainnet] {
        assert_eq!(chain.next(network), 0x1c3a_bcde);
    }
}

#[test]
fn too_little_history_is_told_not_let_pass() {
    let chain = Chain::new(40_330, 1_270_000_000, 0x1c3a_bcde).repeat(2005, 600, 0x1c3a_bcde);
    assert_eq!(chain.height() + 1, 21 * 2016);
    let missing = PowRules::of(Network::BtcMainnet).required(&chain, chain.tip_time());
    assert_eq!(missing, Err(Missing { height: 40_320 }));
    let chain = Chain::new(600_000, 1_570_000_000, 0x1803_abcd).repeat(100, 600, 0x1803_abcd);
    let missing = PowRules::of(Network::BsvMainnet).required(&chain, chain.tip_time());
    assert_eq!(missing, Err(Missing { height: 599_954 }));
}

#[test]
fn testnet_block_after_twenty_minutes_is_easy_and_the_next_is_not() {
    let (limit, regular) = (0x1d00_ffff, 0x1c00_abcd);
    for network in [Network::BtcTestnet4, Network::BsvTestnet] {
        let rules = PowRules::of(network);
        let mut chain = Chain::new(20_160, 1_700_000_000, regular).repeat(10, 600, regular);
        let time = chain.tip_time();
        assert_eq!(rules.required(&chain, time + 1200), Ok(regular));
        assert_eq!(rules.required(&chain, time + 1201), Ok(limit));
        chain.push(1201, limit);
        chain.push(1201, limit);
        assert_eq!(chain.next(network), regular, "the last regular block counts");
        // With a whole period of easy blocks the walk ends at the period's first.
        let easy = Chain::new(20_160, 1_700_000_000, limit).repeat(9, 1201, limit);
        assert_eq!(easy.next(network), limit);
    }
}

#[test]
fn testnet4_retargets_from_the_first_block_of_the_period() {
    let (limit, regular) = (0x1d00_ffff, 0x1c00_abcd);
    let mut chain = Chain::new(20_160, 1_700_000_000, regular).repeat(2014, 600, regular);
    chain.push(600, limit);
    let exact = from_compact(regular).expect("a target").wrapping_mul_u64(2015 * 600).div_u64(2016 * 600);
    assert_eq!(chain.next(Network::BtcTestnet4), to_compact(exact));
    let rules = PowRules::of(Network::BtcTestnet4);
    let time = chain.tip_time();
    assert_eq!(rules.warps_time(&chain, time - 600), Ok(false));
    assert_eq!(rules.warps_time(&chain, time - 601), Ok(true));
    assert_eq!(PowRules::of(Network::BtcMainnet).warps_time(&chain, time - 601), Ok(false));
}

/// `GetNextWorkRequired` of Bitcoin ABC's pow_tests, from which Bitcoin SV has its code.
#[test]
fn emergency_rule_eases_by_a_quarter_after_twelve_hours_for_six_blocks() {
    let half = to_compact(PowRules::of(Network::BsvMainnet).limit.shr(1));
    let mut chain = Chain::new(0, 1_269_211_443, half).repeat(99, 600, half);
    for _ in 100..110 {
        chain.push(7200, half);
        assert_eq!(chain.next(Network::BsvMainnet), half);
    }
    let mut bits = half;
    for _ in 0..3 {
        chain.push(7200, bits);
        let target = from_compact(bits).expect("a target");
        let eased = to_compact(target.checked_add(target.shr(2)).expect("small"));
        assert_eq!(chain.next(Network::BsvMainnet), eased);
        assert_eq!(chain.next(Network::BtcMainnet), bits, "Bitcoin has no such rule");
        bits = eased;
    }
    chain.push(7200, bits);
    assert_eq!(chain.next(Network::BsvMainnet), 0x1d00_ffff, "not below the limit");
    chain.push(7200, 0x1d00_ffff);
    assert_eq!(chain.next(Network::BsvMainnet), 0x1d00_ffff);
}

/// `cash_difficulty_test` of Bitcoin ABC's pow_tests with its expected values, moved above the activation height.
#[test]
fn moving_window_gives_the_values_of_the_nodes_own_test() {
    let network = Network::BsvMainnet;
    let mut bits = to_compact(PowRules::of(network).limit.shr(4));
    let mut chain = Chain::new(600_000, 1_269_211_443, bits).repeat(2049, 600, bits);
    assert_eq!(chain.next(network), bits);
    let mut emit = |chain: &mut Chain, blocks: usize, seconds: i64| {
        for _ in 0..blocks {
            chain.push(seconds, bits);
            bits = chain.next(network);
        }
        bits
    };
    let start = emit(&mut chain, 10, 600);
    assert_eq!(emit(&mut chain, 1, 6000), start, "a block far in the future");
    assert_eq!(emit(&mut chain, 1, 2 * 600 - 6000), start, "and the next one in time");
    assert_eq!(emit(&mut chain, 20, 600), start);
    assert_eq!(emit(&mut chain, 1, 550), start, "the first fast block has no impact");
    assert_eq!(emit(&mut chain, 10, 550), 0x1c0f_e7b1);
    assert_eq!(emit(&mut chain, 20, 10), 0x1c0d_b19f);
    assert_eq!(emit(&mut chain, 1, 6000), 0x1c0d_9222);
    assert_eq!(emit(&mut chain, 93, 6000), 0x1c2f_13b9);
    assert_eq!(emit(&mut chain, 1, 6000), 0x1c2e_e9bf, "the bounded window makes it harder");
    assert_eq!(emit(&mut chain, 192, 6000), 0x1d00_ffff);
    assert_eq!(emit(&mut chain, 5, 6000), 0x1d00_ffff);
}

#[test]
fn moving_window_starts_after_its_activation_height() {
    let bits = 0x1803_abcd;
    let below = Chain::new(503_000, 1_510_000_000, bits).repeat(1030, 300, bits);
    assert_eq!((below.height(), below.next(Network::BsvMainnet)), (504_030, bits));
    let at = below.repeat(1, 300, bits);
    assert_ne!(at.next(Network::BsvMainnet), bits);
}

#[test]
fn mainnets_first_blocks_are_taken_with_all_rules() {
    // Blocks 1 and 2 of mainnet.
    let headers: Vec<Header> = [
        "010000006fe28c0ab6f1b372c1a6a246ae63f74f931e8365e15a089c68d6190000000000982051fd1e4ba744bbbe680e1fee14677ba1a3c3540bf7b1cdb606e857233e0e61bc6649ffff001d01e36299",
        "010000004860eb18bf1b1620e37e9490fc8a427514416fd75159ab86688e9a8300000000d5fdcc541e25de1c7a5addedf24858b8bb665c9f36ef744ee42c316022c90f9bb0bc6649ffff001d08d2bd61",
    ]
    .iter()
    .map(|hex| deserialize_hex(hex).expect("80 bytes"))
    .collect();
    for network in [Network::BtcMainnet, Network::BsvMainnet] {
        let mut tracker = ChainTracker::from_genesis(Settings::new(network, DifficultyRule::Check));
        tracker.observe(&headers).expect("mainnet's own");
        let steps = publish_all(&mut tracker);
        assert_eq!(
            steps[0].block_ref().hash.to_string(),
            "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f"
        );
        let Step::Connect { block, .. } = steps[2] else { panic!("connects") };
        let work = U256::from_be_bytes(block.chain_work);
        assert_eq!(work, U256::from_u64(0x3_0003_0003), "as getblockheader says");
        assert_eq!(block.median_time, headers[0].time);
    }
}

#[test]
fn every_networks_genesis_starts_its_tracker() {
    for network in Network::ALL {
        let tracker = ChainTracker::from_genesis(Settings::new(network, DifficultyRule::Check));
        assert_eq!(tracker.best().hash, network.genesis());
        let header = genesis_block(network.bitcoin()).header;
        assert!(from_compact(header.bits.to_consensus()) <= Some(PowRules::of(network).limit));
    }
}

#[test]
fn check_mode_with_a_suffix_refuses_until_the_history_is_there() {
    // Regtest never retargets, so any suffix will do; a difficulty unlike the parent's is refused at once.
    let headers = chain_on(&genesis(), 30, EASY);
    let mut tracker = ChainTracker::from_genesis(settings(DifficultyRule::Check));
    tracker.observe(&headers).expect("valid");
    let log = log_of(&publish_all(&mut tracker));
    let mut tracker =
        ChainTracker::from_published(settings(DifficultyRule::Check), &log[..1]).expect("linked");
    let next = chain_on(&headers[29], 1, EASY);
    assert!(matches!(tracker.observe(&next), Err(Error::NeedsOlder { needed: 21, .. })));
    tracker.extend_back(&log[1..10]).expect("linked");
    tracker.observe(&next).expect("ten blocks give the median time");
    let hard = chain_on(&next[0], 1, HARD);
    assert!(matches!(tracker.observe(&hard), Err(Error::Rule { rule: Rule::Difficulty, height: 32, .. })));
}
