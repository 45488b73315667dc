//! The whole log, forwards: every chain event with its transactions.

use std::time::Duration;

use sluice_schemas::ChainEvent;

use super::stream::Stream;
use super::transactions::{BlockTransactions, TransactionReader};
use super::{ChainLog, Located};
use crate::{Record, Result};

/// Reads chain events in order, each with its transactions. All partitions stay open and are read ahead, never sought:
/// as fast as the log gives its records, however small the blocks.
///
/// Stricter than reading the topics one by one: a transaction record outside the ranges of the events is an error.
pub struct Scanner {
    chain: ChainLog,
    blocks: Stream,
    end: i64,
    transactions: TransactionReader,
    /// The event given last, while its transactions were not asked for.
    pending: Option<ChainEvent>,
}

impl Scanner {
    pub(super) fn open(chain: &ChainLog, from_sequence: i64) -> Result<Self> {
        let bounds = chain.log.bounds(&chain.topics.blocks, 0)?;
        let first = match from_sequence {
            ..=0 => bounds.start,
            _ => chain.event_at_sequence(from_sequence)?.map_or(bounds.end, |found| found.offset),
        };
        Ok(Self {
            chain: chain.clone(),
            blocks: Stream::open(&*chain.log, &chain.topics.blocks, 0, first)?,
            end: bounds.end,
            transactions: TransactionReader::ascending(chain.clone(), from_sequence <= 0)?,
            pending: None,
        })
    }

    /// Sets how long the log may be silent in the middle of the scan before reading it fails [default: 30 s].
    pub fn bear_silence(&mut self, silence: Duration) {
        self.blocks.bear_silence(silence);
        self.transactions.bear_silence(silence);
    }

    /// The next chain event, with its offset in the blocks topic; `None` at the end that the log had when the scan was
    /// opened, or extended last. Transactions of the event before that were not read are read now, and checked.
    ///
    /// # Errors
    /// What the log said; `Error::Event` where a record is no chain event; as `transactions` for the event before.
    pub fn next_event(&mut self) -> Result<Option<Located<ChainEvent>>> {
        self.begin_pending()?;
        self.transactions.finish()?;
        let Some(record) = self.blocks.next(self.end)? else { return Ok(None) };
        let event: ChainEvent = self.chain.decode(&record)?;
        self.pending = Some(event.clone());
        Ok(Some(Located { offset: record.offset, event }))
    }

    /// The transactions of the event that `next_event` gave last, in block order.
    ///
    /// # Errors
    /// As `TransactionReader::transactions`, and `Error::Stray`.
    pub fn transactions(&mut self) -> Result<BlockTransactions<'_>> {
        self.begin_pending()?;
        Ok(self.transactions.begun())
    }

    /// Waits until `next_event` has an event to give, `timeout` at most, and says whether it has. What comes meanwhile
    /// moves the end of the scan. It is the log that wakes, within milliseconds: nothing is asked for again and again.
    ///
    /// `false` says that nothing came in that time. A log far away may have events nevertheless; `extend` finds out.
    ///
    /// # Errors
    /// What the log said.
    pub fn wait(&mut self, timeout: Duration) -> Result<bool> {
        let ahead = self.blocks.wait(timeout)?;
        self.end = self.end.max(ahead.unwrap_or(self.end));
        Ok(ahead.is_some())
    }

    /// Takes the end that the log has now as the end of the scan. Says whether it is a later one.
    ///
    /// # Errors
    /// What the log said.
    pub fn extend(&mut self) -> Result<bool> {
        let end = self.chain.log.bounds(&self.chain.topics.blocks, 0)?.end;
        let grown = end > self.end;
        self.end = end;
        Ok(grown)
    }

    /// At the end of the scan, a transaction record that no chain event named, of those below `ends` (one offset per
    /// partition). A partition that no event named is passed over, unless the scan began with the first event.
    ///
    /// # Errors
    /// What the log said.
    pub fn leftover(&mut self, ends: &[i64]) -> Result<Option<Record>> {
        self.transactions.leftover(ends)
    }

    fn begin_pending(&mut self) -> Result<()> {
        match self.pending.take() {
            Some(event) => self.transactions.begin(&event),
            None => Ok(()),
        }
    }
}
