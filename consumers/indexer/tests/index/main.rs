//! What the index answers, beside what is read off the log itself.
#![allow(clippy::unwrap_used, reason = "clippy does not see helper functions as tests")]

mod ledger;

use std::collections::BTreeSet;
use std::path::Path;

use bitcoin::OutPoint;
use proptest::prelude::{ProptestConfig, TestCaseError, prop_assert, prop_assert_eq};
use proptest::test_runner::TestRunner;
use sluice_consumer::Projection;
use sluice_consumer_testkit::{
    Fault, PEOPLE, TestLog, chain, data, pay, project, script_of, scripts, waiting,
};
use sluice_indexer::query::{Activity, StepKind};
use sluice_indexer::{Error, Projector, ScriptHash, Settings};
use sluice_schemas::{Network, RemovalReason};
use tempfile::TempDir;

use ledger::Ledger;

const SETTINGS: Settings =
    Settings { store_transactions: false, buffer_bytes: 1 << 20, cache_bytes: 1 << 20, log_readers: 2 };

fn open(log: &TestLog, folder: &Path, settings: Settings) -> Projector {
    Projector::open(log.chain.clone(), &folder.join("index"), settings).unwrap()
}

/// An index of all of a log.
fn index(log: &TestLog, settings: Settings) -> (TempDir, Projector) {
    let folder = tempfile::tempdir().unwrap();
    let mut projector = open(log, folder.path(), settings);
    project(&log.chain, &mut projector).unwrap();
    (folder, projector)
}

fn hash_of(log: &TestLog, name: &str) -> ScriptHash {
    ScriptHash::of(script_of(name, log.network().flavour()).as_bytes())
}

/// Everything that is asked of the chain.
fn answers_as_the_log_has_it(log: &TestLog, projector: &Projector) -> Result<(), TestCaseError> {
    let ledger = Ledger::read(log);
    let view = projector.index().view().unwrap();
    prop_assert_eq!(view.tip().map(|tip| tip.hash), Some(log.tip().hash));
    prop_assert_eq!(projector.index().network(), Some(log.network()));

    for event in log.best_chain() {
        let block = view.block(&event.hash).unwrap().unwrap();
        prop_assert!(block.in_best_chain);
        prop_assert_eq!(&block, &view.block_at(event.height).unwrap().unwrap());
        prop_assert_eq!(block.event.header, event.header);
        let txids = view.txids(&block, 0, usize::MAX).unwrap();
        prop_assert_eq!(&txids, &ledger.blocks[&event.hash]);
        prop_assert_eq!(
            &view.txids(&block, 1, 2).unwrap()[..],
            txids.get(1..3.min(txids.len())).unwrap_or_default()
        );
    }
    for (txid, placed) in &ledger.transactions {
        let (mut transaction, confirmation) = view.transaction(txid).unwrap().unwrap();
        let confirmation = confirmation.unwrap();
        prop_assert_eq!((confirmation.height, confirmation.block_hash), (placed.height, placed.block));
        prop_assert_eq!(&transaction, &placed.transaction);
        view.fill_prevouts(&mut transaction, usize::MAX).unwrap();
        prop_assert_eq!(
            transaction.inputs.iter().filter(|input| input.prevout.is_none()).count(),
            usize::from(transaction.coinbase)
        );
        for vout in 0..transaction.outputs.len() as u32 {
            let outpoint = OutPoint { txid: *txid, vout };
            let spender = view.outspend(&outpoint).unwrap().filter(|spender| spender.confirmation.is_some());
            prop_assert_eq!(spender.map(|by| (by.txid, by.vin)), ledger.spends.get(&outpoint).copied());
        }
    }
    for name in PEOPLE {
        let script = hash_of(log, name);
        let expected = ledger.scripts.get(&script).cloned().unwrap_or_default();
        let stats = view.stats(&script).unwrap();
        prop_assert_eq!(
            stats.chain,
            expected.iter().fold(Activity::default(), |mut sum, (_, activity)| {
                sum.add(activity);
                sum
            })
        );
        let newest_first: Vec<_> = expected.iter().rev().cloned().collect();
        let history = view.history(&script, None, usize::MAX).unwrap();
        let found: Vec<_> = history.iter().map(|entry| (entry.transaction.txid, entry.activity)).collect();
        prop_assert_eq!(&found, &newest_first);
        if let Some(second) = history.get(1) {
            let after_first = view.history(&script, Some(history[0].transaction.place), 1).unwrap();
            prop_assert_eq!(after_first[0], *second);
        }
        let unspent = view.utxos(&script, usize::MAX).unwrap();
        let found: BTreeSet<_> = unspent
            .iter()
            .filter(|coin| coin.confirmation.is_some())
            .map(|coin| (coin.outpoint, coin.value))
            .collect();
        let spent_by_mempool = |outpoint: &OutPoint| view.mempool().spender(outpoint).is_some();
        let expected: BTreeSet<_> =
            ledger.unspent(&script).filter(|(outpoint, _)| !spent_by_mempool(outpoint)).collect();
        prop_assert_eq!(found, expected);
    }
    let addresses = view.address_prefix("", usize::MAX).unwrap();
    prop_assert_eq!(addresses, ledger.addresses.iter().cloned().collect::<Vec<_>>());
    let waiting: BTreeSet<_> = view.mempool().entries().map(|entry| entry.transaction.txid).collect();
    prop_assert_eq!(waiting, log.mempool().into_iter().collect::<BTreeSet<_>>());
    Ok(())
}

