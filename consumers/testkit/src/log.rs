//! The log that a script becomes.

use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bitcoin::hashes::Hash;
use bitcoin::{Transaction, Txid};
use sluice_log::chain::ChainLog;
use sluice_log::sqlite::SqliteLog;
use sluice_log::{NewRecord, Writer};
use sluice_schemas::{
    Action, ChainEvent, Codec, Event, EventKind, MempoolEvent, MempoolKind, Network, PartitionRange,
    RemovalReason, StatusEvent, StatusKind, Topics, Transaction as TransactionFields, TransactionEvent,
    topics,
};
use tempfile::TempDir;

use crate::block::{Block, Body, subsidy};
use crate::coins::{Coins, coinbase, raw};
use crate::pool::Pool;
use crate::script::{Fault, MINER, Script, Step};
use crate::transaction::{Tx, What, script_of};

/// A directory in memory, where there is one.
const IN_MEMORY: &str = "/dev/shm";
/// Bytes of no known schema.
const NO_EVENT: &[u8] = b"\xc3\x01notaschema";
/// The source that events name.
const SOURCE: &str = "testkit";

/// A log made from a script, in a directory that goes with it.
pub struct TestLog {
    /// The log as consumers open it.
    pub chain: ChainLog,
    writer: Box<dyn Writer>,
    folder: TempDir,
    network: Network,
    partitions: i32,
    /// The best chain, first block first.
    blocks: Vec<Block>,
    coins: Coins,
    returned: Vec<Transaction>,
    pool: Pool,
    /// `None` while there is no mempool view.
    mempool_sequence: Option<i64>,
    epoch: i64,
    next_sequence: i64,
    next_number: u64,
}

impl TestLog {
    /// A log with the first block only.
    pub(crate) fn new(script: &Script) -> Self {
        let folder = folder();
        let path = folder.path().join("log.db");
        let log = Arc::new(SqliteLog::open(path.to_str().expect("UTF-8")).expect("a new log"));
        let topics = Topics::of(script.network);
        let chain = ChainLog { log, codec: Codec::single_object(), topics };
        chain.log.ensure_topics(&chain.topics.specs(script.partitions)).expect("new topics");
        let mut made = Self {
            writer: chain.log.writer(SOURCE).expect("the only writer"),
            chain,
            folder,
            network: script.network,
            partitions: script.partitions,
            blocks: Vec::new(),
            coins: Coins { network: script.network, prevouts: script.prevouts, list: Vec::new() },
            returned: Vec::new(),
            pool: Pool::default(),
            mempool_sequence: None,
            epoch: 0,
            next_sequence: 0,
            next_number: 0,
        };
        made.append(Block::genesis(script.network), Action::Connected, None);
        made
    }

    /// Its URL, for a process.
    pub fn url(&self) -> String {
        format!("sqlite:{}", self.folder.path().join("log.db").display())
    }

    /// Goes on with the steps of another script; of its settings none count.
    ///
    /// # Panics
    /// Where a step cannot be, say because somebody lacks the money.
    pub fn play(&mut self, script: &Script) {
        script.steps.iter().for_each(|step| self.step(step));
    }

    /// The network.
    pub fn network(&self) -> Network {
        self.network
    }

    /// The chain event of the tip, as it is on the log.
    pub fn tip(&self) -> &ChainEvent {
        &self.blocks.last().expect("the first block is always there").event
    }

    /// The best chain, first block first.
    pub fn best_chain(&self) -> impl Iterator<Item = &ChainEvent> {
        self.blocks.iter().map(|block| &block.event)
    }

    /// What is unspent on the best chain, oldest first. Of a crowd nothing is told.
    pub fn coins(&self) -> &[crate::Coin] {
        &self.coins.list
    }

    /// What somebody has on the best chain, satoshis.
    pub fn balance(&self, name: &str) -> u64 {
        self.coins.balance(name)
    }

