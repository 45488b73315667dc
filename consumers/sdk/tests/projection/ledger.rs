//! A projection whose store outlives it, and consumers that are run and stopped.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use bitcoin::Txid;
use sluice_consumer::{
    BlockChange, BoxError, ChainLog, Consumer, Error, MempoolChange, MempoolInterest, Monitor, Position,
    Projection, Shutdown, State,
};
use sluice_schemas::{Action, MempoolKind};

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is confirmed and what is in the mempool, as of a position.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rows {
    pub(crate) position: Option<Position>,
    pub(crate) confirmed: BTreeMap<Txid, i32>,
    pub(crate) mempool: BTreeSet<Txid>,
    /// Resets that came.
    pub(crate) resets: usize,
    /// Whether the mempool view holds everything.
    pub(crate) is_complete: bool,
}

/// A store that several processes might share.
#[derive(Clone, Debug, Default)]
pub(crate) struct Store(Arc<Mutex<Rows>>);

impl Store {
    pub(crate) fn rows(&self) -> Rows {
        self.lock().clone()
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Rows> {
        self.0.lock().unwrap()
    }
}

/// The rows of a log, applied and then committed. Every change must fit the rows before it.
pub(crate) struct Ledger {
    store: Store,
    interest: MempoolInterest,
    held: Option<Rows>,
    /// Fails with this change, counted from the start.
    pub(crate) fails_at: Option<u64>,
    changes: u64,
    /// While this is shut, no change is applied.
    pub(crate) gate: Arc<Gate>,
    /// Whether it can roll back.
    pub(crate) rolls_back: bool,
    /// Transactions of the block it is in, and after how many of them it waits while the gate is shut.
    pub(crate) inside: Arc<AtomicU64>,
    pub(crate) waits_inside: Option<u64>,
}

impl Ledger {
    pub(crate) fn new(store: &Store, interest: MempoolInterest) -> Self {
        Self {
            store: store.clone(),
            interest,
            held: None,
            fails_at: None,
            changes: 0,
            gate: Arc::default(),
            rolls_back: false,
            inside: Arc::default(),
            waits_inside: None,
        }
    }

    fn held(&mut self) -> &mut Rows {
        self.held.get_or_insert_with(|| self.store.rows())
    }

    fn count(&mut self) -> Result<(), BoxError> {
        self.changes += 1;
        if self.waits_inside.is_none() {
            self.gate.pass();
        }
        if self.fails_at == Some(self.changes) { Err("it was told to fail".into()) } else { Ok(()) }
    }
}

impl Projection for Ledger {
    fn position(&self) -> Result<Option<Position>, BoxError> {
        Ok(self.store.lock().position)
    }

    fn apply(&mut self, change: &mut BlockChange<'_>) -> Result<(), BoxError> {
        self.count()?;
        let (gate, inside, waits_inside) = (self.gate.clone(), self.inside.clone(), self.waits_inside);
        inside.store(0, Ordering::SeqCst);
        let rows = self.held();
        if rows.position != change.before {
            return Err(format!("at {:?}, but {:?} was expected", rows.position, change.before).into());
        }
        let (action, height) = (change.event.action, change.event.height);
        for transaction in change.transactions() {
            let txid = transaction?.transaction.txid;
            if Some(inside.fetch_add(1, Ordering::SeqCst) + 1) == waits_inside {
                gate.pass();
            }
            let fits = match action {
                Action::Connected => rows.confirmed.insert(txid, height).is_none(),
                Action::Disconnected => rows.confirmed.remove(&txid) == Some(height),
            };
            if !fits {
                return Err(format!("{txid} is {action:?} twice").into());
            }
        }
        rows.position = Some(change.after);
        Ok(())
    }

    fn mempool(&self) -> MempoolInterest {
        self.interest
    }

