//! What a log is made from.

use std::fmt;

use sluice_schemas::{EventKind, Flavour, Network, RemovalReason};

use crate::log::TestLog;
use crate::transaction::Tx;

/// Who mines where a script does not say.
pub(crate) const MINER: &str = "miner";
/// Partitions of transactions and mempool where a script does not say: few, and more than one.
const PARTITIONS: i32 = 3;

/// A script that is to become a log. It prints as the code that makes it.
#[derive(Clone, PartialEq)]
pub struct Script {
    pub(crate) network: Network,
    pub(crate) partitions: i32,
    pub(crate) prevouts: bool,
    pub(crate) steps: Vec<Step>,
}

/// What happens next on the log.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    Block { miner: String, transactions: Vec<Tx> },
    Crowd(u64),
    Reorg(usize),
    Faulty(Fault, Vec<Tx>),
    Poison(EventKind),
    Takeover,
    Added(Vec<Tx>),
    Removed(RemovalReason),
    Gap { feed: String, lost: i64 },
    Repaired { feed: String, recovered: i64 },
}

/// What is wrong with a block, on a log that should not have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The event names one transaction more than there are.
    Count,
    /// The last transaction's record is no event.
    Undecodable,
    /// The header has another merkle root.
    MerkleRoot,
    /// The event's sequence leaves one out.
    Sequence,
    /// The event's parent is not the tip.
    Parent,
}

/// A script of a `btc-regtest` log. The log starts with the genesis block.
pub fn chain() -> Script {
    Script { network: Network::BtcRegtest, partitions: PARTITIONS, prevouts: true, steps: Vec::new() }
}

impl Script {
    /// On another network of regtest's rules. On Bitcoin SV there are no witnesses, and prevouts are not known.
    #[must_use]
    pub fn on(mut self, network: Network) -> Self {
        self.network = network;
        self.prevouts &= network.flavour() == Flavour::Btc;
        self
    }

    /// With so many partitions of transactions and mempool.
    #[must_use]
    pub fn partitions(mut self, partitions: i32) -> Self {
        self.partitions = partitions;
        self
    }

    /// As from a node that does not tell what is spent: prevouts and fees are null.
    #[must_use]
    pub fn without_prevouts(mut self) -> Self {
        self.prevouts = false;
        self
    }

    /// A block on the tip, with these transactions after its coinbase.
    #[must_use]
    pub fn block(self, transactions: impl IntoIterator<Item = Tx>) -> Self {
        self.mined_by(MINER, transactions)
    }

    /// As `block`; subsidy and fees go to `miner`.
    #[must_use]
    pub fn mined_by(self, miner: &str, transactions: impl IntoIterator<Item = Tx>) -> Self {
        self.step(Step::Block { miner: miner.to_owned(), transactions: transactions.into_iter().collect() })
    }

    /// So many blocks with nothing but a coinbase.
    #[must_use]
    pub fn blocks(self, count: usize) -> Self {
        (0..count).fold(self, |script, _| script.block([]))
    }

    /// A block of so many small transactions after its coinbase, each of which spends the one before. It is streamed onto
    /// the log and never held: a count of 20 million makes a block of 4 GB.
    #[must_use]
    pub fn crowd(self, transactions: u64) -> Self {
        self.step(Step::Crowd(transactions))
    }

    /// Disconnects the newest blocks, tip first; the first block of the log stays.
    #[must_use]
    pub fn reorg(self, depth: usize) -> Self {
        self.step(Step::Reorg(depth))
    }

    /// A block that should not be on any log.
    #[must_use]
    pub fn faulty(self, fault: Fault, transactions: impl IntoIterator<Item = Tx>) -> Self {
        self.step(Step::Faulty(fault, transactions.into_iter().collect()))
    }

    /// A record of no known schema on the topic of a kind of events, named by nothing.
    #[must_use]
    pub fn poison(self, topic: EventKind) -> Self {
        self.step(Step::Poison(topic))
    }

    /// A producer takes over: a new epoch, which opens with a reset and the present mempool. The first one starts the
    /// mempool view; without, a log has none.
    #[must_use]
    pub fn takeover(self) -> Self {
        self.step(Step::Takeover)
    }

    /// Transactions come into the mempool.
    #[must_use]
    pub fn added(self, transactions: impl IntoIterator<Item = Tx>) -> Self {
        self.step(Step::Added(transactions.into_iter().collect()))
    }

    /// The oldest transaction leaves the mempool, and what spends it; nothing where that is empty.
    #[must_use]
    pub fn removed(self, reason: RemovalReason) -> Self {
        self.step(Step::Removed(reason))
    }

    /// A feed lost so many messages.
    #[must_use]
    pub fn gap(self, feed: &str, lost: i64) -> Self {
        self.step(Step::Gap { feed: feed.to_owned(), lost })
    }

    /// So many of them have been restored.
    #[must_use]
    pub fn repaired(self, feed: &str, recovered: i64) -> Self {
        self.step(Step::Repaired { feed: feed.to_owned(), recovered })
    }

    /// Builds the log.
    pub fn build(&self) -> TestLog {
        let mut log = TestLog::new(self);
        log.play(self);
        log
    }

    pub(crate) fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("chain()")?;
        if self.network != Network::BtcRegtest {
            write!(f, ".on(Network::{:?})", self.network)?;
        }
        if self.partitions != PARTITIONS {
            write!(f, ".partitions({})", self.partitions)?;
        }
        if !self.prevouts && self.network.flavour() == Flavour::Btc {
            f.write_str(".without_prevouts()")?;
        }
        self.steps.iter().try_for_each(|step| write!(f, "\n    .{step}"))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Block { miner, transactions } if miner == MINER => write!(f, "block({transactions:?})"),
            Self::Block { miner, transactions } => write!(f, "mined_by({miner:?}, {transactions:?})"),
            Self::Crowd(transactions) => write!(f, "crowd({transactions})"),
            Self::Reorg(depth) => write!(f, "reorg({depth})"),
            Self::Faulty(fault, transactions) => write!(f, "faulty(Fault::{fault:?}, {transactions:?})"),
            Self::Poison(topic) => write!(f, "poison(EventKind::{topic:?})"),
            Self::Takeover => f.write_str("takeover()"),
            Self::Added(transactions) => write!(f, "added({transactions:?})"),
            Self::Removed(reason) => write!(f, "removed(RemovalReason::{reason:?})"),
            Self::Gap { feed, lost } => write!(f, "gap({feed:?}, {lost})"),
            Self::Repaired { feed, recovered } => write!(f, "repaired({feed:?}, {recovered})"),
        }
    }
}
