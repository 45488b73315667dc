//! The laws hold for the example that others start from, and each of them catches the mistake that it is for.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use sluice_consumer::{BlockChange, BoxError, Error, Position, Projection};
use sluice_consumer_testkit::{Fault, Laws, PEOPLE, Script, chain, project, script_of, share};
use sluice_schemas::{Action, TransactionEvent};

#[path = "../../sdk/examples/balances.rs"]
#[allow(dead_code, unreachable_pub)]
mod balances;
use balances::Balances;

fn open(folder: &Path) -> Balances {
    Balances::open(&folder.join("balances.db")).unwrap()
}

/// Every output, and the sums of those that are unspent.
fn rows(balances: &Balances) -> Vec<String> {
    let outputs =
        "SELECT hex(txid), vout || ' ' || satoshis || ' ' || spent FROM outputs ORDER BY txid, vout";
    let sums = "SELECT script, satoshis FROM balances ORDER BY script";
    let mut rows = Vec::new();
    for query in [outputs, sums] {
        let mut query = balances.db.prepare(query).unwrap();
        let row = |row: &rusqlite::Row<'_>| {
            Ok(format!("{} {}", row.get::<_, String>(0)?, row.get_ref(1)?.as_str().unwrap_or_default()))
        };
        rows.extend(query.query_map([], row).unwrap().map(Result::unwrap));
    }
    rows
}

#[test]
fn the_example_keeps_the_laws() {
    Laws::new(open, rows).cases(16).check();
}

#[test]
fn the_example_has_the_balances_of_the_script() {
    let log = chain()
        .mined_by("alice", [])
        .mined_by("bob", [])
        .block([share("alice", "bob", 30), share("bob", "carol", 50), share("bob", "bob", 50)])
        .reorg(2)
        .mined_by("dave", [share("alice", "bob", 70)])
        .build();
    let folder = tempfile::tempdir().unwrap();
    let mut balances = open(folder.path());
    project(&log.chain, &mut balances).unwrap();
    for name in PEOPLE {
        let script = script_of(name, log.network().flavour());
        let query = "SELECT coalesce(sum(satoshis), 0) FROM balances WHERE script = ?";
        let hex = format!("{script:X}");
        let found: i64 = balances.db.query_row(query, [hex], |row| row.get(0)).unwrap();
        assert_eq!(found, log.balance(name) as i64, "{name}");
    }
}

/// What a projection can do wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mistake {
    None,
    /// Leaves the coinbase of a disconnected block.
    KeepsCoinbase,
    /// Stores the position before the rows.
    PositionFirst,
    /// Stores the rows before the position.
    RowsFirst,
    /// Forgets all changes of a batch but the last.
    LastOfBatch,
    /// Stores each transaction as it comes.
    StoresAsItGoes,
    /// Overlooks that a block does not add up.
    TakesAnything,
    /// Goes back to the stored position with the rows that it has.
    KeepsRows,
}

#[derive(Clone, Debug, Default)]
struct State {
    position: Option<Position>,
    /// Satoshis paid to each script, ever.
    paid: Paid,
}

type Disk = Arc<Mutex<State>>;
/// Satoshis by script.
type Paid = BTreeMap<Vec<u8>, i64>;

struct Sloppy {
    mistake: Mistake,
    disk: Disk,
    state: State,
}

impl Sloppy {
    fn transaction(paid: &mut Paid, event: &TransactionEvent) {
        let sign = if event.action == Action::Connected { 1 } else { -1 };
        for output in &event.transaction.outputs {
            let sum = paid.entry(output.script_pubkey.to_vec()).or_default();
            *sum += sign * output.value;
        }
        paid.retain(|_, sum| *sum != 0);
    }
}

impl Projection for Sloppy {
    fn position(&self) -> Result<Option<Position>, BoxError> {
        Ok(self.disk.lock().unwrap().position)
    }

