//! What can stop a publisher, and what to do about it.

use bitcoin::BlockHash;
use sluice_log::Class;
use sluice_schemas::Network;

/// The setting of a topic that can be lowered while a producer runs, and raised again.
const SIZE_LIMIT: &str = "max.message.bytes";

/// Result within this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the publisher.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The log failed.
    #[error(transparent)]
    Log(#[from] sluice_log::Error),
    /// The source failed.
    #[error(transparent)]
    Source(#[from] sluice_sources::Error),
    /// The body that came is not the block's.
    #[error("body of block {hash} at height {height} is unusable")]
    Body {
        /// The block asked for.
        hash: BlockHash,
        /// Its height.
        height: i32,
        /// What is wrong.
        #[source]
        source: sluice_body::Error,
    },
    /// A header breaks a rule.
    #[error("{source_id} sent a header that breaks a rule")]
    Header {
        /// Which source.
        source_id: String,
        /// Which rule, hash and height.
        #[source]
        source: sluice_chain::Error,
    },
    /// A thread could not be started.
    #[error("failed to start a thread")]
    Thread(#[from] std::io::Error),
    /// An event could not be decoded.
    #[error(transparent)]
    Codec(#[from] sluice_schemas::codec::Error),
    /// The log holds another network.
    #[error(
        "the log holds {log}, but the source is on {found}; give each network a log or a --prefix of its own"
    )]
    WrongNetwork {
        /// What the log holds.
        log: String,
        /// Its network.
        found: Network,
    },
    /// The source's chain does not share the log's first block.
    #[error(
        "{source_id} does not have the log's first block {first}; it follows another chain than the log holds"
    )]
    OtherChain {
        /// Which source.
        source_id: String,
        /// First block of the log.
        first: BlockHash,
    },
    /// The process was asked to stop.
    #[error("stopped")]
    Stopped,
    /// Another process stands for producer now.
    #[error("another producer leads now")]
    LeadLost,
    /// The log's own events contradict each other.
    #[error("the log contradicts itself: {0}; run `sluice verify`")]
    Inconsistent(String),
}

/// What the run loop does after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recovery {
    /// The source's trouble: keep the lead, try again later.
    RetrySource,
    /// The log's trouble: give the transaction up and take over again, later.
    TakeOverAgain,
    /// The log refuses what is to be published until a person changes one of its settings: wait for that.
    WaitForLog,
    /// Another producer leads: stand by.
    StandBy,
    /// A person is needed.
    Stop,
}

impl Error {
    /// Whether a topic does not take records of the size any more that it took at the start.
    pub(crate) fn is_size_limit(&self) -> bool {
        matches!(self, Self::Log(sluice_log::Error::TopicMismatch { setting: SIZE_LIMIT, .. }))
    }

    pub(crate) fn recovery(&self) -> Recovery {
        match self {
            Self::Log(error) => match error.class() {
                Class::Retry | Class::Abort => Recovery::TakeOverAgain,
                Class::Refused => Recovery::WaitForLog,
                Class::Fenced => Recovery::StandBy,
                Class::Fatal => Recovery::Stop,
            },
            Self::Source(error) if error.is_transient() => Recovery::RetrySource,
            Self::Body { .. } => Recovery::RetrySource,
            Self::LeadLost => Recovery::StandBy,
            _ => Recovery::Stop,
        }
    }
}
