//! A log built by hand: valid regtest blocks, and whatever damage a test asks for.
// Parts of tests, of which one need not use all.
#![allow(clippy::unwrap_used, dead_code)]

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::blockdata::constants::genesis_block;
use bitcoin::consensus::serialize;
use bitcoin::hashes::Hash;
use bitcoin::transaction::Version as TxVersion;
use bitcoin::{
    Amount, BlockHash, CompactTarget, OutPoint, ScriptBuf, Sequence, TxIn, TxMerkleNode, TxOut, Txid, Witness,
};
use sluice_log::chain::ChainLog;
use sluice_log::{Log, NewRecord, Writer};
use sluice_schemas::{
    Action, ChainEvent, Codec, Event, Input, MempoolEvent, MempoolKind, Network, Output, PartitionRange,
    Phase, Prevout, Script, ScriptType, Topics, Transaction, TransactionEvent, topics,
};
use tempfile::TempDir;

/// Partitions of transactions and mempool.
pub(crate) const PARTITIONS: i32 = 3;
/// Target of every regtest block.
const REGTEST_BITS: u32 = 0x207f_ffff;
/// Work of every regtest block.
const REGTEST_WORK: u64 = 2;
/// A value of this many bytes does not fit into one record.
pub(crate) const CHUNKED_BYTES: usize = 2_500_000;

/// A block with its transactions.
#[derive(Clone)]
pub(crate) struct Block {
    pub(crate) event: ChainEvent,
    pub(crate) transactions: Vec<Transaction>,
}

/// A log, its writer, and the chain as it should be read.
pub(crate) struct TestLog {
    pub(crate) chain: ChainLog,
    writer: Box<dyn Writer>,
    _folder: Option<TempDir>,
    /// The best chain, genesis first.
    pub(crate) blocks: Vec<Block>,
    /// Every chain event in order.
    pub(crate) events: Vec<ChainEvent>,
    next_sequence: i64,
    next_number: u64,
    mempool_sequence: i64,
    /// Called when all of the next block has been sent.
    pub(crate) before_commit: Option<Box<dyn FnOnce() + Send>>,
}

