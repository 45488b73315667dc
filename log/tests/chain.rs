//! The typed chain layer on a real log: reading it in every direction, and the audit, which must see every damage.

mod chain_log;

use std::collections::HashSet;

use bitcoin::hashes::Hash;
use chain_log::{CHUNKED_BYTES, TestLog, mine};
use sluice_log::Error as LogError;
use sluice_log::chain::verify::{Depth, Error, Invariant, Summary, Violation};
use sluice_schemas::{Action, ChainEvent, TransactionEvent};

fn verify(log: &TestLog, depth: Depth) -> Result<Summary, Error> {
    log.chain.verify(0, depth, &mut ())
}

/// The violation of a damaged log.
fn violation(log: &TestLog) -> Violation {
    match verify(log, Depth::Content) {
        Err(Error::Violation(violation)) => *violation,
        other => panic!("the damage went unseen: {other:?}"),
    }
}

/// A sound log, and one more block on it, damaged.
fn damaged(
    damage_transactions: impl FnOnce(&mut Vec<TransactionEvent>),
    damage_event: impl FnOnce(&mut ChainEvent),
) -> TestLog {
    let mut log = TestLog::sound();
    let block = log.block(5, None);
    log.append(block, Action::Connected, damage_transactions, damage_event);
    log
}

#[track_caller]
fn assert_violates(log: &TestLog, invariant: Invariant, topic: &str, words: &str) {
    let violation = violation(log);
    assert_eq!(violation.invariant, invariant, "{violation}");
    assert!(violation.topic.ends_with(topic), "{violation}");
    assert!(violation.reason.contains(words), "{violation}");
}

/// The damaged event is the last one, and is the one that is named.
#[track_caller]
fn assert_last_event_violates(log: &TestLog, invariant: Invariant, words: &str) {
    assert_violates(log, invariant, ".blocks", words);
    assert_eq!(violation(log).offset, log.events.len() as i64 - 1);
}

#[test]
fn a_sound_log_is_found_sound_and_summed_up() {
    let log = TestLog::sound();
    let summary = verify(&log, Depth::Content).unwrap();
    assert_eq!(summary.events, log.events.len() as u64);
    assert_eq!((summary.connected, summary.disconnected), (11, 3));
    assert_eq!((summary.reorgs, summary.deepest_reorg), (2, 2));
    assert_eq!(summary.transactions, log.events.iter().map(|event| event.tx_count as u64).sum::<u64>());
    assert_eq!(summary.bytes, log.events.iter().map(|event| event.size as u64).sum::<u64>());
    let tip = &log.blocks.last().unwrap().event;
    assert_eq!(summary.tip.map(|tip| (tip.height, tip.hash)), Some((tip.height, tip.hash)));
    assert_eq!(summary.last_sequence, Some(log.events.len() as i64 - 1));
    assert_eq!(verify(&log, Depth::Ids).unwrap(), summary);
}

#[test]
fn an_empty_log_is_sound_and_has_no_tail() {
    let log = TestLog::new();
    assert_eq!(verify(&log, Depth::Content).unwrap(), Summary::default());
    assert_eq!(log.chain.tail().unwrap(), None);
    assert_eq!(log.chain.best_chain().unwrap().count(), 0);
    assert_eq!(log.chain.event_at_height(0).unwrap(), None);
    assert_eq!(log.chain.mempool_view().unwrap(), None);
}

#[test]
fn an_audit_may_begin_at_any_event() {
    let log = TestLog::sound();
    for from in 0..log.events.len() {
        let summary = log.chain.verify(from as i64, Depth::Content, &mut ()).unwrap();
        assert_eq!(summary.events, (log.events.len() - from) as u64);
        assert_eq!(summary.first.map(|first| first.hash), Some(log.events[from].hash));
    }
}

