//! Logs on standard error: for people on a terminal, JSON lines elsewhere.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Libraries that tell of each file they write: what they say counts from a warning on, unless a filter names them.
const QUIET: &str = "fjall=warn,lsm_tree=warn";

/// The form of the logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Text on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// Text.
    Text,
    /// A JSON object a line.
    Json,
}

/// Options of the logs.
#[derive(Clone, Debug, clap::Args)]
pub struct LoggingOptions {
    /// What to log: a level (error, warn, info, debug, trace), or levels by module, for example `info,sluice_log=debug`.
    #[arg(long, env = "SLUICE_LOG_LEVEL", default_value = "info", global = true, value_name = "FILTER")]
    pub log_level: String,
    /// Form of the logs on standard error.
    #[arg(long, env = "SLUICE_LOG_FORMAT", default_value = "auto", global = true, value_name = "FORMAT")]
    pub log_format: Format,
}

/// Starts logging. Does nothing where it is started already.
///
/// # Errors
/// A filter that cannot be read.
pub fn init(options: &LoggingOptions) -> Result<(), crate::options::Usage> {
    // What comes later counts.
    let filters = format!("{QUIET},{}", options.log_level);
    let filter = EnvFilter::try_new(filters).map_err(|e| crate::options::Usage {
        option: "--log-level",
        reason: format!("{:?} is not a filter: {e}", options.log_level),
    })?;
    let terminal = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| crate::terminal::Stderr)
        .with_ansi(terminal);
    let json = match options.log_format {
        Format::Auto => !terminal,
        Format::Text => false,
        Format::Json => true,
    };
    // A second initialisation, as in tests, keeps the first.
    let _ = if json {
        builder.json().flatten_event(true).try_init()
    } else {
        builder.with_target(false).try_init()
    };
    Ok(())
}
