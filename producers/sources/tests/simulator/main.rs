//! The simulator, as its callers and as real nodes see it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod ledger;
mod load;
mod nodes;
mod source;
mod world;
