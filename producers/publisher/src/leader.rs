//! The main loop of a producer that leads: headers, blocks, mempool, heartbeats, one after the other on one thread.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bitcoin::BlockHash;
use sluice_chain::{ChainTracker, Step};
use sluice_log::Writer;
use sluice_log::chain::{ChainLog, TransactionReader};
use sluice_schemas::{Network, StatusKind};
use sluice_sources::Source;
use tracing::{info, warn};

use crate::config::Config;
use crate::error::{Error, Recovery, Result};
use crate::fetch::{Encoder, Fetcher};
use crate::lead::Lead;
use crate::monitor::{Monitor, State};
use crate::notices::{Heard, Notices};
use crate::publisher::{backoff, full};
use crate::send::EventSender;
use crate::status::{self, News, Standing};
use crate::takeover;
use crate::view::View;

/// Steps planned at once.
const STEPS_AT_ONCE: usize = 2000;
/// Longest wait for notices.
const IDLE: Duration = Duration::from_millis(100);

/// A producer that leads.
pub(crate) struct Leader<'a> {
    pub(crate) config: &'a Config,
    pub(crate) chain_log: &'a ChainLog,
    pub(crate) source: Arc<dyn Source>,
    pub(crate) network: Network,
    pub(crate) monitor: &'a Monitor,
    stop: &'a AtomicBool,
    lead: Lead,

    pub(crate) writer: Box<dyn Writer>,
    pub(crate) events: EventSender,
    pub(crate) tracker: ChainTracker,
    pub(crate) next_sequence: i64,
    pub(crate) epoch: i64,
    pub(crate) source_height: Option<i32>,
    pub(crate) fetcher: Fetcher,
    /// While blocks are disconnected: an open reader reads ahead.
    pub(crate) disconnected_bodies: Option<TransactionReader>,
    pub(crate) view: View,
    /// After a failure each block has a log transaction of its own, so that a bad one holds no other up.
    pub(crate) careful: bool,

    pub(crate) notices: Notices,
    /// Heard, not handled yet.
    pub(crate) heard: VecDeque<Heard>,
    next_poll: Instant,
    next_heartbeat: Instant,
    failures: u32,
}

impl<'a> Leader<'a> {
    /// Fences earlier producers and learns from the log where it ends.
    pub(crate) fn take_over(
        config: &'a Config,
        chain_log: &'a ChainLog,
        source: Arc<dyn Source>,
        monitor: &'a Monitor,
        stop: &'a AtomicBool,
        lead: Lead,
    ) -> Result<Self> {
        let network = source.network();
        let mut writer = chain_log.log.writer(&format!("{}.producer", chain_log.topics.prefix))?;
        chain_log.settle(&mut *writer)?;
        let position = takeover::position(chain_log, network)?;
        // The topics may have been created with another number than this process was started with.
        let partitions = chain_log
            .log
            .topic(&chain_log.topics.transactions)?
            .map_or(config.partitions, |topic| topic.partitions);
        let encoder = Encoder { source: source.clone(), codec: chain_log.codec.clone(), network, partitions };
        let now = Instant::now();
        Ok(Self {
            view: View::new(config, network, partitions),
            notices: Notices::start(source.clone()),
            heard: VecDeque::new(),
            fetcher: Fetcher::start(encoder),
            disconnected_bodies: None,
            tracker: position.tracker,
            next_sequence: position.next_sequence,
            epoch: position.epoch,
            source_height: None,
            careful: false,
            next_poll: now,
            next_heartbeat: now + config.heartbeat_interval,
            failures: 0,
            config,
            chain_log,
            source,
            network,
            monitor,
            stop,
            lead,
            writer,
            events: EventSender { chain_log: chain_log.clone(), encoded: Vec::new() },
        })
    }

