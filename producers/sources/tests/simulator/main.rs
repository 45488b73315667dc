//! The simulator, as its callers and as real nodes see it.

mod ledger;
mod nodes;
mod source;
mod world;
