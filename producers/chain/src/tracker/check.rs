//! Whether a header may be added to the tree.

use bitcoin::BlockHash;
use bitcoin::block::Header;

use super::{ChainTracker, Node};
use crate::difficulty::{Ancestor, Branch, Missing, block_work, median_time};
use crate::target::{from_compact, is_met_by};
use crate::{Checkpoint, DifficultyRule, Error, Result, Rule};

impl ChainTracker {
    /// Checks a run and adds it to the tree, off the best chain; `taken` are the hashes added.
    pub(super) fn take(&mut self, headers: &[Header], taken: &mut Vec<BlockHash>) -> Result<()> {
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
    pub(super) fn median_time(&self, hash: BlockHash) -> Result<u32> {
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
