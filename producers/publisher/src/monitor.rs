//! What a publisher is doing, for the live view, health checks and metrics.

use std::sync::Mutex;
use std::time::Instant;

use bitcoin::BlockHash;

/// What the publisher is at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Not leading yet, or not any more.
    #[default]
    StandingBy,
    /// Leading, behind the source.
    Backfilling,
    /// Leading, at the source's tip.
    Live,
    /// Leading, but the source does not answer.
    SourceDown,
}

/// A picture of the publisher at one moment. Counts are since the start of this process.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// What it is at.
    pub state: State,
    /// Published tip.
    pub tip: Option<(i32, BlockHash)>,
    /// Height of the source's tip.
    pub source_height: Option<i32>,
    /// Sequence of the last chain event.
    pub chain_sequence: i64,
    /// Producer term.
    pub epoch: i64,
    /// Blocks connected.
    pub blocks: u64,
    /// Transactions of those.
    pub transactions: u64,
    /// Serialized bytes of those blocks.
    pub bytes: u64,
    /// Reorganisations.
    pub reorgs: u64,
    /// Depth of the last one.
    pub last_reorg_depth: u64,
    /// Transactions in the mempool view.
    pub mempool: usize,
    /// Mempool events published.
    pub mempool_events: u64,
    /// Gaps found.
    pub gaps_detected: u64,
    /// Gaps repaired.
    pub gaps_repaired: u64,
    /// What is wrong now, if anything.
    pub trouble: Option<String>,
}

/// Shared by the publisher and those who watch it.
#[derive(Debug)]
pub struct Monitor {
    status: Mutex<Status>,
    progress: Mutex<Instant>,
}

impl Default for Monitor {
    fn default() -> Self {
        Self { status: Mutex::default(), progress: Mutex::new(Instant::now()) }
    }
}

impl Monitor {
    /// The picture now.
    pub fn status(&self) -> Status {
        self.status.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }

    /// When the main loop last went round or a part of a block was written.
    pub fn last_progress(&self) -> Instant {
        *self.progress.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Notes that the source is not there yet, and why.
    pub fn awaits_source(&self, why: String) {
        self.progressed();
        self.update(|status| status.trouble = Some(why));
    }

    pub(crate) fn progressed(&self) {
        *self.progress.lock().unwrap_or_else(|e| e.into_inner()) = Instant::now();
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut Status)) {
        let mut status = self.status.lock().unwrap_or_else(|e| e.into_inner());
        change(&mut status);
        metrics::gauge!("sluice_producer_height_blocks").set(status.tip.map_or(-1.0, |(h, _)| f64::from(h)));
        metrics::gauge!("sluice_producer_source_height_blocks")
            .set(status.source_height.map_or(-1.0, f64::from));
        metrics::gauge!("sluice_producer_leading").set(if status.state == State::StandingBy {
            0.0
        } else {
            1.0
        });
        metrics::gauge!("sluice_producer_epoch").set(status.epoch as f64);
        metrics::gauge!("sluice_producer_mempool_transactions").set(status.mempool as f64);
        metrics::counter!("sluice_producer_blocks_total").absolute(status.blocks);
        metrics::counter!("sluice_producer_transactions_total").absolute(status.transactions);
        metrics::counter!("sluice_producer_block_bytes_total").absolute(status.bytes);
        metrics::counter!("sluice_producer_reorgs_total").absolute(status.reorgs);
        metrics::counter!("sluice_producer_mempool_events_total").absolute(status.mempool_events);
        metrics::counter!("sluice_producer_gaps_detected_total").absolute(status.gaps_detected);
        metrics::counter!("sluice_producer_gaps_repaired_total").absolute(status.gaps_repaired);
    }
}
