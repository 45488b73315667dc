//! The audit: recomputes every invariant of a log, streaming, from nothing but its records.
//!
//! | | on `<prefix>.blocks` and `<prefix>.transactions`, read committed |
//! |---|---|
//! | I1 | `sequence` starts at 0 and grows by exactly 1 |
//! | I2 | `CONNECTED`: the parent is the tip, the height is the tip's plus 1 |
//! | I3 | `DISCONNECTED`: the block is the tip; its parent becomes the tip |
//! | I4 | the transactions topic holds exactly the block's transactions, where and as many as the event says |
//! | I5 | the merkle root is the header's, the header meets its target, the work is the parent's plus its own |
//! | I6 | nothing else is visible: every transaction record is a chain event's |
//! | M  | `<prefix>.mempool`: the newest epoch's events are numbered without a gap and make a view |

mod block;
mod header;
mod mempool;

use std::fmt;
use std::thread;
use std::time::Duration;

use bitcoin::BlockHash;
use sluice_schemas::{Action, ChainEvent, TransactionEvent};

use super::{ChainLog, Located, Scanner};
use crate::Error as LogError;
use block::BlockCheck;
use header::Tip;

pub use mempool::MempoolView;

/// How often to look again whether a transaction record at the end of the log gets its chain event: on Kafka, a commit
/// becomes visible partition by partition.
const LEFTOVER_LOOKS: u32 = 10;
/// How long to wait between two looks.
const LEFTOVER_WAIT: Duration = Duration::from_millis(200);

/// How long the log may be silent in the middle of an audit: brokers start again in that time, and an audit of hours that
/// gave up would begin anew.
const SILENCE: Duration = Duration::from_secs(120);

/// A promise of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Invariant {
    I1,
    I2,
    I3,
    I4,
    I5,
    I6,
    Mempool,
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::I1 => "I1 (sequences start at 0 and have no gap)",
            Self::I2 => "I2 (a connected block extends the tip)",
            Self::I3 => "I3 (a disconnected block is the tip)",
            Self::I4 => "I4 (exactly the block's transactions are there)",
            Self::I5 => "I5 (proof of work, chain work and merkle root hold)",
            Self::I6 => "I6 (nothing uncommitted is visible)",
            Self::Mempool => "M (the mempool events make a view)",
        })
    }
}

/// The first record that breaks a promise.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{topic}/{partition} offset {offset} violates {invariant}: {reason}")]
pub struct Violation {
    /// What is broken.
    pub invariant: Invariant,
    /// Topic of the record.
    pub topic: String,
    /// Partition of the record.
    pub partition: i32,
    /// Offset of the record.
    pub offset: i64,
    /// What was found and what was to be.
    pub reason: String,
}

/// Why an audit ended early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log breaks a promise.
    #[error(transparent)]
    Violation(Box<Violation>),
    /// The log could not be read.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// How closely to look at transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Their ids only: the merkle root must come out.
    Ids,
    /// Their content too: each is rebuilt byte for byte, and hashed.
    Content,
}

/// A block of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockRef {
    /// Its height.
    pub height: i32,
    /// Its hash.
    pub hash: BlockHash,
}

/// What an audit found sound.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Chain events.
    pub events: u64,
    /// Of these, blocks connected.
    pub connected: u64,
    /// Of these, blocks disconnected.
    pub disconnected: u64,
    /// Transaction events.
    pub transactions: u64,
    /// Block bytes, connected and disconnected.
    pub bytes: u64,
    /// Runs of disconnected blocks.
    pub reorgs: u64,
    /// Blocks in the longest of them.
    pub deepest_reorg: u64,
    /// The first block.
    pub first: Option<BlockRef>,
    /// The tip after the last event.
    pub tip: Option<BlockRef>,
    /// Sequence of the last event.
    pub last_sequence: Option<i64>,
}

/// Sees what an audit has found sound, as it goes.
pub trait Observer {
    /// A transaction fits its place in the block.
    fn transaction(&mut self, event: &ChainEvent, transaction: &TransactionEvent) {
        let _ = (event, transaction);
    }

    /// A chain event holds, with all its transactions.
    fn event(&mut self, event: &ChainEvent) {
        let _ = event;
    }
}

/// Sees nothing.
impl Observer for () {}

impl ChainLog {
    /// Audits every chain event from `from_sequence` to the end of the log, with its transactions.
    ///
    /// # Errors
    /// The first `Violation`, or why the log could not be read.
    pub fn verify(
        &self,
        from_sequence: i64,
        depth: Depth,
        observer: &mut dyn Observer,
    ) -> Result<Summary, Error> {
        // Taken before the end of the blocks topic: what is committed by now has its chain event by then.
        let ends = self.transaction_ends()?;
        let mut audit = Audit {
            chain: self,
            depth,
            observer,
            from_sequence: from_sequence.max(0),
            tip: None,
            run: 0,
            summary: Summary::default(),
        };
        let mut scanner = self.scan(from_sequence)?;
        scanner.bear_silence(SILENCE);
        audit.events(&mut scanner)?;
        audit.leftovers(&mut scanner, &ends)?;
        Ok(audit.summary)
    }

    fn transaction_ends(&self) -> Result<Vec<i64>, LogError> {
        let topic = &self.topics.transactions;
        let partitions = self.log.topic(topic)?.map_or(0, |info| info.partitions);
        (0..partitions).map(|partition| Ok(self.log.bounds(topic, partition)?.end)).collect()
    }
}