    fn apply(&mut self, change: &mut BlockChange<'_>) -> Result<(), BoxError> {
        if self.mistake == Mistake::LastOfBatch {
            self.state.paid = self.disk.lock().unwrap().paid.clone();
        }
        for transaction in change.transactions() {
            let transaction = match transaction {
                Err(_) if self.mistake == Mistake::TakesAnything => break,
                transaction => transaction?,
            };
            let undone = transaction.action == Action::Disconnected;
            if undone && transaction.position == 0 && self.mistake == Mistake::KeepsCoinbase {
                continue;
            }
            Self::transaction(&mut self.state.paid, &transaction);
            if self.mistake == Mistake::StoresAsItGoes {
                self.disk.lock().unwrap().paid.clone_from(&self.state.paid);
            }
        }
        self.state.position = Some(change.after);
        let mut disk = self.disk.lock().unwrap();
        match self.mistake {
            Mistake::PositionFirst => disk.position = self.state.position,
            Mistake::RowsFirst => disk.paid.clone_from(&self.state.paid),
            Mistake::TakesAnything => disk.clone_from(&self.state),
            _ => {}
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<(), BoxError> {
        self.disk.lock().unwrap().clone_from(&self.state);
        Ok(())
    }

    fn rollback(&mut self) -> bool {
        if self.mistake != Mistake::KeepsRows {
            self.state.clone_from(&self.disk.lock().unwrap());
        }
        true
    }
}

/// A sloppy projection whose disk is the folder's.
fn sloppy(mistake: Mistake) -> Laws<impl Fn(&Path) -> Sloppy, impl Fn(&Sloppy) -> Paid> {
    let disks: Mutex<HashMap<PathBuf, Disk>> = Mutex::default();
    let open = move |folder: &Path| {
        let disk = disks.lock().unwrap().entry(folder.to_owned()).or_default().clone();
        let state = disk.lock().unwrap().clone();
        Sloppy { mistake, disk, state }
    };
    Laws::new(open, |sloppy: &Sloppy| sloppy.disk.lock().unwrap().paid.clone())
}

/// What a law says that must be broken.
fn broken(law: impl FnOnce()) -> String {
    let said = catch_unwind(AssertUnwindSafe(law)).expect_err("the law is broken");
    said.downcast_ref::<String>().unwrap().clone()
}

#[test]
fn a_projection_without_a_mistake_keeps_the_laws() {
    sloppy(Mistake::None).check();
}

#[test]
fn an_undo_that_leaves_something_is_found_and_shown_as_code() {
    let said = broken(|| sloppy(Mistake::KeepsCoinbase).undo());
    assert!(said.contains("has left a trace"), "{said}");
    assert!(said.contains("the log of\n\nchain()"), "{said}");
    assert!(!said.contains("share("), "the script is not as short as it can be: {said}");
}

#[test]
fn rows_and_position_that_are_stored_apart_are_found() {
    for mistake in [Mistake::PositionFirst, Mistake::RowsFirst] {
        let said = broken(|| sloppy(mistake).restart());
        assert!(said.contains("a restart has changed something: killed after change"), "{said}");
    }
}

#[test]
fn rows_that_depend_on_batches_are_found() {
    let said = broken(|| sloppy(Mistake::LastOfBatch).batch());
    assert!(said.contains("with a commit every 2 changes"), "{said}");
}

#[test]
fn rows_of_a_block_that_does_not_add_up_are_found() {
    for mistake in [Mistake::StoresAsItGoes, Mistake::TakesAnything] {
        let said = broken(|| sloppy(mistake).refusal());
        assert!(said.contains("Fault::"), "{said}");
    }
}

#[test]
fn rows_that_outlive_a_rollback_are_found() {
    let said = broken(|| sloppy(Mistake::KeepsRows).rollback());
    assert!(said.contains("a rollback has changed something: rolled back"), "{said}");
}

/// How a projection ends on a log.
fn ends(script: &Script, position: impl Fn(Position) -> Position) -> Result<(), Error> {
    let log = script.build();
    let mut projection = Sloppy { mistake: Mistake::None, disk: Disk::default(), state: State::default() };
    project(&log.chain, &mut projection)?;
    let mut disk = projection.disk.lock().unwrap();
    disk.position = disk.position.map(position);
    drop(disk);
    let longer = script.clone().blocks(2).build();
    project(&longer.chain, &mut projection)
}

#[test]
fn a_position_that_is_not_the_logs_is_refused() {
    let script = chain().blocks(3).reorg(1).blocks(2);
    ends(&script, |position| position).unwrap();
    let applied_twice = ends(&script, |position| Position { sequence: position.sequence - 1, ..position });
    assert!(matches!(applied_twice, Err(Error::LogReplaced { .. })), "{applied_twice:?}");
    let left_out = ends(&script, |position| Position { sequence: position.sequence + 1, ..position });
    assert!(matches!(left_out, Err(Error::LogReplaced { .. })), "{left_out:?}");
}

#[test]
fn a_log_that_ends_before_the_position_is_refused() {
    let mut projection = Sloppy { mistake: Mistake::None, disk: Disk::default(), state: State::default() };
    project(&chain().blocks(5).build().chain, &mut projection).unwrap();
    // Of the other log, there is no more to do than of this one; the driver must look anyway.
    let shorter = chain().blocks(2).build();
    let stop = sluice_consumer::Shutdown::default();
    let ended = sluice_consumer::Consumer::new(shorter.chain.clone(), "test").project(&mut projection, &stop);
    assert!(matches!(ended, Err(Error::LogEndsEarlier { .. })), "{ended:?}");
}

#[test]
fn a_change_that_is_left_out_or_does_not_follow_is_refused() {
    for fault in [Fault::Sequence, Fault::Parent] {
        let ended = ends(&chain().blocks(2).faulty(fault, []), |position| position);
        assert!(matches!(ended, Err(Error::DoesNotFollow { .. })), "{fault:?}: {ended:?}");
    }
}
