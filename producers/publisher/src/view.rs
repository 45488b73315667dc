//! The mempool view: what the state machine decides, carried out and published.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bitcoin::hashes::Hash;
use bitcoin::{OutPoint, Txid};
use bytes::Bytes;
use sluice_body::parse_transaction;
use sluice_mempool::{BlockEffect, Input, Lost, Mempool, Output, Settings, TipTime};
use sluice_schemas::{MempoolEvent, MempoolKind, Network, StatusKind, Transaction, topics};
use sluice_sources::Notice;
use tracing::{debug, info, warn};

use crate::config::Config;
use crate::error::Result;
use crate::leader::{Leader, now_ms};
use crate::notices::Heard;
use crate::status::News;

/// Changes published in one log transaction.
const CHANGES_AT_ONCE: usize = 2_000;
/// Encoded bytes after which a log transaction of changes is committed.
const BYTES_AT_ONCE: usize = 4 << 20;
/// Times a snapshot is tried while the source's tip moves, before the chain is followed again first.
const SNAPSHOT_TRIES: usize = 3;

/// The view of one term.
pub(crate) struct View {
    mempool: Mempool,
    enabled: bool,
    network: Network,
    partitions: i32,
    /// Sequence of the next mempool event of the epoch.
    next_sequence: i64,
    /// Decided, not published yet.
    pending: VecDeque<Output>,
    /// Asked for by the state machine, not answered yet.
    wanted: VecDeque<Vec<Txid>>,
    snapshot_wanted: bool,
    /// When the epoch began.
    started: Option<Instant>,
}

impl View {
    pub(crate) fn new(config: &Config, network: Network, partitions: i32) -> Self {
        let reconcile_ms = i64::try_from(config.reconcile_interval.as_millis()).unwrap_or(i64::MAX);
        Self {
            mempool: Mempool::new(Settings { reconcile_ms, ..Settings::new(network.flavour()) }),
            enabled: config.mempool,
            network,
            partitions,
            next_sequence: 0,
            pending: VecDeque::new(),
            wanted: VecDeque::new(),
            snapshot_wanted: false,
            started: None,
        }
    }

    /// Partitions of the mempool and the transactions topic.
    pub(crate) fn partitions(&self) -> i32 {
        self.partitions
    }

    /// Backfill: the mempool is not followed until it is over.
    pub(crate) fn suspend(&mut self) {
        if self.mempool.is_following() {
            info!("behind the source, the mempool view is suspended");
            self.apply(Input::Suspend);
        }
    }

    /// Notes a transaction of a block that is being published.
    pub(crate) fn note(&self, txid: Txid, spends: &[OutPoint], effect: &mut BlockEffect) {
        effect.transaction(&self.mempool, txid, spends.iter().copied());
    }

    pub(crate) fn connected(&mut self, effect: BlockEffect) {
        if self.mempool.is_following() {
            self.apply(Input::BlockConnected(effect));
        }
    }

    pub(crate) fn disconnected(&mut self, tip: TipTime) {
        if self.mempool.is_following() {
            self.apply(Input::BlockDisconnected(tip));
        }
    }

    fn apply(&mut self, input: Input) {
        for output in self.mempool.apply(now_ms(), input) {
            match output {
                Output::WantSnapshot => self.snapshot_wanted = true,
                Output::WantTransactions(txids) => self.wanted.push_back(txids),
                change => self.pending.push_back(change),
            }
        }
    }

    /// Whether the epoch has lasted for `interval`.
    fn is_old(&self, interval: Duration) -> bool {
        self.started.is_some_and(|started| started.elapsed() >= interval)
    }

    fn parsed(&self, raw: Bytes) -> Option<Box<Transaction>> {
        match parse_transaction(raw, self.network.flavour()) {
            Ok(raw) => Some(Box::new(sluice_body::transaction(&raw, self.network, None))),
            Err(error) => {
                warn!(%error, "the source sent a transaction that cannot be read, it is left out");
                None
            }
        }
    }
}

