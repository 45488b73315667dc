//! What the typed chain layer promises on either log.

use sluice_log::Error;
use sluice_log::chain::{Location, Scanner};
use sluice_schemas::{ChainEvent, PartitionRange, Topics, TransactionEvent};

use super::*;
use crate::chain_log::{PARTITIONS, TestLog};

fn chain(fixture: &impl Fixture) -> TestLog {
    TestLog::on(fixture.open(), Topics::new(&fixture.name("chain")))
}

/// What a scan gives until it has no more.
fn rest(scan: &mut Scanner) -> Vec<ChainEvent> {
    let mut events = Vec::new();
    while let Some(found) = scan.next_event().unwrap() {
        let transactions: Vec<_> = scan.transactions().unwrap().map(Result::unwrap).collect();
        assert!(transactions.iter().all(|transaction| transaction.block_hash == found.event.hash));
        assert_eq!(transactions.len() as i64, found.event.tx_count);
        events.push(found.event);
    }
    events
}

pub(crate) fn a_scan_gives_every_event_with_its_transactions(fixture: &impl Fixture) {
    let log = chain(fixture).with_a_sound_chain();
    assert_eq!(rest(&mut log.chain.scan(0).unwrap()), log.events);
    assert_eq!(rest(&mut log.chain.scan(7).unwrap()), log.events[7..]);
}

pub(crate) fn a_scan_waits_for_what_comes_next(fixture: &impl Fixture) {
    let mut log = chain(fixture);
    let mut scan = log.chain.scan(0).unwrap();
    assert!(!scan.wait(QUIET).unwrap());
    assert_eq!(scan.next_event().unwrap(), None);
    for payments in [0, 2, 5] {
        let appended = std::thread::scope(|scope| {
            let appended = scope.spawn(|| {
                log.connect(payments);
                log.connect(0);
                log.disconnect();
                log.events[log.events.len() - 3..].to_vec()
            });
            let mut found = Vec::new();
            while found.len() < 3 && scan.wait(PATIENCE).unwrap() {
                // What has come is there at once, and to wait for it again takes no time.
                assert!(scan.wait(Duration::MAX).unwrap());
                found.extend(rest(&mut scan));
            }
            assert_eq!(found, appended.join().unwrap());
            found.len()
        });
        assert_eq!(appended, 3);
        assert!(!scan.wait(Duration::ZERO).unwrap());
        assert_eq!(scan.next_event().unwrap(), None);
    }
}

pub(crate) fn a_transaction_is_read_by_its_location_in_any_order(fixture: &impl Fixture) {
    let log = chain(fixture).with_a_sound_chain();
    let store = log.chain.transaction_store(2);
    let mut reader = log.chain.transaction_reader().unwrap();
    let mut all: Vec<(Location, TransactionEvent)> = Vec::new();
    for event in &log.events {
        let mut transactions = reader.transactions(event).unwrap();
        all.extend(std::iter::from_fn(|| transactions.next_located()).map(Result::unwrap));
    }
    let (first, second) = all.split_at(all.len() / 2);
    let mixed = first.iter().rev().zip(second).flat_map(|(a, b)| [b, a, a]);
    for (location, event) in all.iter().rev().chain(mixed).chain(&all) {
        assert_eq!(&store.transaction_at(*location).unwrap(), event);
    }
    // More threads than readers.
    std::thread::scope(|scope| {
        for _ in 0..5 {
            scope.spawn(|| {
                all.iter().for_each(|(at, event)| assert_eq!(&store.transaction_at(*at).unwrap(), event))
            });
        }
    });
}

pub(crate) fn a_location_at_which_no_transaction_event_starts_is_refused(fixture: &impl Fixture) {
    let log = chain(fixture).with_a_sound_chain();
    let reader = log.chain.transaction_store(1);
    let chunked = |range: &&PartitionRange| range.records > range.count;
    let mut ranges = log.events.iter().flat_map(|event| &event.transactions);
    let range = ranges.find(chunked).unwrap();
    let mut within = (range.first_offset..range.first_offset + range.records)
        .filter_map(|offset| reader.transaction_at(Location { partition: range.partition, offset }).err());
    let error = within.next().unwrap();
    assert!(matches!(error, Error::NoSuchEvent { .. }), "{error}");
    drop(within);
    for offset in [-1, i64::from(i32::MAX)] {
        let error = reader.transaction_at(Location { partition: 0, offset }).unwrap_err();
        assert!(matches!(error, Error::OutOfRange { .. }), "{error}");
    }
    let end = log.chain.log.bounds(&log.chain.topics.transactions, 0).unwrap().end;
    let error = reader.transaction_at(Location { partition: 0, offset: end }).unwrap_err();
    assert!(matches!(error, Error::NoSuchEvent { .. }), "{error}");
    let error = reader.transaction_at(Location { partition: PARTITIONS, offset: 0 }).unwrap_err();
    assert!(matches!(error, Error::NoSuchPartition { .. }), "{error}");
}
