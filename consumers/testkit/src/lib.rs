//! Logs made from a script, and the laws that every consumer must keep.
//!
//! ```text
//!   chain().block([…]).reorg(2).block([…]) ── build ──► TestLog: a real log, valid to the last hash ──► your Projection
//! ```
//!
//! ```
//! use sluice_consumer_testkit::{chain, pay};
//!
//! let log = chain()
//!     .mined_by("alice", [])
//!     .block([pay("alice", "bob", 1_000)])
//!     .reorg(1)
//!     .block([pay("alice", "carol", 2_000)])
//!     .build();
//! assert_eq!((log.balance("bob"), log.balance("carol")), (0, 2_000));
//! ```
//!
//! [`project`] brings a projection to the end of a log, and [`Laws`] checks what every projection must keep, on scripts
//! made by chance.
//!
//! The log is written by the real writer with the real encoder; `sluice verify` finds nothing to complain about. Scripts
//! are the same ones each time: the same script makes the same blocks. A test kit fails by panicking: its caller is a
//! test.

mod block;
mod coins;
mod drive;
mod generate;
mod laws;
mod log;
mod pool;
mod script;
mod transaction;

pub use coins::Coin;
pub use drive::project;
pub use generate::{PEOPLE, scripts};
pub use laws::Laws;
pub use log::TestLog;
pub use script::{Fault, Script, chain};
pub use transaction::{FEE, Tx, data, pay, returned, script_of, share, split, sweep, waiting};
