//! Fork choice, steps, pruning and history, on chains made by hand.

use super::*;
use crate::{BlockRef, ChainChange, Checkpoint, Error, Rule};

#[test]
fn empty_log_starts_with_genesis_and_connects_in_order() {
    let headers = chain_on(&genesis(), 5, EASY);
    let mut tracker = ChainTracker::from_genesis(settings(DifficultyRule::Check));
    assert_eq!(tracker.tip(), None);
    assert_eq!(tracker.locator(), [genesis().block_hash()]);
    assert!(matches!(tracker.observe(&headers), Ok(ChainChange::Extended { connected: 6, .. })));

    let steps = publish_all(&mut tracker);
    let mut expected = vec![genesis().block_hash()];
    expected.extend(hashes(&headers));
    assert_eq!(steps.iter().map(|step| step.block_ref().hash).collect::<Vec<_>>(), expected);
    assert_eq!(tracker.tip(), Some(tracker.best()));
    assert_eq!(tracker.change(), ChainChange::Unchanged);
    let Step::Connect { block, .. } = steps[5] else { panic!("connects only") };
    assert_eq!((block.height, block.median_time), (5, headers[2].time));
    assert_eq!(block.chain_work[31], 12, "six blocks of work 2");
}

#[test]
fn reorg_disconnects_tip_first_and_connects_upwards() {
    for depth in [1, 6, 40, 150] {
        let common = chain_on(&genesis(), 20, EASY);
        let old = chain_on(&common[19], depth, EASY);
        let new = chain_on(&common[19], depth + 1, EASY);
        let mut tracker = published(settings(DifficultyRule::Check), &[common.clone(), old.clone()].concat());

        let change = tracker.observe(&new).expect("valid");
        let fork = BlockRef { hash: common[19].block_hash(), height: 20 };
        let best = BlockRef { hash: new[depth].block_hash(), height: 21 + depth as i32 };
        assert_eq!(
            change,
            ChainChange::Reorganised { fork, best, disconnected: depth, connected: depth + 1 }
        );
        let mut expected = hashes(&old);
        expected.reverse();
        expected.extend(hashes(&new));
        let steps = publish_all(&mut tracker);
        assert_eq!(steps.iter().map(|step| step.block_ref().hash).collect::<Vec<_>>(), expected);
        assert!(steps[..depth].iter().all(|step| matches!(step, Step::Disconnect(_))));
        assert_eq!(tracker.tip(), Some(best));
    }
}

#[test]
fn shorter_branch_with_more_work_wins() {
    let long = chain_on(&genesis(), 12, EASY);
    let heavy = chain_on(&genesis(), 2, HARD);
    let mut tracker = published(settings(DifficultyRule::Trust), &long);
    let change = tracker.observe(&heavy).expect("valid");
    assert!(matches!(change, ChainChange::Reorganised { disconnected: 12, connected: 2, .. }), "{change:?}");
}

#[test]
fn tie_stays_with_the_branch_seen_first() {
    let (first, second) = (chain_on(&genesis(), 3, EASY), chain_on(&genesis(), 4, EASY));
    let mut tracker = published(settings(DifficultyRule::Check), &first);
    assert_eq!(tracker.observe(&second[..3]), Ok(ChainChange::Unchanged));
    assert!(matches!(tracker.observe(&second), Ok(ChainChange::Reorganised { disconnected: 3, .. })));
}

#[test]
fn headers_may_come_while_a_reorg_is_published() {
    let (a, b) = (chain_on(&genesis(), 5, EASY), chain_on(&genesis(), 8, EASY));
    let mut tracker = published(settings(DifficultyRule::Check), &a);
    tracker.observe(&b[..6]).expect("valid");
    let steps = tracker.next_steps(8);
    for step in &steps[..7] {
        tracker.advance(step).expect("follows");
    }
    // Five disconnected, two of B connected; now A grows past B.
    let more = chain_on(&a[4], 5, EASY);
    tracker.observe(&more).expect("valid");
    // The step decided before is still good: B's third block went out with the same transaction.
    tracker.advance(&steps[7]).expect("still follows the tip");
    let change = tracker.change();
    assert!(matches!(change, ChainChange::Reorganised { disconnected: 3, connected: 10, .. }), "{change:?}");
    publish_all(&mut tracker);
    assert_eq!(tracker.tip().map(|tip| tip.hash), Some(more[4].block_hash()));
}

