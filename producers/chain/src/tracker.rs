//! The tree of headers held, its best branch, and the tip as published.

mod check;
mod tree;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use bitcoin::BlockHash;
use bitcoin::block::Header;
use bitcoin::blockdata::constants::genesis_block;

use crate::difficulty::{Ancestor, PowRules, block_work};
use crate::uint::U256;
use crate::{Block, BlockRef, ChainChange, Error, MAX_REJECTED, Result, Settings, Step};

/// Hashes of a locator that follow each other without a step in between.
const LOCATOR_DENSE: usize = 10;

/// A header in the tree.
#[derive(Clone, Copy, Debug)]
struct Node {
    header: Header,
    height: i32,
    chain_work: U256,
    /// `None` for history given without it.
    median_time: Option<u32>,
    /// Counts up with each header taken: of two with the same work the lower one was seen first.
    arrival: u64,
}

/// Follows the chain of headers with the most work from the chain as published.
///
/// Every block held descends from the oldest one held, which is on both the published and the best chain.
#[derive(Clone, Debug)]
pub struct ChainTracker {
    settings: Settings,
    rules: PowRules,
    nodes: HashMap<BlockHash, Node>,
    /// The best chain from the oldest block held to the best one.
    best: VecDeque<BlockHash>,
    /// Height of `best[0]`.
    lowest: i32,
    /// The blocks held that are not on the best chain, by height.
    side: BTreeMap<i32, Vec<BlockHash>>,
    published: Option<BlockHash>,
    /// Height of the log's first block, where it is known.
    start: Option<i32>,
    rejected: VecDeque<BlockHash>,
    arrivals: u64,
}

impl ChainTracker {
    /// Starts an empty log at the network's genesis block.
    pub fn from_genesis(settings: Settings) -> Self {
        let header = genesis_block(settings.network.bitcoin()).header;
        let node = Node {
            header,
            height: 0,
            chain_work: block_work(header.bits.to_consensus()),
            median_time: Some(header.time),
            arrival: 0,
        };
        Self::with_root(settings, header.block_hash(), node, Some(0))
    }

    /// Starts an empty log at a later block, the first one to be published.
    ///
    /// `older_first` are headers that end with the parent of `start` and tell its median time: at least ten, or all
    /// down to genesis. With [`Check`](crate::DifficultyRule::Check) more are needed: [`Error::NeedsOlder`] will say which, and
    /// [`ChainTracker::extend_back_below_start`] takes them.
    ///
    /// # Errors
    /// [`Error::Broken`] where the headers do not follow each other, [`Error::NeedsOlder`] where they are too few.
    pub fn from_start(
        settings: Settings,
        start: Header,
        height: i32,
        chain_work: [u8; 32],
        older_first: &[Header],
    ) -> Result<Self> {
        let hash = start.block_hash();
        let node = Node {
            header: start,
            height,
            chain_work: U256::from_be_bytes(chain_work),
            median_time: None,
            arrival: 0,
        };
        let mut tracker = Self::with_root(settings, hash, node, Some(height));
        for header in older_first.iter().rev() {
            tracker.push_oldest(header)?;
        }
        tracker.nodes.insert(hash, Node { median_time: Some(tracker.median_time(hash)?), ..node });
        Ok(tracker)
    }

    /// Continues a log.
    ///
    /// `newest_first` is the best chain as published from its tip down, as much as [`Settings::keep`] asks for, or all
    /// there is. More can be added by [`ChainTracker::extend_back`].
    ///
    /// # Errors
    /// [`Error::NoStart`] without any block, [`Error::Broken`] where the blocks do not follow each other.
    pub fn from_published(settings: Settings, newest_first: &[Block]) -> Result<Self> {
        let tip = newest_first.first().ok_or(Error::NoStart)?;
        let hash = tip.header.block_hash();
        let mut tracker = Self::with_root(settings, hash, Node::published(tip), None);
        tracker.published = Some(hash);
        tracker.extend_back(&newest_first[1..])?;
        Ok(tracker)
    }

    fn with_root(settings: Settings, hash: BlockHash, node: Node, start: Option<i32>) -> Self {
        Self {
            rules: PowRules::of(settings.network),
            settings,
            nodes: HashMap::from([(hash, node)]),
            best: VecDeque::from([hash]),
            lowest: node.height,
            side: BTreeMap::new(),
            published: None,
            start,
            rejected: VecDeque::new(),
            arrivals: 0,
        }
    }