    /// Publishes until it is stopped or fails.
    pub(crate) fn lead(&mut self) -> Result<()> {
        info!(epoch = self.epoch, tip = ?self.tip(), sequence = self.next_sequence - 1, "took over the log");
        self.tell(StatusKind::Takeover, News::detail(format!("network {}", self.network)))?;
        self.monitor.update(|status| {
            status.state = State::Backfilling;
            status.epoch = self.epoch;
            status.tip = self.tracker.tip().map(|tip| (tip.height, tip.hash));
            status.chain_sequence = self.next_sequence - 1;
            status.trouble = None;
        });
        loop {
            self.check()?;
            match self.turn() {
                Ok(()) => {}
                Err(error) if error.recovery() == Recovery::RetrySource => self.source_failed(&error)?,
                Err(error) => {
                    // The next producer's takeover aborts it anyway; this frees readers at once.
                    let _ = self.writer.abort();
                    return Err(error);
                }
            }
        }
    }

    /// Once round: the chain first, then what was heard of the mempool.
    fn turn(&mut self) -> Result<()> {
        let now = Instant::now();
        if now >= self.next_poll {
            self.follow_chain()?;
        }
        let backlog = !self.follow_backlog()?;
        if self.failures > 0 {
            self.source_recovered()?;
        }
        if self.heartbeat_is_due() {
            self.tell(StatusKind::Heartbeat, News::default())?;
        }
        if backlog {
            return Ok(());
        }
        self.turn_view()?;
        if self.heard.is_empty() {
            let deadline = self.next_poll.min(self.next_heartbeat);
            let wait = deadline.saturating_duration_since(Instant::now()).min(IDLE);
            self.heard.extend(self.notices.take(wait));
        }
        self.hear()
    }

    /// Asks the source for headers until the best chain is known to be another than the published one, or the tip.
    pub(crate) fn follow_chain(&mut self) -> Result<()> {
        self.next_poll = Instant::now() + self.config.poll_interval;
        let tip = self.source.tip()?;
        self.source_height = Some(tip.height);
        self.monitor.update(|status| status.source_height = Some(tip.height));
        if tip.hash == self.tracker.best().hash && self.tracker.tip().is_some() {
            return Ok(());
        }
        loop {
            self.check()?;
            let page = self.source.headers(&self.tracker.locator(), self.config.headers_page)?;
            if page.headers.is_empty() {
                return Ok(());
            }
            match self.tracker.observe(&page.headers) {
                Ok(_) => {}
                Err(sluice_chain::Error::NeedsOlder { .. }) => {
                    if !takeover::extend_back(self.chain_log, &mut self.tracker)? {
                        return Err(self.other_chain());
                    }
                    continue;
                }
                Err(sluice_chain::Error::UnknownParent { .. } | sluice_chain::Error::BelowStart { .. }) => {
                    return Err(self.other_chain());
                }
                // Publishing makes room.
                Err(sluice_chain::Error::Full { .. }) => return Ok(()),
                Err(source) => return Err(Error::Header { source_id: self.source.id().to_owned(), source }),
            }
            // A branch that does not have more work yet is read on; else there is something to publish first.
            if page.headers.len() < self.config.headers_page || !self.tracker.next_steps(1).is_empty() {
                return Ok(());
            }
        }
    }

    fn other_chain(&self) -> Error {
        Error::OtherChain { source_id: self.source.id().to_owned(), first: self.tracker.oldest().hash }
    }

    /// Publishes what is known to be missing, a bounded number of steps. Says whether all of it is published.
    pub(crate) fn follow_backlog(&mut self) -> Result<bool> {
        let steps = self.tracker.next_steps(STEPS_AT_ONCE);
        if steps.is_empty() {
            let behind = self.behind();
            self.monitor.update(|status| {
                status.state =
                    if behind > self.config.live_within_blocks { State::Backfilling } else { State::Live };
            });
            return Ok(true);
        }
        let depth = steps.iter().filter(|step| matches!(step, Step::Disconnect(_))).count();
        if depth > 0 && !self.careful {
            let fork = self.tracker.tip().map_or(0, |tip| tip.height - depth as i32);
            info!(depth, fork, "chain reorganised");
            self.tell(StatusKind::Reorg, News::detail(format!("depth {depth}, fork at height {fork}")))?;
            self.monitor.update(|status| {
                status.reorgs += 1;
                status.last_reorg_depth = depth as u64;
            });
        }
        if self.behind() > self.config.suspend_beyond_blocks {
            self.view.suspend();
        }
        if self.behind() > self.config.live_within_blocks {
            self.monitor.update(|status| status.state = State::Backfilling);
        }
        match self.publish(&steps) {
            Ok(()) => self.careful = false,
            Err(error) => {
                self.careful = true;
                return Err(error);
            }
        }
        // More headers may be known already; the tip may have moved on.
        self.next_poll = Instant::now();
        Ok(false)
    }

