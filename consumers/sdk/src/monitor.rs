//! What a consumer is doing, for health checks, metrics and a view.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sluice_runtime::health::Health;
use sluice_schemas::{Action, ChainEvent};

use crate::position::Position;

/// What a consumer is at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Another member of the group is active; of a handler, the others have all partitions.
    #[default]
    StandingBy,
    /// Active, with blocks to apply.
    CatchingUp,
    /// Active, with everything applied that the log has; of a handler, with partitions.
    Live,
    /// Told to stop, and has.
    Stopped,
    /// Stopped by an error.
    Failed,
}

/// A picture of a consumer at one moment. Counts are since the start of this process.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// What it is at.
    pub state: State,
    /// After the last change applied.
    pub position: Option<Position>,
    /// Height of the log's tip, as far as known.
    pub log_height: Option<i32>,
    /// Chain events that are not applied yet, as far as known.
    pub blocks_behind: Option<i64>,
    /// How long the oldest of them has been on the log, about.
    pub behind: Duration,
    /// Chain events applied.
    pub blocks: u64,
    /// Transactions read.
    pub transactions: u64,
    /// Mempool changes applied.
    pub mempool_changes: u64,
    /// Reorgs undone.
    pub reorgs: u64,
    /// What is wrong now, or what stopped it.
    pub trouble: Option<String>,
}

/// Shared by a consumer and those who watch it. Answers `/livez` and `/readyz`: live as long as changes are applied or
/// there are none, ready when not far behind, or standing by.
#[derive(Debug)]
pub struct Monitor {
    inner: Mutex<Inner>,
    transactions: Arc<AtomicU64>,
    ready_lag_blocks: i64,
    stuck_after: Duration,
}

#[derive(Debug)]
struct Inner {
    status: Status,
    /// Sequence of the log's last chain event.
    tail: Option<i64>,
    /// Sequence of the last one applied; -1 before the first.
    sequence: Option<i64>,
    /// When the last one taken up was put on the log, in milliseconds.
    observed_at: i64,
    disconnecting: bool,
    /// Whether everything was applied once: a mempool view, too, that was read from its start.
    was_live: bool,
    progress: Instant,
    /// Transactions read at that time.
    progress_at: u64,
}

impl Monitor {
    pub(crate) fn new(ready_lag_blocks: i64, stuck_after: Duration) -> Self {
        let inner = Inner {
            status: Status::default(),
            tail: None,
            sequence: None,
            observed_at: 0,
            disconnecting: false,
            was_live: false,
            progress: Instant::now(),
            progress_at: 0,
        };
        Self { inner: Mutex::new(inner), transactions: Arc::default(), ready_lag_blocks, stuck_after }
    }

    /// The picture now.
    pub fn status(&self) -> Status {
        let inner = self.lock();
        let blocks_behind = inner.blocks_behind();
        let behind = match blocks_behind {
            Some(1..) if inner.observed_at > 0 => now_ms().saturating_sub(inner.observed_at),
            _ => 0,
        };
        Status {
            blocks_behind,
            behind: Duration::from_millis(u64::try_from(behind).unwrap_or(0)),
            transactions: self.transactions.load(Ordering::Relaxed),
            ..inner.status.clone()
        }
    }

    /// Counts the transactions that are read.
    pub(crate) fn counter(&self) -> Arc<AtomicU64> {
        self.transactions.clone()
    }

    /// This member is the active one, and goes on before `next_sequence`.
    pub(crate) fn leads(&self, position: Option<Position>, next_sequence: i64) {
        let mut inner = self.lock();
        inner.status.state = State::CatchingUp;
        inner.status.position = position;
        inner.sequence = Some(next_sequence.saturating_sub(1));
        inner.progressed();
    }

    /// Another member may be the active one by now.
    pub(crate) fn stands_by(&self) {
        let mut inner = self.lock();
        inner.status.state = State::StandingBy;
        inner.progressed();
    }

    /// A handler has so many partitions of its group, and gets on.
    pub(crate) fn shares(&self, partitions: usize) {
        let mut inner = self.lock();
        inner.status.state = if partitions == 0 { State::StandingBy } else { State::Live };
        inner.status.trouble = None;
        inner.progressed();
    }

