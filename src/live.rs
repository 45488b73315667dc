//! The live view of `sluice up`: a screen for people, JSON lines for machines.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use serde_json::json;
use sluice_consumer::{State as ConsumerState, Status as ConsumerStatus};
use sluice_publisher::{State, Status};
use sluice_runtime::terminal;

/// Rates are taken over this long.
const RATE_WINDOW: Duration = Duration::from_secs(10);
/// Lines are at least this far apart.
const LINE_INTERVAL: Duration = Duration::from_secs(1);
/// Without a change a line comes this often.
const QUIET_INTERVAL: Duration = Duration::from_secs(10);

/// What everything in this process is at.
#[derive(Clone)]
pub(crate) struct Picture {
    /// `None` where it is left out.
    pub(crate) producer: Option<Status>,
    /// `None` where it is left out.
    pub(crate) indexer: Option<ConsumerStatus>,
}

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
    producer: Option<ProducerLines>,
    index: Option<ProgressBar>,
}

impl Screen {
    pub(crate) fn open(title_text: &str, picture: &Picture, page: Option<&str>) -> Self {
        let title = line("{msg}");
        title.set_message(match page {
            Some(page) => format!("{title_text}   {page}"),
            None => title_text.to_owned(),
        });
        Self {
            title,
            producer: picture.producer.as_ref().map(|_| ProducerLines::open()),
            index: picture.indexer.as_ref().map(|_| line("    {msg}")),
        }
    }

    pub(crate) fn draw(&mut self, picture: &Picture, now: Instant) {
        self.title.tick();
        if let (Some(lines), Some(status)) = (&mut self.producer, &picture.producer) {
            lines.draw(status, now);
        }
        if let (Some(line), Some(status)) = (&self.index, &picture.indexer) {
            line.set_message(index_line(status));
        }
    }
}

fn line(template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).expect("the template is a constant");
    terminal::progress().add(ProgressBar::new(0).with_style(style))
}

fn index_line(status: &ConsumerStatus) -> String {
    let height = status.position.map_or_else(|| "empty".to_owned(), |at| format!("height {}", at.tip.height));
    let lag = match status.blocks_behind {
        Some(blocks @ 1..) => {
            let behind = Duration::from_secs(status.behind.as_secs());
            format!(", {blocks} blocks ({}) behind", humantime::format_duration(behind))
        }
        _ => String::new(),
    };
    let trouble = status.trouble.as_deref().map(|trouble| format!("   {trouble}")).unwrap_or_default();
    format!(
        "index {height}, {}{lag}   transactions {}{trouble}",
        consumer_name(status.state),
        HumanCount(status.transactions)
    )
}

/// What is shown of the producer.
struct ProducerLines {
    height: ProgressBar,
    flow: ProgressBar,
    incidents: ProgressBar,
    rates: Rates,
}

impl ProducerLines {
    fn open() -> Self {
        Self {
            height: line("  {spinner:.cyan} height {pos:.bold} of {len}  {bar:30.cyan/dim}  {msg}"),
            flow: line("    {msg}"),
            incidents: line("    {msg}"),
            rates: Rates::default(),
        }
    }

    fn draw(&mut self, status: &Status, now: Instant) {
        let (blocks, transactions, events) = self.rates.update(status, now);
        let height = status.tip.map_or(0, |(height, _)| height.max(0) as u64);
        let target = status.source_height.map_or(height, |height| height.max(0) as u64);
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
pub(crate) struct Lines {
    page: Option<String>,
    last: Option<(Instant, Picture)>,
}

impl Lines {
    pub(crate) fn new(page: Option<String>) -> Self {
        Self { page, last: None }
    }

    pub(crate) fn next(&mut self, picture: &Picture, now: Instant) -> Option<String> {
        if let Some((at, last)) = &self.last {
            let age = now.duration_since(*at);
            let same = says_the_same(last, picture);
            if age < LINE_INTERVAL || (same && age < QUIET_INTERVAL) {
                return None;
            }
        }
        self.last = Some((now, picture.clone()));
        let mut fields = picture.producer.as_ref().map_or_else(|| json!({}), producer_fields);
        if let Some(status) = &picture.indexer {
            fields["index"] = index_fields(status, self.page.as_deref());
        }
        Some(fields.to_string())
    }
}

fn says_the_same(last: &Picture, picture: &Picture) -> bool {
    let producer = |picture: &Picture| {
        picture.producer.as_ref().map(|status| (status.tip, status.state, status.trouble.clone()))
    };
    let indexer = |picture: &Picture| {
        let status = picture.indexer.as_ref();
        status.map(|status| (status.position.map(|at| at.tip), status.state, status.trouble.clone()))
    };
    producer(last) == producer(picture) && indexer(last) == indexer(picture)
}

fn index_fields(status: &ConsumerStatus, page: Option<&str>) -> serde_json::Value {
    json!({
        "state": consumer_name(status.state),
        "height": status.position.map(|at| at.tip.height),
        "hash": status.position.map(|at| at.tip.hash.to_string()),
        "sequence": status.position.map(|at| at.sequence),
        "blocks_behind": status.blocks_behind,
        "seconds_behind": status.behind.as_secs(),
        "transactions": status.transactions,
        "page": page,
        "trouble": status.trouble,
    })
}

fn producer_fields(status: &Status) -> serde_json::Value {
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

fn consumer_name(state: ConsumerState) -> &'static str {
    match state {
        ConsumerState::StandingBy => "standing by",
        ConsumerState::CatchingUp => "catching up",
        ConsumerState::Live => "live",
        ConsumerState::Stopped => "stopped",
        ConsumerState::Failed => "failed",
    }
}