    fn apply_mempool(&mut self, change: &MempoolChange<'_>) -> Result<(), BoxError> {
        self.count()?;
        let stored = self.interest == MempoolInterest::Resumed;
        let rows = self.held();
        let sequence = rows.position.map_or(-1, |position| position.sequence);
        if change.event.chain_sequence > sequence {
            return Err(format!("it comes before chain event {}", change.event.chain_sequence).into());
        }
        let fits = match change.event.kind {
            MempoolKind::Reset => {
                rows.mempool.clear();
                rows.resets += 1;
                true
            }
            MempoolKind::Added => rows.mempool.insert(change.event.txid),
            MempoolKind::Removed => rows.mempool.remove(&change.event.txid) || !change.is_complete,
        };
        rows.is_complete = change.is_complete;
        if let (true, Some(position)) = (stored, &mut rows.position) {
            position.mempool = Some(change.after);
        }
        if fits { Ok(()) } else { Err(format!("{:?} does not fit", change.event.kind).into()) }
    }

    fn commit(&mut self) -> Result<(), BoxError> {
        if let Some(held) = &self.held {
            *self.store.lock() = held.clone();
        }
        Ok(())
    }

    fn rollback(&mut self) -> bool {
        if self.rolls_back {
            self.held = None;
        }
        self.rolls_back
    }
}

/// Stops a projection in the middle of its work.
#[derive(Default)]
pub(crate) struct Gate {
    is_shut: AtomicBool,
    /// Whether somebody has come to it while it was shut.
    is_reached: AtomicBool,
}

impl Gate {
    pub(crate) fn shut(&self) {
        self.is_shut.store(true, Ordering::SeqCst);
    }

    pub(crate) fn open(&self) {
        self.is_shut.store(false, Ordering::SeqCst);
    }

    pub(crate) fn until_reached(&self) {
        eventually("the projection is at the gate", || self.is_reached.load(Ordering::SeqCst));
    }

    fn pass(&self) {
        while self.is_shut.load(Ordering::SeqCst) {
            self.is_reached.store(true, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A consumer on a thread of its own.
pub(crate) struct Running {
    pub(crate) monitor: Arc<Monitor>,
    stop: Shutdown,
    thread: JoinHandle<Result<(), Error>>,
}

impl Running {
    pub(crate) fn start(consumer: Consumer, mut ledger: Ledger) -> Self {
        let (monitor, stop) = (consumer.monitor(), Shutdown::default());
        let told = stop.clone();
        let thread = std::thread::spawn(move || consumer.project(&mut ledger, &told));
        Self { monitor, stop, thread }
    }

    /// Waits for a state; an end that was not asked for ends the wait.
    pub(crate) fn until(&self, what: &str, reached: impl Fn(&Monitor) -> bool) {
        eventually(what, || reached(&self.monitor) || self.thread.is_finished());
    }

    pub(crate) fn until_live(&self) {
        self.until("the consumer catches up", |monitor| monitor.status().state == State::Live);
    }

    pub(crate) fn stop(self) -> Result<(), Error> {
        self.stop.request();
        self.thread.join().unwrap()
    }

    pub(crate) fn ended(self) -> Result<(), Error> {
        eventually("the consumer ends", || self.thread.is_finished());
        self.thread.join().unwrap()
    }
}

/// Follows a log up to its end, and stops.
pub(crate) fn catch_up(
    chain: &ChainLog,
    group: &str,
    store: &Store,
    interest: MempoolInterest,
) -> Result<(), Error> {
    let running = Running::start(Consumer::new(chain.clone(), group), Ledger::new(store, interest));
    running.until_live();
    running.stop()
}

/// What is confirmed on the best chain, read another way.
pub(crate) fn confirmed(chain: &ChainLog) -> BTreeMap<Txid, i32> {
    let mut confirmed = BTreeMap::new();
    for event in chain.best_chain().unwrap() {
        let event = event.unwrap();
        for transaction in chain.transactions(&event).unwrap() {
            confirmed.insert(transaction.unwrap().transaction.txid, event.height);
        }
    }
    confirmed
}

/// Waits until something holds.
pub(crate) fn eventually(what: &str, holds: impl Fn() -> bool) {
    sluice_test_support::eventually(what, PATIENCE, || if holds() { Ok(()) } else { Err("it never was") });
}
