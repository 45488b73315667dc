//! `sluice-producer`: publishes one source's chain and mempool on a log.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use sluice_producer::health::ProducerHealth;
use sluice_producer::options::{ProducerOptions, SourceOptions};
use sluice_publisher::Monitor;
use sluice_runtime::logging::{self, LoggingOptions};
use sluice_runtime::options::{self, LogOptions};
use sluice_runtime::process::Process;

/// Publishes a node's (or the simulator's) blocks, transactions, reorgs and mempool on an event log.
///
/// Any number may run on one log: one leads, the others stand by and take over when it ends.
#[derive(Parser)]
#[command(name = "sluice-producer", version)]
struct Command {
    #[command(flatten)]
    log: LogOptions,
    #[command(flatten)]
    source: SourceOptions,
    #[command(flatten)]
    producer: ProducerOptions,
    #[command(flatten)]
    logging: LoggingOptions,
}

fn main() -> ExitCode {
    options::main(run)
}

fn run(command: &Command) -> anyhow::Result<()> {
    logging::init(&command.logging)?;
    let process = Process::start(1)?;
    let monitor = Arc::new(Monitor::default());
    process.serve_health(command.producer.health, Arc::new(ProducerHealth(monitor.clone())))?;
    let Command { log, source, producer, .. } = command;
    match sluice_producer::start(log, source, producer, monitor, &process.shutdown)? {
        Some(running) => running.wait(),
        None => Ok(()),
    }
}
