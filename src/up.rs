//! `sluice up`: everything in one process.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use sluice_consumer::Consumer;
use sluice_indexer::api::Node;
use sluice_indexer::options::IndexerOptions;
use sluice_indexer::process as indexer;
use sluice_log::chain::ChainLog;
use sluice_producer::health::ProducerHealth;
use sluice_producer::options::{ProducerOptions, SourceOptions};
use sluice_publisher::Monitor;
use sluice_runtime::health::Health;
use sluice_runtime::options::{LogOptions, Usage};
use sluice_runtime::process::Process;
use sluice_runtime::shutdown::Shutdown;

use crate::live::{Lines, Picture, Screen};

/// How often the live view is drawn.
const DRAW_INTERVAL: Duration = Duration::from_millis(250);

/// Threads for tasks; what blocks has others.
const WORKERS: usize = 2;

/// Follow a node, or the built-in simulator where none is given: publish what happens on the log, index it, and serve a
/// web page and Esplora's HTTP API.
///
/// With no option at all it needs no node and no server: the simulator's chain goes onto an SQLite log in the data
/// directory, and a later start goes on where this one stopped.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Up {
    #[command(flatten)]
    source: SourceOptions,
    #[command(flatten)]
    producer: ProducerOptions,
    #[command(flatten)]
    indexer: IndexerOptions,
    /// Run these parts only.
    #[arg(
        long,
        env = "SLUICE_ONLY",
        value_name = "PARTS",
        value_delimiter = ',',
        conflicts_with = "without"
    )]
    only: Vec<Part>,
    /// Leave these parts out.
    #[arg(long, env = "SLUICE_WITHOUT", value_name = "PARTS", value_delimiter = ',')]
    without: Vec<Part>,
    /// Print the state as JSON lines, as is done anyway where standard output is no terminal.
    #[arg(long, env = "SLUICE_JSON")]
    json: bool,
}

/// A part that can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Publishes on the log.
    Producer,
    /// Answers what is on it.
    Indexer,
}

impl Up {
    /// The parts to run.
    fn parts(&self) -> Result<Vec<Part>, Usage> {
        let is_wanted = |part: &Part| match self.only.is_empty() {
            true => !self.without.contains(part),
            false => self.only.contains(part),
        };
        let parts: Vec<_> = Part::value_variants().iter().copied().filter(is_wanted).collect();
        match parts.is_empty() {
            true => Err(Usage { option: "--without", reason: "leaves nothing to run".into() }),
            false => Ok(parts),
        }
    }
}

/// What runs.
struct Parts {
    producer: Option<sluice_producer::Running>,
    indexer: Option<indexer::Running>,
}

pub(crate) fn run(up: &Up, log: &LogOptions) -> anyhow::Result<ExitCode> {
    let wanted = up.parts()?;
    let process = Process::start(WORKERS)?;
    let health = Arc::new(Together::default());
    process.serve_health(up.producer.health, health.clone())?;
    let producer = match wanted.contains(&Part::Producer) {
        false => None,
        true => {
            let monitor = Arc::new(Monitor::default());
            health.watch(Arc::new(ProducerHealth(monitor.clone())));
            match sluice_producer::start(log, &up.source, &up.producer, monitor, &process.shutdown)? {
                Some(running) => Some(running),
                None => return Ok(ExitCode::SUCCESS),
            }
        }
    };
    let mut parts = Parts { producer, indexer: None };
    if wanted.contains(&Part::Indexer) {
        let started = parts.log(log).and_then(|chain| start_indexer(up, log, chain, &health, &process));
        match started {
            Ok(running) => parts.indexer = Some(running),
            Err(error) => {
                process.shutdown.request();
                // The error that matters is the first one.
                let _ = parts.wait();
                return Err(error);
            }
        }
    }
    show(&parts, up.json || !std::io::stdout().is_terminal(), &process.shutdown);
    parts.wait()?;
    Ok(ExitCode::SUCCESS)
}

