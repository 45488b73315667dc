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
mod position;
mod projection;

pub use change::{BlockChange, MempoolChange};
pub use position::{BlockRef, Cursor, MempoolPosition, Position};
pub use projection::{MempoolInterest, Projection};

/// What a projection or handler of yours failed with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
