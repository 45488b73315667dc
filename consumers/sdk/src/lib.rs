//! Everything a service needs to follow the event log.
//!
//! ```text
//!   <prefix>.blocks ──────┐   one active member            rows and position,
//!   <prefix>.transactions ├─► Consumer::project ─► Projection::apply ─► one atomic write, in your own store
//!   <prefix>.mempool ─────┘
//!
//!   <prefix>.transactions ──► Consumer::handle ──► Handler::handle      partitions shared by the members of a group
//!                                                     └ refused ─► <prefix>.<group>.dlq
//! ```

mod change;
mod confirmations;
mod consumer;
pub mod dlq;
mod error;
mod feed;
pub mod handler;
mod member;
mod mempool;
mod monitor;
mod options;
mod position;
mod projection;
mod watch;

pub use change::{BlockChange, Change, MempoolChange};
pub use confirmations::{Confirmation, Confirmations};
pub use consumer::{Batch, Consumer};
pub use error::Error;
pub use feed::Feed;
pub use handler::{Handler, HandlerError, HandlerSettings, KeyOrder, MempoolEvents};
pub use monitor::{Monitor, State, Status};
pub use options::ConsumerOptions;
pub use position::{BlockRef, Cursor, MempoolPosition, NotACursor, Position};
pub use projection::{MempoolInterest, Projection};
pub use sluice_log::chain::{ChainLog, Location};
pub use sluice_runtime::shutdown::Shutdown;
pub use sluice_runtime::start::Start;

/// What a projection or handler of yours failed with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
