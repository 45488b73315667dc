//! What is derived: reasons and their order, what is not taken in, and what happens at the limits.

use sluice_schemas::{Flavour, RemovalReason};

use super::*;
use crate::view::spends;
use crate::{
    BlockEffect, FETCH_BATCH, HOLD_REMOVAL_MS, Input, Lost, MAX_HELD_REMOVALS, MAX_OPEN_GAPS, Mempool,
    Output, REQUEST_TIMEOUT_MS, Settings, TipTime,
};

const NOW: i64 = 1_700_000_000_000;
const TIP: TipTime = TipTime { height: 100, median_time: 1_700_000_000 };

fn coin(vout: u32) -> OutPoint {
    OutPoint { txid: txid(u64::MAX), vout }
}

fn output_of(number: u64) -> OutPoint {
    OutPoint { txid: txid(number), vout: 0 }
}

/// A view of an empty mempool.
fn empty(flavour: Flavour) -> Mempool {
    let mut view = Mempool::new(Settings::new(flavour));
    assert_eq!(view.apply(NOW, Input::Start(TIP)), [Output::Reset, Output::WantSnapshot]);
    let sequence = (flavour == Flavour::Btc).then_some(0);
    assert_eq!(view.apply(NOW, Input::Snapshot { txids: vec![], sequence }), []);
    view
}

fn add(view: &mut Mempool, sequence: u64, transaction: Box<Transaction>) -> Vec<Output> {
    let txid = transaction.txid;
    view.apply(NOW, Input::Added { txid, sequence: Some(sequence), transaction: Some(transaction) })
}

fn remove(view: &mut Mempool, sequence: u64, number: u64) -> Vec<Output> {
    view.apply(NOW, Input::Removed { txid: txid(number), sequence: Some(sequence), reason: None, by: None })
}

fn added(transaction: &Transaction) -> Output {
    Output::Add { transaction: Box::new(transaction.clone()), first_seen: NOW }
}

fn removed(number: u64, reason: RemovalReason, by: Option<u64>) -> Output {
    Output::Remove { txid: txid(number), reason, block: None, replaced_by: by.map(txid), first_seen: NOW }
}

fn block(view: &Mempool, number: u64, transactions: &[&Transaction]) -> Input {
    let mut effect = BlockEffect::new(block_hash(number), TIP);
    transactions
        .iter()
        .for_each(|transaction| effect.transaction(view, transaction.txid, spends(transaction)));
    Input::BlockConnected(effect)
}

#[test]
fn removal_before_the_addition_that_replaces_it_is_replaced_with_its_descendants() {
    let mut view = empty(Flavour::Btc);
    let parent = transaction(1, &[coin(0)]);
    let (child, rival) = (transaction(2, &[output_of(1)]), transaction(3, &[coin(0), coin(1)]));
    assert_eq!(add(&mut view, 1, parent.clone()), [added(&parent)]);
    assert_eq!(add(&mut view, 2, child.clone()), [added(&child)]);
    assert_eq!(view.spender_of(&coin(0)), Some(txid(1)));
    assert_eq!(remove(&mut view, 3, 2), []);
    assert_eq!(remove(&mut view, 4, 1), [], "held back");
    assert!(view.contains(&txid(1)));
    assert_eq!(
        add(&mut view, 5, rival.clone()),
        [
            removed(2, RemovalReason::Replaced, Some(3)),
            removed(1, RemovalReason::Replaced, Some(3)),
            added(&rival)
        ]
    );
    assert_eq!(view.spender_of(&coin(0)), Some(txid(3)));
    assert_eq!((view.len(), view.spender_of(&output_of(1))), (1, None));
}

#[test]
fn removal_is_replaced_also_where_the_body_of_the_replacement_comes_later() {
    let mut view = empty(Flavour::Btc);
    add(&mut view, 1, transaction(1, &[coin(0)]));
    remove(&mut view, 2, 1);
    view.apply(NOW, Input::Added { txid: txid(2), sequence: Some(3), transaction: None });
    assert_eq!(view.apply(NOW, Input::Tick), [Output::WantTransactions(vec![txid(2)])]);
    let rival = transaction(2, &[coin(0)]);
    assert_eq!(
        view.apply(NOW, Input::Fetched(vec![(txid(2), Some(rival.clone()))])),
        [removed(1, RemovalReason::Replaced, Some(2)), added(&rival)]
    );
}

#[test]
fn removal_that_nothing_explains_is_unknown_after_a_while() {
    let mut view = empty(Flavour::Btc);
    add(&mut view, 1, transaction(1, &[coin(0)]));
    remove(&mut view, 2, 1);
    assert_eq!(view.apply(NOW + HOLD_REMOVAL_MS - 1, Input::Tick), []);
    assert_eq!(view.apply(NOW + HOLD_REMOVAL_MS, Input::Tick), [removed(1, RemovalReason::Unknown, None)]);
    assert!(view.is_empty());
}

