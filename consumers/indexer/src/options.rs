//! The indexer's options.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use sluice_log::chain::ChainLog;

use crate::Settings;

/// Bytes in the unit that memory is given in.
const MEGABYTE: u64 = 1 << 20;

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
