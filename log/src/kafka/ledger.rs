//! Where the records of a transaction are, or will be: pure bookkeeping, without a broker.
//!
//! In a partition that one writer owns, offsets can be foretold: the records of a transaction are consecutive, and its
//! end takes one more offset for the marker. So `mark` costs no round trip. A partition of which the next offset is
//! not known (at the start, after an abort) is *unknown*: what the broker reports of its first records makes it
//! known. A partition where a record was found elsewhere is *doubted*: it stays unknown until a transaction commits.

use std::collections::HashMap;
use std::sync::Arc;

use crate::AppendedRange;

/// A partition, and the offset after a transaction's last record there.
pub(super) type End = (Arc<str>, i32, i64);

/// Index of a partition in the ledger.
pub(super) type Slot = usize;

/// What is known of a record when it is sent; comes back with its delivery report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ticket {
    /// It must be stored at this offset.
    Foretold(i64),
    /// Its offset shall be learnt.
    Unknown(Slot),
}

/// Bit of a packed ticket that says `Unknown`.
const UNKNOWN: usize = 1 << (usize::BITS - 1);
const _: () = assert!(usize::BITS >= 64, "an offset must fit in a pointer to travel with its record");

impl Ticket {
    /// As the pointer-sized number that librdkafka hands back.
    pub(super) fn pack(self) -> usize {
        match self {
            Self::Foretold(offset) => offset as usize,
            Self::Unknown(slot) => slot | UNKNOWN,
        }
    }

    /// The reverse of `pack`.
    pub(super) fn unpack(packed: usize) -> Self {
        if packed & UNKNOWN == 0 { Self::Foretold(packed as i64) } else { Self::Unknown(packed & !UNKNOWN) }
    }
}

/// Offsets that the broker reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// Least.
    pub(super) first: i64,
    /// Greatest.
    pub(super) last: i64,
    /// How many.
    pub(super) records: i64,
}

/// Reported offsets of unknown partitions since they were last settled.
#[derive(Debug, Default)]
pub(super) struct Learnt(HashMap<Slot, Span>);

impl Learnt {
    /// Takes down one delivery report.
    pub(super) fn record(&mut self, slot: Slot, offset: i64) {
        let span = self.0.entry(slot).or_insert(Span { first: offset, last: offset, records: 0 });
        span.first = span.first.min(offset);
        span.last = span.last.max(offset);
        span.records += 1;
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

/// Another writer's records lie between ours, or reports are missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    pub(super) sent: i64,
    pub(super) found: Option<(i64, i64)>,
}

#[derive(Debug)]
struct Entry {
    topic: Arc<str>,
    partition: i32,
    /// Offset of the next record, where known.
    next: Option<i64>,
    doubted: bool,
    /// Offset after the last record of this transaction that is known.
    end: i64,
    /// Whether the open transaction has records here: it will leave a marker.
    in_transaction: bool,
    /// Records and sends since the last mark.
    records: i64,
    sent: i64,
}

#[derive(Debug)]
struct Topic {
    name: Arc<str>,
    first: Slot,
    partitions: i32,
}

/// The partitions of one writer.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    topics: Vec<Topic>,
    entries: Vec<Entry>,
    /// With records since the last mark.
    unmarked: Vec<Slot>,
    /// With records in the open transaction.
    touched: Vec<Slot>,
}

impl Ledger {
    /// The slot of a partition, `None` where the topic has not been added or has no such partition.
    pub(super) fn slot(&self, topic: &str, partition: i32) -> Option<Slot> {
        let topic = self.topics.iter().find(|t| *t.name == *topic)?;
        (0..topic.partitions).contains(&partition).then(|| topic.first + partition as usize)
    }

    /// Adds a topic, all of its partitions unknown. A topic is added once.
    pub(super) fn add_topic(&mut self, name: &str, partitions: i32) {
        debug_assert!(self.topics.iter().all(|t| *t.name != *name));
        let name: Arc<str> = name.into();
        self.topics.push(Topic { name: name.clone(), first: self.entries.len(), partitions });
        self.entries.extend((0..partitions).map(|partition| Entry {
            topic: name.clone(),
            partition,
            next: None,
            doubted: false,
            end: 0,
            in_transaction: false,
            records: 0,
            sent: 0,
        }));
    }

    /// Whether the topic has been added.
    pub(super) fn has_topic(&self, name: &str) -> bool {
        self.topics.iter().any(|t| *t.name == *name)
    }

    /// The ticket of the next record of a partition.
    pub(super) fn ticket(&self, slot: Slot) -> Ticket {
        self.entries[slot].next.map_or(Ticket::Unknown(slot), Ticket::Foretold)
    }

