//! The simulator: a chain of its own, no node needed.
//!
//! ```text
//!  seed, settings ─► World ── step ─► Added, Removed, Mined ──┬─► Store: blocks.dat, world.dat
//!                   (pure; no clock)      ▲                   └─► queues ─► Feed
//!                                         │ wall clock
//!                                   SimulatorSource
//! ```
//!
//! [`World`] holds wallets, a mempool and the tip of a chain, and is a pure function of settings and number of steps:
//! every step draws its chance from a stream of its own (seed, number of the step), and time is simulated. Its blocks
//! are valid on Bitcoin Core's and Bitcoin SV's regtest, branches included. [`SimulatorSource`] lets it go on as the
//! wall clock does, on the thread of whoever asks or waits; no thread of its own runs.
//!
//! # The same chain after a restart
//! With a state folder every block is on disk before anybody is told of it, together with the world as it was after it
//! (replaced atomically). After `kill -9` the world goes on from there: what it had done since is done again, the same.
//! So whatever was published is found again, at once, however long the chain; and settings may change in between.
//!
//! Without a folder, or when it was lost, the world begins again. The first caller that asks with a locator then makes
//! it run (as fast as it can, within a bound) until it has the newest block of the locator: the same settings lead to
//! the same chain. If the bound is met, the caller's chain is of another world, and the world begins anew.
//!
//! Memory holds the headers and the newest blocks; bodies are read from the file.
//!
//! # Load
//! [`LoadSource`] makes chains of any size at a speed that no signing world reaches. Their proof of work and merkle
//! roots are right and every input spends an output that was there, but signatures are not, nor do the blocks keep to
//! the rules on size, subsidy and maturity.

mod block;
mod chance;
mod checkpoint;
mod coins;
mod config;
mod feed;
mod load;
mod mining;
mod payments;
mod pool;
mod source;
mod store;
mod transaction;
mod wallet;
mod world;

pub use block::SimBlock;
pub use config::{BlockFill, MAX_REORG_DEPTH, SimulatorConfig};
pub use load::{HugeBlock, LoadConfig, LoadSource};
pub use source::SimulatorSource;
pub use transaction::SimTransaction;
pub use world::{Event, FIRST_LIVE_HEIGHT, Place, World};