fn answers(cases: u32, settings: Settings) {
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let run = TestRunner::new(config).run(&scripts(true), |script| {
        let log = script.build();
        let (_folder, projector) = index(&log, settings);
        answers_as_the_log_has_it(&log, &projector)
    });
    run.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn the_index_answers_what_is_on_the_log() {
    answers(12, SETTINGS);
}

#[test]
fn an_index_written_in_parts_and_with_transactions_of_its_own_answers_the_same() {
    answers(2, Settings { buffer_bytes: 1, store_transactions: true, ..SETTINGS });
}

#[test]
fn a_reorg_is_listed_and_a_transaction_tells_its_journey_through_it() {
    let log = chain()
        .takeover()
        .mined_by("alice", [])
        .added([pay("alice", "bob", 1_000)])
        .block([waiting()])
        .reorg(1)
        .blocks(1)
        .block([waiting()])
        .build();
    let (_folder, projector) = index(&log, SETTINGS);
    let view = projector.index().view().unwrap();
    let [reorg] = &view.reorgs(10).unwrap()[..] else { panic!("one reorg") };
    assert_eq!((reorg.depth, reorg.fork.height), (1, 1));
    assert_eq!(reorg.connected.iter().map(|block| block.height).collect::<Vec<_>>(), [2, 3]);
    let stale = view.block(&reorg.disconnected[0].hash).unwrap().unwrap();
    assert!(!stale.in_best_chain);
    let txids = view.txids(&stale, 0, 10).unwrap();
    assert_eq!(txids.len(), 2, "they are on the log, though not on the chain");
    let steps = view.journey(&txids[1]).unwrap().steps;
    let story: Vec<_> = steps
        .iter()
        .map(|step| match &step.kind {
            StepKind::Seen { .. } => "seen".to_owned(),
            StepKind::Left { reason, .. } => format!("left {reason:?}"),
            StepKind::Mined { block, .. } => format!("mined {}", block.height),
            StepKind::Reverted { block } => format!("reverted {}", block.height),
        })
        .collect();
    assert!(
        story.starts_with(&["seen".into(), "mined 2".into(), format!("left {:?}", RemovalReason::Mined)]),
        "{story:?}"
    );
    assert!(story.contains(&"reverted 2".into()), "{story:?}");
    assert_eq!(story.iter().rfind(|step| step.starts_with("mined")), Some(&"mined 3".into()), "{story:?}");
}

#[test]
fn rows_of_a_block_that_was_cut_off_are_not_seen_until_it_is_whole() {
    let funded = chain().mined_by("alice", []).mined_by("bob", []);
    let before = funded.build();
    let sound = funded.clone().block([pay("alice", "carol", 1_000), pay("bob", "carol", 2_000)]).build();
    let broken =
        funded.faulty(Fault::Count, [pay("alice", "carol", 1_000), pay("bob", "carol", 2_000)]).build();
    let settings = Settings { buffer_bytes: 1, ..SETTINGS };
    let (folder, projector) = index(&before, settings);
    drop(projector);
    let mut projector = open(&broken, folder.path(), settings);
    project(&broken.chain, &mut projector).unwrap_err();
    let before = projector.index().view().unwrap();
    assert_eq!(before.tip().unwrap().height, 2);
    assert_eq!(before.stats(&hash_of(&broken, "carol")).unwrap().chain, Activity::default());
    drop((before, projector));

    let mut projector = open(&sound, folder.path(), settings);
    assert!(matches!(projector.index().view(), Err(Error::Unfinished)), "its rows are there in part");
    project(&sound.chain, &mut projector).unwrap();
    let carol = projector.index().view().unwrap().stats(&hash_of(&sound, "carol")).unwrap().chain;
    assert_eq!((carol.tx_count, carol.funded_txo_sum), (2, 3_000));
}

#[test]
fn an_index_is_not_taken_for_another_logs_or_begun_otherwise() {
    let log = chain().blocks(2).build();
    let (folder, projector) = index(&log, SETTINGS);
    let locked = Projector::open(log.chain.clone(), &folder.path().join("index"), SETTINGS);
    let locked = format!("{:#}", anyhow::Error::from(locked.err().unwrap()));
    assert!(locked.contains("another process has it open"), "{locked}");
    drop(projector);
    let stores = Settings { store_transactions: true, ..SETTINGS };
    let refused = Projector::open(log.chain.clone(), &folder.path().join("index"), stores).err().unwrap();
    assert!(matches!(refused, Error::OtherStorage { stored: false }), "{refused}");
    let other = chain().on(Network::BsvRegtest).blocks(3).build();
    let mut projector = open(&other, folder.path(), SETTINGS);
    let refused = project(&other.chain, &mut projector).unwrap_err().to_string();
    assert!(refused.contains("the log was replaced"), "{refused}");
}

#[test]
fn outputs_that_nobody_can_spend_have_no_history() {
    let log = chain().mined_by("alice", []).block([data("alice", b"hello")]).build();
    let (_folder, projector) = index(&log, SETTINGS);
    let rows = projector.index().dump().unwrap();
    let unspent = rows.iter().filter(|(table, ..)| *table == "unspent").count();
    assert_eq!(unspent, log.coins().len() + 1, "alice's, and the coinbase of genesis");
    assert!(projector.position().unwrap().is_some());
}
