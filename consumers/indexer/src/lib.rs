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
mod error;
pub mod merkle;
pub mod overlay;
pub mod query;
mod script_hash;

pub use error::{Error, Result};
pub use query::{Index, View};
pub use script_hash::ScriptHash;