    /// Counts a record that was handed to librdkafka.
    pub(super) fn record(&mut self, slot: Slot) {
        let entry = &mut self.entries[slot];
        if entry.records == 0 {
            self.unmarked.push(slot);
        }
        if !entry.in_transaction {
            entry.in_transaction = true;
            self.touched.push(slot);
        }
        entry.records += 1;
        entry.next = entry.next.map(|next| next + 1);
    }

    /// Counts a call of `send`.
    pub(super) fn sent(&mut self, slot: Slot) {
        self.entries[slot].sent += 1;
    }

    /// Whether the offsets since the last mark can only be learnt by a flush.
    pub(super) fn needs_reports(&self) -> bool {
        self.unmarked.iter().any(|slot| self.entries[*slot].next.is_none())
    }

    /// Where the records since the last mark are; the reports of all unknown partitions must be in `learnt`.
    pub(super) fn mark(&mut self, learnt: &mut Learnt) -> Result<Vec<AppendedRange>, Gap> {
        let mut ranges = Vec::with_capacity(self.unmarked.len());
        for slot in std::mem::take(&mut self.unmarked) {
            let entry = &mut self.entries[slot];
            let first_offset = entry.settle(learnt.0.remove(&slot))?;
            ranges.push(AppendedRange {
                topic: entry.topic.clone(),
                partition: entry.partition,
                first_offset,
                records: entry.records,
                sent: entry.sent,
            });
            (entry.records, entry.sent) = (0, 0);
        }
        ranges.sort_unstable_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        Ok(ranges)
    }

    /// The transaction is committed: every partition it touched has its marker next. Returns the offset after the last
    /// record of each of them.
    pub(super) fn committed(&mut self) -> Vec<End> {
        let mut ends = Vec::with_capacity(self.touched.len());
        for slot in std::mem::take(&mut self.touched) {
            let entry = &mut self.entries[slot];
            entry.in_transaction = false;
            entry.doubted = false;
            entry.next = Some(entry.end + 1);
            ends.push((entry.topic.clone(), entry.partition, entry.end));
        }
        ends
    }

    /// Nobody has seen the markers of a commit in these partitions: where the next record will be must be learnt.
    pub(super) fn unseen(&mut self, partitions: &[End]) {
        for (topic, partition, _) in partitions {
            if let Some(slot) = self.slot(topic, *partition) {
                self.entries[slot].next = None;
            }
        }
    }

    /// The transaction is given up: nobody knows how much of it the log has.
    pub(super) fn aborted(&mut self) {
        for slot in std::mem::take(&mut self.touched) {
            let entry = &mut self.entries[slot];
            entry.in_transaction = false;
            entry.next = None;
            (entry.records, entry.sent) = (0, 0);
        }
        self.unmarked.clear();
    }

    /// A record was found elsewhere than foretold: its partition is not foretold again before a transaction commits.
    pub(super) fn doubt(&mut self, topic: &str, partition: i32) {
        if let Some(slot) = self.slot(topic, partition) {
            self.entries[slot].doubted = true;
        }
    }
}

