//! What can go wrong with an index.

use std::path::PathBuf;

/// Result of a call to the index.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the index.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store cannot be opened.
    #[error("failed to open the index in {}", directory.display())]
    Open {
        /// Where it is, or should be.
        directory: PathBuf,
        /// What the store said.
        source: StoreError,
    },
    /// The store failed.
    #[error("failed to {attempt} the index")]
    Store {
        /// What was attempted.
        attempt: &'static str,
        /// What the store said.
        source: StoreError,
    },
    /// The index was written by another version.
    #[error("the index in {} has rows of another version; remove that directory to build it anew", directory.display())]
    OtherVersion {
        /// Where it is.
        directory: PathBuf,
    },
    /// The index is of another network than the log.
    #[error("the index is of {indexed}, but the log is of {found}; name another directory with --index")]
    OtherNetwork {
        /// The index's.
        indexed: String,
        /// The log's.
        found: String,
    },
    /// `--store-transactions` was given for an index that was begun without, or the other way round.
    #[error("the index was begun {} --store-transactions; go on so, or remove its directory to build it anew", if *stored { "with" } else { "without" })]
    OtherStorage {
        /// Whether its transactions are stored.
        stored: bool,
    },
    /// The log failed.
    #[error(transparent)]
    Log(#[from] sluice_log::Error),
    /// A row is not what this version writes.
    #[error(
        "the index is damaged: table {table} has a row that cannot be read; remove its directory to build it anew"
    )]
    Damaged {
        /// Which table.
        table: &'static str,
    },
    /// A block is where no index has room for it.
    #[error(
        "block {hash} at height {height} has {tx_count} transactions, which is more than an index has numbers for"
    )]
    TooLarge {
        /// Its hash.
        hash: bitcoin::BlockHash,
        /// Its height.
        height: i32,
        /// How many transactions it has.
        tx_count: i64,
    },
    /// A chain event names no network that is known.
    #[error("chain event {sequence} is of an unknown network")]
    UnknownNetwork {
        /// Its sequence.
        sequence: i64,
        /// What it says.
        source: sluice_schemas::network::UnknownNetwork,
    },
    /// A large block was being written when the process ended; nothing can be answered until it is written whole.
    #[error("the index is finishing a block that it was stopped in; ask again soon")]
    Unfinished,
}

/// What the store said, in words for people: its own are those of a debugger, at each of its layers.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk, or the operating system, refused.
    #[error(transparent)]
    Io(std::io::Error),
    /// The directory is in use.
    #[error("another process has it open")]
    Locked,
    /// A write has failed before.
    #[error("an earlier write failed")]
    Poisoned,
    /// Everything else.
    #[error("{0}")]
    Other(Box<fjall::Error>),
}

impl From<fjall::Error> for StoreError {
    fn from(error: fjall::Error) -> Self {
        match error {
            fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => Self::Io(error),
            fjall::Error::Locked => Self::Locked,
            fjall::Error::Poisoned => Self::Poisoned,
            other => Self::Other(Box::new(other)),
        }
    }
}
