//! Options that several processes share, and how a command line is refused.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;

use anyhow::Context as _;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use etcetera::BaseStrategy as _;
use sluice_log::Log;
use sluice_log::chain::ChainLog;
use sluice_schemas::registry::{self, Registry};
use sluice_schemas::{Codec, Network, Topics};
use url::Url;

/// Exit code of a command line or setting that cannot be used (`EX_USAGE` of sysexits).
pub const EXIT_USAGE: u8 = 64;

/// A setting that cannot be used, found after parsing: names the option and what it takes.
#[derive(Debug, thiserror::Error)]
#[error("{option}: {reason}")]
pub struct Usage {
    /// The option at fault, as typed.
    pub option: &'static str,
    /// What is wrong and what the option takes.
    pub reason: String,
}

/// Parses the command line.
///
/// # Errors
/// The process's exit code, after help and version went to standard output (success), or one line that names the
/// option and what it takes went to standard error (`EXIT_USAGE`).
pub fn parse<P: clap::Parser>() -> Result<P, ExitCode> {
    P::try_parse_from(std::env::args_os().collect::<Vec<OsString>>()).map_err(|error| {
        if error.use_stderr() {
            eprintln!("{}", one_line(&error.render().to_string()));
            ExitCode::from(EXIT_USAGE)
        } else {
            // Help into a closed pipe is no failure.
            let _ = error.print();
            ExitCode::SUCCESS
        }
    })
}

/// All that a binary's `main` does: parses the command line, runs, and reports what went wrong.
pub fn main<P: clap::Parser>(run: impl FnOnce(&P) -> anyhow::Result<()>) -> ExitCode {
    match parse::<P>().map(|command| run(&command)) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => exit_code(&error),
        Err(code) => code,
    }
}

/// Reports an error that ended the process, in one line, and says how to exit.
pub fn exit_code(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    match error.downcast_ref::<Usage>() {
        Some(_) => ExitCode::from(EXIT_USAGE),
        None => ExitCode::FAILURE,
    }
}

/// The part of clap's message that says what is wrong, on one line.
fn one_line(rendered: &str) -> String {
    let lines: Vec<_> = rendered.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
    lines.join(" ")
}

/// Where the log is, and which topics on it.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Log options")]
pub struct LogOptions {
    /// Directory of everything kept on this machine [default: chainsluice in the platform's data directory]
    #[arg(long, global = true, env = "SLUICE_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    /// The event log: sqlite:PATH, or kafka://HOST:PORT,HOST:PORT with options as in ?compression=lz4&user=NAME
    /// [default: sqlite:DATA_DIR/log.db]
    #[arg(long, global = true, env = "SLUICE_LOG", value_name = "URL", hide_env_values = true)]
    pub log: Option<LogUrl>,

    /// The network; gives the topic prefix its default [default: the one network that the log holds]
    #[arg(long, global = true, env = "SLUICE_NETWORK", value_name = "NETWORK", value_parser = network_parser())]
    pub network: Option<Network>,

    /// What the names of the topics start with [default: the network's name, as in btc.mainnet]
    #[arg(long, global = true, env = "SLUICE_PREFIX", value_name = "PREFIX", value_parser = parse_prefix)]
    pub prefix: Option<String>,

    /// Confluent-compatible schema registry: events carry its schema ids [default: none, Avro single-object encoding]
    #[arg(long, global = true, env = "SLUICE_SCHEMA_REGISTRY", value_name = "URL", hide_env_values = true, value_parser = parse_http)]
    pub schema_registry: Option<Url>,
}

impl LogOptions {
    /// Opens the log for a reader or another tool: creates it where it is a file that is missing. The network is the
    /// one given, or the only one that the log holds.
    ///
    /// # Errors
    /// `Usage` where neither options nor log say which topics are meant; else what the log said.
    pub fn open(&self) -> anyhow::Result<ChainLog> {
        let log = self.open_log()?;
        let topics = match self.topics_given() {
            Some(topics) => topics,
            None => Topics::of(network_on(&*log)?),
        };
        self.chain_log(log, topics)
    }

