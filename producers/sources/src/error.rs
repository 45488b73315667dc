//! What can go wrong with a source.

/// Result of a call to a source.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of a source.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It did not answer, or not in time; the same call may succeed later.
    #[error("failed to {attempt} at {source_id}: {reason}")]
    Unreachable {
        /// What was attempted.
        attempt: String,
        /// Which source.
        source_id: String,
        /// What happened.
        reason: String,
    },
    /// It answered, but with something that cannot be; the caller may try again, or another source.
    #[error("{source_id} answered {attempt} with {reason}")]
    Unusable {
        /// What was attempted.
        attempt: String,
        /// Which source.
        source_id: String,
        /// What is wrong with the answer.
        reason: String,
    },
    /// It does not have the block (any more).
    #[error("{source_id} does not have block {hash}")]
    NoSuchBlock {
        /// Which source.
        source_id: String,
        /// The block asked for.
        hash: bitcoin::BlockHash,
    },
    /// A person is needed: wrong credentials, wrong network, REST switched off.
    #[error("{source_id}: {reason}")]
    Refused {
        /// Which source.
        source_id: String,
        /// What is wrong and what to do.
        reason: String,
    },
}

impl Error {
    /// Whether the same call may succeed later without a person's help.
    pub fn is_transient(&self) -> bool {
        !matches!(self, Self::Refused { .. })
    }
}
