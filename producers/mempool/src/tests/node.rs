//! A model node: mempool, blocks and reorgs, a feed that can lose messages, and a publisher that follows its chain.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};

use sluice_schemas::{Flavour, RemovalReason};

use super::*;
use crate::view::spends;
use crate::{BlockEffect, Input, Lost, Mempool, Output, Settings, TipTime};

/// Whether the node numbers its changes as Bitcoin Core does, or sends bodies and reasons as Bitcoin SV does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Numbered,
    Plain,
}

/// Milliseconds after which a message is delivered at the latest.
const FEED_LAG: i64 = 900;

struct Block {
    hash: BlockHash,
    transactions: Vec<Transaction>,
}

struct Message {
    sent_at: i64,
    /// Number of the message on the feed.
    number: u64,
    input: Input,
}

/// The node, the view that follows it, and what was published.
pub(super) struct World {
    pub(super) kind: Kind,
    pub(super) now: i64,
    pub(super) mempool: BTreeMap<Txid, Transaction>,
    pub(super) view: Mempool,
    pub(super) published: BTreeSet<Txid>,
    pub(super) detected: Vec<(&'static str, Lost)>,
    pub(super) repaired: Vec<(&'static str, Lost)>,
    pub(super) recovered: u64,
    pub(super) removals: Vec<(Txid, RemovalReason, Option<Txid>)>,
    /// Messages still to be lost.
    pub(super) losing: usize,
    /// Feed numbers of the messages lost.
    pub(super) lost: Vec<u64>,
    /// Whether requests are answered.
    pub(super) answers: bool,
    unspent: BTreeSet<OutPoint>,
    chain: Vec<Block>,
    published_chain: Vec<BlockHash>,
    changes: u64,
    messages: u64,
    received: u64,
    feed: VecDeque<Message>,
    wants_snapshot: bool,
    /// A snapshot taken when it was asked for, and the tip at that time.
    taken: Option<(Input, Option<BlockHash>)>,
    wants: VecDeque<Vec<Txid>>,
    made: u64,
}

impl World {
    pub(super) fn new(kind: Kind) -> Self {
        let flavour = if kind == Kind::Numbered { Flavour::Btc } else { Flavour::Bsv };
        let mut world = Self {
            kind,
            now: 1_000_000,
            mempool: BTreeMap::new(),
            view: Mempool::new(Settings::new(flavour)),
            published: BTreeSet::new(),
            detected: Vec::new(),
            repaired: Vec::new(),
            recovered: 0,
            removals: Vec::new(),
            losing: 0,
            lost: Vec::new(),
            answers: true,
            unspent: (0..12).map(|vout| OutPoint { txid: txid(u64::MAX), vout }).collect(),
            chain: Vec::new(),
            published_chain: Vec::new(),
            changes: 0,
            messages: 0,
            received: 0,
            feed: VecDeque::new(),
            wants_snapshot: false,
            taken: None,
            wants: VecDeque::new(),
            made: 0,
        };
        world.apply(Input::Start(TipTime::default()));
        world
    }

    pub(super) fn apply(&mut self, input: Input) {
        for output in self.view.apply(self.now, input) {
            match output {
                Output::Reset => self.published.clear(),
                Output::Add { transaction, .. } => {
                    assert!(self.published.insert(transaction.txid), "added twice: {}", transaction.txid);
                }
                Output::Remove { txid, reason, replaced_by, block, .. } => {
                    assert!(self.published.remove(&txid), "removed, but not there: {txid}");
                    assert_eq!(block.is_some(), reason == RemovalReason::Mined);
                    self.removals.push((txid, reason, replaced_by));
                }
                Output::WantSnapshot => {
                    self.wants_snapshot = true;
                    self.taken = self.made.is_multiple_of(2).then(|| self.take());
                }
                Output::WantTransactions(batch) => self.wants.push_back(batch),
                Output::GapDetected { feed, lost } => self.detected.push((feed, lost)),
                Output::GapRepaired { feed, lost, recovered } => {
                    self.repaired.push((feed, lost));
                    self.recovered += recovered;
                }
            }
        }
        assert_eq!(self.view.len(), self.published.len());
    }

    fn send(&mut self, input: Input) {
        self.messages += 1;
        if self.losing > 0 {
            self.losing -= 1;
            self.lost.push(self.messages);
        } else {
            self.feed.push_back(Message { sent_at: self.now, number: self.messages, input });
        }
    }

    fn numbered(&mut self) -> Option<u64> {
        self.changes += 1;
        (self.kind == Kind::Numbered).then_some(self.changes)
    }

    fn announce(&mut self, transaction: &Transaction) {
        let sequence = self.numbered();
        let body = (self.kind == Kind::Plain).then(|| Box::new(transaction.clone()));
        self.send(Input::Added { txid: transaction.txid, sequence, transaction: body });
    }

    /// Removes a transaction and its descendants, children first.
    fn drop_family(&mut self, of: Txid, reason: RemovalReason, by: Option<Txid>) {
        for txid in self.family(of) {
            self.mempool.remove(&txid);
            let sequence = self.numbered();
            let told = self.kind == Kind::Plain;
            let (reason, by) = (told.then_some(reason), by.filter(|_| told));
            self.send(Input::Removed { txid, sequence, reason, by });
        }
    }

    fn family(&self, of: Txid) -> Vec<Txid> {
        let mut family = vec![of];
        let mut next = 0;
        while let Some(parent) = family.get(next).copied() {
            next += 1;
            for (txid, transaction) in &self.mempool {
                if !family.contains(txid) && spends(transaction).any(|outpoint| outpoint.txid == parent) {
                    family.push(*txid);
                }
            }
        }
        family.reverse();
        family
    }

    fn rivals(&self, transaction: &Transaction) -> Vec<Txid> {
        let spent: HashSet<OutPoint> = spends(transaction).collect();
        let is_rival = |other: &&Transaction| {
            other.txid != transaction.txid && spends(other).any(|outpoint| spent.contains(&outpoint))
        };
        self.mempool.values().filter(is_rival).map(|other| other.txid).collect()
    }

    /// A new transaction that spends some of what there is, unconfirmed or not, spent or not.
    fn make(&mut self, choice: usize, inputs: usize) -> Option<Transaction> {
        let mut coins: Vec<OutPoint> = self.unspent.iter().copied().collect();
        for txid in self.mempool.keys() {
            coins.extend((0..2).map(|vout| OutPoint { txid: *txid, vout }));
        }
        let picked: BTreeSet<OutPoint> =
            (0..inputs).filter_map(|i| coins.get((choice + 7 * i) % coins.len().max(1)).copied()).collect();
        if picked.is_empty() {
            return None;
        }
        self.made += 1;
        Some(*transaction(self.made, &picked.into_iter().collect::<Vec<_>>()))
    }

    /// A transaction enters the mempool, in place of those that spend the same.
    pub(super) fn add(&mut self, choice: usize, inputs: usize) {
        let Some(transaction) = self.make(choice, inputs) else { return };
        let rivals = self.rivals(&transaction);
        let gone: HashSet<Txid> = rivals.iter().flat_map(|rival| self.family(*rival)).collect();
        if spends(&transaction).any(|outpoint| gone.contains(&outpoint.txid)) {
            return;
        }
        for rival in rivals {
            if self.mempool.contains_key(&rival) {
                self.drop_family(rival, RemovalReason::Replaced, Some(transaction.txid));
            }
        }
        self.announce(&transaction);
        self.mempool.insert(transaction.txid, transaction);
    }

    pub(super) fn evict(&mut self, choice: usize) {
        if let Some(txid) = self.mempool.keys().nth(choice % self.mempool.len().max(1)).copied() {
            self.drop_family(txid, RemovalReason::Evicted, None);
        }
    }

    /// A block with some of the mempool and perhaps a transaction that was never in it.
    pub(super) fn mine(&mut self, choice: usize, foreign: bool) {
        let mut transactions: Vec<Transaction> = Vec::new();
        let mut made: HashSet<OutPoint> = HashSet::new();
        let mut spent: HashSet<OutPoint> = HashSet::new();
        if foreign
            && let Some(outpoint) = self.unspent.iter().nth(choice % self.unspent.len().max(1)).copied()
        {
            self.made += 1;
            spent.insert(outpoint);
            transactions.push(*transaction(self.made, &[outpoint]));
        }
        // Parents have lower numbers than their children, but for those that came back.
        for _ in 0..3 {
            for (i, transaction) in self.mempool.values().enumerate() {
                let ready = spends(transaction)
                    .all(|out| (self.unspent.contains(&out) || made.contains(&out)) && !spent.contains(&out));
                let taken = transactions.iter().any(|other| other.txid == transaction.txid);
                if ready && !taken && !(i + choice).is_multiple_of(3) {
                    spent.extend(spends(transaction));
                    made.extend((0..2).map(|vout| OutPoint { txid: transaction.txid, vout }));
                    transactions.push(transaction.clone());
                }
            }
        }
        let mut unknown = Vec::new();
        for transaction in &transactions {
            if self.mempool.remove(&transaction.txid).is_some() {
                self.changes += 1;
            } else {
                unknown.push(transaction.clone());
            }
            for rival in self.rivals(transaction) {
                if self.mempool.contains_key(&rival) {
                    self.drop_family(rival, RemovalReason::Conflicted, Some(transaction.txid));
                }
            }
            for outpoint in spends(transaction) {
                self.unspent.remove(&outpoint);
            }
            self.unspent.extend((0..2).map(|vout| OutPoint { txid: transaction.txid, vout }));
        }
        if self.kind == Kind::Plain {
            // A Bitcoin SV node announces what the block brought, too.
            unknown.iter().for_each(|transaction| self.announce(transaction));
        }
        self.made += 1;
        self.chain.push(Block { hash: block_hash(self.made), transactions });
    }

    /// The newest blocks are replaced by as many and one more.
    pub(super) fn reorganise(&mut self, depth: usize, choice: usize) {
        let depth = depth.min(self.chain.len());
        if depth == 0 {
            return;
        }
        let gone = self.chain.split_off(self.chain.len() - depth);
        for block in gone.iter().rev() {
            for transaction in block.transactions.iter().rev() {
                for vout in 0..2 {
                    self.unspent.remove(&OutPoint { txid: transaction.txid, vout });
                }
                self.unspent.extend(spends(transaction));
            }
            // What another returning transaction made is not confirmed either.
            let txids: HashSet<Txid> =
                gone.iter().flat_map(|b| b.transactions.iter().map(|t| t.txid)).collect();
            self.unspent.retain(|outpoint| !txids.contains(&outpoint.txid));
        }
        for transaction in gone.iter().flat_map(|block| &block.transactions) {
            self.announce(transaction);
            self.mempool.insert(transaction.txid, transaction.clone());
        }
        for i in 0..=depth {
            self.mine(choice + i, i == 0);
        }
    }

    /// Delivers some messages of the feed.
    pub(super) fn deliver(&mut self, messages: usize) {
        for _ in 0..messages {
            let Some(message) = self.feed.pop_front() else { break };
            if message.number > self.received + 1 {
                self.apply(Input::Gap { feed: "feed", from: self.received + 1, to: message.number - 1 });
            }
            self.received = message.number;
            self.apply(message.input);
        }
    }

    /// The publisher follows the node's chain.
    pub(super) fn follow(&mut self) {
        let common = self
            .published_chain
            .iter()
            .zip(&self.chain)
            .take_while(|(published, block)| **published == block.hash)
            .count();
        while self.published_chain.len() > common {
            self.published_chain.pop();
            self.apply(Input::BlockDisconnected(TipTime::default()));
        }
        for i in common..self.chain.len() {
            let block = &self.chain[i];
            let mut effect = BlockEffect::new(block.hash, TipTime::default());
            for transaction in &block.transactions {
                effect.transaction(&self.view, transaction.txid, spends(transaction));
            }
            self.published_chain.push(block.hash);
            self.apply(Input::BlockConnected(effect));
        }
    }

    fn take(&self) -> (Input, Option<BlockHash>) {
        let sequence = (self.kind == Kind::Numbered).then_some(self.changes);
        let snapshot = Input::Snapshot { txids: self.mempool.keys().copied().collect(), sequence };
        (snapshot, self.chain.last().map(|block| block.hash))
    }

    /// Answers what was asked, twice where that can do harm.
    pub(super) fn answer(&mut self) {
        if !self.answers {
            return;
        }
        while let Some(batch) = self.wants.pop_front() {
            let bodies = batch
                .into_iter()
                .map(|txid| (txid, self.mempool.get(&txid).cloned().map(Box::new)))
                .collect();
            self.apply(Input::Fetched(bodies));
        }
        let tip = self.chain.last().map(|block| block.hash);
        if self.wants_snapshot && self.published_chain.last().copied() == tip {
            self.wants_snapshot = false;
            let (snapshot, _) =
                self.taken.take().filter(|taken| taken.1 == tip).unwrap_or_else(|| self.take());
            self.apply(snapshot.clone());
            self.apply(snapshot);
        }
    }

    /// Time passes; no message is longer under way than the feed's lag.
    pub(super) fn pass(&mut self, millis: i64) {
        let end = self.now + millis;
        while self.now < end {
            self.now = end.min(self.now + 300);
            while self.feed.front().is_some_and(|message| message.sent_at + FEED_LAG <= self.now) {
                self.deliver(1);
            }
            self.apply(Input::Tick);
        }
    }

    /// Nothing happens any more, and all that is under way arrives.
    pub(super) fn quiet(&mut self, seconds: i64) {
        self.losing = 0;
        for _ in 0..seconds {
            self.deliver(usize::MAX);
            self.follow();
            self.pass(1000);
            self.answer();
        }
    }

    pub(super) fn assert_whole(&self) {
        let truth: BTreeSet<Txid> = self.mempool.keys().copied().collect();
        assert_eq!(self.published, truth);
        assert_eq!(self.view.awaited(), 0);
    }
}