#[test]
fn the_best_chain_leaves_out_what_was_taken_back_however_deep() {
    let mut log = TestLog::new();
    // Longer than several pages, with reorgs of every depth up to more than a page.
    let mut random = 1_u64;
    for _ in 0..250 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        match random >> 60 {
            0 => {
                for _ in 0..(random >> 32) as usize % log.blocks.len().clamp(1, 90) {
                    log.disconnect();
                }
            }
            _ => log.connect(0),
        }
    }
    let found: Vec<_> = log.chain.best_chain().unwrap().map(|event| event.unwrap().hash).collect();
    let expected: Vec<_> = log.blocks.iter().rev().map(|block| block.event.hash).collect();
    assert_eq!(found, expected);
    assert_eq!(log.chain.tail().unwrap().as_ref(), log.events.last());
    verify(&log, Depth::Content).unwrap();
}

#[test]
fn transactions_come_in_block_order_whatever_the_order_of_blocks() {
    let log = TestLog::sound();
    let mut reader = log.chain.transaction_reader().unwrap();
    let forwards = log.events.iter();
    for event in forwards.clone().rev().chain(forwards.clone()) {
        let once: Vec<_> = log.chain.transactions(event).unwrap().map(Result::unwrap).collect();
        let again: Vec<_> = reader.transactions(event).unwrap().map(Result::unwrap).collect();
        assert_eq!(once, again);
        let positions: Vec<_> = once.iter().map(|transaction| transaction.position).collect();
        assert_eq!(positions, (0..event.tx_count).collect::<Vec<_>>());
        assert!(once.iter().all(|transaction| transaction.block_hash == event.hash));
    }
}

#[test]
fn a_reader_that_stops_in_the_middle_of_a_block_can_go_on_with_another() {
    let log = TestLog::sound();
    let mut reader = log.chain.transaction_reader().unwrap();
    for event in &log.events {
        assert_eq!(reader.transactions(event).unwrap().next().unwrap().unwrap().position, 0);
    }
}

#[test]
fn a_chunked_transaction_comes_whole() {
    let log = TestLog::sound();
    let large =
        |event: &&ChainEvent| event.size > CHUNKED_BYTES as i64 && event.action == Action::Disconnected;
    let event = log.events.iter().find(large).unwrap();
    assert!(event.transactions.iter().any(|range| range.records > range.count));
    for transaction in log.chain.transactions(event).unwrap() {
        let transaction = transaction.unwrap().transaction;
        assert_eq!(transaction.to_raw().len() as i64, transaction.size);
        transaction.verify().unwrap();
    }
}

#[test]
fn a_scan_gives_every_event_with_its_transactions_from_anywhere() {
    let log = TestLog::sound();
    for from in 0..log.events.len() {
        let mut scanner = log.chain.scan(from as i64).unwrap();
        let mut seen = from;
        while let Some(found) = scanner.next_event().unwrap() {
            assert_eq!(found.event, log.events[seen]);
            // Of every other event, only some are read.
            let wanted = if seen.is_multiple_of(2) { usize::MAX } else { 1 };
            for transaction in scanner.transactions().unwrap().take(wanted) {
                assert_eq!(transaction.unwrap().sequence, found.event.sequence);
            }
            seen += 1;
        }
        assert_eq!(seen, log.events.len());
    }
}

#[test]
fn a_scan_goes_on_when_the_log_has_grown() {
    let mut log = TestLog::sound();
    let mut scanner = log.chain.scan(0).unwrap();
    while scanner.next_event().unwrap().is_some() {}
    assert!(!scanner.extend().unwrap());
    log.connect(2);
    assert!(scanner.next_event().unwrap().is_none());
    assert!(scanner.extend().unwrap());
    assert_eq!(scanner.next_event().unwrap().map(|found| found.event).as_ref(), log.events.last());
}

#[test]
fn a_height_is_found_where_its_block_was_connected() {
    let mut log = TestLog::new();
    for round in 0..60 {
        log.connect(0);
        log.connect(0);
        if round % 3 == 0 {
            log.disconnect();
        }
    }
    for height in 0..log.blocks.len() as i32 {
        let found = log.chain.event_at_height(height).unwrap().unwrap();
        assert_eq!((found.event.height, found.event.action), (height, Action::Connected));
        assert_eq!(log.events[found.offset as usize], found.event);
        let reached =
            log.events[found.offset as usize..].iter().map(|event| event.height).collect::<HashSet<_>>();
        assert!((height..log.blocks.len() as i32).all(|height| reached.contains(&height)));
    }
    assert_eq!(log.chain.event_at_height(log.blocks.len() as i32).unwrap(), None);
    for event in &log.events {
        assert_eq!(log.chain.event_at_sequence(event.sequence).unwrap().unwrap().event, *event);
    }
}