#[test]
fn step_that_does_not_follow_the_tip_is_refused() {
    let headers = chain_on(&genesis(), 3, EASY);
    let mut tracker = ChainTracker::from_genesis(settings(DifficultyRule::Check));
    tracker.observe(&headers).expect("valid");
    let steps = tracker.next_steps(10);
    assert!(matches!(tracker.advance(&steps[1]), Err(Error::OutOfOrder { tip: None, .. })));
    tracker.advance(&steps[0]).expect("genesis first");
    assert!(matches!(tracker.advance(&steps[0]), Err(Error::OutOfOrder { .. })));
    assert!(matches!(tracker.advance(&steps[3]), Err(Error::OutOfOrder { .. })));
    let root = Step::Disconnect(steps[0].block_ref());
    assert!(matches!(tracker.advance(&root), Err(Error::OutOfOrder { .. })), "the start of a log stays");
    assert_eq!(tracker.tip(), Some(steps[0].block_ref()));
}

#[test]
fn header_that_breaks_a_rule_is_named_and_nothing_of_its_run_is_taken() {
    let common = chain_on(&genesis(), 15, EASY);
    let mut tracker = published(settings(DifficultyRule::Check), &common);
    let tip = &common[14];

    let mut refuse = |run: &[Header], rule: Rule| {
        let wrong = run[run.len() - 1];
        let (held, best) = (tracker.held(), tracker.best());
        match tracker.observe(run) {
            Err(Error::Rule { rule: found, hash, height, .. }) => {
                assert_eq!((found, hash, height), (rule, wrong.block_hash(), 15 + run.len() as i32));
            }
            other => panic!("{rule}: {other:?}"),
        }
        assert_eq!((tracker.held(), tracker.best()), (held, best));
    };

    let good = chain_on(tip, 3, EASY);
    refuse(&[good[0], good[2]], Rule::Link);

    let mut unproven = child_of(&good[0], EASY, good[0].time + 1);
    while unproven.validate_pow(unproven.target()).is_ok() {
        unproven.nonce += 1;
    }
    refuse(&[good[0], unproven], Rule::ProofOfWork);

    let mut targetless = child_of(tip, EASY, tip.time + 1);
    for bits in [0, 0x2080_0001, 0xff12_3456, 0x2100_ffff] {
        targetless.bits = CompactTarget::from_consensus(bits);
        refuse(&[targetless], Rule::ProofOfWork);
    }

    let median = common[9].time;
    refuse(&[child_of(tip, EASY, median)], Rule::MedianTime);
    refuse(&[good[0], child_of(&good[0], HARD, good[0].time + 1)], Rule::Difficulty);
    tracker.observe(&[child_of(tip, EASY, median + 1)]).expect("one second above the median will do");
}

#[test]
fn run_of_known_headers_changes_nothing() {
    let headers = chain_on(&genesis(), 5, EASY);
    let mut tracker = published(settings(DifficultyRule::Check), &headers);
    let held = tracker.held();
    assert_eq!(tracker.observe(&headers), Ok(ChainChange::Unchanged));
    assert_eq!(tracker.observe(&[genesis()]), Ok(ChainChange::Unchanged));
    assert_eq!(tracker.observe(&[]), Ok(ChainChange::Unchanged));
    assert_eq!(tracker.held(), held);
}

#[test]
fn other_genesis_is_an_unknown_parent() {
    let mut tracker = ChainTracker::from_genesis(settings(DifficultyRule::Check));
    let other = genesis_block(bitcoin::Network::Bitcoin).header;
    assert!(matches!(tracker.observe(&[other]), Err(Error::UnknownParent { .. })));
}

#[test]
fn checkpoint_refuses_another_block_at_its_height() {
    let headers = chain_on(&genesis(), 3, EASY);
    let mut with = settings(DifficultyRule::Check);
    with.checkpoints.push(Checkpoint { height: 2, hash: headers[1].block_hash() });
    let mut tracker = published(with, &headers);
    let error = tracker.observe(&chain_on(&genesis(), 9, EASY)).expect_err("not the block known");
    assert!(matches!(error, Error::Rule { rule: Rule::Checkpoint, height: 2, .. }), "{error}");
}

