//! The chain as the log holds it: typed events over the byte-level seam.

use std::sync::Arc;

use sluice_schemas::{ChainEvent, Codec, Topics, TransactionEvent};

use crate::{Log, Result};

/// A log, its codec and its topics: all that reading a chain needs.
#[derive(Clone)]
pub struct ChainLog {
    /// The log.
    pub log: Arc<dyn Log>,
    /// Codec of its events.
    pub codec: Codec,
    /// Names of its topics.
    pub topics: Topics,
}

impl ChainLog {
    /// The last chain event, or `None` on an empty log.
    pub fn tail(&self) -> Result<Option<ChainEvent>> {
        unimplemented!()
    }

    /// The best chain as published: the `CONNECTED` events that no later `DISCONNECTED` took back, tip first. Reads the
    /// topic backwards page by page, only as far as the iterator is driven.
    pub fn best_chain(&self) -> Result<Box<dyn Iterator<Item = Result<ChainEvent>> + Send>> {
        unimplemented!()
    }

    /// The transactions of one chain event, in block order: reads the partitions that the event names and merges them
    /// by `position`, in bounded memory. Counts that do not add up are an error.
    pub fn transactions(
        &self,
        event: &ChainEvent,
    ) -> Result<Box<dyn Iterator<Item = Result<TransactionEvent>> + Send>> {
        let _ = event;
        unimplemented!()
    }
}
