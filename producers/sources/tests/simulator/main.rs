//! The simulator, as its callers and as real nodes see it.

mod ledger;
mod load;
mod nodes;
mod source;
mod world;
