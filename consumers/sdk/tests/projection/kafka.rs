//! The same on a real Kafka: a log copied from a script's.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bitcoin::hashes::Hash;
use sluice_consumer::{ChainLog, Consumer, Error, MempoolInterest, State};
use sluice_consumer_testkit::{TestLog, chain};
use sluice_log::{NewRecord, Writer};
use sluice_schemas::{Event, PartitionRange, Topics, topics};
use sluice_test_support::{Kafka, LogKind, parts, unique_prefix};

use crate::ledger::{Ledger, Running, Store, catch_up, confirmed, eventually};

const PARTITIONS: i32 = 3;
/// After how long a silent member of a group loses its lead.
const SESSION: Duration = Duration::from_secs(4);
/// Transactions of a block larger than what is read ahead.
const CROWD: u64 = 60_000;

fn with_session(url: &str) -> String {
    format!("{url}?group-session-timeout={}s", SESSION.as_secs())
}

/// A log on Kafka, and how much of a script's log it has.
struct Copy {
    chain: ChainLog,
    writer: Box<dyn Writer>,
    next_sequence: i64,
}

impl Copy {
    fn new(from: &TestLog, url: &str) -> Self {
        let log = sluice_log::open(url).unwrap();
        let topics = Topics::new(&unique_prefix("sdk"));
        log.ensure_topics(&topics.specs(PARTITIONS)).unwrap();
        let writer = log.writer(&topics.prefix).unwrap();
        Self { chain: ChainLog { log, topics, codec: from.chain.codec.clone() }, writer, next_sequence: 0 }
    }

    /// Copies what is new.
    fn follow(&mut self, from: &TestLog) {
        let mut scanner = from.chain.scan(self.next_sequence).unwrap();
        while let Some(located) = scanner.next_event().unwrap() {
            let mut event = located.event;
            self.writer.begin().unwrap();
            for transaction in scanner.transactions().unwrap() {
                let transaction = transaction.unwrap();
                let key = transaction.transaction.txid.to_byte_array();
                let topic = self.chain.topics.transactions.clone();
                self.send(&transaction, &topic, topics::partition(&key, PARTITIONS), &key);
            }
            let ranges = self.writer.mark().unwrap().into_iter().map(|range| PartitionRange {
                partition: range.partition,
                first_offset: range.first_offset,
                records: range.records,
                count: range.sent,
            });
            event.transactions = ranges.collect();
            let topic = self.chain.topics.blocks.clone();
            self.send(&event, &topic, 0, event.hash.as_byte_array());
            self.writer.commit().unwrap();
            self.next_sequence = event.sequence + 1;
        }
    }

    /// Copies the newest epoch of the mempool.
    fn mempool(&mut self, from: &TestLog) {
        let mut scanner = from.chain.scan_mempool(None).unwrap();
        self.writer.begin().unwrap();
        while let Some(placed) = scanner.next_event().unwrap() {
            let topic = self.chain.topics.mempool.clone();
            self.send(&placed.event, &topic, placed.partition, placed.event.txid.as_byte_array());
        }
        self.writer.commit().unwrap();
    }

    fn send<E: Event>(&mut self, event: &E, topic: &str, partition: i32, key: &[u8]) {
        let mut value = Vec::new();
        self.chain.codec.encode(event, &mut value);
        let timestamp =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
        self.writer
            .send(&NewRecord { topic, partition, timestamp, key, value: &value, headers: &[] })
            .unwrap();
    }
}

