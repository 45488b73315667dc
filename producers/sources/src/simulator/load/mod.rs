//! Chains for load: as many and as large blocks as asked for, made as they are read.
//!
//! Two passes over the same generator: the first, when a source is opened, hashes all transactions for the merkle roots
//! and headers (on all cores); the second is each body as it is read. Neither holds a block.

mod merkle;
mod plan;
mod stream;

use std::collections::HashMap;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bitcoin::block::{Header, Version};
use bitcoin::blockdata::constants::genesis_block;
use bitcoin::hashes::sha256d;
use bitcoin::{BlockHash, CompactTarget, OutPoint, TxMerkleNode, Txid};
use bytes::Bytes;
use sluice_schemas::Network;

use self::plan::Plan;
use self::stream::{BodyStream, SpentStream, measure, pattern};
use super::block::{REGTEST_BITS, SimBlock, grind};
use super::transaction::SimTransaction;
use crate::{Body, Error, Feed, Headers, Notice, Result, Snapshot, Source, Tip};

/// Seconds between two blocks.
const BLOCK_INTERVAL_SECS: u32 = 600;
/// 2025-01-01, 00:00 UTC.
const LAST_BLOCK_TIME: u32 = 1_735_689_600;
/// Most data in a transaction: what its length takes with the rest of the script fits into 32 bits.
const MAX_DATA_BYTES: u64 = u32::MAX as u64 - 64;

/// Settings of a [`LoadSource`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadConfig {
    /// `btc-regtest` or `bsv-regtest`.
    pub network: Network,
    /// Tells one chain from another.
    pub seed: u64,
    /// Blocks after genesis. The first is only a coinbase.
    pub blocks: u32,
    /// Transactions in each of the others, the coinbase included.
    pub transactions: u64,
    /// Data in each transaction that pays somebody, bytes.
    pub data_bytes: u64,
    /// One block of another size.
    pub huge: Option<HugeBlock>,
}

/// A block of any size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HugeBlock {
    /// Its height, 2 at least.
    pub height: i32,
    /// Size of its body at least, bytes.
    pub body_bytes: u64,
    /// Data in its largest transaction, bytes; below 4 GiB.
    pub transaction_bytes: u64,
    /// Data in each of the others, bytes.
    pub filler_bytes: u64,
}

impl Default for LoadConfig {
    fn default() -> Self {
        Self {
            network: Network::BtcRegtest,
            seed: 1,
            blocks: 10,
            transactions: 1_000,
            data_bytes: 0,
            huge: None,
        }
    }
}

impl LoadConfig {
    fn check(&self) -> Result<(), String> {
        if !matches!(self.network, Network::BtcRegtest | Network::BsvRegtest) {
            return Err(format!(
                "network {} cannot be simulated; btc-regtest and bsv-regtest can",
                self.network
            ));
        }
        let huge_bytes = self.huge.map_or(0, |huge| huge.transaction_bytes.max(huge.filler_bytes));
        if self.data_bytes.max(huge_bytes) > MAX_DATA_BYTES {
            return Err(format!("a transaction cannot have more than {MAX_DATA_BYTES} bytes of data"));
        }
        if self.huge.is_some_and(|huge| huge.height < 2 || huge.height.unsigned_abs() > self.blocks) {
            return Err(format!("the huge block must be at a height from 2 to {}", self.blocks));
        }
        if i32::try_from(self.blocks).is_err() || self.blocks > LAST_BLOCK_TIME / BLOCK_INTERVAL_SECS / 4 {
            return Err(format!("{} blocks are too many", self.blocks));
        }
        Ok(())
    }
}

struct Generated {
    header: Header,
    hash: BlockHash,
    plan: Plan,
    size: u64,
}

/// A chain that is there at once, with blocks of any number and size. It has no mempool and never changes.
///
/// Proof of work, merkle roots and values are right, and every input spends an output of the same block or of the
/// coinbase before. Signatures are not valid, and limits on size, subsidy and maturity are not kept: it is for what
/// trusts proof of work and merkle roots, not for nodes.
pub struct LoadSource {
    id: String,
    network: Network,
    genesis: SimBlock,
    /// By height, from 1 on.
    blocks: Vec<Generated>,
    heights: HashMap<BlockHash, usize>,
    pattern: Arc<[u8]>,
}

