//! The indexer's options.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sluice_log::chain::ChainLog;

use crate::Settings;
use crate::api::Limits;
use crate::server::Patience;

/// Bytes in the unit that memory is given in.
const MEGABYTE: u64 = 1 << 20;
/// Connections at once beside those of `/events`.
const MAX_REQUEST_CONNECTIONS: u32 = 4096;

/// Where the index is, what it keeps, and where it answers.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Indexer options")]
pub struct IndexerOptions {
    /// Directory of the index [default: index/PREFIX in the data directory]
    #[arg(long, env = "SLUICE_INDEX", value_name = "DIR")]
    pub index: Option<PathBuf>,

    /// Serve the web page and the HTTP API here; port 0 takes any that is free.
    #[arg(long, env = "SLUICE_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:3000")]
    pub listen: SocketAddr,

    /// Keep own copies of all transactions, for a log that does not keep its own for ever. Only from the beginning of an
    /// index on.
    #[arg(long, env = "SLUICE_STORE_TRANSACTIONS")]
    pub store_transactions: bool,

    /// Memory for what was read of the index, in MB.
    #[arg(long, env = "SLUICE_INDEX_CACHE", value_name = "MB", default_value_t = 256,
          value_parser = clap::value_parser!(u64).range(8..=1_048_576))]
    pub index_cache: u64,

    /// Memory for rows on their way to the index, in MB: more makes catching up faster.
    #[arg(long, env = "SLUICE_INDEX_BUFFER", value_name = "MB", default_value_t = 128,
          value_parser = clap::value_parser!(u64).range(8..=1_024))]
    pub index_buffer: u64,

    /// Requests that are answered at once; up to 1,024 more wait for a few seconds, then are told to come again (503).
    #[arg(long, env = "SLUICE_API_REQUESTS", value_name = "COUNT", default_value_t = 32,
          value_parser = clap::value_parser!(u32).range(1..=512))]
    pub api_requests: u32,

    /// How long an answer may take to be found before the request is refused (503).
    #[arg(long, env = "SLUICE_API_TIME", value_name = "SECONDS", default_value_t = 30,
          value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub api_time: u64,

    /// Most unspent outputs that /utxo lists: of an address with more it lists none (400), as there are no pages.
    #[arg(long, env = "SLUICE_API_UTXOS", value_name = "COUNT", default_value_t = 50_000,
          value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub api_utxos: u32,

    /// Clients of /events at once, the explorer page's included. Each takes a file descriptor: `ulimit -n` must be higher.
    #[arg(long, env = "SLUICE_EVENT_CLIENTS", value_name = "COUNT", default_value_t = 4_096,
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub event_clients: u32,

    /// How long a client may take to send a request, and how long it may take nothing of an answer or of /events, before it
    /// is cut off. Raise it where clients are behind slow links.
    #[arg(long, env = "SLUICE_CLIENT_TIME", value_name = "SECONDS", default_value_t = 30,
          value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub client_time: u64,
}

impl IndexerOptions {
    /// The directory of the index of a log.
    pub fn directory(&self, data_dir: &Path, chain: &ChainLog) -> PathBuf {
        match &self.index {
            Some(directory) => directory.clone(),
            None => {
                let blocks = &chain.topics.blocks;
                data_dir.join("index").join(blocks.strip_suffix(".blocks").unwrap_or(blocks))
            }
        }
    }

    /// What may be asked of the API.
    pub fn limits(&self) -> Limits {
        Limits {
            reads: self.api_requests as usize,
            utxos: self.api_utxos as usize,
            time: Duration::from_secs(self.api_time),
            client: Duration::from_secs(self.client_time),
            ..Limits::default()
        }
    }

    /// What the server puts up with.
    pub fn patience(&self) -> Patience {
        let connections = self.event_clients + MAX_REQUEST_CONNECTIONS;
        Patience { client: Duration::from_secs(self.client_time), connections }
    }

    /// How the index is kept.
    pub fn settings(&self) -> Settings {
        Settings {
            store_transactions: self.store_transactions,
            buffer_bytes: usize::try_from(self.index_buffer * MEGABYTE).unwrap_or(usize::MAX),
            cache_bytes: self.index_cache * MEGABYTE,
            ..Settings::default()
        }
    }
}
