//! What every projection must keep.

use std::collections::HashMap;
use std::fmt::Debug;
use std::path::Path;

use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};
use sluice_consumer::{Error, MempoolInterest, Projection};
use sluice_log::chain::ChainLog;
use tempfile::TempDir;

use crate::drive::{Pace, drive};
use crate::generate::scripts;
use crate::log::{TestLog, folder};
use crate::script::{Fault, Script, chain};
use crate::transaction::{Tx, share};

/// Scripts that each law is tried on.
const CASES: u32 = 32;
/// Kills per script: at each of its first changes, then here and there.
const KILLS_IN_A_ROW: u64 = 12;
const KILLS_APART: u64 = 7;
/// Faults that are found at once. That a record is missing is certain only after some seconds.
const REFUSED: [Fault; 4] = [Fault::Undecodable, Fault::MerkleRoot, Fault::Sequence, Fault::Parent];
/// Lines of difference that a failure shows.
const SHOWN_LINES: usize = 40;

/// The laws of a projection, each tried on scripts made by chance. A script that breaks one is made as short as it can
/// be and shown as code.
///
/// ```no_run
/// # use sluice_consumer::{BlockChange, BoxError, Position, Projection};
/// # struct Balances;
/// # impl Balances {
/// #     fn open(_: &std::path::Path) -> Result<Self, BoxError> { Ok(Self) }
/// #     fn rows(&self) -> Vec<(String, i64)> { vec![] }
/// # }
/// # impl Projection for Balances {
/// #     fn position(&self) -> Result<Option<Position>, BoxError> { Ok(None) }
/// #     fn apply(&mut self, _: &mut BlockChange<'_>) -> Result<(), BoxError> { Ok(()) }
/// # }
/// use sluice_consumer_testkit::Laws;
///
/// Laws::new(|folder| Balances::open(&folder.join("balances.db")).unwrap(), Balances::rows).check();
/// ```
pub struct Laws<O, D> {
    open: O,
    dump: D,
    cases: u32,
}