    /// The tip as published; `None` before the first block is.
    pub fn tip(&self) -> Option<BlockRef> {
        self.published.map(|hash| self.block_ref(hash))
    }

    /// The best block known.
    pub fn best(&self) -> BlockRef {
        let height = self.lowest + self.best.len() as i32 - 1;
        BlockRef { hash: self.best[self.best.len() - 1], height }
    }

    /// The oldest block held.
    pub fn oldest(&self) -> BlockRef {
        BlockRef { hash: self.best[0], height: self.lowest }
    }

    /// Blocks held.
    pub fn held(&self) -> usize {
        self.nodes.len()
    }

    /// Height of a block, where it is held.
    pub fn height_of(&self, hash: &BlockHash) -> Option<i32> {
        self.nodes.get(hash).map(|node| node.height)
    }

    /// A block, where it is held together with what its median time needs.
    pub fn block(&self, hash: &BlockHash) -> Option<Block> {
        let node = self.nodes.get(hash)?;
        let median_time = self.median_time(*hash).ok()?;
        Some(Block {
            header: node.header,
            height: node.height,
            chain_work: node.chain_work.to_be_bytes(),
            median_time,
        })
    }

    /// Hashes of the best chain for a source to find the last common block: the newest ten, then at twice the
    /// distance each time, and the oldest held.
    ///
    /// A source that knows none of them answers from genesis on, which [`ChainTracker::observe`] refuses with
    /// [`Error::NeedsOlder`]; after [`ChainTracker::extend_back`] the locator goes back further.
    pub fn locator(&self) -> Vec<BlockHash> {
        let mut hashes = Vec::new();
        let (mut index, mut distance) = (self.best.len() - 1, 1);
        loop {
            hashes.push(self.best[index]);
            if index == 0 {
                return hashes;
            }
            if hashes.len() >= LOCATOR_DENSE {
                distance *= 2;
            }
            index = index.saturating_sub(distance);
        }
    }

    /// Takes an ascending run of headers that follows a block held; those already known are passed over.
    ///
    /// All of the run is taken or, on an error, nothing.
    ///
    /// # Errors
    /// [`Error::Rule`] names the rule broken, the hash and the height; [`Error::NeedsOlder`] asks for history;
    /// [`Error::Full`] says that some of what is held has to be published first.
    pub fn observe(&mut self, headers: &[Header]) -> Result<ChainChange> {
        let mut taken = Vec::new();
        let outcome = self.take(headers, &mut taken);
        if let Err(error) = outcome {
            for hash in taken {
                self.nodes.remove(&hash);
            }
            return Err(error);
        }
        for hash in &taken {
            self.side.entry(self.nodes[hash].height).or_default().push(*hash);
        }
        // Work grows with every block: the last of a run is its heaviest.
        if let Some(last) = taken.last()
            && self.nodes[last].chain_work > self.nodes[&self.best().hash].chain_work
        {
            self.make_best(*last);
        }
        Ok(self.change())
    }

    /// How the best chain differs from the published one.
    pub fn change(&self) -> ChainChange {
        let best = self.best();
        let Some(tip) = self.tip() else {
            let connected = (best.height - self.first_height() + 1) as usize;
            return ChainChange::Extended { best, connected };
        };
        let fork = self.fork(tip);
        let connected = (best.height - fork.height) as usize;
        match (tip.height - fork.height) as usize {
            0 if connected == 0 => ChainChange::Unchanged,
            0 => ChainChange::Extended { best, connected },
            disconnected => ChainChange::Reorganised { fork, best, disconnected, connected },
        }
    }

