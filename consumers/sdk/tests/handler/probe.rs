//! A handler that remembers what it was given, and does what a test says.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use sluice_consumer::handler::{Error, Exhausted, RetryPolicy};
use sluice_consumer::{ChainLog, Consumer, Handler, HandlerError, HandlerSettings, Shutdown};
use sluice_schemas::{Action, MempoolEvent, TransactionEvent};
use sluice_test_support::soon;

/// What a test makes of an event.
pub(crate) enum Answer {
    Ok,
    Retry,
    Reject,
    Panic,
    /// `Ok`, once the gate is open.
    Wait(Gate),
}

/// Closed until opened.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<Mutex<bool>>);

impl Gate {
    pub(crate) fn open(&self) {
        *self.0.lock().unwrap() = true;
    }

    async fn passed(&self) {
        while !*self.0.lock().unwrap() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// An event as it was handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Seen {
    /// Number of the transaction.
    pub(crate) number: u64,
    /// Sequence of the chain event.
    pub(crate) sequence: i64,
    /// Whether it was connected.
    pub(crate) connected: bool,
}

type Answers = dyn Fn(&TransactionEvent) -> Answer + Send + Sync;

/// Shared by the members of a test.
#[derive(Clone)]
pub(crate) struct Probe {
    /// Attempts that went well, in the order in which they ended.
    pub(crate) seen: Arc<Mutex<Vec<Seen>>>,
    pub(crate) attempts: Arc<Mutex<Vec<Seen>>>,
    pub(crate) mempool: Arc<Mutex<Vec<u64>>>,
    answer: Arc<Mutex<Arc<Answers>>>,
}

impl Probe {
    pub(crate) fn new(answer: impl Fn(&TransactionEvent) -> Answer + Send + Sync + 'static) -> Self {
        let answer: Arc<Answers> = Arc::new(answer);
        Self {
            seen: Arc::default(),
            attempts: Arc::default(),
            mempool: Arc::default(),
            answer: Arc::new(Mutex::new(answer)),
        }
    }

    pub(crate) fn willing() -> Self {
        Self::new(|_| Answer::Ok)
    }

    /// Answers differently from now on.
    pub(crate) fn answers(&self, answer: impl Fn(&TransactionEvent) -> Answer + Send + Sync + 'static) {
        *self.answer.lock().unwrap() = Arc::new(answer);
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// What was handled of one transaction: sequences in order.
    pub(crate) fn of(&self, number: u64) -> Vec<i64> {
        self.seen().iter().filter(|seen| seen.number == number).map(|seen| seen.sequence).collect()
    }

    pub(crate) fn attempts_at(&self, number: u64) -> usize {
        self.attempts.lock().unwrap().iter().filter(|seen| seen.number == number).count()
    }

    /// Waits until each of these transactions has been handled.
    pub(crate) fn expect(&self, numbers: impl IntoIterator<Item = u64>) {
        let wanted: BTreeSet<_> = numbers.into_iter().collect();
        soon("the events are handled", || {
            let there: BTreeSet<_> = self.seen().iter().map(|seen| seen.number).collect();
            let missing: Vec<_> = wanted.difference(&there).copied().collect();
            if missing.is_empty() { Ok(()) } else { Err(missing) }
        });
    }

    /// Waits until these sequences, and no others, have been handled of a transaction.
    pub(crate) fn expect_of(&self, number: u64, sequences: &[i64]) {
        soon("a transaction's events are handled", || {
            let there = self.of(number);
            if there == sequences { Ok(()) } else { Err(there) }
        });
    }
}

impl Handler for Probe {
    async fn handle(&self, tx: TransactionEvent) -> Result<(), HandlerError> {
        let seen = Seen {
            number: tx.transaction.lock_time as u64,
            sequence: tx.sequence,
            connected: tx.action == Action::Connected,
        };
        self.attempts.lock().unwrap().push(seen);
        let answer = self.answer.lock().unwrap().clone();
        match answer(&tx) {
            Answer::Ok => {}
            Answer::Wait(gate) => gate.passed().await,
            Answer::Retry => return Err(std::io::Error::other("the database is down").into()),
            Answer::Reject => return Err(HandlerError::reject("no such customer")),
            Answer::Panic => panic!("index out of bounds"),
        }
        self.seen.lock().unwrap().push(seen);
        Ok(())
    }

    async fn handle_mempool(&self, event: MempoolEvent) -> Result<(), HandlerError> {
        let number = event.transaction.map_or(0, |transaction| transaction.lock_time as u64);
        self.mempool.lock().unwrap().push(number);
        Ok(())
    }
}

/// Settings with short pauses.
pub(crate) fn settings() -> HandlerSettings {
    let pause = Duration::from_millis(5);
    let retry = RetryPolicy {
        attempts: 3,
        first_pause: pause,
        longest_pause: pause,
        exhausted: Exhausted::DeadLetter,
    };
    HandlerSettings { retry, ..HandlerSettings::default() }
}

/// A member on a thread of its own.
pub(crate) struct Member {
    stop: Shutdown,
    thread: JoinHandle<Result<(), Error>>,
}

impl Member {
    pub(crate) fn start(chain: ChainLog, group: &str, settings: &HandlerSettings, probe: &Probe) -> Self {
        Self::of(&Consumer::new(chain, group), settings, probe)
    }

    pub(crate) fn of(consumer: &Consumer, settings: &HandlerSettings, probe: &Probe) -> Self {
        let (stop, probe, settings) = (Shutdown::default(), probe.clone(), settings.clone());
        let consumer = consumer.clone();
        let thread = std::thread::spawn({
            let stop = stop.clone();
            move || consumer.handle(probe, &settings, &stop)
        });
        Self { stop, thread }
    }

    /// Stops it in good order.
    pub(crate) fn stop(self) {
        self.stop.request();
        self.thread.join().unwrap().unwrap();
    }

    /// Waits for it to stop by itself.
    pub(crate) fn failure(self) -> Error {
        self.thread.join().unwrap().unwrap_err()
    }
}
