//! The transactions of a chain event, merged from their partitions.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use sluice_schemas::{ChainEvent, PartitionRange, TransactionEvent};

use super::ChainLog;
use super::store::Location;
use super::stream::{FETCH_BYTES, Stream};
use crate::chunk::Joiner;
use crate::{Bounds, Error, Record, Result, StartAt};

/// How many bytes of events to expect per byte of block, for reads of one block only.
const EVENT_BYTES_PER_BLOCK_BYTE: i64 = 3;

/// Reads the transactions of chain events. Keeps the partitions open from one event to the next, and what it read
/// ahead. Memory is bounded per partition: `FETCH_BYTES`, or the largest transaction where that is larger.
pub struct TransactionReader {
    chain: ChainLog,
    /// One per partition of the topic.
    lanes: Vec<Lane>,
    order: Order,
    current: Option<Merge>,
}

/// In which order events are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// Any: each event's ranges are sought.
    Any,
    /// Ascending, every one: a record between two ranges is of no chain event, and an error.
    Ascending,
}

/// One partition.
struct Lane {
    stream: Stream,
    /// Whether the stream stands at the end of the range read before, so that every record from there on counts.
    placed: bool,
}

impl TransactionReader {
    /// A reader of any events. Its partitions wait at their ends, so that nothing is fetched until it is asked for.
    pub(super) fn any_order(chain: ChainLog) -> Result<Self> {
        Self::open(chain, Order::Any, |bounds| bounds.end)
    }

    /// A reader of every event in ascending order. With `from_start`, the first event is the first of the log.
    pub(super) fn ascending(chain: ChainLog, from_start: bool) -> Result<Self> {
        if !from_start {
            return Self::open(chain, Order::Ascending, |bounds| bounds.end);
        }
        let mut reader = Self::open(chain, Order::Ascending, |bounds| bounds.start)?;
        reader.lanes.iter_mut().for_each(|lane| lane.placed = true);
        Ok(reader)
    }

    fn open(chain: ChainLog, order: Order, offset: impl Fn(Bounds) -> i64) -> Result<Self> {
        let topic = &chain.topics.transactions;
        let partitions = chain.log.topic(topic)?.map_or(0, |info| info.partitions);
        let mut from = Vec::new();
        for partition in 0..partitions {
            let offset = offset(chain.log.bounds(topic, partition)?);
            from.push(StartAt { topic: topic.clone(), partition, offset });
        }
        let streams = Stream::open_all(&*chain.log, &from)?;
        let lanes = streams.into_iter().map(|stream| Lane { stream, placed: false }).collect();
        Ok(Self { chain, lanes, order, current: None })
    }

    pub(super) fn bear_silence(&mut self, silence: Duration) {
        self.lanes.iter_mut().for_each(|lane| lane.stream.bear_silence(silence));
    }

