//! The chain as the log holds it: typed events over the byte-level seam.
//!
//! ```text
//!   <prefix>.blocks        … event 41 ──────────── event 42 ─ …      best_chain() backwards, Scanner forwards
//!                               │ ranges                │
//!   <prefix>.transactions  ┌────▼───┐ p0           ┌────▼───┐
//!     N partitions         │ 0 3 4 7│              │ 1 2    │      transactions() merges by position
//!                          │ 1 2 5 6│ p1           │ 0 3 4 5│
//! ```

mod best_chain;
mod locate;
mod mempool;
mod merkle;
mod scan;
mod settle;
mod store;
mod stream;
mod transactions;
pub mod verify;

use std::sync::Arc;

use sluice_schemas::{ChainEvent, Codec, Event, Topics, TransactionEvent};

use crate::{Error, Log, Record, Result, StartAt};
use stream::Stream;

pub use locate::Located;
pub use mempool::{MempoolScanner, PlacedMempoolEvent};
pub use merkle::{MerkleRoot, MerkleTree};
pub use scan::Scanner;
pub use store::{Location, TransactionStore};
pub use transactions::{BlockTransactions, TransactionReader};

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
    ///
    /// # Errors
    /// What the log said, or `Error::Event` where the record is not a chain event.
    pub fn tail(&self) -> Result<Option<ChainEvent>> {
        best_chain::Backwards::open(self)?.next().transpose()
    }

    /// The best chain as published: the `CONNECTED` events that no later `DISCONNECTED` took back, tip first. Reads the
    /// topic backwards page by page, only as far as the iterator is driven.
    ///
    /// # Errors
    /// What the log said. An item is an error where a record is not a chain event, or sequences have a gap.
    pub fn best_chain(&self) -> Result<Box<dyn Iterator<Item = Result<ChainEvent>> + Send>> {
        Ok(Box::new(best_chain::BestChain::open(self)?))
    }

    /// The transactions of one chain event, in block order: reads the partitions that the event names and merges them
    /// by `position`, in bounded memory. Counts that do not add up are an error.
    ///
    /// For more than one event, keep a `TransactionReader`: it opens the partitions once.
    ///
    /// # Errors
    /// What the log said. An item is an error where the log does not hold what the event says; it is the last item.
    pub fn transactions(
        &self,
        event: &ChainEvent,
    ) -> Result<Box<dyn Iterator<Item = Result<TransactionEvent>> + Send>> {
        Ok(Box::new(self.transaction_reader()?.into_transactions(event)?))
    }

    /// A reader of the transactions of one chain event after another, in any order.
    ///
    /// # Errors
    /// What the log said.
    pub fn transaction_reader(&self) -> Result<TransactionReader> {
        TransactionReader::any_order(self.clone())
    }

    /// A reader of single transactions, by their locations, for many threads: `readers` of them read at the same time.
    pub fn transaction_store(&self, readers: usize) -> TransactionStore {
        TransactionStore::new(self.clone(), readers)
    }

    /// Every chain event from `from_sequence` on, each with its transactions, as far as the log goes now.
    ///
    /// # Errors
    /// What the log said.
    pub fn scan(&self, from_sequence: i64) -> Result<Scanner> {
        Scanner::open(self, from_sequence)
    }

    /// Whether a committed record is left of a partition from an offset on, below `end`. The log must have said so: its
    /// silence is no answer.
    ///
    /// # Errors
    /// What the log said; with `Class::Retry` where it is silent.
    pub fn is_any_left(&self, from: &StartAt, end: i64) -> Result<bool> {
        let mut stream = Stream::open(&*self.log, &from.topic, from.partition, from.offset)?;
        Ok(stream.peek(end)?.is_some())
    }

    /// Decodes a whole record.
    ///
    /// # Errors
    /// `Error::Event` names the record.
    pub fn decode<E: Event>(&self, record: &Record) -> Result<E> {
        self.codec.decode(&record.value).map_err(|source| Error::Event {
            topic: record.topic.to_string(),
            partition: record.partition,
            offset: record.offset,
            source: Box::new(source),
        })
    }
}
