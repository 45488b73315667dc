//! Large payments, as they are confirmed and taken back: a handler, which keeps no state and shares the work.
//!
//! ```sh
//! cargo run --example whales -- --satoshis 100000000    # start it twice, and each gets half of the partitions
//! ```

use std::process::ExitCode;

use clap::Parser;
use sluice_consumer::{ConsumerOptions, Handler, HandlerError, HandlerSettings};
use sluice_runtime::logging::{self, LoggingOptions};
use sluice_runtime::options::{self, LogOptions};
use sluice_runtime::process::Process;
use sluice_schemas::{Action, TransactionEvent};

/// Prints every transaction that pays much.
#[derive(Parser)]
#[command(name = "whales", version)]
struct Options {
    /// Payments of this many satoshis and more
    #[arg(long, env = "WHALES_SATOSHIS", default_value_t = 100_000_000_000, value_name = "SATOSHIS")]
    satoshis: i64,
    #[command(flatten)]
    log: LogOptions,
    #[command(flatten)]
    consumer: ConsumerOptions,
    #[command(flatten)]
    logging: LoggingOptions,
}

struct Whales {
    satoshis: i64,
}

impl Handler for Whales {
    #[allow(clippy::print_stdout, reason = "that is what it is for")]
    async fn handle(&self, event: TransactionEvent) -> Result<(), HandlerError> {
        let paid: i64 = event.transaction.outputs.iter().map(|output| output.value).sum();
        if paid >= self.satoshis && !event.transaction.coinbase {
            let what = match event.action {
                Action::Connected => "confirmed",
                Action::Disconnected => "taken back",
            };
            println!("{paid} satoshis by {} {what} in block {}", event.transaction.txid, event.height);
        }
        Ok(())
    }
}

fn main() -> ExitCode {
    options::main(run)
}

fn run(options: &Options) -> anyhow::Result<()> {
    logging::init(&options.logging)?;
    let process = Process::start(2)?;
    let consumer = options.consumer.consumer(options.log.open_existing()?, "whales");
    process.serve_health(options.consumer.health, consumer.monitor())?;
    let whales = Whales { satoshis: options.satoshis };
    Ok(consumer.handle(whales, &HandlerSettings::default(), &process.shutdown)?)
}
