//! `sluice`: a Bitcoin node, or the network, as one durable, replayable event log.

mod dlq;
mod live;
mod output;
mod patience;
mod replay;
mod schemas;
mod status;
mod tail;
mod topics;
mod up;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use sluice_runtime::logging::{self, LoggingOptions};
use sluice_runtime::options::{LogOptions, exit_code, parse};

/// Turns a Bitcoin node, or the network, into one durable, replayable event log.
///
/// `sluice up` alone starts it, without a node and without a server: the built-in simulator's chain goes onto a log on
/// this machine. Every option can be given as the environment variable named beside it, too.
#[derive(Parser)]
#[command(name = "sluice", version, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    log: LogOptions,
    #[command(flatten)]
    logging: LoggingOptions,
}

#[derive(Subcommand)]
enum Command {
    Up(Box<up::Up>),
    Tail(tail::Tail),
    Verify(verify::Verify),
    Status(status::Status),
    Topics(topics::Topics),
    Replay(replay::Replay),
    Dlq(dlq::Dlq),
    Schemas(schemas::Schemas),
}

fn main() -> ExitCode {
    let cli = match parse::<Cli>() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    match run(&cli) {
        Ok(code) => code,
        // Whoever read the output has seen enough.
        Err(error) if output::is_closed(&error) => ExitCode::SUCCESS,
        Err(error) => exit_code(&error),
    }
}

fn run(cli: &Cli) -> anyhow::Result<ExitCode> {
    logging::init(&cli.logging)?;
    match &cli.command {
        Command::Up(up) => up::run(up, &cli.log),
        Command::Tail(tail) => tail::run(tail, &cli.log),
        Command::Verify(verify) => verify::run(verify, &cli.log),
        Command::Status(status) => status::run(status, &cli.log),
        Command::Topics(topics) => topics::run(topics, &cli.log),
        Command::Replay(replay) => replay::run(replay, &cli.log),
        Command::Dlq(dlq) => dlq::run(dlq, &cli.log),
        Command::Schemas(schemas) => schemas::run(schemas, &cli.log),
    }
}
