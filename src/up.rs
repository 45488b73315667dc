//! `sluice up`: everything in one process.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sluice_producer::Running;
use sluice_producer::health::ProducerHealth;
use sluice_producer::options::{ProducerOptions, SourceOptions};
use sluice_publisher::Monitor;
use sluice_runtime::options::LogOptions;
use sluice_runtime::process::Process;
use sluice_runtime::shutdown::Shutdown;

use crate::live::{Lines, Screen};

/// How often the live view is drawn.
const DRAW_INTERVAL: Duration = Duration::from_millis(250);

/// Follow a node, or the built-in simulator where none is given, and publish what happens on the log.
///
/// With no option at all it needs no node and no server: the simulator's chain goes onto an SQLite log in the data
/// directory, and a later start goes on where this one stopped.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Up {
    #[command(flatten)]
    source: SourceOptions,
    #[command(flatten)]
    producer: ProducerOptions,
    /// Print the state as JSON lines, as is done anyway where standard output is no terminal.
    #[arg(long, env = "SLUICE_JSON")]
    json: bool,
}

pub(crate) fn run(up: &Up, log: &LogOptions) -> anyhow::Result<ExitCode> {
    let process = Process::start(1)?;
    let monitor = Arc::new(Monitor::default());
    process.serve_health(up.producer.health, Arc::new(ProducerHealth(monitor.clone())))?;
    let running = sluice_producer::start(log, &up.source, &up.producer, monitor, &process.shutdown)?;
    let Some(running) = running else { return Ok(ExitCode::SUCCESS) };
    show(&running, up.json || !std::io::stdout().is_terminal(), &process.shutdown)?;
    running.wait()?;
    Ok(ExitCode::SUCCESS)
}

/// Shows the state until the producer has ended.
fn show(running: &Running, json: bool, shutdown: &Shutdown) -> anyhow::Result<()> {
    let mut screen = (!json).then(|| Screen::open(&running.source, &running.log));
    let mut lines = Lines::default();
    let mut out = std::io::stdout();
    while !running.has_ended() {
        let status = running.monitor.status();
        match &mut screen {
            Some(screen) => screen.draw(&status, Instant::now()),
            None => {
                if let Some(line) = lines.next(&status, Instant::now()) {
                    // Nobody reads any more: the work goes on all the same.
                    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
                }
            }
        }
        if !shutdown.sleep(DRAW_INTERVAL) {
            // The producer finishes or aborts its open transaction.
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    Ok(())
}
