//! Events onto the log.

use sluice_log::chain::ChainLog;
use sluice_log::{NewRecord, Writer};
use sluice_schemas::Event;

use crate::error::Result;

/// Encodes events and sends each to its own topic.
pub(crate) struct EventSender {
    pub(crate) chain_log: ChainLog,
    /// The event that is sent; kept for its memory.
    pub(crate) encoded: Vec<u8>,
}

impl EventSender {
    /// Sends an event in the open log transaction; returns its encoded size in bytes.
    pub(crate) fn send<E: Event>(
        &mut self,
        writer: &mut dyn Writer,
        event: &E,
        partition: i32,
        timestamp: i64,
        key: &[u8],
    ) -> Result<usize> {
        self.encoded.clear();
        self.chain_log.codec.encode(event, &mut self.encoded);
        let topic = self.chain_log.topics.name(E::KIND);
        writer.send(&NewRecord { topic, partition, timestamp, key, value: &self.encoded, headers: &[] })?;
        Ok(self.encoded.len())
    }
}
