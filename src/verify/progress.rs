//! How far an audit has come.

use std::time::{Duration, Instant};

use indicatif::{HumanCount, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use sluice_log::chain::ChainLog;
use sluice_runtime::start::Start;
use sluice_runtime::terminal;
use sluice_schemas::{ChainEvent, EventKind};

/// How often the line is made anew.
const INTERVAL: Duration = Duration::from_millis(100);
/// Transactions between two looks at the clock.
const LOOK_AFTER: u64 = 256;
/// What the line looks like.
const TEMPLATE: &str = "{bar:24} {percent:>3}%  {msg}";

/// A progress bar on a terminal; nothing elsewhere.
pub(super) struct Progress {
    bar: ProgressBar,
    started: Instant,
    drawn: Instant,
    blocks: u64,
    transactions: u64,
    height: i32,
}

impl Progress {
    /// `from` is the height of the first block.
    pub(super) fn start(chain: &ChainLog, from: Option<i32>) -> anyhow::Result<Self> {
        let bar = terminal::progress().add(ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()));
        if !bar.is_hidden() {
            bar.set_style(ProgressStyle::with_template(TEMPLATE)?.progress_chars("━╸ "));
            bar.set_length(records(chain, from)?);
        }
        let now = Instant::now();
        Ok(Self { bar, started: now, drawn: now, blocks: 0, transactions: 0, height: 0 })
    }

    pub(super) fn transaction(&mut self) {
        self.transactions += 1;
        if self.transactions.is_multiple_of(LOOK_AFTER) {
            self.draw();
        }
    }

    pub(super) fn event(&mut self, event: &ChainEvent) {
        self.blocks += 1;
        self.height = event.height;
        self.draw();
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn draw(&mut self) {
        let now = Instant::now();
        if self.bar.is_hidden() || now - self.drawn < INTERVAL {
            return;
        }
        self.drawn = now;
        let seconds = (now - self.started).as_secs_f64();
        let rate = |number: u64| HumanCount((number as f64 / seconds) as u64);
        let left = self.bar.length().unwrap_or(0).saturating_sub(self.transactions);
        let eta = Duration::from_secs_f64(seconds * left as f64 / self.transactions.max(1) as f64);
        self.bar.set_position(self.transactions);
        self.bar.set_message(format!(
            "height {}  {} blocks/s  {} tx/s  {} left",
            HumanCount(u64::try_from(self.height).unwrap_or(0)),
            rate(self.blocks),
            rate(self.transactions),
            HumanDuration(eta)
        ));
    }
}

/// Records of the transactions topic that will be read: near enough to their number.
fn records(chain: &ChainLog, from: Option<i32>) -> anyhow::Result<u64> {
    let from = from.map_or(Start::Genesis, Start::Height);
    let mut records = 0;
    for start in from.locate(chain, EventKind::Transaction)? {
        let end = chain.log.bounds(&start.topic, start.partition)?.end;
        records += u64::try_from(end - start.offset).unwrap_or(0);
    }
    Ok(records)
}
