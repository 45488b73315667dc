//! What is on the chain and in the mempool, fast.
//!
//! ```text
//!   log ──► Consumer::project ──► Projector ── rows(block) ──► store (fjall): rows and position, one atomic write
//!    ▲                               │  └────── mempool ─────► overlay (memory)
//!    │                               └── announce ──► /events
//!    └── transactions' bytes ◄── Index::view() ──► api, pages
//! ```

pub mod announce;
pub mod api;
mod chronicle;
mod error;
pub mod events;
mod funding;
pub mod merkle;
pub mod options;
pub mod overlay;
pub mod pages;
pub mod process;
mod projector;
pub mod query;
mod reorgs;
mod rows;
mod script_hash;
pub mod server;
mod store;

pub use error::{Error, Result, StoreError};
pub use projector::{Projector, Settings};
pub use query::{Index, View};
pub use script_hash::ScriptHash;