#[test]
fn an_unknown_schema_is_named_with_topic_partition_and_offset() {
    let mut log = TestLog::sound();
    log.append_garbage();
    let Err(Error::Log(error @ LogError::Event { .. })) = verify(&log, Depth::Content) else { panic!() };
    let text = format!("{error}: {}", std::error::Error::source(&error).unwrap());
    for word in ["btc.regtest.blocks/0", &format!("offset {}", log.events.len()), "fingerprint"] {
        assert!(text.contains(word), "{text}");
    }
}

#[test]
fn a_missing_sequence_violates_i1() {
    let log = damaged(|txs| txs.iter_mut().for_each(|tx| tx.sequence += 1), |event| event.sequence += 1);
    assert_last_event_violates(&log, Invariant::I1, "14 is next");
}

#[test]
fn a_log_that_does_not_start_at_sequence_0_violates_i1() {
    let mut log = TestLog::new();
    let block = log.block(0, None);
    log.append(block, Action::Connected, |_| {}, |event| event.sequence = 1);
    assert_last_event_violates(&log, Invariant::I1, "0 is next");
}

#[test]
fn a_block_on_another_than_the_tip_violates_i2() {
    let mut log = TestLog::sound();
    let transactions = log.block(1, None).transactions;
    let parent = log.blocks[2].event.clone();
    let fork = mine(parent.hash, parent.height + 1, transactions, Some(parent.chain_work));
    log.append(fork, Action::Connected, |_| {}, |_| {});
    assert_last_event_violates(&log, Invariant::I2, "the tip is");
}

#[test]
fn a_height_that_jumps_violates_i2() {
    let log = damaged(|txs| txs.iter_mut().for_each(|tx| tx.height += 1), |event| event.height += 1);
    assert_last_event_violates(&log, Invariant::I2, "the tip's is");
}

#[test]
fn disconnecting_another_than_the_tip_violates_i3() {
    let mut log = TestLog::sound();
    let before = log.blocks[log.blocks.len() - 2].clone();
    log.append(before, Action::Disconnected, |_| {}, |_| {});
    assert_last_event_violates(&log, Invariant::I3, "but the tip is");
}

#[test]
fn a_log_that_starts_with_a_disconnected_block_violates_i3() {
    let mut log = TestLog::new();
    let block = log.block(0, None);
    log.append(block, Action::Disconnected, |_| {}, |_| {});
    assert_last_event_violates(&log, Invariant::I3, "first event");
}

#[test]
fn a_lost_transaction_violates_i4() {
    let log = damaged(|txs| drop(txs.pop()), |_| {});
    assert_last_event_violates(&log, Invariant::I4, "tx_count is 6");
    // With its range made to fit, it is the position that is missing.
    let log = damaged(|txs| drop(txs.remove(2)), |event| event.tx_count -= 1);
    assert_violates(&log, Invariant::I4, ".transactions", "where 2 is next");
}

#[test]
fn a_transaction_sent_twice_violates_i4() {
    let log = damaged(|txs| txs.push(txs[5].clone()), |event| event.tx_count += 1);
    assert_violates(&log, Invariant::I4, ".transactions", "position 5 comes where 6 is next");
}

#[test]
fn a_transaction_of_another_block_in_the_range_violates_i4() {
    let log = damaged(|txs| txs[3].block_hash = bitcoin::BlockHash::all_zeros(), |_| {});
    assert_violates(&log, Invariant::I4, ".transactions", "a transaction of block 000");
    let log = damaged(|txs| txs[3].sequence -= 1, |_| {});
    assert_violates(&log, Invariant::I4, ".transactions", "a transaction of sequence 13");
    let log = damaged(|txs| txs[3].action = Action::Disconnected, |_| {});
    assert_violates(&log, Invariant::I4, ".transactions", "Disconnected");
}