impl TestLog {
    /// A log of its own.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = sluice_log::open(&format!("sqlite:{}", folder.path().join("log.db").display())).unwrap();
        let topics = Topics::of(Network::BtcRegtest);
        Self { _folder: Some(folder), ..Self::on(log, topics) }
    }

    /// An empty chain on topics of a log.
    pub(crate) fn on(log: Arc<dyn Log>, topics: Topics) -> Self {
        log.ensure_topics(&topics.specs(PARTITIONS)).unwrap();
        let writer = log.writer(&topics.prefix).unwrap();
        Self {
            chain: ChainLog { log, codec: Codec::single_object(), topics },
            writer,
            _folder: None,
            blocks: Vec::new(),
            events: Vec::new(),
            next_sequence: 0,
            next_number: 0,
            mempool_sequence: 0,
            before_commit: None,
        }
    }

    /// Takes over from itself. Where a writer on Kafka has not written before, it knows no offsets, and so a mark has stored
    /// what was sent.
    pub(crate) fn take_over(&mut self) {
        self.writer = self.chain.log.writer(&self.chain.topics.prefix).unwrap();
    }

    /// A log of blocks with one to some transactions, of which one is chunked, and two reorgs.
    pub(crate) fn sound() -> Self {
        Self::new().with_a_sound_chain()
    }

    pub(crate) fn with_a_sound_chain(mut self) -> Self {
        let log = &mut self;
        for payments in [0, 0, 3, 9, 1] {
            log.connect(payments);
        }
        log.disconnect();
        log.disconnect();
        for payments in [4, 0, 2] {
            log.connect(payments);
        }
        let large = log.block(2, Some(CHUNKED_BYTES));
        log.append(large, Action::Connected, |_| {}, |_| {});
        log.disconnect();
        log.connect(20);
        log.connect(1);
        self
    }

    pub(crate) fn connect(&mut self, payments: u64) {
        let block = self.block(payments, None);
        self.append(block, Action::Connected, |_| {}, |_| {});
    }

    pub(crate) fn disconnect(&mut self) {
        let tip = self.blocks.last().unwrap().clone();
        self.append(tip, Action::Disconnected, |_| {}, |_| {});
    }

    /// A block on the tip, not appended yet; genesis where there is none. One of its outputs has `extra` bytes more.
    pub(crate) fn block(&mut self, payments: u64, extra: Option<usize>) -> Block {
        let height = self.blocks.len() as i32;
        if height == 0 {
            return genesis();
        }
        let mut transactions = vec![self.coinbase(height)];
        for _ in 0..payments {
            transactions.push(self.payment(extra));
        }
        let prev_hash = self.blocks.last().map_or(BlockHash::all_zeros(), |block| block.event.hash);
        mine(prev_hash, height, transactions, self.blocks.last().map(|block| block.event.chain_work))
    }

    /// Appends a chain event with its transactions, each as it was made by the closures.
    pub(crate) fn append(
        &mut self,
        block: Block,
        action: Action,
        damage_transactions: impl FnOnce(&mut Vec<TransactionEvent>),
        damage_event: impl FnOnce(&mut ChainEvent),
    ) {
        let mut event = ChainEvent { sequence: self.next_sequence, action, ..block.event.clone() };
        let mut transactions: Vec<_> = (0..)
            .zip(&block.transactions)
            .map(|(position, tx)| transaction_event(&event, position, tx))
            .collect();
        damage_transactions(&mut transactions);
        self.writer.begin().unwrap();
        for transaction in &transactions {
            self.send_transaction(transaction);
        }
        let ranges = self.writer.mark().unwrap();
        event.transactions = ranges
            .iter()
            .map(|range| PartitionRange {
                partition: range.partition,
                first_offset: range.first_offset,
                records: range.records,
                count: range.sent,
            })
            .collect();
        damage_event(&mut event);
        let topic = self.chain.topics.blocks.clone();
        self.send(&topic, 0, event.hash.as_byte_array(), &event);
        if let Some(hook) = self.before_commit.take() {
            self.writer.mark().unwrap();
            hook();
        }
        self.writer.commit().unwrap();
        self.next_sequence = event.sequence + 1;
        self.events.push(event.clone());
        match action {
            Action::Connected => self.blocks.push(Block { event, ..block }),
            Action::Disconnected => drop(self.blocks.pop()),
        }
    }

    /// Sends the transactions of a block, and gives them up.
    pub(crate) fn give_up(&mut self, block: &Block, before_abort: impl FnOnce()) {
        self.writer.begin().unwrap();
        for (position, transaction) in (0..).zip(&block.transactions) {
            self.send_transaction(&transaction_event(&block.event, position, transaction));
        }
        self.writer.mark().unwrap();
        before_abort();
        self.writer.abort().unwrap();
    }

    /// Commits a transaction record that no chain event names.
    pub(crate) fn append_stray(&mut self) -> (i32, i64) {
        let tip = self.blocks.last().unwrap().clone();
        let event = ChainEvent { sequence: self.next_sequence, ..tip.event };
        self.writer.begin().unwrap();
        self.send_transaction(&transaction_event(&event, 0, &tip.transactions[0]));
        let ranges = self.writer.mark().unwrap();
        self.writer.commit().unwrap();
        (ranges[0].partition, ranges[0].first_offset)
    }

    /// Commits bytes that are no event.
    pub(crate) fn append_garbage(&mut self) {
        let topic = self.chain.topics.blocks.clone();
        self.writer.begin().unwrap();
        let value = b"\xc3\x01notaschema";
        self.writer
            .send(&NewRecord { topic: &topic, partition: 0, timestamp: 0, key: b"", value, headers: &[] })
            .unwrap();
        self.writer.commit().unwrap();
    }

    /// Commits a mempool epoch's opening, and the additions of some new transactions. Gives their ids.
    pub(crate) fn mempool_epoch(&mut self, epoch: i64, additions: u64) -> Vec<Txid> {
        self.mempool_sequence = 0;
        self.mempool_reset(epoch, PARTITIONS);
        self.mempool_additions(epoch, additions)
    }

    /// Commits resets in the first partitions.
    pub(crate) fn mempool_reset(&mut self, epoch: i64, partitions: i32) {
        for partition in 0..partitions {
            self.mempool_event(epoch, MempoolKind::Reset, Txid::all_zeros(), None, Some(partition));
        }
    }

    pub(crate) fn mempool_additions(&mut self, epoch: i64, additions: u64) -> Vec<Txid> {
        (0..additions)
            .map(|_| {
                let transaction = self.payment(None);
                self.mempool_event(epoch, MempoolKind::Added, transaction.txid, Some(&transaction), None);
                transaction.txid
            })
            .collect()
    }

    pub(crate) fn mempool_removal(&mut self, epoch: i64, txid: Txid) {
        self.mempool_event(epoch, MempoolKind::Removed, txid, None, None);
    }

    pub(crate) fn mempool_addition(&mut self, epoch: i64, transaction: &Transaction) {
        self.mempool_event(epoch, MempoolKind::Added, transaction.txid, Some(transaction), None);
    }

    /// Leaves a number out.
    pub(crate) fn skip_mempool_sequence(&mut self) {
        self.mempool_sequence += 1;
    }

    fn mempool_event(
        &mut self,
        epoch: i64,
        kind: MempoolKind,
        txid: Txid,
        transaction: Option<&Transaction>,
        partition: Option<i32>,
    ) {
        let event = MempoolEvent {
            epoch,
            sequence: self.mempool_sequence,
            chain_sequence: self.next_sequence - 1,
            kind,
            txid,
            transaction: transaction.cloned(),
            reason: None,
            block_hash: None,
            replaced_by: None,
            first_seen: None,
            observed_at: 0,
            source: "test".into(),
        };
        self.mempool_sequence += 1;
        let topic = self.chain.topics.mempool.clone();
        let key = txid.to_byte_array();
        let partition = partition.unwrap_or_else(|| topics::partition(&key, PARTITIONS));
        self.writer.begin().unwrap();
        self.send(&topic, partition, &key, &event);
        self.writer.commit().unwrap();
    }

    fn send_transaction(&mut self, event: &TransactionEvent) {
        let key = event.transaction.txid.to_byte_array();
        let topic = self.chain.topics.transactions.clone();
        self.send(&topic, topics::partition(&key, PARTITIONS), &key, event);
    }

    fn send<E: Event>(&mut self, topic: &str, partition: i32, key: &[u8], event: &E) {
        let mut value = Vec::new();
        self.chain.codec.encode(event, &mut value);
        // Of this day: what is older than a topic's retention is deleted.
        let timestamp = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
        self.writer
            .send(&NewRecord { topic, partition, timestamp, key, value: &value, headers: &[] })
            .unwrap();
    }

    fn coinbase(&mut self, height: i32) -> Transaction {
        let script_sig =
            ScriptBuf::from_bytes([&height.to_le_bytes()[..], &self.number().to_le_bytes()].concat());
        let input = TxIn { previous_output: OutPoint::null(), script_sig, ..TxIn::default() };
        transaction(input, vec![5_000_000_000], None, 0)
    }

    /// A payment of an output that nobody has seen.
    pub(crate) fn payment(&mut self, extra: Option<usize>) -> Transaction {
        let number = self.number();
        let spent = OutPoint { txid: Txid::hash(&number.to_le_bytes()), vout: number as u32 % 4 };
        // Every other one has a witness.
        let witness = match number % 2 {
            0 => Witness::from_slice(&[vec![1; 71], vec![2; 33]]),
            _ => Witness::new(),
        };
        let input = TxIn { previous_output: spent, witness, sequence: Sequence::MAX, ..TxIn::default() };
        transaction(input, vec![600, 300], Some(1_000), extra.unwrap_or(0))
    }

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }
}

