//! What can go wrong with an index.

/// Result of a call to the index.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the index.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store failed.
    #[error("failed to {attempt} the index")]
    Store {
        /// What was attempted.
        attempt: &'static str,
        /// What the store said.
        source: fjall::Error,
    },
    /// The log failed.
    #[error(transparent)]
    Log(#[from] sluice_log::Error),
    /// A row is not what this version writes.
    #[error("the index is damaged: table {table} has a row that cannot be read; remove its directory to build it anew")]
    Damaged {
        /// Which table.
        table: &'static str,
    },
    /// A large block was being written when the process ended; nothing can be answered until it is written whole.
    #[error("the index is finishing a block that it was stopped in")]
    Unfinished,
}
