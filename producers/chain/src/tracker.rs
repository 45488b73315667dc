//! The tree of headers held, its best branch, and the tip as published.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use bitcoin::BlockHash;
use bitcoin::block::Header;
use bitcoin::blockdata::constants::genesis_block;

use crate::difficulty::{Ancestor, Branch, MEDIAN_SPAN, Missing, PowRules, block_work, median_time};
use crate::target::{from_compact, is_met_by};
use crate::uint::U256;
use crate::{
    Block, BlockRef, ChainChange, Checkpoint, DifficultyRule, Error, MAX_REJECTED, Result, Rule, Settings,
    Step,
};

/// Hashes of a locator that follow each other without a step in between.
const LOCATOR_DENSE: usize = 10;

/// Pruning waits until it can drop this many heights at once.
const PRUNE_BATCH: i32 = 64;

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
    /// down to genesis. With [`DifficultyRule::Check`] more are needed: [`Error::NeedsOlder`] will say which, and
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

    /// Checks a run and adds it to the tree, off the best chain; `taken` are the hashes added.
    fn take(&mut self, headers: &[Header], taken: &mut Vec<BlockHash>) -> Result<()> {
        let mut previous = None;
        for header in headers {
            let hash = header.block_hash();
            if let Some(previous) = previous
                && header.prev_blockhash != previous
            {
                let height = self.nodes[&previous].height + 1;
                let detail = format!("it follows {}, not {previous}", header.prev_blockhash);
                return Err(Error::Rule { rule: Rule::Link, hash, height, detail });
            }
            previous = Some(hash);
            if self.nodes.contains_key(&hash) {
                continue;
            }
            let node = self.check(hash, header)?;
            if self.nodes.len() >= self.settings.max_held {
                return Err(Error::Full { limit: self.settings.max_held });
            }
            self.arrivals += 1;
            self.nodes.insert(hash, Node { arrival: self.arrivals, ..node });
            taken.push(hash);
        }
        Ok(())
    }

    /// Checks one header against its parent's branch.
    fn check(&self, hash: BlockHash, header: &Header) -> Result<Node> {
        let Some(parent) = self.nodes.get(&header.prev_blockhash) else {
            return Err(match self.lowest {
                0 => Error::UnknownParent { hash, prev_hash: header.prev_blockhash },
                lowest => Error::NeedsOlder { oldest: self.oldest(), needed: lowest - 1 },
            });
        };
        let height = parent.height + 1;
        let broken = |rule, detail| Err(Error::Rule { rule, hash, height, detail });
        if let Some(start_height) = self.start.filter(|start| height <= *start) {
            return Err(Error::BelowStart { hash, fork_height: parent.height, start_height });
        }
        if self.rejected.contains(&hash) {
            return broken(Rule::NotRejected, "it was rejected".into());
        }
        let bits = header.bits.to_consensus();
        match from_compact(bits) {
            Some(target) if target > self.rules.limit => {
                return broken(
                    Rule::ProofOfWork,
                    format!("its bits {bits:#010x} are above the network's limit"),
                );
            }
            Some(target) if is_met_by(target, hash) => {}
            Some(_) => return broken(Rule::ProofOfWork, format!("it does not meet its bits {bits:#010x}")),
            None => return broken(Rule::ProofOfWork, format!("its bits {bits:#010x} are no target")),
        }
        let median = self.median_time(header.prev_blockhash)?;
        if header.time <= median {
            return broken(
                Rule::MedianTime,
                format!("its time {} is not above the median {median}", header.time),
            );
        }
        let checkpoint = self.settings.checkpoints.iter().find(|at| at.height == height);
        if let Some(Checkpoint { hash: known, .. }) = checkpoint.filter(|at| at.hash != hash) {
            return broken(Rule::Checkpoint, format!("the block there is {known}"));
        }
        if self.settings.difficulty == DifficultyRule::Check {
            let branch = self.branch(header.prev_blockhash);
            let required =
                self.rules.required(&branch, header.time).map_err(|missing| self.older(missing))?;
            if bits != required {
                return broken(Rule::Difficulty, format!("its bits are {bits:#010x}, not {required:#010x}"));
            }
            if self.rules.warps_time(&branch, header.time).map_err(|missing| self.older(missing))? {
                return broken(
                    Rule::TimeWarp,
                    format!("its time {} is far before its parent's", header.time),
                );
            }
        }
        let Some(chain_work) = parent.chain_work.checked_add(block_work(bits)) else {
            return broken(Rule::ProofOfWork, "the chain's work is above 256 bits".into());
        };
        let mut node = Node { header: *header, height, chain_work, median_time: None, arrival: 0 };
        node.median_time = Some(self.median_time_with(&node)?);
        Ok(node)
    }

    /// Median time of a block held.
    fn median_time(&self, hash: BlockHash) -> Result<u32> {
        let node = &self.nodes[&hash];
        match node.median_time {
            Some(median) => Ok(median),
            None => self.median_time_with(node),
        }
    }

    /// Median time of a block whose parent is held, if it has one.
    fn median_time_with(&self, node: &Node) -> Result<u32> {
        let branch = NewestAnd { node, branch: self.branch(node.header.prev_blockhash) };
        median_time(&branch, node.height).map_err(|missing| self.older(missing))
    }

    fn older(&self, missing: Missing) -> Error {
        Error::NeedsOlder { oldest: self.oldest(), needed: missing.height }
    }

    fn branch(&self, head: BlockHash) -> Held<'_> {
        Held { tracker: self, head }
    }

    /// The ancestor of a block at a height, where held. Walks only as far as the best chain.
    fn ancestor(&self, mut hash: BlockHash, height: i32) -> Option<BlockHash> {
        let mut node = self.nodes.get(&hash)?;
        if height > node.height {
            return None;
        }
        while node.height != height {
            if self.is_best(BlockRef { hash, height: node.height }) {
                return self.best_at(height);
            }
            hash = node.header.prev_blockhash;
            node = self.nodes.get(&hash)?;
        }
        Some(hash)
    }

    fn best_at(&self, height: i32) -> Option<BlockHash> {
        self.best.get(usize::try_from(height.checked_sub(self.lowest)?).ok()?).copied()
    }

    fn is_best(&self, block: BlockRef) -> bool {
        self.best_at(block.height) == Some(block.hash)
    }

    fn block_ref(&self, hash: BlockHash) -> BlockRef {
        BlockRef { hash, height: self.nodes[&hash].height }
    }

    fn parent(&self, block: BlockRef) -> BlockRef {
        BlockRef { hash: self.nodes[&block.hash].header.prev_blockhash, height: block.height - 1 }
    }

    /// The last block of the best chain that `block` descends from.
    fn fork(&self, mut block: BlockRef) -> BlockRef {
        while !self.is_best(block) {
            block = self.parent(block);
        }
        block
    }

    /// Height of the first block that an empty log is to hold.
    fn first_height(&self) -> i32 {
        self.start.unwrap_or(self.lowest)
    }

    /// The step that connects the block of the best chain at a height.
    fn connect(&self, height: i32) -> Option<Step> {
        let hash = self.best_at(height)?;
        Some(Step::Connect { hash, block: self.block(&hash)? })
    }

    /// Moves the best chain to end with a block held.
    fn make_best(&mut self, head: BlockHash) {
        let mut path = Vec::new();
        let mut block = self.block_ref(head);
        while !self.is_best(block) {
            path.push(block);
            block = self.parent(block);
        }
        self.shorten_best(block.height);
        for block in path.into_iter().rev() {
            self.remove_from_side(block);
            self.best.push_back(block.hash);
        }
    }

    /// Cuts the best chain above a height; the blocks become side blocks.
    fn shorten_best(&mut self, height: i32) {
        while self.best().height > height {
            let BlockRef { hash, height } = self.best();
            self.side.entry(height).or_default().push(hash);
            self.best.pop_back();
        }
    }

    fn remove_from_side(&mut self, block: BlockRef) {
        if let Some(hashes) = self.side.get_mut(&block.height) {
            hashes.retain(|hash| *hash != block.hash);
            if hashes.is_empty() {
                self.side.remove(&block.height);
            }
        }
    }

    /// Drops side blocks at a height, and all side blocks that descend from them.
    fn drop_from_side(&mut self, mut height: i32, mut doomed: HashSet<BlockHash>) {
        while !doomed.is_empty() {
            let mut next = HashSet::new();
            for hash in self.side.get(&(height + 1)).into_iter().flatten() {
                if doomed.contains(&self.nodes[hash].header.prev_blockhash) {
                    next.insert(*hash);
                }
            }
            for hash in doomed {
                self.nodes.remove(&hash);
                self.remove_from_side(BlockRef { hash, height });
            }
            (height, doomed) = (height + 1, next);
        }
    }

    /// Adds a header below the oldest block held.
    fn push_oldest(&mut self, header: &Header) -> Result<BlockHash> {
        let hash = header.block_hash();
        let height = self.lowest - 1;
        let broken = |detail: &str| Error::Broken { hash, height, detail: detail.into() };
        let oldest = self.nodes[&self.best[0]];
        if oldest.header.prev_blockhash != hash {
            return Err(broken("the oldest block held names another parent"));
        }
        if height < 0 {
            return Err(broken("nothing comes before genesis"));
        }
        let work = block_work(oldest.header.bits.to_consensus());
        let chain_work = oldest
            .chain_work
            .checked_sub(work)
            .ok_or_else(|| broken("the chain has less work than its blocks"))?;
        let node = Node { header: *header, height, chain_work, median_time: None, arrival: 0 };
        self.nodes.insert(hash, node);
        self.best.push_front(hash);
        self.lowest = height;
        Ok(hash)
    }

    fn pop_oldest(&mut self) {
        if let Some(hash) = self.best.pop_front() {
            self.nodes.remove(&hash);
            self.lowest += 1;
        }
    }

    /// Drops what is more than `keep` below the last common block, and the branches that leave the chain there.
    fn prune(&mut self) {
        let Some(tip) = self.tip() else { return };
        let keep = i32::try_from(self.settings.keep).unwrap_or(i32::MAX).max(MEDIAN_SPAN);
        let lowest = self.fork(tip).height.saturating_sub(keep);
        if lowest < self.lowest.saturating_add(PRUNE_BATCH) {
            return;
        }
        while self.lowest < lowest {
            self.pop_oldest();
            let doomed: HashSet<_> = self.side.get(&self.lowest).into_iter().flatten().copied().collect();
            self.drop_from_side(self.lowest, doomed);
        }
        self.start = self.start.filter(|start| *start >= self.lowest);
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

/// The branch that ends with a block held.
struct Held<'a> {
    tracker: &'a ChainTracker,
    head: BlockHash,
}

impl Branch for Held<'_> {
    fn height(&self) -> i32 {
        self.tracker.nodes[&self.head].height
    }

    fn at(&self, height: i32) -> Result<Ancestor, Missing> {
        let hash = self.tracker.ancestor(self.head, height).ok_or(Missing { height })?;
        Ok(self.tracker.nodes[&hash].ancestor())
    }
}

/// A branch and a block on top of it that is not in the tree yet.
struct NewestAnd<'a> {
    node: &'a Node,
    branch: Held<'a>,
}

impl Branch for NewestAnd<'_> {
    fn height(&self) -> i32 {
        self.node.height
    }

    fn at(&self, height: i32) -> Result<Ancestor, Missing> {
        if height == self.node.height { Ok(self.node.ancestor()) } else { self.branch.at(height) }
    }
}