    /// The next steps, at most `max`, from the published tip to the best block.
    pub fn next_steps(&self, max: usize) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut tip = self.tip();
        while steps.len() < max {
            let step = match tip {
                Some(tip) if !self.is_best(tip) => Step::Disconnect(tip),
                _ => match self.connect(tip.map_or(self.first_height(), |tip| tip.height + 1)) {
                    Some(step) => step,
                    None => break,
                },
            };
            tip = match step {
                Step::Disconnect(block) => Some(self.parent(block)),
                Step::Connect { .. } => Some(step.block_ref()),
            };
            steps.push(step);
        }
        steps
    }

    /// Notes that a step was published. It need not be on the best chain any more: headers may have come meanwhile.
    ///
    /// # Errors
    /// [`Error::OutOfOrder`] where the step does not follow the tip.
    pub fn advance(&mut self, step: &Step) -> Result<()> {
        let block = step.block_ref();
        let out_of_order = Error::OutOfOrder { block, tip: self.tip() };
        let node = self.nodes.get(&block.hash).filter(|node| node.height == block.height);
        let Some(node) = node else { return Err(out_of_order) };
        match (step, self.published) {
            (Step::Disconnect(_), Some(tip))
                if tip == block.hash && self.nodes.contains_key(&node.header.prev_blockhash) =>
            {
                self.published = Some(node.header.prev_blockhash);
            }
            (Step::Connect { .. }, Some(tip)) if tip == node.header.prev_blockhash => {
                self.published = Some(block.hash);
            }
            (Step::Connect { .. }, None) if block.height == self.first_height() => {
                self.published = Some(block.hash);
            }
            _ => return Err(out_of_order),
        }
        self.prune();
        Ok(())
    }

    /// Adds published blocks below the oldest one held, newest first.
    ///
    /// # Errors
    /// [`Error::Broken`] at the first that does not precede it in hash, height and work; those before it stay.
    pub fn extend_back(&mut self, newest_first: &[Block]) -> Result<()> {
        for block in newest_first {
            let hash = self.push_oldest(&block.header)?;
            let derived = self.nodes[&hash];
            if derived.height != block.height || derived.chain_work.to_be_bytes() != block.chain_work {
                self.pop_oldest();
                return Err(Error::Broken {
                    hash,
                    height: derived.height,
                    detail: format!("it was published with height {} and other work", block.height),
                });
            }
            self.nodes.insert(hash, Node::published(block));
        }
        Ok(())
    }

    /// Adds headers below the block that the log starts with, newest first: history that rules and median times need
    /// and that is never published. What is the oldest block held becomes known as the start of the log.
    ///
    /// # Errors
    /// [`Error::Broken`] at the first that does not precede the oldest one held; those before it stay.
    pub fn extend_back_below_start(&mut self, newest_first: &[Header]) -> Result<()> {
        self.start.get_or_insert(self.lowest);
        for header in newest_first {
            self.push_oldest(header)?;
        }
        Ok(())
    }

    /// Drops a block whose body is not what its header says, with all that follow it, and refuses it from now on (the
    /// last [`MAX_REJECTED`] are remembered). The best chain is chosen anew.
    ///
    /// # Errors
    /// [`Error::OutOfOrder`] where the block or one that follows it has been published, or it is not held.
    pub fn reject(&mut self, hash: BlockHash) -> Result<ChainChange> {
        let out_of_order = Error::OutOfOrder {
            block: BlockRef { hash, height: self.height_of(&hash).unwrap_or(-1) },
            tip: self.tip(),
        };
        let Some(node) = self.nodes.get(&hash).copied() else { return Err(out_of_order) };
        let published = self.published.is_some_and(|tip| self.ancestor(tip, node.height) == Some(hash));
        if published || node.height <= self.lowest.max(self.first_height()) {
            return Err(out_of_order);
        }
        if self.is_best(BlockRef { hash, height: node.height }) {
            self.shorten_best(node.height - 1);
        }
        self.drop_from_side(node.height, HashSet::from([hash]));
        if self.rejected.len() == MAX_REJECTED {
            self.rejected.pop_front();
        }
        self.rejected.push_back(hash);
        let heaviest = self.nodes.iter().max_by_key(|(_, node)| (node.chain_work, u64::MAX - node.arrival));
        if let Some((heaviest, _)) = heaviest {
            self.make_best(*heaviest);
        }
        Ok(self.change())
    }
}

impl Node {
    fn published(block: &Block) -> Self {
        Self {
            header: block.header,
            height: block.height,
            chain_work: U256::from_be_bytes(block.chain_work),
            median_time: Some(block.median_time),
            arrival: 0,
        }
    }

    fn ancestor(&self) -> Ancestor {
        Ancestor {
            time: self.header.time,
            bits: self.header.bits.to_consensus(),
            chain_work: self.chain_work,
        }
    }
}