/// A block with proof of work.
pub(crate) fn mine(
    prev_hash: BlockHash,
    height: i32,
    transactions: Vec<Transaction>,
    parents_work: Option<[u8; 32]>,
) -> Block {
    let txids = transactions.iter().map(|transaction| transaction.txid.to_raw_hash());
    let merkle_root = TxMerkleNode::from_raw_hash(bitcoin::merkle_tree::calculate_root(txids).unwrap());
    let mut header = Header {
        version: Version::from_consensus(0x2000_0000),
        prev_blockhash: prev_hash,
        merkle_root,
        time: 1_700_000_000 + height as u32 * 600,
        bits: CompactTarget::from_consensus(REGTEST_BITS),
        nonce: 0,
    };
    while !header.target().is_met_by(header.block_hash()) {
        header.nonce += 1;
    }
    block(&header, height, transactions, parents_work)
}

fn genesis() -> Block {
    let genesis = genesis_block(bitcoin::Network::Regtest);
    block(&genesis.header, 0, vec![event_of(&genesis.txdata[0], None)], None)
}

fn block(
    header: &Header,
    height: i32,
    transactions: Vec<Transaction>,
    parents_work: Option<[u8; 32]>,
) -> Block {
    let overhead = 80 + if transactions.len() < 0xfd { 1 } else { 3 };
    let mut chain_work = [0; 32];
    let parents = parents_work.map_or(0, |work| u64::from_be_bytes(work[24..].try_into().unwrap()));
    chain_work[24..].copy_from_slice(&(parents + REGTEST_WORK).to_be_bytes());
    let event = ChainEvent {
        network: Network::BtcRegtest.name().to_owned(),
        sequence: -1,
        action: Action::Connected,
        hash: header.block_hash(),
        prev_hash: header.prev_blockhash,
        height,
        header: serialize(header).try_into().unwrap(),
        chain_work,
        time: i64::from(header.time) * 1000,
        median_time: i64::from(header.time) * 1000,
        tx_count: transactions.len() as i64,
        size: transactions.iter().map(|transaction| transaction.size).sum::<i64>() + overhead,
        weight: Some(transactions.iter().map(|tx| tx.weight.unwrap()).sum::<i64>() + 4 * overhead),
        transactions: Vec::new(),
        phase: Phase::Live,
        observed_at: 0,
        epoch: 0,
    };
    Block { event, transactions }
}