impl Leader<'_> {
    /// Handles what was heard, in order, so that blocks and mempool changes keep theirs.
    pub(crate) fn hear(&mut self) -> Result<()> {
        while let Some(heard) = self.heard.pop_front() {
            let input = match heard {
                Heard::Notice(Notice::TipChanged) => {
                    self.follow_chain()?;
                    if !self.follow_backlog()? {
                        return Ok(());
                    }
                    continue;
                }
                Heard::Reopened | Heard::Notice(Notice::Restarted { .. }) => Input::Restarted,
                Heard::Notice(Notice::Added { txid, sequence, raw }) => {
                    let transaction = raw.and_then(|raw| self.view.parsed(raw));
                    Input::Added { txid, sequence, transaction }
                }
                Heard::Notice(Notice::Removed { txid, sequence, reason, by }) => {
                    Input::Removed { txid, sequence, reason, by }
                }
                Heard::Notice(Notice::Gap { feed, from, to }) => Input::Gap { feed, from, to },
            };
            if self.view.mempool.is_following() {
                self.view.apply(input);
            }
        }
        Ok(())
    }

    /// Follows the mempool once the chain is followed: answers what the state machine wants, publishes what it decides.
    pub(crate) fn turn_view(&mut self) -> Result<()> {
        let following = self.view.mempool.is_following() && !self.view.is_old(self.config.view_interval);
        if !self.view.enabled || (!following && self.behind() > self.config.live_within_blocks) {
            return Ok(());
        }
        let Some(tip) = self.tip_time() else { return Ok(()) };
        if following {
            self.view.apply(Input::Tick);
        } else if !self.notices.is_listening() {
            // What changes between a snapshot and the opening of the feed would be lost.
            return Ok(());
        } else {
            // An epoch has one RESET, at its start: a view that starts again has an epoch of its own.
            if self.view.next_sequence > 0 {
                self.epoch += 1;
                self.view.next_sequence = 0;
                self.monitor.update(|status| status.epoch = self.epoch);
            }
            debug!(epoch = self.epoch, "the mempool view starts");
            self.view.started = Some(Instant::now());
            self.view.wanted.clear();
            self.view.apply(Input::Start(tip));
        }
        self.publish_changes()?;
        while let Some(txids) = self.view.wanted.front() {
            let bodies = self.source.transactions(txids)?;
            let txids = self.view.wanted.pop_front().unwrap_or_default();
            let bodies = bodies.into_iter().map(|raw| raw.and_then(|raw| self.view.parsed(raw)));
            let fetched = txids.into_iter().zip(bodies).collect();
            self.view.apply(Input::Fetched(fetched));
            self.publish_changes()?;
            self.check()?;
        }
        if self.view.snapshot_wanted {
            self.take_snapshot()?;
            self.publish_changes()?;
        }
        Ok(())
    }

    /// A snapshot counts only while the published tip is the source's, before and after.
    fn take_snapshot(&mut self) -> Result<()> {
        for _ in 0..SNAPSHOT_TRIES {
            let published = self.tracker.tip().map(|tip| tip.hash);
            if Some(self.source.tip()?.hash) != published {
                break;
            }
            let snapshot = self.source.mempool()?;
            if Some(self.source.tip()?.hash) == published {
                self.view.snapshot_wanted = false;
                self.view.apply(Input::Snapshot { txids: snapshot.txids, sequence: snapshot.sequence });
                return Ok(());
            }
        }
        // The chain first; the wish is kept.
        self.poll_now();
        Ok(())
    }

    /// Height and median time of the published tip.
    pub(crate) fn tip_time(&self) -> Option<TipTime> {
        let tip = self.tracker.tip()?;
        let median_time = self.tracker.block(&tip.hash).map_or(0, |block| block.median_time);
        Some(TipTime { height: tip.height, median_time })
    }

    /// Publishes what was decided, several changes to a log transaction.
    fn publish_changes(&mut self) -> Result<()> {
        while !self.view.pending.is_empty() {
            self.check()?;
            self.writer.begin()?;
            let mut bytes = 0;
            for _ in 0..CHANGES_AT_ONCE {
                let Some(change) = self.view.pending.pop_front() else { break };
                bytes += self.send_change(change)?;
                if bytes >= BYTES_AT_ONCE {
                    break;
                }
            }
            self.writer.mark()?;
            // After a failure here the next term starts the view anew, so nothing decided is lost.
            self.writer.commit()?;
        }
        let (mempool, events) = (self.view.mempool.len(), self.view.next_sequence as u64);
        self.monitor.update(|status| {
            status.mempool = mempool;
            status.mempool_events = events;
        });
        Ok(())
    }

    /// Sends one change; returns its encoded size.
    fn send_change(&mut self, change: Output) -> Result<usize> {
        let mut event = MempoolEvent {
            epoch: self.epoch,
            sequence: 0,
            chain_sequence: self.next_sequence - 1,
            kind: MempoolKind::Reset,
            txid: Txid::all_zeros(),
            transaction: None,
            reason: None,
            block_hash: None,
            replaced_by: None,
            first_seen: None,
            observed_at: now_ms(),
            source: self.source.id().to_owned(),
        };
        match change {
            Output::Reset => {
                let mut bytes = 0;
                for partition in 0..self.view.partitions {
                    bytes += self.send_mempool_event(&mut event, partition)?;
                }
                return Ok(bytes);
            }
            Output::Add { transaction, first_seen } => {
                event.kind = MempoolKind::Added;
                event.txid = transaction.txid;
                event.transaction = Some(*transaction);
                event.first_seen = Some(first_seen);
            }
            Output::Remove { txid, reason, block, replaced_by, first_seen } => {
                event.kind = MempoolKind::Removed;
                event.txid = txid;
                event.reason = Some(reason);
                event.block_hash = block;
                event.replaced_by = replaced_by;
                event.first_seen = Some(first_seen);
            }
            Output::GapDetected { feed, lost } => {
                warn!(feed, ?lost, "the feed lost changes");
                self.monitor.update(|status| status.gaps_detected += 1);
                return self.send_status(StatusKind::GapDetected, gap(feed, lost, None));
            }
            Output::GapRepaired { feed, lost, recovered } => {
                info!(feed, ?lost, recovered, "the view is whole again");
                self.monitor.update(|status| status.gaps_repaired += 1);
                return self.send_status(StatusKind::GapRepaired, gap(feed, lost, Some(recovered)));
            }
            Output::WantSnapshot | Output::WantTransactions(_) => return Ok(0),
        }
        let partition = topics::partition(event.txid.as_byte_array(), self.view.partitions);
        self.send_mempool_event(&mut event, partition)
    }

    fn send_mempool_event(&mut self, event: &mut MempoolEvent, partition: i32) -> Result<usize> {
        event.sequence = self.view.next_sequence;
        self.view.next_sequence += 1;
        let key = event.txid.as_byte_array();
        self.events.send(&mut *self.writer, event, partition, event.observed_at, key)
    }
}

fn gap(feed: &str, lost: Lost, recovered: Option<u64>) -> News {
    let (from, to, detail) = match lost {
        Lost::Numbers { from, to } => (Some(from as i64), Some(to as i64), format!("numbers {from} to {to}")),
        Lost::Changes(count) => (None, None, format!("{count} changes")),
    };
    News { feed: Some(feed.to_owned()), from, to, recovered: recovered.map(|count| count as i64), detail }
}
