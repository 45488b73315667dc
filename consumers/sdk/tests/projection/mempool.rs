//! What retention leaves of a mempool epoch, and what must not be missing.

use std::time::{SystemTime, UNIX_EPOCH};

use bitcoin::hashes::Hash;
use sluice_consumer::{Consumer, Error, MempoolInterest, MempoolPosition};
use sluice_consumer_testkit::{TestLog, chain};
use sluice_log::{NewRecord, Writer};
use sluice_schemas::{MempoolEvent, MempoolKind};

use crate::ledger::{Ledger, Running, Store, catch_up, eventually};

/// An epoch that no producer is in the middle of.
const EPOCH: i64 = 9;

/// A log with two blocks, onto which mempool events are put one by one.
struct Hand {
    log: TestLog,
    writer: Box<dyn Writer>,
}

impl Hand {
    fn new() -> Self {
        let log = chain().blocks(1).takeover().build();
        let writer = log.chain.log.writer("by-hand").unwrap();
        Self { log, writer }
    }

    fn put(&mut self, kind: MempoolKind, partition: i32, sequence: i64) {
        let event = MempoolEvent {
            epoch: EPOCH,
            sequence,
            chain_sequence: 1,
            kind,
            txid: bitcoin::Txid::hash(&sequence.to_le_bytes()),
            transaction: None,
            reason: None,
            block_hash: None,
            replaced_by: None,
            first_seen: None,
            observed_at: 0,
            source: "by hand".into(),
        };
        let mut value = Vec::new();
        self.log.chain.codec.encode(&event, &mut value);
        let topic = &self.log.chain.topics.mempool;
        let timestamp = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
        let record = NewRecord { topic, partition, timestamp, key: b"", value: &value, headers: &[] };
        self.writer.begin().unwrap();
        self.writer.send(&record).unwrap();
        self.writer.commit().unwrap();
    }

    fn add(&mut self, places: &[(i32, i64)]) {
        for (partition, sequence) in places {
            self.put(MempoolKind::Added, *partition, *sequence);
        }
    }

    fn follow(&self, store: &Store, interest: MempoolInterest) -> Running {
        Running::start(Consumer::new(self.log.chain.clone(), "by-hand"), Ledger::new(store, interest))
    }
}

#[test]
fn an_epoch_whose_start_is_no_longer_kept_begins_with_a_reset_and_is_told() {
    // Some partitions from early on, some from later, one empty.
    let mut hand = Hand::new();
    hand.add(&[(0, 10), (0, 14), (1, 20), (0, 21), (1, 22)]);
    let store = Store::default();
    let running = hand.follow(&store, MempoolInterest::Resumed);
    eventually("what is left is applied", || store.rows().mempool.len() == 3);
    assert!(!store.rows().is_complete);
    assert_eq!(store.rows().resets, 1);
    // The next ones are given as they come, whichever partition they are in.
    hand.add(&[(2, 23), (0, 24)]);
    eventually("the next ones are applied", || store.rows().mempool.len() == 5);
    running.stop().unwrap();
    assert_eq!(store.rows().position.unwrap().mempool, Some(MempoolPosition { epoch: EPOCH, sequence: 24 }));
}

#[test]
fn what_comes_after_a_stored_position_may_be_gone_and_the_view_begins_anew() {
    let mut hand = Hand::new();
    let store = Store::default();
    catch_up(&hand.log.chain, "by-hand", &store, MempoolInterest::None).unwrap();
    if let Some(position) = &mut store.lock().position {
        position.mempool = Some(MempoolPosition { epoch: EPOCH, sequence: 12 });
    }
    // 13 is gone.
    hand.add(&[(0, 10), (0, 14), (1, 20), (0, 21)]);
    let running = hand.follow(&store, MempoolInterest::Resumed);
    eventually("what is left is applied", || store.rows().mempool.len() == 2);
    running.stop().unwrap();
    assert_eq!((store.rows().resets, store.rows().is_complete), (1, false));
}

#[test]
fn a_number_that_is_missing_within_an_epoch_stops_the_consumer_and_is_named() {
    let mut hand = Hand::new();
    for partition in 0..3 {
        hand.put(MempoolKind::Reset, partition, i64::from(partition));
    }
    hand.add(&[(1, 3), (2, 5)]);
    let store = Store::default();
    let running = hand.follow(&store, MempoolInterest::Rebuilt);
    match running.ended() {
        Err(Error::MempoolGap { epoch: EPOCH, last: 3, found: 5 }) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!((store.rows().mempool.len(), store.rows().is_complete), (1, true));
}

#[test]
fn a_missing_number_that_comes_late_is_waited_for() {
    let mut hand = Hand::new();
    for partition in 0..3 {
        hand.put(MempoolKind::Reset, partition, i64::from(partition));
    }
    hand.add(&[(1, 3), (2, 5)]);
    let store = Store::default();
    let running = hand.follow(&store, MempoolInterest::Rebuilt);
    eventually("the first is applied", || store.rows().mempool.len() == 1);
    hand.add(&[(0, 4)]);
    eventually("all are applied", || store.rows().mempool.len() == 3);
    running.stop().unwrap();
}
