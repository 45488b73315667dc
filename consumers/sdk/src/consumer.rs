//! The driver of projections.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sluice_log::chain::ChainLog;
use sluice_runtime::shutdown::Shutdown;
use sluice_runtime::start::Start;
use sluice_schemas::{Action, ChainEvent, Topics};
use tracing::{info, warn};

use crate::BoxError;
use crate::change::Change;
use crate::error::Error;
use crate::feed::Feed;
use crate::member::Member;
use crate::monitor::Monitor;
use crate::options::{DEFAULT_READY_LAG_BLOCKS, DEFAULT_STUCK_AFTER};
use crate::position::MempoolPosition;
use crate::projection::Projection;
use crate::watch::Watch;

/// How long one wait for a change lasts; a stop is seen as soon.
const WAIT: Duration = Duration::from_millis(200);
/// Time between two commits at the tip, at most.
const LIVE_TIME: Duration = Duration::from_millis(50);
/// Time from one look for missing topics to the next.
const TOPICS_TURN: Duration = Duration::from_millis(200);
/// How often a standing-by member looks whether it is its turn.
const STANDBY_TURN: Duration = Duration::from_millis(50);
/// Joining a group takes some seconds; after this long it is certain that another member is active.
const STANDBY_NOTICE: Duration = Duration::from_secs(10);
/// Pause before the log is read again after an error that may pass.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// How much may be applied between two commits while a consumer is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Changes.
    pub changes: u64,
    /// Bytes of blocks.
    pub bytes: u64,
    /// Time since the first of them was applied.
    pub time: Duration,
}

impl Default for Batch {
    fn default() -> Self {
        Self { changes: 1_000, bytes: 64 << 20, time: Duration::from_secs(5) }
    }
}

/// Follows a log on behalf of one group.
#[derive(Clone)]
pub struct Consumer {
    chain: ChainLog,
    group: String,
    start: Start,
    batch: Batch,
    verify_blocks: bool,
    monitor: Arc<Monitor>,
}

impl Consumer {
    /// A consumer with a name of its own: the group. Members of one group share one state; consumers with stores of
    /// their own, replicas too, have groups of their own.
    pub fn new(chain: ChainLog, group: &str) -> Self {
        Self {
            chain,
            group: group.to_owned(),
            start: Start::Genesis,
            batch: Batch::default(),
            verify_blocks: false,
            monitor: Arc::new(Monitor::new(DEFAULT_READY_LAG_BLOCKS, DEFAULT_STUCK_AFTER)),
        }
    }

    /// Where to begin while there is no position yet. By default at genesis.
    pub fn start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// How much to apply between two commits while behind.
    pub fn batch(mut self, batch: Batch) -> Self {
        self.batch = batch;
        self
    }

    /// Whether to recompute each block's merkle root.
    pub fn verify_blocks(mut self, verify: bool) -> Self {
        self.verify_blocks = verify;
        self
    }

    /// When `/readyz` and `/livez` are content: with this many blocks behind the log, and with progress in this time.
    pub fn health(mut self, ready_lag_blocks: i64, stuck_after: Duration) -> Self {
        self.monitor = Arc::new(Monitor::new(ready_lag_blocks, stuck_after));
        self
    }

    /// The log that is followed.
    pub fn log(&self) -> &ChainLog {
        &self.chain
    }

    /// Where to begin while there is no position yet.
    pub(crate) fn starts_at(&self) -> Start {
        self.start
    }

    /// The group.
    pub fn group(&self) -> &str {
        &self.group
    }

    /// What this consumer is doing, for `Process::serve_health` and whoever else wants to see.
    pub fn monitor(&self) -> Arc<Monitor> {
        self.monitor.clone()
    }

    /// Brings a projection forward, change by change, until `stop` is requested. Blocks. While another member of the
    /// group is active, it stands by.
    ///
    /// # Errors
    /// What stopped it. The state is as of the last commit; what was applied since must not be committed any more.
    pub fn project<P: Projection + ?Sized>(&self, projection: &mut P, stop: &Shutdown) -> Result<(), Error> {
        let watch = Watch::start(&self.chain, &self.group, self.monitor.clone());
        let result = self.stand_by_and_follow(projection, stop);
        self.monitor.ended(&result);
        drop(watch);
        result
    }

    fn stand_by_and_follow<P: Projection + ?Sized>(
        &self,
        projection: &mut P,
        stop: &Shutdown,
    ) -> Result<(), Error> {
        if !self.await_topics(stop)? {
            return Ok(());
        }
        let member = Member::join(&self.chain, &self.group)?;
        let since = Instant::now();
        let mut told = false;
        while !member.leads()? {
            self.monitor.progressed();
            if !told && since.elapsed() >= STANDBY_NOTICE {
                info!(group = self.group, "another member is active, standing by");
                told = true;
            }
            if !stop.sleep(STANDBY_TURN) {
                return Ok(());
            }
        }
        // Asked now, not before: the member that was active until now may have gone on with the same store.
        let position = projection.position().map_err(Error::Position)?;
        let feed = match position {
            Some(position) => Feed::resume(&self.chain, position.cursor())?,
            None => Feed::start(&self.chain, self.start)?,
        };
        let feed = feed
            .mempool(projection.mempool())
            .verify_blocks(self.verify_blocks)
            .watched(self.monitor.counter(), member.lead());
        self.monitor.leads(position, feed.next_sequence());
        member.commit(feed.next_offset());
        info!(group = self.group, next_sequence = feed.next_sequence(), "following the log");
        let pending = Pending::default();
        let mut active =
            Active { consumer: self, projection, feed, member: &member, pending, was_live: false };
        active.follow(stop)
    }

