//! Takes over a log, finds the fork point, and publishes one chain event per log transaction.
//!
//! ```text
//!   source ── tip, headers ──► ChainTracker ── steps ─┐
//!      │                                              ▼
//!      ├── bodies ──► fetch threads ── parts ──► log transaction ── commit ──► blocks, transactions
//!      └── notices ─► mempool view ── changes ─► log transaction ── commit ──► mempool, status
//! ```
//!
//! The log is the state: a producer keeps nothing of its own. On start it fences earlier writers, reads the committed
//! tail, asks the source for headers and publishes the difference; a first start, a crash, a reorg while it was down
//! and a failover are all this one path. Everything is published by one thread, so that what is in memory is never
//! ahead of what is on the log by more than the open transaction.

mod blocks;
mod config;
mod error;
mod fetch;
mod lead;
mod leader;
mod monitor;
mod notices;
mod publisher;
mod send;
mod status;
mod takeover;
mod view;

pub use config::Config;
pub use error::{Error, Result};
pub use monitor::{Monitor, State, Status};
pub use publisher::Publisher;
