//! `sluice status`: where everything stands.

mod report;

use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;
use sluice_runtime::options::LogOptions;

use crate::output::{self, Form};
use report::Report;

/// Show where the log, its source and every group of consumers stand.
///
/// The tip of the log and of the source, when the producer last gave a sign of life, gaps in its feeds that are not
/// repaired, and for every group how far it is behind, in heights, blocks and seconds, and whether it is stuck.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Status {
    /// A running group whose next event has waited for this long, and that commits nothing while it is watched, is stuck.
    #[arg(long, env = "SLUICE_STUCK_AFTER", value_name = "DURATION", default_value = "5m",
          value_parser = humantime::parse_duration)]
    stuck_after: Duration,
    /// How long to watch groups that are behind.
    #[arg(long, env = "SLUICE_WATCH", value_name = "DURATION", default_value = "1s",
          value_parser = humantime::parse_duration)]
    watch: Duration,
    /// Print JSON.
    #[arg(long, env = "SLUICE_JSON")]
    json: bool,
}

pub(crate) fn run(status: &Status, log: &LogOptions) -> anyhow::Result<ExitCode> {
    let chain = log.open_existing()?;
    let report = Report::make(&chain, status.stuck_after, status.watch, Timestamp::now)?;
    match Form::asked(status.json) {
        Form::Text => output::line(&report.text())?,
        Form::Json => output::json(&report.json())?,
    }
    Ok(ExitCode::SUCCESS)
}
