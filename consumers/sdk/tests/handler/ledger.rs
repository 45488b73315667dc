//! A chain on either log: transactions are numbers, blocks hold some of them.

use std::sync::Arc;

use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, Txid};
use sluice_consumer::ChainLog;
use sluice_log::{NewRecord, Writer};
use sluice_schemas::{
    Action, ChainEvent, Codec, Event, MempoolEvent, MempoolKind, PartitionRange, Phase, Topics, Transaction,
    TransactionEvent, topics,
};
use sluice_test_support::{Dir, LogKind, unique_prefix};

/// Partitions of transactions and mempool.
pub(crate) const PARTITIONS: i32 = 4;

/// A chain, its log and the one who writes it.
pub(crate) struct Ledger {
    dir: Dir,
    kind: LogKind,
    prefix: String,
    writer: Box<dyn Writer>,
    chain: ChainLog,
    /// The best chain: hash and transactions of each block.
    blocks: Vec<(BlockHash, Vec<u64>)>,
    next_sequence: i64,
}

/// Id of a transaction.
pub(crate) fn txid(number: u64) -> Txid {
    Txid::hash(&number.to_be_bytes())
}

impl Ledger {
    /// A log with an empty first block.
    pub(crate) fn new(kind: LogKind) -> Self {
        let (dir, prefix) = (Dir::new("handler"), unique_prefix("handler"));
        let chain = open(kind, &dir, &prefix);
        chain.log.ensure_topics(&chain.topics.specs(PARTITIONS)).unwrap();
        let writer = chain.log.writer(&format!("{prefix}.test")).unwrap();
        let mut ledger = Self { dir, kind, prefix, writer, chain, blocks: Vec::new(), next_sequence: 0 };
        ledger.connect(&[]);
        ledger
    }

    /// The log, opened as another process opens it.
    pub(crate) fn open(&self) -> ChainLog {
        open(self.kind, &self.dir, &self.prefix)
    }

    /// A group of this test's own: on Kafka, tests share them.
    pub(crate) fn group(&self) -> String {
        format!("{}-group", self.prefix)
    }

    /// Connects a block with these transactions, beside its coinbase, which is of no interest here.
    pub(crate) fn connect(&mut self, transactions: &[u64]) {
        let height = self.blocks.len() as i32;
        let hash = BlockHash::hash(&self.next_sequence.to_be_bytes());
        self.publish(Action::Connected, hash, height, transactions);
        self.blocks.push((hash, transactions.to_vec()));
    }

    /// Disconnects the tip, and says what it held.
    pub(crate) fn disconnect(&mut self) -> Vec<u64> {
        let (hash, transactions) = self.blocks.pop().unwrap();
        self.publish(Action::Disconnected, hash, self.blocks.len() as i32, &transactions);
        transactions
    }

    /// Commits a transaction record of no known schema. Says where it is.
    pub(crate) fn poison(&mut self, number: u64) -> (i32, i64) {
        self.writer.begin().unwrap();
        self.send_bytes(&self.chain.topics.transactions.clone(), number, b"\xc3\x01notaschema");
        let range = self.writer.mark().unwrap().remove(0);
        self.writer.commit().unwrap();
        (range.partition, range.first_offset)
    }

    /// A mempool event.
    pub(crate) fn added(&mut self, number: u64) {
        let event = MempoolEvent {
            epoch: 1,
            sequence: 0,
            chain_sequence: self.next_sequence - 1,
            kind: MempoolKind::Added,
            txid: txid(number),
            transaction: Some(transaction(number)),
            reason: None,
            block_hash: None,
            replaced_by: None,
            first_seen: None,
            observed_at: 0,
            source: "test".into(),
        };
        self.writer.begin().unwrap();
        self.send(&self.chain.topics.mempool.clone(), number, &event);
        self.writer.commit().unwrap();
    }

    fn publish(&mut self, action: Action, hash: BlockHash, height: i32, transactions: &[u64]) {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.writer.begin().unwrap();
        for (position, number) in (0..).zip(transactions) {
            let event = TransactionEvent {
                sequence,
                action,
                block_hash: hash,
                height,
                block_time: 1_700_000_000_000,
                position,
                transaction: transaction(*number),
            };
            self.send(&self.chain.topics.transactions.clone(), *number, &event);
        }
        let ranges = self.writer.mark().unwrap().into_iter().map(|range| PartitionRange {
            partition: range.partition,
            first_offset: range.first_offset,
            records: range.records,
            count: range.sent,
        });
        let event = ChainEvent {
            sequence,
            action,
            hash,
            prev_hash: self.blocks.last().map_or(BlockHash::all_zeros(), |(hash, _)| *hash),
            height,
            header: [0; 80],
            chain_work: [0; 32],
            time: 1_700_000_000_000,
            median_time: 1_700_000_000_000,
            tx_count: transactions.len() as i64,
            size: 100,
            weight: None,
            transactions: ranges.collect(),
            phase: Phase::Live,
            observed_at: 0,
            epoch: 0,
            network: "btc-regtest".into(),
        };
        let mut value = Vec::new();
        self.chain.codec.encode(&event, &mut value);
        let topic = self.chain.topics.blocks.clone();
        self.append(&topic, 0, hash.as_byte_array(), &value);
        self.writer.commit().unwrap();
    }

    fn send<E: Event>(&mut self, topic: &str, number: u64, event: &E) {
        let mut value = Vec::new();
        self.chain.codec.encode(event, &mut value);
        self.send_bytes(topic, number, &value);
    }

    fn send_bytes(&mut self, topic: &str, number: u64, value: &[u8]) {
        let key = txid(number).to_byte_array();
        self.append(topic, topics::partition(&key, PARTITIONS), &key, value);
    }

    fn append(&mut self, topic: &str, partition: i32, key: &[u8], value: &[u8]) {
        let timestamp =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
        self.writer.send(&NewRecord { topic, partition, timestamp, key, value, headers: &[] }).unwrap();
    }
}

fn open(kind: LogKind, dir: &Dir, prefix: &str) -> ChainLog {
    let log: Arc<dyn sluice_log::Log> = sluice_log::open(&kind.url(dir)).unwrap();
    ChainLog { log, codec: Codec::single_object(), topics: Topics::new(prefix) }
}

fn transaction(number: u64) -> Transaction {
    Transaction {
        txid: txid(number),
        wtxid: None,
        version: 2,
        // Names it in what a test prints.
        lock_time: number as i64,
        size: 60,
        weight: None,
        coinbase: false,
        inputs: Vec::new(),
        outputs: Vec::new(),
        fee: None,
    }
}