#[test]
fn ranges_that_name_what_is_not_there_violate_i4() {
    let log = damaged(|_| {}, |event| event.transactions[0].first_offset += 1);
    assert!(matches!(violation(&log).invariant, Invariant::I4 | Invariant::I6));
    let log = damaged(|_| {}, |event| event.transactions[0].records += 1);
    assert_violates(&log, Invariant::I4, ".transactions", "");
    let log = damaged(|_| {}, |event| event.transactions.push(event.transactions[0]));
    assert_last_event_violates(&log, Invariant::I4, "twice");
    let log = damaged(|_| {}, |event| event.transactions[0].partition = 99);
    assert_last_event_violates(&log, Invariant::I4, "partition 99");
    for nonsense in [-1, 0, i64::MIN, i64::MAX] {
        let log = damaged(|_| {}, |event| event.transactions[0].records = nonsense);
        assert_eq!(violation(&log).invariant, Invariant::I4);
        let log = damaged(|_| {}, |event| event.transactions[0].count = nonsense);
        assert_eq!(violation(&log).invariant, Invariant::I4);
    }
}

#[test]
fn a_range_of_earlier_records_violates_i4() {
    let log = damaged(|_| {}, |event| event.transactions[0].first_offset -= 1);
    assert_eq!(violation(&log).invariant, Invariant::I4);
}

#[test]
fn sums_that_do_not_come_out_violate_i4() {
    assert_last_event_violates(&damaged(|_| {}, |event| event.size += 1), Invariant::I4, "size is");
    assert_last_event_violates(
        &damaged(|_| {}, |event| event.weight = None),
        Invariant::I4,
        "weight is None",
    );
    assert_last_event_violates(
        &damaged(|txs| txs[1].transaction.fee = Some(101), |_| {}),
        Invariant::I4,
        "has a fee of 101",
    );
}

#[test]
fn transactions_in_another_order_violate_i5() {
    let swap = |txs: &mut Vec<TransactionEvent>| {
        (txs[1].position, txs[2].position) = (2, 1);
        txs.swap(1, 2);
    };
    assert_last_event_violates(&damaged(swap, |_| {}), Invariant::I5, "merkle root");
}

#[test]
fn a_changed_transaction_violates_i5_and_only_its_content_tells() {
    let log = damaged(|txs| txs[4].transaction.outputs[1].value -= 1, |_| {});
    assert_last_event_violates(&log, Invariant::I5, "hashes to");
    verify(&log, Depth::Ids).unwrap();
}

#[test]
fn a_header_without_its_proof_of_work_violates_i5() {
    let mut log = TestLog::sound();
    let mut block = log.block(1, None);
    let mut header: bitcoin::block::Header = bitcoin::consensus::deserialize(&block.event.header).unwrap();
    while header.target().is_met_by(header.block_hash()) {
        header.nonce += 1;
    }
    block.event.header = bitcoin::consensus::serialize(&header).try_into().unwrap();
    block.event.hash = header.block_hash();
    log.append(block, Action::Connected, |_| {}, |_| {});
    assert_last_event_violates(&log, Invariant::I5, "its own target");
}

#[test]
fn fields_that_are_not_the_headers_violate_i5() {
    let log = damaged(|_| {}, |event| event.hash = bitcoin::BlockHash::all_zeros());
    assert_last_event_violates(&log, Invariant::I5, "the header's is");
    let log = damaged(|_| {}, |event| event.prev_hash = bitcoin::BlockHash::all_zeros());
    assert_last_event_violates(&log, Invariant::I5, "the header has");
    let log = damaged(|_| {}, |event| event.time += 1);
    assert_last_event_violates(&log, Invariant::I5, "time is");
}

#[test]
fn another_genesis_block_than_the_networks_violates_i5() {
    let mut log = TestLog::new();
    let transactions = TestLog::sound().block(0, None).transactions;
    log.append(
        mine(bitcoin::BlockHash::all_zeros(), 0, transactions, None),
        Action::Connected,
        |_| {},
        |_| {},
    );
    assert_last_event_violates(&log, Invariant::I5, "not the genesis block of btc-regtest");
}

#[test]
fn a_block_of_another_network_violates_i2() {
    let log = damaged(|_| {}, |event| event.network = "bsv-regtest".into());
    assert_last_event_violates(&log, Invariant::I2, "a block of bsv-regtest comes on a log of btc-regtest");
}

