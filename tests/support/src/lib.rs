//! What the end-to-end tests are made of: real nodes, a real Kafka, the binaries as built, and faults between them.
//!
//! ```text
//!   Node ◄── Traffic, Wallet, Branch          Sluice (sluice up, verify, status …) ──► log ──► View
//!     └────── HttpProxy, ZmqProxy ──────────────┘
//! ```
//!
//! Nothing here stands in for a real part. Everything started is ended on drop, by its pid. A harness fails by
//! panicking: its caller is a test.
#![allow(clippy::unwrap_used, reason = "a test harness fails by panicking")]

mod block;
mod dir;
mod disk;
mod http_proxy;
mod kafka;
mod node;
pub mod parts;
mod pipeline;
mod rpc;
mod sluice;
mod traffic;
mod view;
mod wait;
mod wallet;
mod zmq_proxy;

pub use block::{Branch, Salt, block_on};
pub use dir::Dir;
pub use disk::Disk;
pub use http_proxy::{HttpProxy, Mangle};
pub use kafka::{Kafka, LogKind, unique_prefix};
pub use node::{Node, Parent};
pub use pipeline::Pipeline;
pub use rpc::{CallError, Rpc};
pub use sluice::{Finished, Sluice, producer_binary, sluice, sluice_binary};
pub use sluice_schemas::Flavour;
pub use traffic::{Tally, Traffic};
pub use view::{MempoolView, View};
pub use wait::{eventually, soon};
pub use wallet::{Coin, FEE, Lock, Wallet};
pub use zmq_proxy::{Fate, ZmqProxy};

pub use {bitcoin, rand, rand_chacha, serde_json, sluice_log, sluice_schemas, zmq};
