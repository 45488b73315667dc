//! The driver of projections.

use std::time::{Duration, Instant};

use sluice_log::chain::ChainLog;
use sluice_runtime::shutdown::Shutdown;
use sluice_runtime::start::Start;
use sluice_schemas::Action;
use tracing::{info, warn};

use crate::change::Change;
use crate::error::Error;
use crate::feed::Feed;
use crate::options::DEFAULT_READY_LAG_BLOCKS;
use crate::projection::Projection;

/// How long one wait for a change lasts; a stop is seen as soon.
const WAIT: Duration = Duration::from_millis(200);
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
    ready_lag_blocks: i64,
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
            ready_lag_blocks: DEFAULT_READY_LAG_BLOCKS,
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

    /// How many blocks behind the log still counts as ready.
    pub fn ready_lag(mut self, blocks: i64) -> Self {
        self.ready_lag_blocks = blocks;
        self
    }

    /// The log that is followed.
    pub fn log(&self) -> &ChainLog {
        &self.chain
    }

    /// The group.
    pub fn group(&self) -> &str {
        &self.group
    }

    /// Brings a projection forward, change by change, until `stop` is requested. Blocks.
    ///
    /// # Errors
    /// What stopped it. The state is as of the last commit.
    pub fn project<P: Projection>(&self, projection: &mut P, stop: &Shutdown) -> Result<(), Error> {
        let position = projection.position().map_err(Error::Position)?;
        let feed = match position {
            Some(position) => Feed::resume(&self.chain, position.cursor())?,
            None => Feed::start(&self.chain, self.start)?,
        };
        let mut feed = feed.verify_blocks(self.verify_blocks);
        info!(group = self.group, sequence = position.map(|position| position.sequence), "following the log");
        let mut pending = Pending::default();
        while !stop.is_requested() {
            let wait = if pending.is_empty() { WAIT } else { Duration::ZERO };
            let now = Instant::now();
            match feed.next(wait) {
                Ok(Some(change)) => pending.add(apply(projection, change)?, now),
                Ok(None) => self.commit(projection, &feed, &mut pending)?,
                Err(error) if error.is_transient() => {
                    warn!(group = self.group, %error, "the log cannot be read, trying again");
                    stop.sleep(RETRY_PAUSE);
                }
                Err(error) => return Err(error),
            }
            if pending.exceeds(&self.batch, Instant::now()) {
                self.commit(projection, &feed, &mut pending)?;
            }
        }
        self.commit(projection, &feed, &mut pending)
    }

    fn commit<P: Projection>(
        &self,
        projection: &mut P,
        feed: &Feed,
        pending: &mut Pending,
    ) -> Result<(), Error> {
        if pending.is_empty() {
            return Ok(());
        }
        let sequence = feed.position().map_or(-1, |position| position.sequence);
        projection.commit().map_err(|source| Error::Commit { sequence, source })?;
        *pending = Pending::default();
        Ok(())
    }
}

/// Applies a change and gives its size in bytes.
fn apply<P: Projection>(projection: &mut P, change: Change<'_>) -> Result<u64, Error> {
    match change {
        Change::Block(mut change) => {
            let event = change.event;
            projection.apply(&mut change).map_err(|source| Error::Apply {
                sequence: event.sequence,
                action: match event.action {
                    Action::Connected => "connects",
                    Action::Disconnected => "disconnects",
                },
                hash: event.hash,
                height: event.height,
                source,
            })?;
            change.finish()?;
            Ok(event.size.unsigned_abs())
        }
        Change::Mempool(change) => {
            let event = change.event;
            projection.apply_mempool(&change).map_err(|source| {
                let (epoch, sequence) = (event.epoch, event.sequence);
                Error::ApplyMempool { epoch, sequence, source }
            })?;
            Ok(event.transaction.as_ref().map_or(0, |transaction| transaction.size.unsigned_abs()))
        }
    }
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