fn transaction_event(event: &ChainEvent, position: i64, transaction: &Transaction) -> TransactionEvent {
    TransactionEvent {
        sequence: event.sequence,
        action: event.action,
        block_hash: event.hash,
        height: event.height,
        block_time: event.time,
        position,
        transaction: transaction.clone(),
    }
}

/// A transaction of one input; the script of its first output has `extra` bytes.
fn transaction(input: TxIn, values: Vec<u64>, spent: Option<i64>, extra: usize) -> Transaction {
    let script = |index: usize| ScriptBuf::from_bytes(vec![0x6a; if index == 0 { extra } else { 1 }]);
    let output = |(index, value): (usize, &u64)| TxOut {
        value: Amount::from_sat(*value),
        script_pubkey: script(index),
    };
    let tx = bitcoin::Transaction {
        version: TxVersion::TWO,
        lock_time: LockTime::ZERO,
        input: vec![input],
        output: values.iter().enumerate().map(output).collect(),
    };
    event_of(&tx, spent)
}

/// A transaction as events have it; its first input spends `spent` satoshis.
fn event_of(tx: &bitcoin::Transaction, spent: Option<i64>) -> Transaction {
    let wtxid = tx.compute_wtxid();
    let paid: u64 = tx.output.iter().map(|output| output.value.to_sat()).sum();
    let input = |input: &TxIn| Input {
        prev_txid: input.previous_output.txid,
        prev_vout: i64::from(input.previous_output.vout),
        script_sig: input.script_sig.to_bytes().into(),
        sequence: i64::from(input.sequence.0),
        witness: input.witness.iter().map(|item| Script::from(item.to_vec())).collect(),
        prevout: spent.map(|value| Prevout {
            value,
            script_pubkey: vec![0x51].into(),
            address: None,
            height: None,
        }),
    };
    let output = |output: &TxOut| Output {
        value: output.value.to_sat() as i64,
        script_pubkey: output.script_pubkey.to_bytes().into(),
        script_type: ScriptType::Nonstandard,
        address: None,
    };
    Transaction {
        txid: tx.compute_txid(),
        wtxid: (wtxid.to_raw_hash() != tx.compute_txid().to_raw_hash()).then_some(wtxid),
        version: tx.version.0,
        lock_time: i64::from(tx.lock_time.to_consensus_u32()),
        size: tx.total_size() as i64,
        weight: Some(tx.weight().to_wu() as i64),
        coinbase: tx.is_coinbase(),
        inputs: tx.input.iter().map(input).collect(),
        outputs: tx.output.iter().map(output).collect(),
        fee: spent.map(|spent| spent - paid as i64),
    }
}