impl LoadSource {
    /// Makes the headers, which takes a pass over all transactions: about a second for a million small ones on a core.
    ///
    /// # Errors
    /// [`Error::Refused`] for settings that cannot be.
    pub fn new(config: LoadConfig) -> Result<Self> {
        let id = format!("load:{}", config.seed);
        config.check().map_err(|reason| Error::Refused { source_id: id.clone(), reason })?;
        let genesis = genesis_block(config.network.bitcoin());
        let genesis = SimBlock {
            hash: genesis.block_hash(),
            height: 0,
            header: genesis.header,
            transactions: vec![Arc::new(SimTransaction::new(genesis.txdata[0].clone(), Vec::new()))],
        };
        let pattern = pattern();
        let plans = plans(&config);
        let measured = measure_all(&plans, &pattern);
        let mut parent = genesis.hash;
        let mut blocks = Vec::with_capacity(plans.len());
        for (plan, (root, size)) in plans.into_iter().zip(measured) {
            let behind = config.blocks - plan.height.unsigned_abs();
            let mut header = Header {
                version: Version::from_consensus(0x2000_0000),
                prev_blockhash: parent,
                merkle_root: TxMerkleNode::from_raw_hash(root),
                time: LAST_BLOCK_TIME - behind * BLOCK_INTERVAL_SECS,
                bits: CompactTarget::from_consensus(REGTEST_BITS),
                nonce: 0,
            };
            let hash = grind(&mut header);
            parent = hash;
            blocks.push(Generated { header, hash, plan, size });
        }
        let hashes = std::iter::once(genesis.hash).chain(blocks.iter().map(|block| block.hash));
        let heights = hashes.zip(0..).collect();
        Ok(Self { id, network: config.network, genesis, blocks, heights, pattern })
    }
}

/// What all blocks are made of: each spends the coinbase of the one before.
fn plans(config: &LoadConfig) -> Vec<Plan> {
    let mut funds = None;
    (1..=config.blocks.cast_signed())
        .map(|height| {
            let plan = Plan::new(config, height, funds);
            funds = Some((OutPoint { txid: plan.coinbase().compute_txid(), vout: 0 }, plan.reward()));
            plan
        })
        .collect()
}

fn measure_all(plans: &[Plan], pattern: &[u8]) -> Vec<(sha256d::Hash, u64)> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        while let Some((at, plan)) =
            Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|at| Some((at, plans.get(at)?)))
        {
            done.push((at, measure(plan, pattern)));
        }
        done
    };
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get).min(plans.len());
    let mut all: Vec<(usize, (sha256d::Hash, u64))> = std::thread::scope(|scope| {
        let started: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut all = work();
        for thread in started {
            all.extend(thread.join().expect("measuring does not panic"));
        }
        all
    });
    all.sort_unstable_by_key(|(at, _)| *at);
    all.into_iter().map(|(_, measured)| measured).collect()
}

impl Source for LoadSource {
    fn id(&self) -> &str {
        &self.id
    }

    fn network(&self) -> Network {
        self.network
    }

    fn tip(&self) -> Result<Tip> {
        let hash = self.blocks.last().map_or(self.genesis.hash, |block| block.hash);
        Ok(Tip { hash, height: self.blocks.len() as i32 })
    }

    fn headers(&self, locator: &[BlockHash], max: usize) -> Result<Headers> {
        let after = locator.iter().find_map(|hash| Some((*hash, *self.heights.get(hash)?)));
        let from = after.map_or(0, |(_, height)| height + 1);
        let all = std::iter::once(self.genesis.header).chain(self.blocks.iter().map(|block| block.header));
        Ok(Headers { after: after.map(|(hash, _)| hash), headers: all.skip(from).take(max).collect() })
    }

    fn body(&self, hash: &BlockHash) -> Result<Body> {
        if *hash == self.genesis.hash {
            let (body, spent) = (self.genesis.body(), self.genesis.spent());
            let size = Some(body.len() as u64);
            return Ok(Body {
                size,
                bytes: Box::new(std::io::Cursor::new(body)),
                spent: Some(Box::new(std::io::Cursor::new(spent))),
            });
        }
        let block = self.heights.get(hash).and_then(|height| self.blocks.get(height.checked_sub(1)?));
        let block = block.ok_or_else(|| Error::NoSuchBlock { source_id: self.id.clone(), hash: *hash })?;
        Ok(Body {
            size: Some(block.size),
            bytes: Box::new(BodyStream::new(block.plan.clone(), &block.header, self.pattern.clone())),
            spent: Some(Box::new(SpentStream::new(block.plan.clone()))),
        })
    }

    fn feed(&self) -> Result<Box<dyn Feed>> {
        Ok(Box::new(Silence))
    }

    fn mempool(&self) -> Result<Snapshot> {
        Ok(Snapshot { txids: Vec::new(), sequence: Some(0) })
    }

    fn transactions(&self, txids: &[Txid]) -> Result<Vec<Option<Bytes>>> {
        Ok(vec![None; txids.len()])
    }
}

/// Nothing ever happens.
struct Silence;

impl Feed for Silence {
    fn wait(&mut self, wait: Duration) -> Result<Vec<Notice>> {
        std::thread::sleep(wait);
        Ok(Vec::new())
    }
}