    /// Opens a log that is expected to be there, for commands that only read.
    ///
    /// # Errors
    /// As `open`, and where a log file is missing or lacks the topics.
    pub fn open_existing(&self) -> anyhow::Result<ChainLog> {
        let url = self.url()?;
        if let Some(path) = url.sqlite_path().filter(|path| !path.exists()) {
            anyhow::bail!(
                "there is no log at {} yet: `sluice up` makes one, --log names another",
                path.display()
            );
        }
        let chain_log = self.open()?;
        let blocks = &chain_log.topics.blocks;
        if chain_log.log.topic(blocks)?.is_none() {
            anyhow::bail!("{} has no topic {blocks}: check --network and --prefix", chain_log.log.url());
        }
        Ok(chain_log)
    }

    /// Opens the log for a process that knows its network from elsewhere, say from its node.
    ///
    /// # Errors
    /// `Usage` where `--network` contradicts; else what the log said.
    pub fn open_for(&self, network: Network) -> anyhow::Result<ChainLog> {
        if let Some(given) = self.network.filter(|given| *given != network) {
            let reason = format!("it is {given}, but the source is on {network}");
            return Err(Usage { option: "--network", reason }.into());
        }
        let topics = self.topics_given().unwrap_or_else(|| Topics::of(network));
        self.chain_log(self.open_log()?, topics)
    }

    /// The directory for everything kept on this machine; not created yet.
    pub fn data_dir(&self) -> anyhow::Result<PathBuf> {
        match &self.data_dir {
            Some(dir) => Ok(dir.clone()),
            None => Ok(etcetera::choose_base_strategy()
                .context("--data-dir: the platform's data directory is unknown, name a directory")?
                .data_dir()
                .join("chainsluice")),
        }
    }

    /// The log's URL, the default one where none was given.
    pub fn url(&self) -> anyhow::Result<LogUrl> {
        match &self.log {
            Some(url) => Ok(url.clone()),
            None => Ok(LogUrl(format!("sqlite:{}", self.data_dir()?.join("log.db").display()))),
        }
    }

    /// The schema registry, where one was named. Nothing is asked yet.
    ///
    /// # Errors
    /// `Usage` where its URL cannot be used.
    pub fn registry(&self) -> anyhow::Result<Option<Registry>> {
        let Some(url) = &self.schema_registry else { return Ok(None) };
        let options = registry::Options { credentials: registry::Credentials::from_env(), ca_pem: None };
        match Registry::new(url.as_str(), options) {
            Ok(registry) => Ok(Some(registry)),
            Err(error) => Err(Usage { option: "--schema-registry", reason: error.to_string() }.into()),
        }
    }

    fn codec(&self, topics: &Topics) -> anyhow::Result<Codec> {
        match self.registry()? {
            Some(registry) => Ok(Codec::with_registry(registry, topics)?),
            None => Ok(Codec::single_object()),
        }
    }

    fn open_log(&self) -> anyhow::Result<Arc<dyn Log>> {
        let url = self.url()?;
        if let Some(dir) = url.sqlite_path().and_then(Path::parent) {
            std::fs::create_dir_all(dir).with_context(|| format!("failed to create {}", dir.display()))?;
        }
        sluice_log::open(&url.0).map_err(|error| match error {
            // What the URL or its environment lacks, or says twice.
            sluice_log::Error::Url { reason, .. } => Usage { option: "--log", reason }.into(),
            error => error.into(),
        })
    }

    fn topics_given(&self) -> Option<Topics> {
        match (&self.prefix, self.network) {
            (Some(prefix), _) => Some(Topics::new(prefix)),
            (None, Some(network)) => Some(Topics::of(network)),
            (None, None) => None,
        }
    }

    fn chain_log(&self, log: Arc<dyn Log>, topics: Topics) -> anyhow::Result<ChainLog> {
        Ok(ChainLog { log, codec: self.codec(&topics)?, topics })
    }
}

