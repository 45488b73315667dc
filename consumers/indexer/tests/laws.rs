//! What the index's projection must keep, as every projection must.
#![allow(clippy::unwrap_used, reason = "clippy does not see helper functions as tests")]

use std::path::Path;

use sluice_consumer::Projection;
use sluice_consumer_testkit::{Laws, chain};
use sluice_indexer::{Projector, Settings};
use sluice_schemas::Network;

/// The index of any log: the laws bring the log with each change. So transactions are read from own copies, never from it.
fn open(folder: &Path, settings: Settings) -> Projector {
    let log = chain().build();
    Projector::open(log.chain.clone(), &folder.join("index"), settings).unwrap()
}

fn laws(settings: Settings) -> Laws<impl Fn(&Path) -> Projector, impl Fn(&Projector) -> Vec<String> + Sync> {
    let dump = |projector: &Projector| {
        // Coins are kept until it is known whether the node tells prevouts, which no undo makes unknown again. On Bitcoin
        // SV it is known from the start.
        let has_coins = projector.index().network() == Some(Network::BsvRegtest);
        let rows = projector
            .index()
            .dump()
            .unwrap()
            .into_iter()
            .filter(|(table, ..)| has_coins || *table != "coins");
        rows.map(|(table, key, row)| format!("{table} {} {}", hex::encode(key), hex::encode(row))).collect()
    };
    Laws::new(move |folder: &Path| open(folder, settings), dump)
}

const WHOLE: Settings =
    Settings { store_transactions: true, buffer_bytes: 1 << 20, cache_bytes: 1 << 20, log_readers: 1 };
/// So small a buffer that each transaction is written by itself.
const IN_PARTS: Settings = Settings { buffer_bytes: 1, ..WHOLE };

#[test]
fn what_is_undone_leaves_no_row() {
    laws(WHOLE).cases(24).undo();
}

#[test]
fn what_is_undone_in_parts_leaves_no_row() {
    laws(IN_PARTS).cases(6).undo();
}

#[test]
fn a_restart_changes_no_row() {
    laws(WHOLE).cases(4).restart();
}

#[test]
fn a_rollback_changes_no_row() {
    assert!(open(tempfile::tempdir().unwrap().path(), WHOLE).rollback());
    laws(WHOLE).cases(3).rollback();
    laws(IN_PARTS).cases(4).rollback();
}

#[test]
fn the_size_of_batches_changes_no_row() {
    laws(WHOLE).cases(8).batch();
}

#[test]
fn a_block_that_does_not_add_up_leaves_no_row() {
    laws(WHOLE).cases(4).refusal();
}