    /// The main loop went round.
    pub(crate) fn progressed(&self) {
        self.lock().progressed();
    }

    /// A chain event is about to be applied.
    pub(crate) fn applies(&self, event: &ChainEvent) {
        let mut inner = self.lock();
        inner.observed_at = event.observed_at;
        inner.log_at(event);
        inner.progressed();
    }

    /// A chain event has been applied.
    pub(crate) fn applied(&self, event: &ChainEvent, after: Position) {
        let mut inner = self.lock();
        let disconnects = event.action == Action::Disconnected;
        inner.status.position = Some(after);
        inner.status.blocks += 1;
        inner.status.reorgs += u64::from(disconnects && !inner.disconnecting);
        inner.status.trouble = None;
        inner.disconnecting = disconnects;
        inner.sequence = Some(event.sequence);
        if inner.blocks_behind().is_some_and(|blocks| blocks > 0) {
            inner.status.state = State::CatchingUp;
        }
        inner.progressed();
    }

    /// A change of the mempool has been applied.
    pub(crate) fn applied_mempool(&self, position: Option<Position>) {
        let mut inner = self.lock();
        inner.status.position = position;
        inner.status.mempool_changes += 1;
        inner.progressed();
    }

    /// Everything that the log has is applied.
    pub(crate) fn caught_up(&self) {
        let mut inner = self.lock();
        inner.status.state = State::Live;
        inner.was_live = true;
        inner.status.trouble = None;
        inner.tail = inner.tail.max(inner.sequence);
        inner.progressed();
    }

    /// The log goes to this event, or further.
    pub(crate) fn log_at(&self, event: &ChainEvent) {
        self.lock().log_at(event);
    }

    /// How long the main loop has been busy with one thing.
    pub(crate) fn busy_for(&self) -> Duration {
        self.lock().progress.elapsed()
    }

    /// Something is wrong that may pass.
    pub(crate) fn troubled(&self, reason: String) {
        let mut inner = self.lock();
        inner.status.trouble = Some(reason);
        inner.progressed();
    }

    /// It has passed.
    pub(crate) fn untroubled(&self) {
        self.lock().status.trouble = None;
    }

    /// The consumer has ended.
    pub(crate) fn ended<E: std::error::Error + 'static>(&self, result: &Result<(), E>) {
        let mut inner = self.lock();
        (inner.status.state, inner.status.trouble) = match result {
            Ok(()) => (State::Stopped, None),
            Err(error) => (State::Failed, Some(chain_of(error))),
        };
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn blocks_behind(&self) -> Option<i64> {
        Some(self.tail?.saturating_sub(self.sequence?).max(0))
    }

    fn progressed(&mut self) {
        self.progress = Instant::now();
    }

    fn log_at(&mut self, event: &ChainEvent) {
        if self.tail.is_some_and(|tail| tail > event.sequence) {
            return;
        }
        self.tail = Some(event.sequence);
        self.status.log_height = Some(match event.action {
            Action::Connected => event.height,
            Action::Disconnected => event.height.saturating_sub(1),
        });
    }
}

impl Health for Monitor {
    fn live(&self) -> Result<(), String> {
        let transactions = self.transactions.load(Ordering::Relaxed);
        let mut inner = self.lock();
        if inner.status.state == State::Failed {
            return Err(inner.status.trouble.clone().unwrap_or_else(|| "failed".to_owned()));
        }
        if inner.progress_at != transactions {
            // In the middle of a large block.
            inner.progress_at = transactions;
            inner.progressed();
        }
        let idle = inner.progress.elapsed();
        if idle > self.stuck_after { Err(format!("no progress for {} s", idle.as_secs())) } else { Ok(()) }
    }