    /// Ids of what is in the mempool, parents before children.
    pub fn mempool(&self) -> Vec<Txid> {
        self.pool.transactions.iter().map(Transaction::compute_txid).collect()
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Block { miner, transactions } => {
                let block = self.block(miner, transactions);
                self.append(block, Action::Connected, None);
                self.returned.clear();
                self.settle_pool(Vec::new());
            }
            Step::Crowd(count) => {
                let (height, number) = (self.tip().height + 1, self.number());
                let body = Body::crowd(&self.coins, number, height, *count);
                let block = Block::mine(self.last(), self.network, body, self.coins.list.clone());
                self.append(block, Action::Connected, None);
            }
            Step::Reorg(depth) => self.reorg(*depth),
            Step::Faulty(fault, transactions) => {
                let block = self.block(MINER, transactions);
                self.append(block, Action::Connected, Some(*fault));
            }
            Step::Poison(topic) => self.poison(*topic),
            Step::Takeover => self.takeover(),
            Step::Added(transactions) => self.add(transactions),
            Step::Removed(reason) => self.remove_oldest(*reason),
            Step::Gap { feed, lost } => self.status(StatusKind::GapDetected, feed, *lost),
            Step::Repaired { feed, recovered } => self.status(StatusKind::GapRepaired, feed, *recovered),
        }
    }

    /// A block on the tip, mined and not appended; its transactions are true in the coins already.
    fn block(&mut self, miner: &str, wanted: &[Tx]) -> Block {
        let height = self.tip().height + 1;
        let before = self.coins.list.clone();
        let mut fees = 0;
        let mut listed = Vec::new();
        for tx in wanted {
            for transaction in self.drafts(tx) {
                let had: u64 = self.coins.list.iter().map(|coin| coin.value).sum();
                if let Some(fields) = self.coins.take(&transaction, height) {
                    fees += had - self.coins.list.iter().map(|coin| coin.value).sum::<u64>();
                    listed.push(fields);
                }
            }
        }
        let script = script_of(miner, self.network.flavour());
        let coinbase = coinbase(height, self.number(), subsidy(height) + fees, script);
        listed.insert(0, self.coins.take(&coinbase, height).expect("a coinbase spends nothing"));
        Block::mine(self.last(), self.network, Body::Listed(listed), before)
    }

    fn drafts(&self, tx: &Tx) -> Vec<Transaction> {
        match &tx.0 {
            What::Returned => self.returned.clone(),
            What::Waiting => self.pool.transactions.clone(),
            what => self.coins.draft(what).into_iter().collect(),
        }
    }

    fn reorg(&mut self, depth: usize) {
        let mut taken_back = Vec::new();
        for _ in 0..depth.min(self.blocks.len() - 1) {
            let block = self.last().clone();
            if let Body::Listed(transactions) = &block.body {
                taken_back.splice(0..0, transactions[1..].iter().map(raw));
            }
            self.coins.list = block.coins_before.clone();
            self.append(block, Action::Disconnected, None);
        }
        self.returned.splice(0..0, taken_back.iter().cloned());
        self.settle_pool(taken_back);
    }

    /// Appends a chain event with its transactions, as one log transaction.
    fn append(&mut self, block: Block, action: Action, fault: Option<Fault>) {
        let mut block = block;
        match fault {
            Some(Fault::MerkleRoot) => block.forge(),
            Some(Fault::Parent) => block.orphan(),
            Some(Fault::Sequence) => self.next_sequence += 1,
            Some(Fault::Count | Fault::Undecodable) | None => {}
        }
        let mut event =
            ChainEvent { sequence: self.next_sequence, action, epoch: self.epoch, ..block.event.clone() };
        self.writer.begin().expect("no transaction is open");
        for (position, transaction) in (0..).zip(block.body.transactions()) {
            let key = transaction.txid.to_byte_array();
            let partition = topics::partition(&key, self.partitions);
            let spoilt = fault == Some(Fault::Undecodable) && position + 1 == event.tx_count;
            if spoilt {
                self.send_bytes(EventKind::Transaction, partition, event.time, &key, NO_EVENT);
            } else {
                let fields = TransactionEvent {
                    sequence: event.sequence,
                    action,
                    block_hash: event.hash,
                    height: event.height,
                    block_time: event.time,
                    position,
                    transaction,
                };
                self.send(&fields, partition, event.time, &key);
            }
        }
        event.transactions = self.ranges();
        if let (Some(Fault::Count), Some(range)) = (fault, event.transactions.last_mut()) {
            range.count += 1;
            range.records += 1;
            event.tx_count += 1;
        }
        self.send(&event, 0, event.time, event.hash.as_byte_array());
        self.writer.commit().expect("the log takes it");
        self.next_sequence += 1;
        match action {
            Action::Connected => self.blocks.push(Block { event, ..block }),
            Action::Disconnected => drop(self.blocks.pop()),
        }
    }

    fn ranges(&mut self) -> Vec<PartitionRange> {
        let ranges =
            self.writer.mark().expect("a transaction is open").into_iter().map(|range| PartitionRange {
                partition: range.partition,
                first_offset: range.first_offset,
                records: range.records,
                count: range.sent,
            });
        ranges.collect()
    }

    fn poison(&mut self, topic: EventKind) {
        self.writer.begin().expect("no transaction is open");
        self.send_bytes(topic, 0, now(), b"poison", NO_EVENT);
        self.writer.commit().expect("the log takes it");
    }

    fn takeover(&mut self) {
        self.epoch += 1;
        self.mempool_sequence = Some(0);
        for partition in 0..self.partitions {
            let event = self.mempool_event(MempoolKind::Reset, Txid::all_zeros());
            self.send_alone(&event, partition);
        }
        let waiting = std::mem::take(&mut self.pool.transactions);
        self.settle_pool(waiting);
    }

    fn add(&mut self, wanted: &[Tx]) {
        assert!(self.mempool_sequence.is_some(), "a mempool view starts with takeover()");
        let height = self.tip().height + 1;
        for tx in wanted {
            let mut coins = self.pool.coins(&self.coins, height);
            let drafts = match &tx.0 {
                What::Returned => self.returned.clone(),
                what => coins.draft(what).into_iter().collect(),
            };
            for transaction in drafts {
                if let Some(fields) = coins.take(&transaction, height) {
                    self.pool.transactions.push(transaction);
                    self.mempool_added(fields);
                }
            }
        }
    }

    fn remove_oldest(&mut self, reason: RemovalReason) {
        if self.pool.transactions.is_empty() {
            return;
        }
        let oldest = self.pool.transactions.remove(0).compute_txid();
        let change = self.pool.settle(Vec::new(), &self.coins, self.tip().height + 1);
        for txid in [vec![oldest], change.removed].concat() {
            self.mempool_removed(txid, reason, None);
        }
    }

    /// Brings the mempool view to the chain. `before` are transactions that may come before all others.
    fn settle_pool(&mut self, before: Vec<Transaction>) {
        if self.mempool_sequence.is_none() {
            return;
        }
        let change = self.pool.settle(before, &self.coins, self.tip().height + 1);
        let tip = self.tip().hash;
        let mined: Vec<_> = match &self.last().body {
            Body::Listed(transactions) => transactions.iter().map(|transaction| transaction.txid).collect(),
            Body::Crowd { .. } => Vec::new(),
        };
        for txid in change.removed {
            match mined.contains(&txid) {
                true => self.mempool_removed(txid, RemovalReason::Mined, Some(tip)),
                false => self.mempool_removed(txid, RemovalReason::Conflicted, None),
            }
        }
        change.added.into_iter().for_each(|fields| self.mempool_added(fields));
    }

    fn mempool_added(&mut self, fields: TransactionFields) {
        let mut event = self.mempool_event(MempoolKind::Added, fields.txid);
        event.transaction = Some(fields);
        self.send_alone(&event, topics::partition(event.txid.as_byte_array(), self.partitions));
    }

    fn mempool_removed(&mut self, txid: Txid, reason: RemovalReason, block_hash: Option<bitcoin::BlockHash>) {
        let mut event = self.mempool_event(MempoolKind::Removed, txid);
        (event.reason, event.block_hash) = (Some(reason), block_hash);
        self.send_alone(&event, topics::partition(event.txid.as_byte_array(), self.partitions));
    }

    fn mempool_event(&mut self, kind: MempoolKind, txid: Txid) -> MempoolEvent {
        let next = self.mempool_sequence.as_mut().expect("the view has been started");
        *next += 1;
        MempoolEvent {
            epoch: self.epoch,
            sequence: *next - 1,
            chain_sequence: self.next_sequence - 1,
            kind,
            txid,
            transaction: None,
            reason: None,
            block_hash: None,
            replaced_by: None,
            first_seen: None,
            observed_at: self.tip().time,
            source: SOURCE.to_owned(),
        }
    }

    fn status(&mut self, kind: StatusKind, feed: &str, count: i64) {
        let event = StatusEvent {
            kind,
            source: SOURCE.to_owned(),
            epoch: self.epoch,
            tip_hash: Some(self.tip().hash),
            tip_height: Some(self.tip().height),
            chain_sequence: self.next_sequence - 1,
            source_height: Some(self.tip().height),
            feed: Some(feed.to_owned()),
            from: (kind == StatusKind::GapDetected).then_some(1),
            to: (kind == StatusKind::GapDetected).then_some(count),
            recovered: (kind == StatusKind::GapRepaired).then_some(count),
            detail: String::new(),
            observed_at: self.tip().time,
        };
        self.writer.begin().expect("no transaction is open");
        self.send(&event, 0, now(), SOURCE.as_bytes());
        self.writer.commit().expect("the log takes it");
    }

    fn send_alone(&mut self, event: &MempoolEvent, partition: i32) {
        self.writer.begin().expect("no transaction is open");
        self.send(event, partition, now(), event.txid.as_byte_array());
        self.writer.commit().expect("the log takes it");
    }

    fn send<E: Event>(&mut self, event: &E, partition: i32, timestamp: i64, key: &[u8]) {
        let mut value = Vec::new();
        self.chain.codec.encode(event, &mut value);
        self.send_bytes(E::KIND, partition, timestamp, key, &value);
    }

    fn send_bytes(&mut self, topic: EventKind, partition: i32, timestamp: i64, key: &[u8], value: &[u8]) {
        let topic = self.chain.topics.name(topic);
        let record = NewRecord { topic, partition, timestamp, key, value, headers: &[] };
        self.writer.send(&record).expect("the log takes it");
    }

    fn last(&self) -> &Block {
        self.blocks.last().expect("the first block is always there")
    }

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }
}

/// A new directory, in memory where that is possible.
pub(crate) fn folder() -> TempDir {
    let folder = match Path::new(IN_MEMORY).is_dir() {
        true => tempfile::tempdir_in(IN_MEMORY),
        false => tempfile::tempdir(),
    };
    folder.expect("a directory for temporary files")
}

/// Of this day: what is older than a topic's retention is deleted.
fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