/// The only network under whose default prefix the log has blocks.
fn network_on(log: &dyn Log) -> anyhow::Result<Network> {
    let mut found = Vec::new();
    for network in Network::ALL {
        if log.topic(&Topics::of(network).blocks)?.is_some() {
            found.push(network);
        }
    }
    let reason = match found[..] {
        [network] => return Ok(network),
        [] => format!("{} holds no network yet, name one of {}", log.url(), names(&Network::ALL)),
        _ => format!("{} holds several networks, name one of {}", log.url(), names(&found)),
    };
    Err(Usage { option: "--network", reason }.into())
}

fn names(networks: &[Network]) -> String {
    networks.iter().map(|network| network.name()).collect::<Vec<_>>().join(", ")
}

/// The URL of a log, checked as far as that goes without opening it. May hold secrets: not for display.
#[derive(Clone, PartialEq, Eq)]
pub struct LogUrl(String);

impl LogUrl {
    /// As `sluice_log::open` takes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The database file of an embedded log.
    pub fn sqlite_path(&self) -> Option<&Path> {
        self.0.strip_prefix("sqlite:").map(|path| Path::new(path.strip_prefix("//").unwrap_or(path)))
    }
}

impl fmt::Debug for LogUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.sqlite_path() {
            Some(path) => write!(f, "LogUrl(sqlite:{})", path.display()),
            None => f.write_str("LogUrl(kafka://<redacted>)"),
        }
    }
}

impl FromStr for LogUrl {
    type Err = &'static str;
    fn from_str(url: &str) -> Result<Self, Self::Err> {
        let rest = url.strip_prefix("sqlite:").or_else(|| url.strip_prefix("kafka://"));
        match rest.map(|rest| rest.trim_start_matches('/').is_empty()) {
            Some(false) => Ok(Self(url.to_owned())),
            _ => Err("takes sqlite:PATH or kafka://HOST:PORT[,HOST:PORT…]"),
        }
    }
}

fn network_parser() -> impl TypedValueParser<Value = Network> {
    PossibleValuesParser::new(Network::ALL.map(Network::name)).try_map(|name| name.parse::<Network>())
}

/// Kafka's rule for topic names, with room for the longest suffix.
fn parse_prefix(prefix: &str) -> Result<String, &'static str> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    match prefix.chars().all(legal) && (1..=200).contains(&prefix.len()) {
        true => Ok(prefix.to_owned()),
        false => Err("takes 1 to 200 letters, digits, dots, dashes and underscores"),
    }
}

/// An `http://` or `https://` URL with a host.
pub fn parse_http(url: &str) -> Result<Url, &'static str> {
    match Url::parse(url) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(url),
        _ => Err("takes http://HOST[:PORT] or https://HOST[:PORT]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Command {
        #[command(flatten)]
        log: LogOptions,
    }

    fn refusal(args: &[&str]) -> String {
        let args = ["test"].iter().chain(args);
        let error = <Command as clap::Parser>::try_parse_from(args).unwrap_err();
        one_line(&error.render().to_string())
    }

    #[test]
    fn a_refusal_is_one_line_that_names_the_option_and_what_it_takes() {
        let line = refusal(&["--log", "postgres://db"]);
        assert!(line.contains("--log <URL>") && line.contains("takes sqlite:PATH or kafka://"), "{line}");
        let line = refusal(&["--network", "dogecoin"]);
        assert!(line.contains("--network") && line.contains("btc-regtest"), "{line}");
        assert_eq!(line.lines().count(), 1);
        let line = refusal(&["--prefix", "a b"]);
        assert!(line.contains("--prefix") && line.contains("letters, digits"), "{line}");
    }

    #[test]
    fn a_log_url_does_not_print_its_secrets() {
        let url: LogUrl = "kafka://u:secret@broker:9092".parse().unwrap();
        assert!(!format!("{url:?}").contains("secret"));
    }

    #[test]
    fn the_path_of_an_embedded_log_is_taken_with_and_without_slashes() {
        for (url, path) in
            [("sqlite:a/b.db", "a/b.db"), ("sqlite:/a/b.db", "/a/b.db"), ("sqlite:///a.db", "/a.db")]
        {
            assert_eq!(url.parse::<LogUrl>().unwrap().sqlite_path(), Some(Path::new(path)), "{url}");
        }
    }
}
