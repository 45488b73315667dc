//! `sluice-producer`: publishes one source's chain and mempool on a log.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use sluice_producer::health::ProducerHealth;
use sluice_producer::options::{ProducerOptions, SourceOptions};
use sluice_runtime::logging::{self, LoggingOptions};
use sluice_runtime::options::{LogOptions, exit_code, parse};
use sluice_runtime::shutdown::Shutdown;
use sluice_runtime::{health, metrics};

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
    let command = match parse::<Command>() {
        Ok(command) => command,
        Err(code) => return code,
    };
    match run(&command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit_code(&error),
    }
}

fn run(command: &Command) -> anyhow::Result<()> {
    logging::init(&command.logging)?;
    let recorder = metrics::install()?;
    let tasks = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let _entered = tasks.enter();
    let shutdown = Shutdown::default();
    shutdown.on_signals()?;
    let running = sluice_producer::start(&command.log, &command.source, &command.producer, &shutdown)?;
    if let Some(address) = command.producer.health {
        let health = Arc::new(ProducerHealth(running.monitor.clone()));
        let (bound, server) = tasks.block_on(health::serve(address, health, recorder, shutdown.clone()))?;
        tracing::info!(%bound, "serving /livez, /readyz and /metrics");
        tasks.spawn(server);
    }
    running.wait()
}
