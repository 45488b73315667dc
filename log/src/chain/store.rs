//! Single transactions, by where they are on the log.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sluice_schemas::TransactionEvent;

use super::ChainLog;
use crate::{Class, Error, PointReader, Record, Result};

/// How long the log may take to give one transaction, and how long one may have to wait for its turn.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where on the transactions topic an event is: its partition, and the offset of its first record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Location {
    /// Partition of `<prefix>.transactions`.
    pub partition: i32,
    /// Offset of its first record.
    pub offset: i64,
}

/// Reads transactions by their location, for any number of threads at once: as many as it has readers at the same time,
/// the others wait for their turn. Readers are opened when they are first needed.
pub struct TransactionStore {
    chain: ChainLog,
    pool: Mutex<Pool>,
    returned: Condvar,
}

struct Pool {
    idle: Vec<Box<dyn PointReader>>,
    /// How many more may be opened.
    unopened: usize,
}

impl TransactionStore {
    pub(super) fn new(chain: ChainLog, readers: usize) -> Self {
        let pool = Mutex::new(Pool { idle: Vec::new(), unopened: readers.max(1) });
        Self { chain, pool, returned: Condvar::new() }
    }

    /// The transaction event at a location that `BlockTransactions::next_located` gave, joined where it is chunked.
    ///
    /// # Errors
    /// `Error::NoSuchEvent` where no event has its first record there, `Error::OutOfRange` where the log is not so long,
    /// or no longer goes so far back; with `Class::Retry` where the log does not answer within `PATIENCE`, or all
    /// readers are busy for so long.
    pub fn transaction_at(&self, location: Location) -> Result<TransactionEvent> {
        self.chain.decode(&self.record_at(location)?)
    }

    /// The whole record of the event at a location, not decoded.
    ///
    /// # Errors
    /// As `transaction_at`.
    pub fn record_at(&self, Location { partition, offset }: Location) -> Result<Record> {
        let mut reader = self.take()?;
        let found = reader.read_at(partition, offset, PATIENCE);
        // One that failed is not used again: a connection, say, that broke.
        let is_sound = match &found {
            Ok(_) => true,
            Err(error) => !matches!(error, Error::Store { .. }),
        };
        self.put_back(is_sound.then_some(reader));
        let topic = &self.chain.topics.transactions;
        found?.ok_or_else(|| Error::NoSuchEvent { topic: topic.clone(), partition, offset })
    }

    fn lock(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Result<Box<dyn PointReader>> {
        let until = Instant::now() + PATIENCE;
        let mut pool = self.lock();
        loop {
            if let Some(reader) = pool.idle.pop() {
                return Ok(reader);
            }
            if pool.unopened > 0 {
                pool.unopened -= 1;
                drop(pool);
                let opened = self.chain.log.point_reader(&self.chain.topics.transactions);
                return opened.inspect_err(|_| self.put_back(None));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::Store {
                    attempt: format!("read a transaction of {}", self.chain.topics.transactions),
                    reason: format!("every reader has been busy for {} s", PATIENCE.as_secs()),
                    class: Class::Retry,
                });
            }
            pool = self.returned.wait_timeout(pool, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn put_back(&self, reader: Option<Box<dyn PointReader>>) {
        let mut pool = self.lock();
        match reader {
            Some(reader) => pool.idle.push(reader),
            None => pool.unopened += 1,
        }
        drop(pool);
        self.returned.notify_one();
    }
}