impl Entry {
    /// Offset of the first record since the last mark.
    fn settle(&mut self, span: Option<Span>) -> Result<i64, Gap> {
        if let Some(next) = self.next {
            self.end = next;
            return Ok(next - self.records);
        }
        match span {
            Some(Span { first, last, records }) if records == self.records && last - first + 1 == records => {
                self.end = last + 1;
                self.next = (!self.doubted).then_some(self.end);
                Ok(first)
            }
            _ => Err(Gap {
                topic: self.topic.clone(),
                partition: self.partition,
                sent: self.records,
                found: span.map(|s| (s.first, s.last)),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A partition as a broker has it.
    struct Partition {
        end: i64,
        learnt: Learnt,
    }

    impl Partition {
        fn send(&mut self, ledger: &mut Ledger, records: i64) {
            let slot = ledger.slot("t", 0).unwrap();
            for _ in 0..records {
                match ledger.ticket(slot) {
                    Ticket::Foretold(offset) => assert_eq!(offset, self.end),
                    Ticket::Unknown(slot) => self.learnt.record(slot, self.end),
                }
                ledger.record(slot);
                self.end += 1;
            }
            ledger.sent(slot);
        }

        fn mark(&mut self, ledger: &mut Ledger) -> (i64, i64, i64) {
            let ranges = ledger.mark(&mut self.learnt).unwrap();
            assert_eq!(ranges.len(), 1);
            (ranges[0].first_offset, ranges[0].records, ranges[0].sent)
        }

        fn commit(&mut self, ledger: &mut Ledger) {
            assert_eq!(ledger.committed(), [("t".into(), 0, self.end)]);
            self.end += 1;
        }
    }

    fn partition_of(end: i64) -> (Ledger, Partition) {
        let mut ledger = Ledger::default();
        ledger.add_topic("t", 2);
        (ledger, Partition { end, learnt: Learnt::default() })
    }

    #[test]
    fn a_ticket_survives_the_trip_through_a_pointer() {
        for ticket in
            [Ticket::Foretold(0), Ticket::Foretold(i64::MAX), Ticket::Unknown(0), Ticket::Unknown(99)]
        {
            assert_eq!(Ticket::unpack(ticket.pack()), ticket);
        }
    }

    #[test]
    fn a_partition_once_known_is_foretold_across_marks_and_transactions() {
        let (mut ledger, mut partition) = partition_of(7);
        partition.send(&mut ledger, 3);
        assert!(ledger.needs_reports());
        assert_eq!(partition.mark(&mut ledger), (7, 3, 1));
        partition.send(&mut ledger, 1);
        partition.send(&mut ledger, 1);
        assert!(!ledger.needs_reports());
        assert_eq!(partition.mark(&mut ledger), (10, 2, 2));
        partition.commit(&mut ledger);
        partition.send(&mut ledger, 1);
        assert!(!ledger.needs_reports());
        assert_eq!(partition.mark(&mut ledger), (13, 1, 1));
    }

    #[test]
    fn an_abort_makes_only_the_touched_partitions_unknown() {
        let (mut ledger, mut partition) = partition_of(0);
        partition.send(&mut ledger, 1);
        partition.mark(&mut ledger);
        partition.commit(&mut ledger);
        let other = ledger.slot("t", 1).unwrap();
        ledger.record(other);
        ledger.aborted();
        assert_eq!(ledger.ticket(ledger.slot("t", 0).unwrap()), Ticket::Foretold(2));
        assert_eq!(ledger.ticket(other), Ticket::Unknown(other));
        assert!(ledger.mark(&mut Learnt::default()).unwrap().is_empty());
    }

    #[test]
    fn a_doubted_partition_is_learnt_by_reports_until_a_commit() {
        let (mut ledger, mut partition) = partition_of(5);
        ledger.doubt("t", 0);
        for first in [5, 6] {
            partition.send(&mut ledger, 1);
            assert!(ledger.needs_reports());
            assert_eq!(partition.mark(&mut ledger), (first, 1, 1));
        }
        partition.commit(&mut ledger);
        partition.send(&mut ledger, 1);
        assert!(!ledger.needs_reports());
    }

    #[test]
    fn after_a_commit_that_nobody_saw_the_next_record_may_be_where_the_marker_should_be() {
        let (mut ledger, mut partition) = partition_of(5);
        partition.send(&mut ledger, 1);
        partition.mark(&mut ledger);
        let ends = ledger.committed();
        ledger.unseen(&ends);
        partition.send(&mut ledger, 2);
        assert!(ledger.needs_reports());
        assert_eq!(partition.mark(&mut ledger), (6, 2, 1));
    }

    #[test]
    fn records_of_another_writer_between_ours_are_a_gap() {
        let (mut ledger, mut partition) = partition_of(5);
        partition.send(&mut ledger, 1);
        partition.end += 1;
        partition.send(&mut ledger, 1);
        let gap = ledger.mark(&mut partition.learnt).unwrap_err();
        assert_eq!((gap.sent, gap.found), (2, Some((5, 7))));
    }

    #[test]
    fn a_missing_report_is_a_gap() {
        let (mut ledger, _) = partition_of(5);
        ledger.record(0);
        assert_eq!(ledger.mark(&mut Learnt::default()).unwrap_err().found, None);
    }

    #[test]
    fn ranges_come_in_the_order_of_topics_and_partitions() {
        let mut ledger = Ledger::default();
        for topic in ["b", "a"] {
            ledger.add_topic(topic, 12);
        }
        let mut learnt = Learnt::default();
        for (topic, partition) in [("b", 3), ("a", 11), ("b", 0), ("a", 2)] {
            let slot = ledger.slot(topic, partition).unwrap();
            learnt.record(slot, 0);
            ledger.record(slot);
        }
        let ranges = ledger.mark(&mut learnt).unwrap();
        let order: Vec<_> = ranges.iter().map(|r| (&*r.topic, r.partition)).collect();
        assert_eq!(order, [("a", 2), ("a", 11), ("b", 0), ("b", 3)]);
    }

    #[test]
    fn a_partition_beyond_the_topics_has_no_slot() {
        let (ledger, _) = partition_of(0);
        assert_eq!((ledger.slot("t", 2), ledger.slot("t", -1), ledger.slot("u", 0)), (None, None, None));
    }
}
