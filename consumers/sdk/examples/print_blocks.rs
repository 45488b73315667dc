//! One line per block, as they come: a consumer without any state.
//!
//! ```sh
//! cargo run --example print_blocks -- --from genesis
//! ```

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use sluice_consumer::{Change, Feed, Start};
use sluice_runtime::logging::{self, LoggingOptions};
use sluice_runtime::options::{self, LogOptions};
use sluice_runtime::process::Process;
use sluice_schemas::Action;

/// Prints the blocks of a log, and those that a reorg takes back.
#[derive(Parser)]
#[command(name = "print_blocks", version)]
struct Options {
    /// Where to begin: genesis, tip, a block height, or a time
    #[arg(long, default_value = "tip", value_name = "genesis|tip|HEIGHT|TIME")]
    from: Start,
    #[command(flatten)]
    log: LogOptions,
    #[command(flatten)]
    logging: LoggingOptions,
}

fn main() -> ExitCode {
    options::main(run)
}

#[allow(clippy::print_stdout, reason = "that is what it is for")]
fn run(options: &Options) -> anyhow::Result<()> {
    logging::init(&options.logging)?;
    let process = Process::start(1)?;
    let mut feed = Feed::start(&options.log.open_existing()?, options.from)?;
    while !process.shutdown.is_requested() {
        let Some(Change::Block(mut block)) = feed.next(Duration::from_millis(200))? else { continue };
        let mut paid = 0;
        for transaction in block.transactions() {
            paid += transaction?.transaction.outputs.iter().map(|output| output.value).sum::<i64>();
        }
        let sign = match block.event.action {
            Action::Connected => '+',
            Action::Disconnected => '-',
        };
        let (height, hash, count) = (block.event.height, block.event.hash, block.event.tx_count);
        println!("{sign} {height} {hash}  {count} transactions pay {paid} satoshis");
    }
    Ok(())
}