#[test]
fn removal_of_what_stayed_two_weeks_is_expired() {
    let mut view = empty(Flavour::Btc);
    add(&mut view, 1, transaction(1, &[coin(0)]));
    let later = NOW + Settings::DEFAULT_EXPIRY_MS;
    view.apply(later, Input::Removed { txid: txid(1), sequence: Some(2), reason: None, by: None });
    let out = view.apply(later + HOLD_REMOVAL_MS, Input::Tick);
    assert!(out.contains(&removed(1, RemovalReason::Expired, None)), "{out:?}");
}

#[test]
fn removal_is_taken_back_where_the_transaction_returns() {
    let mut view = empty(Flavour::Btc);
    add(&mut view, 1, transaction(1, &[coin(0)]));
    remove(&mut view, 2, 1);
    assert_eq!(add(&mut view, 3, transaction(1, &[coin(0)])), []);
    assert_eq!(view.apply(NOW + HOLD_REMOVAL_MS, Input::Tick), []);
    assert!(view.contains(&txid(1)));
}

#[test]
fn block_mines_what_it_has_and_conflicts_what_spends_the_same_with_descendants() {
    let mut view = empty(Flavour::Btc);
    let (mined, loser) = (transaction(1, &[coin(0)]), transaction(2, &[coin(1)]));
    let (child, other) = (transaction(3, &[output_of(2)]), transaction(4, &[coin(2)]));
    for (sequence, transaction) in [&mined, &loser, &child, &other].into_iter().enumerate() {
        add(&mut view, sequence as u64 + 1, transaction.clone());
    }
    // The node tells of the conflicts before the block is published.
    remove(&mut view, 6, 3);
    remove(&mut view, 7, 2);
    let winner = transaction(9, &[coin(1)]);
    let connected = block(&view, 7, &[&winner, &mined]);
    let of_block = Output::Remove {
        txid: txid(1),
        reason: RemovalReason::Mined,
        block: Some(block_hash(7)),
        replaced_by: None,
        first_seen: NOW,
    };
    assert_eq!(
        view.apply(NOW, connected),
        [
            of_block,
            removed(3, RemovalReason::Conflicted, Some(9)),
            removed(2, RemovalReason::Conflicted, Some(9))
        ]
    );
    assert_eq!(view.len(), 1);
    assert_eq!(
        view.apply(NOW, Input::Added { txid: txid(9), sequence: Some(8), transaction: Some(winner) }),
        []
    );
    assert!(!view.contains(&txid(9)), "the feed was behind the block");
}

#[test]
fn reason_that_the_source_gives_is_published_at_once() {
    let mut view = empty(Flavour::Bsv);
    view.apply(
        NOW,
        Input::Added { txid: txid(1), sequence: None, transaction: Some(transaction(1, &[coin(0)])) },
    );
    let reason = Some(RemovalReason::Conflicted);
    assert_eq!(
        view.apply(NOW, Input::Removed { txid: txid(1), sequence: None, reason, by: Some(txid(2)) }),
        [removed(1, RemovalReason::Conflicted, Some(2))]
    );
}

#[test]
fn non_final_transaction_of_a_bitcoin_sv_node_is_not_in_its_mempool() {
    let announce = |flavour, lock_time, sequence| {
        let mut view = empty(flavour);
        let mut body = transaction(1, &[coin(0)]);
        body.lock_time = lock_time;
        body.inputs[0].sequence = sequence;
        view.apply(NOW, Input::Added { txid: txid(1), sequence: None, transaction: Some(body) }).len()
    };
    let (height, time) = (i64::from(TIP.height), i64::from(TIP.median_time));
    assert_eq!(announce(Flavour::Bsv, height, 0), 1, "final in the next block");
    assert_eq!(announce(Flavour::Bsv, height + 1, 0), 0);
    assert_eq!(announce(Flavour::Bsv, height + 1, 0xffff_ffff), 1, "all inputs are final");
    assert_eq!(announce(Flavour::Bsv, time - 1, 0), 1);
    assert_eq!(announce(Flavour::Bsv, time, 0), 0);
    assert_eq!(announce(Flavour::Btc, height + 1, 0), 1, "Bitcoin Core announces what it has");
}

#[test]
fn coinbase_is_no_mempool_transaction() {
    let mut view = empty(Flavour::Bsv);
    let mut coinbase = transaction(1, &[coin(0)]);
    coinbase.coinbase = true;
    assert_eq!(
        view.apply(NOW, Input::Added { txid: txid(1), sequence: None, transaction: Some(coinbase) }),
        []
    );
}

#[test]
fn body_that_is_gone_is_never_published_and_its_removal_is_no_news() {
    let mut view = empty(Flavour::Btc);
    view.apply(NOW, Input::Added { txid: txid(1), sequence: Some(1), transaction: None });
    view.apply(NOW, Input::Tick);
    assert_eq!(view.awaited(), 1);
    assert_eq!(view.apply(NOW, Input::Fetched(vec![(txid(1), None)])), []);
    assert_eq!(remove(&mut view, 2, 1), []);
    assert_eq!((view.len(), view.awaited()), (0, 0));
}

