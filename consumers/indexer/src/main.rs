//! `sluice-indexer`: answers what is on the chain and in the mempool of a log.

use std::process::ExitCode;

use clap::Parser;
use sluice_consumer::ConsumerOptions;
use sluice_indexer::api::Node;
use sluice_indexer::options::IndexerOptions;
use sluice_indexer::process::{self, GROUP};
use sluice_runtime::logging::{self, LoggingOptions};
use sluice_runtime::node::NodeOptions;
use sluice_runtime::options::{self, LogOptions};
use sluice_runtime::process::Process;

/// Indexes an event log, and serves Esplora's HTTP API and an explorer page.
///
/// The index is a directory on this machine. It can be removed at any time: it is built anew from the log.
#[derive(Parser)]
#[command(name = "sluice-indexer", version)]
struct Command {
    #[command(flatten)]
    log: LogOptions,
    #[command(flatten)]
    indexer: IndexerOptions,
    #[command(flatten)]
    consumer: ConsumerOptions,
    /// Where transactions go that users send; without it they are refused.
    #[command(flatten, next_help_heading = "Node options")]
    node: NodeOptions,
    #[command(flatten)]
    logging: LoggingOptions,
}

/// Threads for tasks; what blocks has others.
const WORKERS: usize = 2;

fn main() -> ExitCode {
    options::main(run)
}

fn run(command: &Command) -> anyhow::Result<()> {
    logging::init(&command.logging)?;
    let process = Process::start(WORKERS)?;
    let chain = command.log.open()?;
    let directory = command.indexer.directory(&command.log.data_dir()?, &chain);
    let node = command.node.address()?.map(Node::new);
    let consumer = command.consumer.consumer(chain, GROUP);
    process.serve_health(command.consumer.health, consumer.monitor())?;
    let running = process::start(consumer, &command.indexer, &directory, node, &process)?;
    tracing::info!(page = %format_args!("http://{}/", running.address), "serving");
    running.wait()
}
