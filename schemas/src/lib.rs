//! The event contract: what Chainsluice writes to its topics.

mod bounded;
mod bytes_field;
pub mod codec;
pub mod compat;
mod datum;
pub mod event;
mod json;
pub mod network;
mod publish;
pub mod raw;
pub mod registry;
mod schema;
pub mod topics;
mod writer;

pub use bytes_field::Script;
pub use codec::Codec;
pub use event::{
    Action, ChainEvent, Event, EventKind, Input, MempoolEvent, MempoolKind, Output, PartitionRange, Phase,
    Prevout, RemovalReason, ScriptType, StatusEvent, StatusKind, Transaction, TransactionEvent,
};
pub use json::Human;
pub use network::{Flavour, Network};
pub use publish::{Published, check, print, publish};
pub use registry::Registry;
pub use schema::Released;
pub use topics::{Retention, TopicSpec, Topics};