impl<P, R, O, D> Laws<O, D>
where
    P: Projection,
    R: PartialEq + Debug,
    O: Fn(&Path) -> P,
    D: Fn(&P) -> R,
{
    /// The laws of the projection that `open` opens in a folder. `dump` gives its committed rows, in an order that
    /// depends on nothing but the rows.
    pub fn new(open: O, dump: D) -> Self {
        Self { open, dump, cases: CASES }
    }

    /// Tries so many scripts per law.
    #[must_use]
    pub fn cases(mut self, cases: u32) -> Self {
        self.cases = cases;
        self
    }

    /// Checks all of them.
    ///
    /// # Panics
    /// With the script that breaks one.
    pub fn check(&self) {
        self.undo();
        self.restart();
        self.batch();
        self.refusal();
        self.rollback();
    }

    /// `fold(A, undo A) == fold()`, for every prefix: whenever the chain comes back to a tip, the rows are those that it
    /// had there before. Rows that are to stay, say a list of reorgs, do not belong into the dump.
    ///
    /// # Panics
    /// With the script that breaks it.
    pub fn undo(&self) {
        self.try_scripts("what was undone has left a trace", false, |script| {
            let mut log = script.build();
            log.play(&chain().reorg(usize::MAX));
            let mut known: HashMap<_, (i64, R)> = HashMap::new();
            let mut broken = None;
            let store = folder();
            let one_by_one = Pace { batch: 1, ..Pace::default() };
            let run = drive(&log.chain, &mut (self.open)(store.path()), one_by_one, |projection, at| {
                let rows = (self.dump)(projection);
                match known.get(&at.tip.hash) {
                    Some((sequence, before)) if *before != rows && broken.is_none() => {
                        let (tip, height) = (at.tip.hash, at.tip.height);
                        let what = format!(
                            "with tip {tip} at height {height}, the rows after sequence {} are not those after sequence \
                             {sequence}",
                            at.sequence
                        );
                        broken = Some(differ(&what, before, &rows));
                    }
                    Some(_) => {}
                    None => drop(known.insert(at.tip.hash, (at.sequence, rows))),
                }
            });
            run.map_err(|error| say(&error))?;
            broken.map_or(Ok(()), Err)
        });
    }

    /// A projection that is killed at any point, and goes on from its store, ends with the rows of one that was not.
    ///
    /// # Panics
    /// With the script that breaks it.
    pub fn restart(&self) {
        self.try_scripts("a restart has changed something", true, |script| {
            let log = script.build();
            let expected = self.fold(&log.chain, Pace::default())?;
            let changes = self.changes(&log);
            let apart = (KILLS_IN_A_ROW..changes).step_by((changes / KILLS_APART).max(1) as usize);
            for killed_after in (1..KILLS_IN_A_ROW.min(changes + 1)).chain(apart) {
                let batch = 1 + killed_after % 4;
                let store = folder();
                let killed = Pace { batch, killed_after: Some(killed_after) };
                self.drive(&log.chain, &store, killed)?;
                // A second time soon after, so that what a restart leaves has to bear a restart.
                self.drive(&log.chain, &store, Pace { batch, killed_after: Some(2) })?;
                let rows = self.drive(&log.chain, &store, Pace { batch, killed_after: None })?;
                if rows != expected {
                    let what = format!(
                        "killed after change {killed_after} and again 2 changes later, with a commit every {batch}, the \
                         rows are not those of one run"
                    );
                    return Err(differ(&what, &expected, &rows));
                }
            }
            Ok(())
        });
    }

    /// However many changes are applied between two commits, the rows are the same.
    ///
    /// # Panics
    /// With the script that breaks it.
    pub fn batch(&self) {
        self.try_scripts("the size of batches has changed something", true, |script| {
            let log = script.build();
            let expected = self.fold(&log.chain, Pace { batch: 1, killed_after: None })?;
            for batch in [2, 3, 7, u64::MAX] {
                let rows = self.fold(&log.chain, Pace { batch, killed_after: None })?;
                if rows != expected {
                    let what =
                        format!("with a commit every {batch} changes the rows are not those with one each");
                    return Err(differ(&what, &expected, &rows));
                }
            }
            Ok(())
        });
    }

    /// A block that does not add up stops the consumer and leaves nothing: once the log is mended, it goes on to the rows
    /// that it would have had.
    ///
    /// # Panics
    /// With the script that breaks it.
    pub fn refusal(&self) {
        self.try_scripts("a block that does not add up has left a trace", false, |script| {
            let log = script.build();
            let expected = self.fold(&log.chain, Pace::default())?;
            for fault in REFUSED {
                let broken = broken(script, fault);
                for batch in [1, u64::MAX] {
                    let store = folder();
                    let pace = Pace { batch, killed_after: None };
                    if self.drive(&broken.chain, &store, pace).is_ok() {
                        return Err(format!("a block with Fault::{fault:?} was taken"));
                    }
                    let rows = self
                        .drive(&log.chain, &store, pace)
                        .map_err(|error| format!("after a block with Fault::{fault:?}: {error}"))?;
                    if rows != expected {
                        let what = format!(
                            "after a block with Fault::{fault:?}, the rows are not those without it, with a commit every \
                             {batch}"
                        );
                        return Err(differ(&what, &expected, &rows));
                    }
                }
            }
            Ok(())
        });
    }

    /// A projection that can roll back, and is told to at any point, ends with the rows of one that was not: in the middle of
    /// a block, too.
    ///
    /// # Panics
    /// With the script that breaks it.
    pub fn rollback(&self) {
        self.try_scripts("a rollback has changed something", true, |script| {
            let log = script.build();
            let expected = self.fold(&log.chain, Pace::default())?;
            let changes = self.changes(&log);
            for stopped_after in (1..=changes).step_by((changes / KILLS_APART).max(1) as usize) {
                let store = folder();
                let mut projection = (self.open)(store.path());
                let stopped = Pace { batch: 1 + stopped_after % 4, killed_after: Some(stopped_after) };
                drive(&log.chain, &mut projection, stopped, |_, _| {}).map_err(|error| say(&error))?;
                let when = format!("after change {stopped_after}");
                if !self.rolls_back(&log, projection, &expected, &when)? {
                    return Ok(());
                }
            }
            let broken = broken(script, Fault::Undecodable);
            let store = folder();
            let mut projection = (self.open)(store.path());
            if drive(&broken.chain, &mut projection, Pace::default(), |_, _| {}).is_ok() {
                return Err("a block that cannot be read was taken".to_owned());
            }
            // The same block comes again: some of its rows may have been written already.
            let mended = script.clone().block(payments()).build();
            let expected = self.fold(&mended.chain, Pace::default())?;
            self.rolls_back(&mended, projection, &expected, "within a block").map(drop)
        });
    }

    /// Whether a projection rolls back. If so, the rest of the log must bring it to these rows.
    fn rolls_back(&self, log: &TestLog, mut projection: P, expected: &R, when: &str) -> Result<bool, String> {
        if !projection.rollback() {
            return Ok(false);
        }
        drive(&log.chain, &mut projection, Pace::default(), |_, _| {}).map_err(|error| say(&error))?;
        let rows = (self.dump)(&projection);
        if rows != *expected {
            let what = format!("rolled back {when}, the rows are not those of one run");
            return Err(differ(&what, expected, &rows));
        }
        Ok(true)
    }

    fn try_scripts(&self, broken: &str, mempool: bool, law: impl Fn(&Script) -> Result<(), String>) {
        let mempool = mempool && (self.open)(folder().path()).mempool() != MempoolInterest::None;
        let config = Config { cases: self.cases, failure_persistence: None, ..Config::default() };
        let run = TestRunner::new(config)
            .run(&scripts(mempool), |script| law(&script).map_err(TestCaseError::fail));
        match run {
            Ok(()) => {}
            Err(TestError::Fail(reason, script)) => {
                panic!("{broken}: {reason}\n\non the log of\n\n{script:?}\n")
            }
            Err(TestError::Abort(reason)) => panic!("no scripts: {reason}"),
        }
    }

    /// Rows of one run in a new store.
    fn fold(&self, log: &ChainLog, pace: Pace) -> Result<R, String> {
        self.drive(log, &folder(), pace)
    }

    /// One life of a process.
    fn drive(&self, log: &ChainLog, store: &TempDir, pace: Pace) -> Result<R, String> {
        let mut projection = (self.open)(store.path());
        drive(log, &mut projection, pace, |_, _| {}).map_err(|error| say(&error))?;
        Ok((self.dump)(&projection))
    }

    fn changes(&self, log: &TestLog) -> u64 {
        let events = log.chain.tail().ok().flatten().map_or(0, |tail| tail.sequence + 1);
        let waiting = log.chain.mempool_view().ok().flatten().map_or(0, |view| view.events);
        events.unsigned_abs() + waiting
    }
}

/// The log of a script, and a block after it that does not add up.
fn broken(script: &Script, fault: Fault) -> TestLog {
    script.clone().faulty(fault, payments()).build()
}

/// What is in a block that is broken.
fn payments() -> [Tx; 3] {
    ["alice", "bob", "carol"].map(|name| share(name, "dave", 20))
}

/// An error with all that it came of.
fn say(error: &Error) -> String {
    let mut said = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        said = format!("{said}: {error}");
        source = error.source();
    }
    said
}

/// What differs, line by line.
fn differ<R: Debug>(what: &str, expected: &R, found: &R) -> String {
    let (expected, found) = (format!("{expected:#?}"), format!("{found:#?}"));
    let only_in = |sign: char, these: &str, those: &str| -> Vec<String> {
        let those: std::collections::HashSet<_> = those.lines().collect();
        these.lines().filter(|line| !those.contains(line)).map(|line| format!("\n{sign} {line}")).collect()
    };
    let lines = [only_in('-', &expected, &found), only_in('+', &found, &expected)].concat();
    let shown = lines.iter().take(SHOWN_LINES).map(String::as_str).collect::<String>();
    format!("{what} (- expected, + found):{shown}")
}
