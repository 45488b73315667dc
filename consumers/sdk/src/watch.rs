//! Watches a consumer from a thread of its own: where the log's tip is, metrics, and how far it has come.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{HumanCount, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use metrics::{counter, gauge};
use sluice_log::chain::ChainLog;
use sluice_runtime::terminal;
use sluice_schemas::ChainEvent;
use tracing::{debug, info};

use crate::monitor::{Monitor, State, Status};

/// How often everything is looked at.
const TURN: Duration = Duration::from_millis(500);
/// How often the log is asked for its tip.
const TIP_INTERVAL: Duration = Duration::from_secs(2);
/// Rates are taken over this long.
const RATE_WINDOW: Duration = Duration::from_secs(10);
/// Where there is no terminal, a line comes this often while catching up.
const LINE_INTERVAL: Duration = Duration::from_secs(10);
/// Fewer blocks than these are no backlog worth a bar.
const BACKLOG_BLOCKS: i64 = 10;
/// What the bar looks like.
const TEMPLATE: &str = "{prefix} {bar:24} {percent:>3}%  {msg}";

/// Watches until dropped.
pub(crate) struct Watch {
    end: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    pub(crate) fn start(chain: &ChainLog, group: &str, monitor: Arc<Monitor>) -> Self {
        let (end, ended) = mpsc::channel::<()>();
        let mut watcher = Watcher {
            chain: chain.clone(),
            group: group.to_owned(),
            monitor,
            tip_asked: None,
            samples: VecDeque::new(),
            bar: None,
            line: None,
        };
        let watch = move || {
            loop {
                watcher.turn(Instant::now());
                // Disconnected with the sender: the watch ends.
                if ended.recv_timeout(TURN) == Err(RecvTimeoutError::Disconnected) {
                    break;
                }
            }
            watcher.tell(&watcher.monitor.status());
        };
        let thread = std::thread::Builder::new().name("consumer-watch".into()).spawn(watch);
        Self { end: Some(end), thread: thread.ok() }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the watch of a consumer panicked");
        }
    }
}

struct Watcher {
    chain: ChainLog,
    group: String,
    monitor: Arc<Monitor>,
    tip_asked: Option<Instant>,
    /// When, blocks and transactions.
    samples: VecDeque<(Instant, u64, u64)>,
    bar: Option<ProgressBar>,
    line: Option<Instant>,
}

impl Watcher {
    fn turn(&mut self, now: Instant) {
        let mut status = self.monitor.status();
        // One that is live and not busy sees the tip itself.
        let is_behind = match status.state {
            State::CatchingUp => true,
            State::Live => self.monitor.busy_for() >= TIP_INTERVAL,
            State::StandingBy | State::Stopped | State::Failed => false,
        };
        if is_behind && self.tip_asked.is_none_or(|asked| now - asked >= TIP_INTERVAL) {
            self.tip_asked = Some(now);
            match self.chain.last_event::<ChainEvent>(&self.chain.topics.blocks, 0) {
                Ok(Some(tail)) => self.monitor.log_at(&tail.event),
                Ok(None) => {}
                Err(error) => debug!(%error, "failed to look for the log's tip"),
            }
            status = self.monitor.status();
        }
        self.tell(&status);
        self.show(&status, now);
    }

    fn tell(&self, status: &Status) {
        let group = || self.group.clone();
        let height = status.position.map_or(-1, |position| position.tip.height);
        gauge!("sluice_consumer_height_blocks", "group" => group()).set(f64::from(height));
        gauge!("sluice_consumer_active", "group" => group()).set(match status.state {
            State::CatchingUp | State::Live => 1.0,
            _ => 0.0,
        });
        if let Some(blocks) = status.blocks_behind {
            gauge!("sluice_consumer_lag_blocks", "group" => group()).set(blocks as f64);
            gauge!("sluice_consumer_lag_seconds", "group" => group()).set(status.behind.as_secs_f64());
        }
        counter!("sluice_consumer_blocks_total", "group" => group()).absolute(status.blocks);
        counter!("sluice_consumer_transactions_total", "group" => group()).absolute(status.transactions);
        counter!("sluice_consumer_mempool_changes_total", "group" => group())
            .absolute(status.mempool_changes);
        counter!("sluice_consumer_reorgs_total", "group" => group()).absolute(status.reorgs);
    }

    /// A bar on a terminal, a line of logs now and then elsewhere, while there is a backlog.
    fn show(&mut self, status: &Status, now: Instant) {
        let backlog = status.blocks_behind.filter(|blocks| *blocks >= BACKLOG_BLOCKS);
        let Some(backlog) = backlog.filter(|_| status.state == State::CatchingUp) else {
            self.samples.clear();
            if let Some(bar) = self.bar.take() {
                bar.finish_and_clear();
            }
            return;
        };
        let (blocks_rate, transactions_rate) = self.rates(status, now);
        let left = Duration::try_from_secs_f64(backlog as f64 / blocks_rate).ok();
        let height = status.position.map_or(0, |position| position.tip.height);
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template(TEMPLATE).expect("the template is a constant");
            let bar = terminal::progress().add(bar.with_style(style.progress_chars("━╸ ")));
            bar.set_prefix(self.group.clone());
            bar
        });
        if !bar.is_hidden() {
            bar.set_length(status.blocks.saturating_add(backlog.unsigned_abs()));
            bar.set_position(status.blocks);
            bar.set_message(format!(
                "height {}  {} blocks/s  {} tx/s{}",
                HumanCount(u64::try_from(height).unwrap_or(0)),
                HumanCount(blocks_rate as u64),
                HumanCount(transactions_rate as u64),
                left.map(|left| format!("  {} left", HumanDuration(left))).unwrap_or_default()
            ));
        } else if self.line.is_none_or(|last| now - last >= LINE_INTERVAL) {
            self.line = Some(now);
            info!(
                group = self.group,
                height,
                blocks_behind = backlog,
                blocks_per_second = blocks_rate as u64,
                transactions_per_second = transactions_rate as u64,
                seconds_left = left.map(|left| left.as_secs()),
                "catching up"
            );
        }
    }

    /// Blocks and transactions per second.
    fn rates(&mut self, status: &Status, now: Instant) -> (f64, f64) {
        self.samples.push_back((now, status.blocks, status.transactions));
        while self.samples.len() > 2 && now.duration_since(self.samples[0].0) > RATE_WINDOW {
            self.samples.pop_front();
        }
        let (then, blocks, transactions) = self.samples[0];
        let seconds = now.duration_since(then).as_secs_f64().max(0.001);
        let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
        (rate(status.blocks, blocks), rate(status.transactions, transactions))
    }
}