#[test]
fn locator_gets_sparser_and_ends_with_the_oldest_block() {
    let headers = chain_on(&genesis(), 300, EASY);
    let tracker = published(settings(DifficultyRule::Check), &headers);
    let heights: Vec<_> =
        tracker.locator().iter().map(|hash| tracker.height_of(hash).expect("held")).collect();
    assert_eq!(
        heights,
        [300, 299, 298, 297, 296, 295, 294, 293, 292, 291, 289, 285, 277, 261, 229, 165, 37, 0]
    );
}

#[test]
fn old_blocks_and_dead_branches_are_let_go() {
    let keep = 50;
    let headers = chain_on(&genesis(), 1000, EASY);
    let mut tracker = ChainTracker::from_genesis(Settings { keep, ..settings(DifficultyRule::Check) });
    tracker.observe(&headers[..10]).expect("valid");
    tracker.observe(&chain_on(&headers[4], 3, EASY)).expect("a branch that dies");
    tracker.observe(&headers[10..]).expect("valid");
    publish_all(&mut tracker);
    assert!(tracker.held() <= keep + 65, "{}", tracker.held());
    assert!(tracker.oldest().height > 800);
    assert_eq!(tracker.tip().map(|tip| tip.height), Some(1000));
}

#[test]
fn no_more_headers_are_held_than_the_limit() {
    let headers = chain_on(&genesis(), 200, EASY);
    let mut tracker =
        ChainTracker::from_genesis(Settings { keep: 20, max_held: 150, ..settings(DifficultyRule::Check) });
    tracker.observe(&headers[..149]).expect("as many as are held");
    assert_eq!(tracker.observe(&headers), Err(Error::Full { limit: 150 }));
    assert_eq!(tracker.held(), 150);
    publish_all(&mut tracker);
    tracker.observe(&headers[140..]).expect("room was made by publishing");
}

#[test]
fn fork_below_the_held_suffix_asks_for_older_blocks_and_then_succeeds() {
    let headers = chain_on(&genesis(), 200, EASY);
    let mut tracker = ChainTracker::from_genesis(settings(DifficultyRule::Check));
    tracker.observe(&headers).expect("valid");
    let log = log_of(&publish_all(&mut tracker));
    let branch = chain_on(&headers[99], 120, EASY);

    let mut tracker =
        ChainTracker::from_published(settings(DifficultyRule::Trust), &log[..30]).expect("linked");
    assert_eq!(tracker.tip(), Some(log[0].block_ref()));
    let oldest = log[29].block_ref();
    assert_eq!(tracker.observe(&branch), Err(Error::NeedsOlder { oldest, needed: oldest.height - 1 }));
    // A source that knows nothing of the locator answers from genesis on: the same.
    assert_eq!(tracker.observe(&[genesis()]), Err(Error::NeedsOlder { oldest, needed: oldest.height - 1 }));

    let mut have = 30;
    let change = loop {
        match tracker.observe(&branch) {
            Ok(change) => break change,
            Err(Error::NeedsOlder { .. }) => {
                tracker.extend_back(&log[have..have + 30]).expect("linked");
                have += 30;
            }
            Err(error) => panic!("{error}"),
        }
    };
    assert!(
        matches!(change, ChainChange::Reorganised { disconnected: 100, connected: 120, .. }),
        "{change:?}"
    );
    publish_all(&mut tracker);
    assert_eq!(tracker.tip().map(|tip| tip.hash), branch.last().map(Header::block_hash));
}

#[test]
fn restart_from_the_log_gives_the_same_blocks() {
    let headers = chain_on(&genesis(), 60, EASY);
    let mut whole = ChainTracker::from_genesis(settings(DifficultyRule::Check));
    whole.observe(&headers).expect("valid");
    let steps = publish_all(&mut whole);
    let log = log_of(&steps[..=30]);
    let mut restarted =
        ChainTracker::from_published(settings(DifficultyRule::Trust), &log[..15]).expect("linked");
    restarted.observe(&headers[20..]).expect("valid");
    assert_eq!(publish_all(&mut restarted), steps[31..]);
}