    /// Waits until a producer has made the log's topics. Says whether to go on.
    fn await_topics(&self, stop: &Shutdown) -> Result<bool, Error> {
        let Topics { blocks, transactions, mempool, .. } = &self.chain.topics;
        let mut told = false;
        for topic in [blocks, transactions, mempool] {
            while self.chain.log.topic(topic)?.is_none() {
                if !std::mem::replace(&mut told, true) {
                    info!(group = self.group, topic, "the log has no such topic yet, waiting for a producer");
                }
                self.monitor.troubled(format!("the log has no topic {topic} yet"));
                if !stop.sleep(TOPICS_TURN) {
                    return Ok(false);
                }
            }
        }
        self.monitor.untroubled();
        Ok(true)
    }
}

/// The active member at work.
struct Active<'a, P: ?Sized> {
    consumer: &'a Consumer,
    projection: &'a mut P,
    feed: Feed,
    member: &'a Member,
    pending: Pending,
    /// Whether the tip has been reached once.
    was_live: bool,
}

impl<P: Projection + ?Sized> Active<'_, P> {
    fn follow(&mut self, stop: &Shutdown) -> Result<(), Error> {
        let monitor = &self.consumer.monitor;
        while !stop.is_requested() {
            self.member.still_leads()?;
            let wait = if self.pending.is_empty() { WAIT } else { Duration::ZERO };
            match self.step(wait) {
                Ok(true) => {}
                Ok(false) => {
                    // Nothing more is there: the tip, for now.
                    self.commit()?;
                    monitor.caught_up();
                    if !std::mem::replace(&mut self.was_live, true) {
                        let height = self.feed.position().map(|position| position.tip.height);
                        info!(group = self.consumer.group, height, "caught up with the log");
                    }
                }
                Err(error) if error.is_transient() => {
                    warn!(group = self.consumer.group, %error, "the log cannot be read, trying again");
                    monitor.troubled(error.to_string());
                    // It may take long, and what has been applied is sound.
                    self.commit()?;
                    stop.sleep(RETRY_PAUSE);
                }
                Err(error) => return Err(error),
            }
            if self.pending.exceeds(&self.batch(), Instant::now()) {
                self.commit()?;
            }
        }
        self.commit()
    }

    /// At the tip, what others see is never held back for long, even where changes of the mempool come without a pause.
    fn batch(&self) -> Batch {
        let batch = self.consumer.batch;
        let time = if self.was_live { batch.time.min(LIVE_TIME) } else { batch.time };
        Batch { time, ..batch }
    }

    /// Takes and applies the next change. Says whether there was one.
    fn step(&mut self, wait: Duration) -> Result<bool, Error> {
        let began = Instant::now();
        let monitor = &self.consumer.monitor;
        let bytes = match self.feed.next(wait)? {
            None => return Ok(false),
            Some(Change::Block(mut change)) => {
                let (event, after) = (change.event, change.after);
                if let Err(source) = self.projection.apply(&mut change) {
                    // Whatever it said, it was this that made it fail.
                    self.member.still_leads()?;
                    return Err(refused(event, source));
                }
                change.finish()?;
                monitor.applied(event, after);
                event.size.unsigned_abs()
            }
            Some(Change::Mempool(change)) => {
                let MempoolPosition { epoch, sequence } = change.after;
                let size = change.event.transaction.as_ref().map_or(0, |transaction| transaction.size);
                self.projection.apply_mempool(&change).map_err(|source| Error::ApplyMempool {
                    epoch,
                    sequence,
                    source,
                })?;
                monitor.applied_mempool(self.feed.position());
                size.unsigned_abs()
            }
        };
        self.pending.add(bytes, began);
        Ok(true)
    }

    /// Makes durable what has been applied, and lets the group know.
    fn commit(&mut self) -> Result<(), Error> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.member.still_leads()?;
        let sequence = self.feed.next_sequence().saturating_sub(1);
        self.projection.commit().map_err(|source| Error::Commit { sequence, source })?;
        self.pending = Pending::default();
        self.member.commit(self.feed.next_offset());
        self.consumer.monitor.progressed();
        Ok(())
    }
}

fn refused(event: &ChainEvent, source: BoxError) -> Error {
    let action = match event.action {
        Action::Connected => "connects",
        Action::Disconnected => "disconnects",
    };
    Error::Apply { sequence: event.sequence, action, hash: event.hash, height: event.height, source }
}

/// What has been applied and not committed.
#[derive(Default)]
struct Pending {
    changes: u64,
    bytes: u64,
    since: Option<Instant>,
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.changes == 0
    }

    fn add(&mut self, bytes: u64, now: Instant) {
        self.changes += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        self.since.get_or_insert(now);
    }

    fn exceeds(&self, batch: &Batch, now: Instant) -> bool {
        let time = self.since.is_some_and(|since| now.saturating_duration_since(since) >= batch.time);
        time || self.changes >= batch.changes || self.bytes >= batch.bytes
    }
}
