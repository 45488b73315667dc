//! The mempool view: the newest epoch's events, replayed.

use std::collections::HashSet;

use bitcoin::Txid;
use sluice_schemas::{MempoolEvent, MempoolKind};

use super::{Error, Invariant, Violation};
use crate::Result as LogResult;
use crate::chain::{ChainLog, MempoolScanner, PlacedMempoolEvent};

/// How often to look for the events of a gap: a commit may become visible partition by partition.
const GAP_LOOKS: u32 = 5;

/// The mempool as the newest epoch's events make it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MempoolView {
    /// The producer's term.
    pub epoch: i64,
    /// Events of the epoch.
    pub events: u64,
    /// Number of the last event.
    pub sequence: i64,
    /// Last chain event published before the last mempool event.
    pub chain_sequence: i64,
    /// What is in the mempool; all of it is held in memory.
    pub txids: HashSet<Txid>,
    /// Whether the epoch's first events are no longer kept: then the view lacks what they added.
    pub truncated: bool,
}

impl ChainLog {
    /// Replays the mempool events of the newest epoch; `None` where there are no mempool events.
    ///
    /// # Errors
    /// A `Violation` where events are missing or contradict the view so far, or why the log could not be read.
    pub fn mempool_view(&self) -> Result<Option<MempoolView>, Error> {
        let mut scanner = self.scan_mempool(None)?;
        let Some(epoch) = scanner.newest_epoch() else { return Ok(None) };
        // What was committed while the partitions were opened counts in all of them.
        scanner.extend()?;
        let mut resets = Resets { partitions: scanner.partitions(), seen: HashSet::new() };
        let mut view = MempoolView { epoch, sequence: -1, chain_sequence: -1, ..MempoolView::default() };
        while let Some(PlacedMempoolEvent { partition, offset, event }) = next(&mut scanner, &view)? {
            resets.check(partition, event.kind).and_then(|()| view.apply(&event)).map_err(|reason| {
                let topic = self.topics.mempool.clone();
                let invariant = Invariant::Mempool;
                Error::Violation(Box::new(Violation { invariant, topic, partition, offset, reason }))
            })?;
        }
        Ok(Some(view))
    }
}

impl MempoolView {
    fn apply(&mut self, event: &MempoolEvent) -> Result<(), String> {
        let first = self.events == 0;
        if first {
            self.truncated = true;
        } else if event.sequence.checked_sub(1) != Some(self.sequence) {
            let (epoch, last, found) = (self.epoch, self.sequence, event.sequence);
            return Err(format!("in epoch {epoch}, sequence {found} comes after {last}"));
        }
        match event.kind {
            MempoolKind::Reset => {
                self.txids.clear();
                self.truncated = false;
            }
            MempoolKind::Added => {
                if !self.txids.insert(event.txid) {
                    return Err(format!("transaction {} is added twice", event.txid));
                }
                if event.transaction.as_ref().is_none_or(|transaction| transaction.txid != event.txid) {
                    return Err(format!("transaction {} is added without its content", event.txid));
                }
            }
            MempoolKind::Removed => {
                if !self.txids.remove(&event.txid) && !self.truncated {
                    return Err(format!("transaction {} is removed, but was not there", event.txid));
                }
            }
        }
        self.events += 1;
        self.sequence = event.sequence;
        self.chain_sequence = event.chain_sequence;
        Ok(())
    }
}

/// A reset under way: it comes in every partition, once, before anything else.
struct Resets {
    partitions: usize,
    seen: HashSet<i32>,
}

impl Resets {
    fn check(&mut self, partition: i32, kind: MempoolKind) -> Result<(), String> {
        if kind == MempoolKind::Reset {
            if !self.seen.insert(partition) {
                return Err("a partition is reset twice, and another one not".to_owned());
            }
            if self.seen.len() == self.partitions {
                self.seen.clear();
            }
        } else if !self.seen.is_empty() {
            return Err(format!("{} of {} partitions are reset", self.seen.len(), self.partitions));
        }
        Ok(())
    }
}

/// The event after the view's last, or the one that comes in its place. A newer epoch that began while this one is read
/// is not this view's.
fn next(scanner: &mut MempoolScanner, view: &MempoolView) -> LogResult<Option<PlacedMempoolEvent>> {
    let gap = |event: &MempoolEvent| {
        view.sequence >= 0 && event.epoch == view.epoch && event.sequence.saturating_sub(1) > view.sequence
    };
    for _ in 0..GAP_LOOKS {
        match scanner.peek() {
            Some(head) if gap(&head.event) => scanner.extend()?,
            _ => break,
        }
    }
    match scanner.peek() {
        Some(head) if head.event.epoch == view.epoch => scanner.next_event(),
        _ => Ok(None),
    }
}