    /// The transactions of one chain event, in block order. Not driven to its end, the rest is skipped.
    ///
    /// # Errors
    /// What the log said, or `Error::Contradiction`. An item is an error where the log does not hold what the event
    /// says; it is the last item.
    pub fn transactions(&mut self, event: &ChainEvent) -> Result<BlockTransactions<'_>> {
        self.begin(event)?;
        Ok(self.begun())
    }

    /// What is left of the event begun last.
    pub(super) fn begun(&mut self) -> BlockTransactions<'_> {
        BlockTransactions(self)
    }

    pub(super) fn into_transactions(
        mut self,
        event: &ChainEvent,
    ) -> Result<impl Iterator<Item = Result<TransactionEvent>> + Send + use<>> {
        self.begin(event)?;
        Ok(std::iter::from_fn(move || Some(self.next_transaction()?.map(|(_, transaction)| transaction))))
    }

    /// The next transaction of the event begun last.
    fn next_transaction(&mut self) -> Option<Result<(Location, TransactionEvent)>> {
        let item = self.current.as_mut()?.next(&self.chain, &mut self.lanes).transpose();
        if !matches!(item, Some(Ok(_))) {
            self.current = None;
        }
        item
    }

    /// The first record of no chain event that is left below `ends`, which has one offset per partition.
    pub(super) fn leftover(&mut self, ends: &[i64]) -> Result<Option<Record>> {
        for (lane, end) in self.lanes.iter_mut().zip(ends) {
            if lane.placed
                && let Some(record) = lane.stream.peek(*end)?
            {
                return Ok(Some(record.clone()));
            }
        }
        Ok(None)
    }

    pub(super) fn begin(&mut self, event: &ChainEvent) -> Result<()> {
        self.finish()?;
        self.place(event)?;
        self.current = Some(Merge::begin(event, &self.chain, &mut self.lanes)?);
        Ok(())
    }

    /// Ends the event begun last; what was not read of it is checked where every record counts.
    pub(super) fn finish(&mut self) -> Result<()> {
        match self.order {
            Order::Any => self.current = None,
            Order::Ascending => {
                while let Some(item) = self.next_transaction() {
                    item?;
                }
            }
        }
        Ok(())
    }

    /// Brings the partitions that the event names to its ranges.
    fn place(&mut self, event: &ChainEvent) -> Result<()> {
        let share =
            event.size.saturating_mul(EVENT_BYTES_PER_BLOCK_BYTE) / event.transactions.len().max(1) as i64;
        for range in &event.transactions {
            let Some(lane) = lane(&mut self.lanes, range.partition) else {
                let reason = format!("it names partition {}, which there is not", range.partition);
                return Err(contradiction(event, reason));
            };
            if self.order == Order::Any {
                lane.stream.fetch(usize::try_from(share).unwrap_or(FETCH_BYTES));
            }
            if !lane.placed {
                lane.stream.seek(range.first_offset)?;
                lane.placed = self.order == Order::Ascending;
            }
        }
        Ok(())
    }
}

fn lane(lanes: &mut [Lane], partition: i32) -> Option<&mut Lane> {
    usize::try_from(partition).ok().and_then(|index| lanes.get_mut(index))
}

/// The transactions of one chain event, in block order.
pub struct BlockTransactions<'a>(&'a mut TransactionReader);

impl BlockTransactions<'_> {
    /// The next transaction, and where it is.
    ///
    /// # Errors
    /// As the iterator's items; after an error there is no more.
    pub fn next_located(&mut self) -> Option<Result<(Location, TransactionEvent)>> {
        self.0.next_transaction()
    }
}

impl Iterator for BlockTransactions<'_> {
    type Item = Result<TransactionEvent>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.next_located()?.map(|(_, transaction)| transaction))
    }
}

/// A merge of the ranges of one chain event by `position`.
struct Merge {
    /// The event, without what the merge does not need.
    event: ChainEvent,
    ranges: Vec<RangeReader>,
    /// The next transaction of each range: position, and index of the range.
    heads: BinaryHeap<Reverse<(i64, usize)>>,
    next_position: i64,
}

/// What is left of one range.
struct RangeReader {
    range: PartitionRange,
    joiner: Joiner,
    records_read: i64,
    transactions_read: i64,
    head: Option<(Location, TransactionEvent)>,
}

impl Merge {
    fn begin(event: &ChainEvent, chain: &ChainLog, lanes: &mut [Lane]) -> Result<Self> {
        check_ranges(event)?;
        let mut merge = Self {
            event: event.clone(),
            ranges: event.transactions.iter().map(|range| RangeReader::new(*range)).collect(),
            heads: BinaryHeap::with_capacity(event.transactions.len()),
            next_position: 0,
        };
        for index in 0..merge.ranges.len() {
            merge.advance(index, chain, lanes)?;
        }
        Ok(merge)
    }

    fn next(&mut self, chain: &ChainLog, lanes: &mut [Lane]) -> Result<Option<(Location, TransactionEvent)>> {
        let Some(Reverse((position, index))) = self.heads.pop() else { return Ok(None) };
        let range = &mut self.ranges[index];
        let Some((location, transaction)) = range.head.take() else { return Ok(None) };
        if position != self.next_position {
            let reason = format!("position {position} comes where {} is next", self.next_position);
            return Err(corrupt(chain, location.partition, location.offset, &self.event, reason));
        }
        self.next_position += 1;
        self.advance(index, chain, lanes)?;
        Ok(Some((location, transaction)))
    }

