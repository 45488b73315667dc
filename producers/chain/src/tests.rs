//! Domain tests of the tracker.

mod difficulty;
mod following;
mod model;

use std::sync::atomic::{AtomicU32, Ordering};

use bitcoin::block::{Header, Version};
use bitcoin::blockdata::constants::genesis_block;
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, CompactTarget, TxMerkleNode};
use sluice_schemas::Network;

use crate::{Block, ChainTracker, DifficultyRule, Settings, Step};

/// Regtest's only target.
const EASY: u32 = 0x207f_ffff;
/// Sixteen times the work of `EASY`.
const HARD: u32 = 0x2007_ffff;

/// Makes each header differ from every other.
static SALT: AtomicU32 = AtomicU32::new(1);

fn genesis() -> Header {
    genesis_block(bitcoin::Network::Regtest).header
}

/// A header with a proof of work.
fn child_of(parent: &Header, bits: u32, time: u32) -> Header {
    let mut root = [0; 32];
    root[..4].copy_from_slice(&SALT.fetch_add(1, Ordering::Relaxed).to_le_bytes());
    let mut header = Header {
        version: Version::from_consensus(4),
        prev_blockhash: parent.block_hash(),
        merkle_root: TxMerkleNode::from_byte_array(root),
        time,
        bits: CompactTarget::from_consensus(bits),
        nonce: 0,
    };
    while header.validate_pow(header.target()).is_err() {
        header.nonce += 1;
    }
    header
}

fn chain_on(parent: &Header, length: usize, bits: u32) -> Vec<Header> {
    let mut headers = Vec::new();
    let mut parent = *parent;
    for _ in 0..length {
        parent = child_of(&parent, bits, parent.time + 600);
        headers.push(parent);
    }
    headers
}

fn settings(difficulty: DifficultyRule) -> Settings {
    Settings::new(Network::BtcRegtest, difficulty)
}

/// A tracker with genesis and `headers` published.
fn published(settings: Settings, headers: &[Header]) -> ChainTracker {
    let mut tracker = ChainTracker::from_genesis(settings);
    tracker.observe(headers).expect("valid");
    publish_all(&mut tracker);
    tracker
}

/// Publishes until nothing is left, three steps at a time, and returns the steps.
fn publish_all(tracker: &mut ChainTracker) -> Vec<Step> {
    let mut published = Vec::new();
    loop {
        let steps = tracker.next_steps(3);
        if steps.is_empty() {
            return published;
        }
        for step in steps {
            tracker.advance(&step).expect("the next step follows the tip");
            published.push(step);
        }
    }
}

/// The best chain as published, tip first, as a log would give it.
fn log_of(steps: &[Step]) -> Vec<Block> {
    let mut chain: Vec<Block> = Vec::new();
    for step in steps {
        match step {
            Step::Connect { block, .. } => chain.push(*block),
            Step::Disconnect(block) => {
                let gone = chain.pop().expect("a tip to disconnect");
                assert_eq!(gone.block_ref(), *block);
            }
        }
    }
    chain.reverse();
    chain
}

fn hashes(headers: &[Header]) -> Vec<BlockHash> {
    headers.iter().map(Header::block_hash).collect()
}