#[test]
fn chain_work_that_does_not_add_up_violates_i5() {
    let log = damaged(|_| {}, |event| event.chain_work[31] += 1);
    assert_last_event_violates(&log, Invariant::I5, "for the parent");
    let log = damaged(|_| {}, |event| event.chain_work = [0; 32]);
    assert_last_event_violates(&log, Invariant::I5, "less than the block's own");
    let mut log = TestLog::sound();
    let tip = log.blocks.last().unwrap().clone();
    log.append(tip, Action::Disconnected, |_| {}, |event| event.chain_work[0] = 1);
    assert_last_event_violates(&log, Invariant::I5, "for the parent");
}

#[test]
fn what_is_left_of_an_aborted_block_violates_i6_wherever_it_is() {
    // Between blocks: seen when the partition's next range comes.
    let mut log = TestLog::sound();
    let (partition, offset) = log.append_stray();
    for _ in 0..20 {
        log.connect(2);
    }
    assert_violates(&log, Invariant::I6, ".transactions", "no chain event");
    assert_eq!((violation(&log).partition, violation(&log).offset), (partition, offset));
    // After the last block.
    let mut log = TestLog::sound();
    let (partition, offset) = log.append_stray();
    assert_violates(&log, Invariant::I6, ".transactions", "no chain event");
    assert_eq!((violation(&log).partition, violation(&log).offset), (partition, offset));
    // In a partition that no block has.
    let mut log = TestLog::new();
    log.connect(0);
    let named = log.events[0].transactions[0].partition;
    while log.append_stray().0 == named {
        log.connect(0);
        if log.blocks.len() > 50 {
            break;
        }
    }
    assert_eq!(violation(&log).invariant, Invariant::I6);
}

#[test]
fn the_mempool_view_is_what_the_newest_epoch_makes() {
    let mut log = TestLog::sound();
    log.mempool_epoch(4, 30);
    let added = log.mempool_epoch(5, 200);
    for txid in &added[..50] {
        log.mempool_removal(5, *txid);
    }
    let view = log.chain.mempool_view().unwrap().unwrap();
    assert_eq!(view.epoch, 5);
    assert_eq!(view.txids, added[50..].iter().copied().collect());
    assert_eq!((view.events, view.sequence), (253, 252));
    assert!(!view.truncated);
    assert_eq!(view.chain_sequence, log.events.len() as i64 - 1);
}

#[test]
fn a_reset_within_an_epoch_empties_the_view() {
    let mut log = TestLog::new();
    log.mempool_epoch(1, 20);
    log.mempool_reset(1, chain_log::PARTITIONS);
    let added = log.mempool_additions(1, 6);
    assert_eq!(log.chain.mempool_view().unwrap().unwrap().txids, added.into_iter().collect());
}

#[track_caller]
fn assert_mempool_violation(log: &TestLog, words: &str) {
    match log.chain.mempool_view() {
        Err(Error::Violation(violation)) if violation.invariant == Invariant::Mempool => {
            assert!(violation.reason.contains(words), "{violation}");
        }
        other => panic!("the damage went unseen: {other:?}"),
    }
}

#[test]
fn mempool_events_that_make_no_view_are_found() {
    let mut log = TestLog::new();
    log.mempool_epoch(1, 5);
    log.skip_mempool_sequence();
    let transaction = log.payment(None);
    log.mempool_addition(1, &transaction);
    assert_mempool_violation(&log, "sequence 9 comes after 7");

    let mut log = TestLog::new();
    log.mempool_epoch(1, 5);
    let transaction = log.payment(None);
    log.mempool_addition(1, &transaction);
    log.mempool_addition(1, &transaction);
    assert_mempool_violation(&log, "added twice");

    let mut log = TestLog::new();
    log.mempool_epoch(1, 5);
    log.mempool_removal(1, bitcoin::Txid::all_zeros());
    assert_mempool_violation(&log, "was not there");

    let mut log = TestLog::new();
    log.mempool_epoch(1, 5);
    log.mempool_reset(1, chain_log::PARTITIONS - 1);
    log.mempool_additions(1, 1);
    assert_mempool_violation(&log, "2 of 3 partitions are reset");
}