#[test]
fn on_kafka_a_standby_takes_over_and_the_rows_are_the_best_chains() {
    if !LogKind::Kafka.there() {
        return;
    }
    let mut log = crate::busy().build();
    let mut copy = Copy::new(&log, &with_session(&Kafka::shared()));
    copy.follow(&log);
    copy.mempool(&log);
    let store = Store::default();
    let group = format!("{}.index", copy.chain.topics.prefix);
    let member = || {
        let consumer = Consumer::new(copy.chain.clone(), &group);
        Running::start(consumer, Ledger::new(&store, MempoolInterest::Resumed))
    };
    let first = member();
    first.until_live();
    eventually("the mempool is applied", || {
        store.rows().mempool.len() == log.mempool().len() && !log.mempool().is_empty()
    });
    let second = member();
    eventually("both are members", || {
        let groups = copy.chain.log.groups().unwrap();
        groups.iter().any(|found| found.name == group && found.members == 2)
    });
    // The first hears of it with a heartbeat, of which there are five in a session, and then all are told what is theirs.
    std::thread::sleep(SESSION / 2);
    assert_eq!(second.monitor.status().state, State::StandingBy);
    assert_eq!(first.monitor.status().state, State::Live);
    first.stop().unwrap();
    second.until_live();
    log.play(&chain().reorg(2).blocks(4));
    copy.follow(&log);
    let tip = log.tip().hash;
    eventually("the new blocks are applied", || {
        store.rows().position.is_some_and(|position| position.tip.hash == tip)
    });
    second.stop().unwrap();
    assert_eq!(store.rows().confirmed, confirmed(&copy.chain));
    assert_eq!(store.rows().confirmed, confirmed(&log.chain));
    // The group's offset is where the position is, for `sluice status`.
    let groups = copy.chain.log.groups().unwrap();
    let found = groups.iter().find(|found| found.name == group).unwrap();
    assert_eq!(found.committed.len(), 1);
    let located = copy.chain.event_at_sequence(store.rows().position.unwrap().sequence).unwrap().unwrap();
    assert_eq!(found.committed[0].offset, located.offset + 1);
}

#[test]
fn on_kafka_a_log_that_was_replaced_is_refused() {
    if !LogKind::Kafka.there() {
        return;
    }
    let log = crate::busy().build();
    let store = Store::default();
    catch_up(&log.chain, "a-group", &store, MempoolInterest::None).unwrap();
    let other = chain().mined_by("mallory", []).blocks(30).build();
    let mut copy = Copy::new(&other, &Kafka::shared());
    copy.follow(&other);
    let group = format!("{}.index", copy.chain.topics.prefix);
    let refused = catch_up(&copy.chain, &group, &store, MempoolInterest::None);
    assert!(matches!(refused, Err(Error::LogReplaced { .. })), "{refused:?}");
}

#[test]
fn on_kafka_a_consumer_outlives_a_broker_that_is_away_for_longer_than_a_session() {
    if !parts::have("SLUICE_TEST_KAFKA_RUN") {
        return;
    }
    let broker = Kafka::start("");
    let mut log = crate::busy().crowd(CROWD).build();
    let mut copy = Copy::new(&log, &with_session(&broker.url()));
    copy.follow(&log);
    copy.mempool(&log);
    let store = Store::default();
    let consumer = Consumer::new(copy.chain.clone(), "outliving");
    let running = Running::start(consumer, Ledger::new(&store, MempoolInterest::Rebuilt));
    running.until_live();
    // Another one is in the middle of a block, of which it cannot have read ahead everything.
    let large = Store::default();
    let mut ledger = Ledger::new(&large, MempoolInterest::None);
    (ledger.rolls_back, ledger.waits_inside) = (true, Some(1_000));
    let (gate, inside) = (ledger.gate.clone(), ledger.inside.clone());
    gate.shut();
    let interrupted = Running::start(Consumer::new(copy.chain.clone(), "interrupted"), ledger);
    eventually("it is in the block", || inside.load(Ordering::SeqCst) == 1_000);
    broker.kill();
    gate.open();
    std::thread::sleep(2 * SESSION);
    let read = inside.load(Ordering::SeqCst);
    assert!((1_000..CROWD).contains(&read), "it had the whole block when the broker went: {read}");
    broker.up();
    let mut writer = copy.chain.log.writer(&copy.chain.topics.prefix);
    for _ in 0..30 {
        if writer.is_ok() {
            break;
        }
        std::thread::sleep(Duration::from_secs(1));
        writer = copy.chain.log.writer(&copy.chain.topics.prefix);
    }
    copy.writer = writer.unwrap();
    log.play(&chain().reorg(2).blocks(4));
    copy.follow(&log);
    let tip = log.tip().hash;
    eventually("the new blocks are applied", || {
        store.rows().position.is_some_and(|position| position.tip.hash == tip)
    });
    running.until_live();
    running.stop().unwrap();
    assert_eq!(store.rows().confirmed, confirmed(&copy.chain));
    eventually("the interrupted one applies them, too", || {
        large.rows().position.is_some_and(|position| position.tip.hash == tip)
    });
    interrupted.stop().unwrap();
    assert_eq!(large.rows().confirmed, store.rows().confirmed);
}