#[test]
fn body_of_another_transaction_is_not_taken_for_it() {
    let mut view = empty(Flavour::Btc);
    view.apply(NOW, Input::Added { txid: txid(1), sequence: Some(1), transaction: None });
    view.apply(NOW, Input::Tick);
    assert_eq!(view.apply(NOW, Input::Fetched(vec![(txid(1), Some(transaction(2, &[coin(0)])))])), []);
}

#[test]
fn bodies_are_asked_for_in_batches_one_at_a_time_and_again_after_a_while() {
    let mut view = Mempool::new(Settings::new(Flavour::Btc));
    view.apply(NOW, Input::Start(TIP));
    let many: Vec<Txid> = (0..FETCH_BATCH as u64 + 10).map(txid).collect();
    view.apply(NOW, Input::Snapshot { txids: many, sequence: Some(5) });
    let batch = |out: &[Output]| match out {
        [Output::WantTransactions(batch)] => batch.clone(),
        other => panic!("{other:?}"),
    };
    let first = batch(&view.apply(NOW, Input::Tick));
    assert_eq!(first.len(), FETCH_BATCH);
    assert_eq!(view.apply(NOW + 1, Input::Tick), [], "one batch is under way");
    let again = view.apply(NOW + REQUEST_TIMEOUT_MS, Input::Tick);
    let again = again.iter().find(|output| matches!(output, Output::WantTransactions(_)));
    assert!(again.is_some(), "asked again");
    let bodies = first.iter().map(|txid| (*txid, None)).collect();
    let out = view.apply(NOW + REQUEST_TIMEOUT_MS, Input::Fetched(bodies));
    assert!(matches!(&out[..], [Output::WantTransactions(rest)] if rest.len() == 10), "{out:?}");
}

#[test]
fn oldest_removal_goes_out_when_too_many_are_held_back() {
    let mut view = empty(Flavour::Btc);
    let count = MAX_HELD_REMOVALS as u64 + 1;
    for i in 1..=count {
        add(&mut view, i, transaction(i, &[coin(i as u32)]));
    }
    for i in 1..count {
        assert_eq!(remove(&mut view, count + i, i), []);
    }
    assert_eq!(remove(&mut view, 2 * count, count), [removed(1, RemovalReason::Unknown, None)]);
}

#[test]
fn gaps_beyond_the_limit_are_told_and_not_kept() {
    let mut view = empty(Flavour::Btc);
    for i in 0..=MAX_OPEN_GAPS as u64 {
        let out = view.apply(NOW, Input::Gap { feed: "sequence", from: i, to: i });
        assert_eq!(out, [Output::GapDetected { feed: "sequence", lost: Lost::Numbers { from: i, to: i } }]);
    }
    assert_eq!(view.apply(NOW + 10_000, Input::Tick), [Output::WantSnapshot]);
    let out = view.apply(NOW + 10_000, Input::Snapshot { txids: vec![], sequence: Some(0) });
    assert_eq!(out.len(), MAX_OPEN_GAPS);
    assert!(out.iter().all(|output| matches!(output, Output::GapRepaired { recovered: 0, .. })));
}

#[test]
fn restarted_source_is_compared_anew_without_alarm() {
    let mut view = empty(Flavour::Btc);
    let stays = transaction(1, &[coin(0)]);
    add(&mut view, 900, stays);
    add(&mut view, 901, transaction(2, &[coin(1)]));
    assert_eq!(view.apply(NOW, Input::Restarted), []);
    assert_eq!(add(&mut view, 1, transaction(3, &[coin(2)])).len(), 1, "numbers begin again");
    let later = NOW + 10_000;
    assert_eq!(view.apply(later, Input::Tick), [Output::WantSnapshot]);
    let txids = vec![txid(1), txid(3)];
    let out = view.apply(later, Input::Snapshot { txids, sequence: Some(1) });
    assert_eq!(out, [removed(2, RemovalReason::Unknown, None)]);
}

#[test]
fn nothing_is_followed_while_suspended_and_the_next_start_resets() {
    let mut view = empty(Flavour::Btc);
    add(&mut view, 1, transaction(1, &[coin(0)]));
    assert_eq!(view.apply(NOW, Input::Suspend), []);
    assert_eq!(add(&mut view, 2, transaction(2, &[coin(1)])), []);
    assert_eq!(view.apply(NOW + 1_000_000, Input::Tick), []);
    assert!(!view.is_following() && view.is_empty());
    assert_eq!(view.apply(NOW, Input::Start(TIP)), [Output::Reset, Output::WantSnapshot]);
}

#[test]
fn snapshot_that_nobody_asked_for_changes_nothing() {
    let mut view = empty(Flavour::Btc);
    add(&mut view, 1, transaction(1, &[coin(0)]));
    assert_eq!(view.apply(NOW, Input::Snapshot { txids: vec![], sequence: Some(1) }), []);
    assert!(view.contains(&txid(1)));
}