    /// Reads the next transaction of a range.
    fn advance(&mut self, index: usize, chain: &ChainLog, lanes: &mut [Lane]) -> Result<()> {
        let range = &mut self.ranges[index];
        let Some(lane) = lane(lanes, range.range.partition) else { return Ok(()) };
        range.head = range.read(&self.event, chain, &mut lane.stream)?;
        if let Some((_, transaction)) = &range.head {
            self.heads.push(Reverse((transaction.position, index)));
        }
        Ok(())
    }
}

impl RangeReader {
    fn new(range: PartitionRange) -> Self {
        Self { range, joiner: Joiner::default(), records_read: 0, transactions_read: 0, head: None }
    }

    /// The next transaction; `None` at the end of the range.
    fn read(
        &mut self,
        event: &ChainEvent,
        chain: &ChainLog,
        stream: &mut Stream,
    ) -> Result<Option<(Location, TransactionEvent)>> {
        let PartitionRange { partition, first_offset, records, count } = self.range;
        let fail = |offset, reason| corrupt(chain, partition, offset, event, reason);
        let starts_at = first_offset + self.records_read;
        while self.records_read < records {
            let offset = first_offset + self.records_read;
            let Some(record) = stream.expect(offset)? else {
                return Err(fail(offset, "its record is not there".to_owned()));
            };
            if record.offset < offset {
                return Err(Error::Stray {
                    topic: record.topic.to_string(),
                    partition,
                    offset: record.offset,
                });
            }
            self.records_read += 1;
            if let Some(whole) = self.joiner.push(record)? {
                let transaction = chain.decode(&whole)?;
                check(event, &transaction).map_err(|reason| fail(offset, reason))?;
                self.transactions_read += 1;
                return Ok(Some((Location { partition, offset: starts_at }, transaction)));
            }
        }
        let end = first_offset + records - 1;
        if self.joiner.is_partial() {
            return Err(fail(end, "its range ends within a chunked record".to_owned()));
        }
        if self.transactions_read != count {
            let reason =
                format!("its range holds {} transactions, {count} were named", self.transactions_read);
            return Err(fail(end, reason));
        }
        Ok(None)
    }
}

/// What a chain event says of its ranges, before any is read.
fn check_ranges(event: &ChainEvent) -> Result<()> {
    let mut total = 0_i64;
    for (index, range) in event.transactions.iter().enumerate() {
        let named_before = event.transactions[..index].iter().any(|other| other.partition == range.partition);
        if named_before {
            return Err(contradiction(event, format!("it names partition {} twice", range.partition)));
        }
        let sane = range.first_offset >= 0
            && range.count >= 1
            && range.records >= range.count
            && range.first_offset.checked_add(range.records).is_some();
        if !sane {
            return Err(contradiction(event, format!("range {range:?} cannot be")));
        }
        total = total.saturating_add(range.count);
    }
    if total != event.tx_count {
        let reason = format!("its ranges hold {total} transactions, but tx_count is {}", event.tx_count);
        return Err(contradiction(event, reason));
    }
    Ok(())
}

/// Whether a transaction event is the chain event's.
fn check(event: &ChainEvent, transaction: &TransactionEvent) -> Result<(), String> {
    if transaction.sequence != event.sequence {
        return Err(format!("a transaction of sequence {} is in its range", transaction.sequence));
    }
    if transaction.block_hash != event.hash {
        return Err(format!("a transaction of block {} is in its range", transaction.block_hash));
    }
    if transaction.action != event.action {
        return Err(format!("a transaction says {:?}", transaction.action));
    }
    if (transaction.height, transaction.block_time) != (event.height, event.time) {
        let TransactionEvent { height, block_time, .. } = transaction;
        return Err(format!("a transaction says height {height} and block time {block_time}"));
    }
    if transaction.transaction.coinbase != (transaction.position == 0) {
        return Err(format!(
            "position {} says coinbase: {}",
            transaction.position, transaction.transaction.coinbase
        ));
    }
    Ok(())
}

fn corrupt(chain: &ChainLog, partition: i32, offset: i64, event: &ChainEvent, reason: String) -> Error {
    let reason = format!("chain event {} of block {}: {reason}", event.sequence, event.hash);
    Error::Corrupt { topic: chain.topics.transactions.clone(), partition, offset, reason }
}

fn contradiction(event: &ChainEvent, reason: String) -> Error {
    Error::Contradiction { sequence: event.sequence, hash: event.hash, reason }
}
