//! The live view of `sluice up`: a screen for people, JSON lines for machines.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use serde_json::json;
use sluice_publisher::{State, Status};
use sluice_runtime::terminal;

/// Rates are taken over this long.
const RATE_WINDOW: Duration = Duration::from_secs(10);
/// Lines are at least this far apart.
const LINE_INTERVAL: Duration = Duration::from_secs(1);
/// Without a change a line comes this often.
const QUIET_INTERVAL: Duration = Duration::from_secs(10);

/// Counts per second over a sliding window.
#[derive(Default)]
struct Rates {
    samples: VecDeque<(Instant, u64, u64, u64)>,
}

impl Rates {
    /// Blocks, transactions and mempool events per second.
    fn update(&mut self, status: &Status, now: Instant) -> (f64, f64, f64) {
        self.samples.push_back((now, status.blocks, status.transactions, status.mempool_events));
        while self.samples.len() > 2 && now.duration_since(self.samples[0].0) > RATE_WINDOW {
            self.samples.pop_front();
        }
        let (then, blocks, transactions, events) = self.samples[0];
        let seconds = now.duration_since(then).as_secs_f64().max(0.001);
        (
            (status.blocks - blocks) as f64 / seconds,
            (status.transactions - transactions) as f64 / seconds,
            (status.mempool_events - events) as f64 / seconds,
        )
    }
}

/// The view on a terminal.
pub(crate) struct Screen {
    title: ProgressBar,
    height: ProgressBar,
    flow: ProgressBar,
    incidents: ProgressBar,
    rates: Rates,
}

impl Screen {
    pub(crate) fn open(source: &str, log: &str) -> Self {
        let bars = terminal::progress();
        let line = |template: &str| {
            let style = ProgressStyle::with_template(template).expect("the template is a constant");
            bars.add(ProgressBar::new(0).with_style(style))
        };
        let title = line("{msg}");
        title.set_message(format!("{source} → {log}"));
        Self {
            title,
            height: line("  {spinner:.cyan} height {pos:.bold} of {len}  {bar:30.cyan/dim}  {msg}"),
            flow: line("    {msg}"),
            incidents: line("    {msg}"),
            rates: Rates::default(),
        }
    }

    pub(crate) fn draw(&mut self, status: &Status, now: Instant) {
        let (blocks, transactions, events) = self.rates.update(status, now);
        let height = status.tip.map_or(0, |(height, _)| height.max(0) as u64);
        let target = status.source_height.map_or(height, |height| height.max(0) as u64);
        self.title.tick();
        self.height.set_length(target.max(height));
        self.height.set_position(height);
        self.height.tick();
        let eta = match (target.saturating_sub(height), blocks) {
            (behind, rate) if behind > 2 && rate > 0.0 => {
                format!(
                    ", {} left",
                    humantime::format_duration(Duration::from_secs((behind as f64 / rate) as u64))
                )
            }
            _ => String::new(),
        };
        self.height.set_message(format!("{}{eta}", name(status.state)));
        self.flow.set_message(format!(
            "blocks {} ({blocks:.1}/s)   transactions {} ({transactions:.0}/s)   mempool {} ({events:.1} events/s)",
            HumanCount(status.blocks),
            HumanCount(status.transactions),
            HumanCount(status.mempool as u64),
        ));
        let trouble = status.trouble.as_deref().map(|t| format!("   {t}")).unwrap_or_default();
        self.incidents.set_message(format!(
            "reorgs {} (last {} deep)   gaps {} found, {} repaired{trouble}",
            status.reorgs, status.last_reorg_depth, status.gaps_detected, status.gaps_repaired
        ));
    }
}

/// JSON lines: one at each change of tip or state, at most one a second, and one now and then without a change.
#[derive(Default)]
pub(crate) struct Lines {
    last: Option<(Instant, Status)>,
}

impl Lines {
    pub(crate) fn next(&mut self, status: &Status, now: Instant) -> Option<String> {
        if let Some((at, last)) = &self.last {
            let age = now.duration_since(*at);
            let same = last.tip == status.tip && last.state == status.state && last.trouble == status.trouble;
            if age < LINE_INTERVAL || (same && age < QUIET_INTERVAL) {
                return None;
            }
        }
        self.last = Some((now, status.clone()));
        Some(line(status).to_string())
    }
}

fn line(status: &Status) -> serde_json::Value {
    json!({
        "state": name(status.state),
        "height": status.tip.map(|(height, _)| height),
        "hash": status.tip.map(|(_, hash)| hash.to_string()),
        "source_height": status.source_height,
        "sequence": status.chain_sequence,
        "epoch": status.epoch,
        "blocks": status.blocks,
        "transactions": status.transactions,
        "bytes": status.bytes,
        "mempool": status.mempool,
        "mempool_events": status.mempool_events,
        "reorgs": status.reorgs,
        "gaps_detected": status.gaps_detected,
        "gaps_repaired": status.gaps_repaired,
        "trouble": status.trouble,
    })
}

fn name(state: State) -> &'static str {
    match state {
        State::StandingBy => "standing by",
        State::Backfilling => "backfilling",
        State::Live => "live",
        State::SourceDown => "source down",
    }
}
