//! The event contract: what Chainsluice writes to its topics.

mod bytes_field;
pub mod codec;
pub mod event;
pub mod network;
mod schema;
pub mod topics;

pub use bytes_field::Script;
pub use codec::Codec;
pub use event::{
    Action, ChainEvent, Event, EventKind, Input, MempoolEvent, MempoolKind, Output, PartitionRange, Phase,
    Prevout, RemovalReason, ScriptType, StatusEvent, StatusKind, Transaction, TransactionEvent,
};
pub use network::{Flavour, Network};
pub use schema::Released;
pub use topics::{Retention, TopicSpec, Topics};