    /// Blocks that the published tip is behind the source's.
    pub(crate) fn behind(&self) -> i32 {
        let tip = self.tracker.tip().map_or(-1, |tip| tip.height);
        self.source_height.unwrap_or(tip).saturating_sub(tip)
    }

    fn source_failed(&mut self, error: &Error) -> Result<()> {
        self.writer.abort()?;
        self.failures += 1;
        let text = full(error);
        warn!(error = %text, source = self.source.id(), "source failed, trying again");
        self.monitor.update(|status| {
            status.state = State::SourceDown;
            status.trouble = Some(text.clone());
        });
        if self.failures == 1 {
            self.tell(StatusKind::SourceDown, News::detail(text))?;
        }
        let until = Instant::now() + backoff(self.config, self.failures);
        while Instant::now() < until {
            self.check()?;
            std::thread::sleep(Duration::from_millis(20));
        }
        if self.heartbeat_is_due() {
            self.tell(StatusKind::Heartbeat, News::default())?;
        }
        self.next_poll = Instant::now();
        Ok(())
    }

    fn source_recovered(&mut self) -> Result<()> {
        self.failures = 0;
        info!(source = self.source.id(), "source answers again");
        self.monitor.update(|status| status.trouble = None);
        self.tell(StatusKind::SourceUp, News::default())
    }

    /// Notes progress, and ends the work where it is to end.
    pub(crate) fn check(&mut self) -> Result<()> {
        self.monitor.progressed();
        if self.stop.load(Ordering::SeqCst) {
            let _ = self.writer.abort();
            return Err(Error::Stopped);
        }
        if self.lead.is_lost() {
            let _ = self.writer.abort();
            return Err(Error::LeadLost);
        }
        Ok(())
    }

    /// Whether a heartbeat is to be told now. The next one is due a while later.
    pub(crate) fn heartbeat_is_due(&mut self) -> bool {
        let now = Instant::now();
        let is_due = now >= self.next_heartbeat;
        if is_due {
            self.next_heartbeat = now + self.config.heartbeat_interval;
        }
        is_due
    }

    /// Publishes a status event in a log transaction of its own.
    pub(crate) fn tell(&mut self, kind: StatusKind, news: News) -> Result<()> {
        self.writer.begin()?;
        self.send_status(kind, news)?;
        self.writer.mark()?;
        Ok(self.writer.commit()?)
    }

    /// Sends a status event in the open log transaction; returns its encoded size.
    pub(crate) fn send_status(&mut self, kind: StatusKind, news: News) -> Result<usize> {
        let standing = self.standing();
        let event = status::event(kind, self.source.id(), standing, news);
        self.events.send(&mut *self.writer, &event, 0, standing.now_ms, event.source.as_bytes())
    }

    /// Has the chain looked after at the next turn.
    pub(crate) fn poll_now(&mut self) {
        self.next_poll = Instant::now();
    }

    fn standing(&self) -> Standing {
        Standing {
            epoch: self.epoch,
            tip: self.tip(),
            chain_sequence: self.next_sequence - 1,
            source_height: self.source_height,
            now_ms: now_ms(),
        }
    }

    fn tip(&self) -> Option<(i32, BlockHash)> {
        self.tracker.tip().map(|tip| (tip.height, tip.hash))
    }
}

/// Milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