    fn ready(&self) -> Result<(), String> {
        let Status { state, position, blocks_behind, trouble, .. } = self.status();
        let height = position.map_or(-1, |position| position.tip.height);
        let was_live = self.lock().was_live;
        match (state, trouble, blocks_behind) {
            (State::Stopped, ..) => Err("stopped".to_owned()),
            (_, Some(trouble), _) => Err(trouble),
            (State::StandingBy, ..) => Ok(()),
            // A handler, which counts no blocks.
            (State::Live, None, None) => Ok(()),
            (_, None, None) => Err(format!("at height {height}, the log's is not known yet")),
            (_, None, Some(blocks)) if blocks <= self.ready_lag_blocks && was_live => Ok(()),
            (_, None, Some(0)) => Err(format!("at height {height}, the mempool is being read")),
            (_, None, Some(blocks)) => Err(format!("at height {height}, {blocks} blocks behind the log")),
        }
    }
}

/// An error with its causes, in one line.
pub(crate) fn chain_of(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        line = format!("{line}: {cause}");
        source = cause.source();
    }
    line
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

#[cfg(test)]
mod tests {
    use bitcoin::BlockHash;
    use bitcoin::hashes::Hash;

    use super::*;
    use crate::error::Error;
    use crate::position::BlockRef;

    fn monitor() -> Monitor {
        Monitor::new(2, Duration::from_secs(300))
    }

    fn at(sequence: i64) -> Position {
        let tip = BlockRef { height: sequence as i32, hash: BlockHash::all_zeros() };
        Position { sequence, tip, mempool: None }
    }

    fn behind(monitor: &Monitor, blocks: i64) {
        monitor.lock().tail = Some(10 + blocks);
    }

    #[test]
    fn a_consumer_is_ready_when_it_stands_by_or_is_not_far_behind() {
        let monitor = monitor();
        assert_eq!(monitor.ready(), Ok(()));
        monitor.leads(Some(at(10)), 11);
        assert_eq!(monitor.ready(), Err("at height 10, the log's is not known yet".to_owned()));
        behind(&monitor, 0);
        assert_eq!(monitor.ready(), Err("at height 10, the mempool is being read".to_owned()));
        monitor.caught_up();
        assert_eq!(monitor.ready(), Ok(()));
        behind(&monitor, 3);
        assert_eq!(monitor.ready(), Err("at height 10, 3 blocks behind the log".to_owned()));
        behind(&monitor, 2);
        assert_eq!(monitor.ready(), Ok(()));
        monitor.troubled("the log is away".to_owned());
        assert_eq!(monitor.ready(), Err("the log is away".to_owned()));
        monitor.caught_up();
        assert_eq!((monitor.ready(), monitor.status().state), (Ok(()), State::Live));
        monitor.ended::<Error>(&Ok(()));
        assert!(monitor.ready().is_err());
    }

    #[test]
    fn a_handler_is_live_with_partitions_and_stands_by_without_and_is_ready_with_both() {
        let monitor = monitor();
        for (partitions, state) in [(0, State::StandingBy), (3, State::Live), (0, State::StandingBy)] {
            monitor.shares(partitions);
            assert_eq!((monitor.status().state, monitor.ready()), (state, Ok(())));
        }
        monitor.troubled("the log is away".to_owned());
        assert_eq!(monitor.ready(), Err("the log is away".to_owned()));
        monitor.shares(3);
        assert_eq!(monitor.ready(), Ok(()));
    }

    #[test]
    fn a_consumer_is_live_while_it_gets_on_be_it_within_one_block() {
        let monitor = Monitor::new(2, Duration::ZERO);
        monitor.leads(None, 0);
        std::thread::sleep(Duration::from_millis(2));
        assert_eq!(monitor.live(), Err("no progress for 0 s".to_owned()));
        let monitor = Monitor::new(2, Duration::from_secs(300));
        monitor.lock().progress = Instant::now().checked_sub(Duration::from_secs(400)).unwrap();
        assert!(monitor.live().is_err());
        monitor.counter().fetch_add(1, Ordering::Relaxed);
        assert_eq!(monitor.live(), Ok(()));
    }

    #[test]
    fn an_error_that_stopped_a_consumer_is_told_with_its_causes() {
        let monitor = monitor();
        monitor.ended(&Err(Error::Commit { sequence: 7, source: "the disk is full".into() }));
        assert_eq!(monitor.live(), Err("failed to commit up to sequence 7: the disk is full".to_owned()));
        assert_eq!(monitor.status().state, State::Failed);
    }
}
