//! The driver of projections.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sluice_log::chain::ChainLog;
use sluice_runtime::shutdown::Shutdown;
use sluice_runtime::start::Start;
use sluice_schemas::Topics;
use tracing::{info, warn};

use crate::active::{Active, Followed, RETRY_PAUSE};
use crate::error::Error;
use crate::feed::Feed;
use crate::handler::{Exhausted, RetryPolicy};
use crate::member::Member;
use crate::monitor::{Monitor, chain_of};
use crate::options::{DEFAULT_READY_LAG_BLOCKS, DEFAULT_STUCK_AFTER};
use crate::position::Position;
use crate::projection::{MempoolInterest, Projection};
use crate::watch::Watch;

/// Time from one look for missing topics to the next.
const TOPICS_TURN: Duration = Duration::from_millis(200);
/// How often a standing-by member looks whether it is its turn.
const STANDBY_TURN: Duration = Duration::from_millis(50);
/// How often the same block is begun, and after which pauses, where it is interrupted for whatever may pass.
const INTERRUPTIONS: RetryPolicy = RetryPolicy {
    attempts: 11,
    first_pause: Duration::from_millis(500),
    longest_pause: Duration::from_secs(30),
    exhausted: Exhausted::Stop,
};
/// Joining a group takes some seconds; after this long it is certain that another member is active.
const STANDBY_NOTICE: Duration = Duration::from_secs(10);

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
    pub(crate) group: String,
    start: Start,
    pub(crate) batch: Batch,
    verify_blocks: bool,
    pub(crate) monitor: Arc<Monitor>,
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
        let mut known: Option<Option<Position>> = None;
        // Where the last interruption was, and how many there have been.
        let (mut interrupted_at, mut interruptions) = (None, 0);
        while self.stand_by(&member, stop)? {
            // Asked now, not before: the member that was active until now may have gone on with the same store.
            let mut position = projection.position().map_err(Error::Position)?;
            let interest = projection.mempool();
            if known.is_some_and(|known| !is_same(known, position, interest)) {
                // What the projection keeps in memory is of the past.
                if !projection.rollback() {
                    return Err(member.superseded());
                }
                position = projection.position().map_err(Error::Position)?;
            }
            let feed = match self.feed(position) {
                Ok(feed) => feed,
                Err(error) if error.is_transient() => {
                    warn!(group = self.group, %error, "the log cannot be read, trying again");
                    self.monitor.troubled(error.to_string());
                    stop.sleep(RETRY_PAUSE);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let feed = feed.mempool(interest).watched(self.monitor.counter(), member.lead());
            self.monitor.leads(position, feed.next_sequence());
            member.commit(feed.next_offset());
            info!(group = self.group, next_sequence = feed.next_sequence(), "following the log");
            match Active::new(self, projection, feed, &member).follow(stop)? {
                Followed::Stopped => break,
                Followed::Superseded { at } => {
                    warn!(group = self.group, "not the active member any more, standing by");
                    self.monitor.stands_by();
                    known = Some(at);
                }
                Followed::Interrupted(error) => {
                    let at = projection.position().map_err(Error::Position)?;
                    interruptions = if interrupted_at == Some(at) { interruptions + 1 } else { 1 };
                    interrupted_at = Some(at);
                    let Some(pause) = INTERRUPTIONS.pause(interruptions, 1.0) else { return Err(error) };
                    warn!(group = self.group, %error, interruptions, "interrupted, going on from the last commit");
                    self.monitor.stands_by();
                    self.monitor.troubled(chain_of(&error));
                    known = None;
                    stop.sleep(pause);
                    self.monitor.untroubled();
                }
            }
        }
        Ok(())
    }

    /// Waits until this member is the active one. Says whether to go on.
    fn stand_by(&self, member: &Member, stop: &Shutdown) -> Result<bool, Error> {
        let since = Instant::now();
        let mut told = false;
        while !member.leads()? {
            self.monitor.progressed();
            if !told && since.elapsed() >= STANDBY_NOTICE {
                info!(group = self.group, "another member is active, standing by");
                told = true;
            }
            if !stop.sleep(STANDBY_TURN) {
                return Ok(false);
            }
        }
        Ok(!stop.is_requested())
    }

    fn feed(&self, position: Option<Position>) -> Result<Feed, Error> {
        let feed = match position {
            Some(position) => Feed::resume(&self.chain, position.cursor())?,
            None => Feed::start(&self.chain, self.start)?,
        };
        Ok(feed.verify_blocks(self.verify_blocks))
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

/// Whether two positions of a projection are the same, as far as it is to store them.
fn is_same(one: Option<Position>, other: Option<Position>, interest: MempoolInterest) -> bool {
    let stored = |position: Position| Position {
        mempool: position.mempool.filter(|_| interest == MempoolInterest::Resumed),
        ..position
    };
    one.map(stored) == other.map(stored)
}