/// An audit under way.
struct Audit<'a> {
    chain: &'a ChainLog,
    depth: Depth,
    observer: &'a mut dyn Observer,
    from_sequence: i64,
    tip: Option<Tip>,
    /// Blocks disconnected in a row.
    run: u64,
    summary: Summary,
}

impl Audit<'_> {
    fn events(&mut self, scanner: &mut Scanner) -> Result<(), Error> {
        loop {
            let located = scanner.next_event().map_err(|error| self.classify(error, None))?;
            let Some(Located { offset, event }) = located else { return Ok(()) };
            let tip = self.chain_event(offset, &event)?;
            self.transactions(scanner, offset, &event)?;
            self.observer.event(&event);
            self.count(&event, tip);
        }
    }

    /// I1, I2, I3, and I5 as far as the header goes. Gives the tip after the event.
    fn chain_event(&self, offset: i64, event: &ChainEvent) -> Result<Tip, Error> {
        let fail = |invariant, reason| self.block_violation(invariant, offset, reason);
        let expected = self.summary.last_sequence.map_or(self.from_sequence, |last| last.saturating_add(1));
        if event.sequence != expected {
            let reason = format!("sequence {} comes where {expected} is next", event.sequence);
            return Err(fail(Invariant::I1, reason));
        }
        header::check_fields(event).map_err(|reason| fail(Invariant::I5, reason))?;
        let invariant = match event.action {
            Action::Connected => Invariant::I2,
            Action::Disconnected => Invariant::I3,
        };
        header::check_link(event, self.tip.as_ref()).map_err(|reason| fail(invariant, reason))?;
        header::check_work(event, self.tip.as_ref()).map_err(|reason| fail(Invariant::I5, reason))
    }

    /// I4, and I5 as far as the transactions go.
    fn transactions(&mut self, scanner: &mut Scanner, offset: i64, event: &ChainEvent) -> Result<(), Error> {
        let transactions = scanner.transactions().map_err(|error| self.classify(error, Some(offset)))?;
        let mut check = BlockCheck::new(self.depth);
        for item in transactions {
            let transaction = item.map_err(|error| self.classify(error, Some(offset)))?;
            check
                .add(&transaction.transaction)
                .map_err(|(invariant, reason)| self.block_violation(invariant, offset, reason))?;
            self.observer.transaction(event, &transaction);
        }
        check.finish(event).map_err(|(invariant, reason)| self.block_violation(invariant, offset, reason))
    }

    /// I6 at the end of the log: waits for the chain events of transactions that were committed meanwhile.
    fn leftovers(&mut self, scanner: &mut Scanner, ends: &[i64]) -> Result<(), Error> {
        for look in 0.. {
            let Some(record) = scanner.leftover(ends)? else { break };
            if look == LEFTOVER_LOOKS {
                return Err(self.classify(
                    LogError::Stray {
                        topic: record.topic.to_string(),
                        partition: record.partition,
                        offset: record.offset,
                    },
                    None,
                ));
            }
            match scanner.extend()? {
                true => self.events(scanner)?,
                false => thread::sleep(LEFTOVER_WAIT),
            }
        }
        Ok(())
    }

    fn count(&mut self, event: &ChainEvent, tip: Tip) {
        let summary = &mut self.summary;
        summary.events += 1;
        summary.transactions += event.tx_count.unsigned_abs();
        summary.bytes += event.size.unsigned_abs();
        summary.last_sequence = Some(event.sequence);
        summary.first = summary.first.or(Some(BlockRef { height: event.height, hash: event.hash }));
        summary.tip = Some(BlockRef { height: tip.height, hash: tip.hash });
        self.tip = Some(tip);
        match event.action {
            Action::Connected => {
                summary.connected += 1;
                self.run = 0;
            }
            Action::Disconnected => {
                summary.disconnected += 1;
                summary.reorgs += u64::from(self.run == 0);
                self.run += 1;
                summary.deepest_reorg = summary.deepest_reorg.max(self.run);
            }
        }
    }

    /// What an error of the log means for its promises.
    fn classify(&self, error: LogError, block_offset: Option<i64>) -> Error {
        let (invariant, topic, partition, offset, reason) = match error {
            LogError::Stray { topic, partition, offset } => {
                (Invariant::I6, topic, partition, offset, "the record is of no chain event".to_owned())
            }
            LogError::Corrupt { topic, partition, offset, reason }
                if topic == self.chain.topics.transactions =>
            {
                (Invariant::I4, topic, partition, offset, reason)
            }
            error @ LogError::OutOfRange { .. } => match error {
                LogError::OutOfRange { ref topic, partition, offset, .. }
                    if *topic == self.chain.topics.transactions =>
                {
                    let (topic, reason) = (topic.clone(), error.to_string());
                    (Invariant::I4, topic, partition, offset, reason)
                }
                other => return Error::Log(other),
            },
            LogError::Contradiction { reason, .. } => {
                (Invariant::I4, self.chain.topics.blocks.clone(), 0, block_offset.unwrap_or(-1), reason)
            }
            other => return Error::Log(other),
        };
        Error::Violation(Box::new(Violation { invariant, topic, partition, offset, reason }))
    }

    fn block_violation(&self, invariant: Invariant, offset: i64, reason: String) -> Error {
        let topic = self.chain.topics.blocks.clone();
        Error::Violation(Box::new(Violation { invariant, topic, partition: 0, offset, reason }))
    }
}