fn start_indexer(
    up: &Up,
    log: &LogOptions,
    chain: ChainLog,
    health: &Together,
    process: &Process,
) -> anyhow::Result<indexer::Running> {
    let directory = up.indexer.directory(&log.data_dir()?, &chain);
    let node = up.source.node.address()?.map(Node::new);
    let consumer = Consumer::new(chain, indexer::GROUP);
    health.watch(consumer.monitor());
    indexer::start(consumer, &up.indexer, &directory, node, process)
}

impl Parts {
    /// The log that all of them use.
    fn log(&self, log: &LogOptions) -> anyhow::Result<ChainLog> {
        match &self.producer {
            Some(producer) => Ok(producer.chain.clone()),
            None => log.open(),
        }
    }

    /// Whether all have ended. When one ends, it stops the others.
    fn have_ended(&self) -> bool {
        self.producer.as_ref().is_none_or(sluice_producer::Running::has_ended)
            && self.indexer.as_ref().is_none_or(indexer::Running::has_ended)
    }

    fn picture(&self) -> Picture {
        Picture {
            producer: self.producer.as_ref().map(|producer| producer.monitor.status()),
            indexer: self.indexer.as_ref().map(|indexer| indexer.monitor.status()),
        }
    }

    /// Waits for the end of all.
    fn wait(self) -> anyhow::Result<()> {
        let produced = self.producer.map_or(Ok(()), sluice_producer::Running::wait);
        let indexed = self.indexer.map_or(Ok(()), indexer::Running::wait);
        produced.and(indexed)
    }
}

/// Shows the state until everything has ended.
fn show(parts: &Parts, json: bool, shutdown: &Shutdown) {
    let page = parts.indexer.as_ref().map(|indexer| format!("http://{}/", indexer.address));
    let title = match (&parts.producer, &parts.indexer) {
        (Some(producer), _) => format!("{} → {}", producer.source, producer.log),
        (None, Some(indexer)) => indexer.index.chain().log.url().to_owned(),
        (None, None) => String::new(),
    };
    let mut screen = (!json).then(|| Screen::open(&title, &parts.picture(), page.as_deref()));
    let mut lines = Lines::new(page);
    let mut out = std::io::stdout();
    while !parts.have_ended() {
        let picture = parts.picture();
        match &mut screen {
            Some(screen) => screen.draw(&picture, Instant::now()),
            None => {
                if let Some(line) = lines.next(&picture, Instant::now()) {
                    // Nobody reads any more: the work goes on all the same.
                    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
                }
            }
        }
        if !shutdown.sleep(DRAW_INTERVAL) {
            // Each part finishes or gives up what it is at.
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// The health of the process: that of each of its parts.
#[derive(Default)]
struct Together(std::sync::RwLock<Vec<Arc<dyn Health>>>);

impl Together {
    fn watch(&self, part: Arc<dyn Health>) {
        self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner).push(part);
    }

    fn all(&self, healthy: impl Fn(&dyn Health) -> Result<(), String>) -> Result<(), String> {
        let parts = self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        parts.iter().try_for_each(|part| healthy(&**part))
    }
}

impl Health for Together {
    fn live(&self) -> Result<(), String> {
        self.all(Health::live)
    }

    fn ready(&self) -> Result<(), String> {
        self.all(Health::ready)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        up: Up,
    }

    fn parts(arguments: &[&str]) -> Option<Vec<Part>> {
        let arguments = [&["up"], arguments].concat();
        <Command as clap::Parser>::try_parse_from(arguments).unwrap().up.parts().ok()
    }

    #[test]
    fn parts_are_chosen_or_left_out() {
        assert_eq!(parts(&[]), Some(vec![Part::Producer, Part::Indexer]));
        assert_eq!(parts(&["--only", "indexer"]), Some(vec![Part::Indexer]));
        assert_eq!(parts(&["--without", "indexer"]), Some(vec![Part::Producer]));
        assert_eq!(parts(&["--without", "indexer,producer"]), None);
    }
}