#[test]
fn history_that_does_not_join_is_refused() {
    let headers = chain_on(&genesis(), 20, EASY);
    let mut tracker = ChainTracker::from_genesis(settings(DifficultyRule::Check));
    tracker.observe(&headers).expect("valid");
    let log = log_of(&publish_all(&mut tracker));
    let settings = settings(DifficultyRule::Check);
    assert_eq!(ChainTracker::from_published(settings.clone(), &[]).err(), Some(Error::NoStart));
    let gap = [log[0], log[2]];
    assert!(matches!(ChainTracker::from_published(settings.clone(), &gap), Err(Error::Broken { .. })));
    let mut forged = log.clone();
    forged[1].chain_work[31] += 1;
    assert!(matches!(ChainTracker::from_published(settings.clone(), &forged), Err(Error::Broken { .. })));
    let mut misplaced = log;
    misplaced[1].height += 1;
    assert!(matches!(ChainTracker::from_published(settings, &misplaced), Err(Error::Broken { .. })));
}

#[test]
fn log_may_start_at_a_later_block() {
    let headers = chain_on(&genesis(), 40, EASY);
    let start = headers[29];
    let work = [[0; 31].as_slice(), &[62]].concat().try_into().expect("32 bytes");
    let settings = settings(DifficultyRule::Check);
    let missing =
        ChainTracker::from_start(settings.clone(), start, 30, work, &headers[20..29]).expect_err("nine");
    assert!(matches!(missing, Error::NeedsOlder { needed: 20, .. }), "{missing}");

    let mut tracker =
        ChainTracker::from_start(settings, start, 30, work, &headers[19..29]).expect("ten will do");
    tracker.observe(&headers[30..]).expect("valid");
    let steps = publish_all(&mut tracker);
    assert_eq!(steps.len(), 11);
    assert_eq!(steps[0].block_ref(), BlockRef { hash: start.block_hash(), height: 30 });
    let Step::Connect { block, .. } = steps[0] else { panic!("connects") };
    assert_eq!(block.median_time, headers[24].time);

    let below = chain_on(&headers[27], 30, EASY);
    let error = tracker.observe(&below).expect_err("the start stays");
    assert!(matches!(error, Error::BelowStart { fork_height: 28, start_height: 30, .. }), "{error}");
}

#[test]
fn restarted_log_with_a_later_start_takes_history_from_elsewhere() {
    let headers = chain_on(&genesis(), 40, EASY);
    let work = [[0; 31].as_slice(), &[62]].concat().try_into().expect("32 bytes");
    let settings = settings(DifficultyRule::Check);
    let first = ChainTracker::from_start(settings.clone(), headers[29], 30, work, &headers[19..29]);
    let log = log_of(&publish_all(&mut first.expect("ten will do")));

    let mut tracker = ChainTracker::from_published(settings, &log).expect("linked");
    let needed = match tracker.observe(&headers[30..]) {
        Err(Error::NeedsOlder { needed, .. }) => needed,
        other => panic!("{other:?}"),
    };
    assert_eq!(needed, 21);
    let mut history = headers[20..29].to_vec();
    history.reverse();
    tracker.extend_back_below_start(&history).expect("linked");
    assert!(matches!(tracker.observe(&headers[30..]), Ok(ChainChange::Extended { connected: 10, .. })));
    assert!(matches!(tracker.observe(&chain_on(&headers[28], 20, EASY)), Err(Error::BelowStart { .. })));
}

#[test]
fn rejected_block_gives_way_to_the_next_best_branch_and_stays_out() {
    let common = chain_on(&genesis(), 3, EASY);
    let (good, bad) = (chain_on(&common[2], 2, EASY), chain_on(&common[2], 5, EASY));
    let mut tracker = published(settings(DifficultyRule::Check), &common);
    tracker.observe(&bad).expect("valid");
    tracker.observe(&good).expect("valid");
    assert_eq!(tracker.best().hash, bad[4].block_hash());

    let change = tracker.reject(bad[1].block_hash()).expect("not published");
    assert!(matches!(change, ChainChange::Extended { connected: 2, .. }), "{change:?}");
    assert_eq!(
        tracker.best().hash,
        good[1].block_hash(),
        "two and two, but four were not: seen later, yet whole"
    );
    assert!(matches!(tracker.observe(&bad), Err(Error::Rule { rule: Rule::NotRejected, height: 5, .. })));

    publish_all(&mut tracker);
    assert!(tracker.reject(good[0].block_hash()).is_err(), "published blocks are undone, not rejected");
}
