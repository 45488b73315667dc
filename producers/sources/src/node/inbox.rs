//! What has been heard and not been fetched yet: bounded, and honest about what did not fit.

use std::collections::{HashMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bitcoin::Txid;
use bytes::Bytes;

use crate::{Error, Notice, Result};

/// Notices kept; those that come while it is full are lost, and reported so.
pub(super) const MAX_NOTICES: usize = 100_000;
/// Bytes of transactions kept along with them; beyond that a notice comes without.
pub(super) const MAX_RAW_BYTES: usize = 64 << 20;
/// Bytes of transactions kept in case their notice comes.
const MAX_BODY_BYTES: usize = 64 << 20;
/// Transactions remembered for that.
const MAX_BODIES: usize = 100_000;

/// Passes notices from the threads that hear them to the one that waits.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    state: Mutex<State>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct State {
    notices: Vec<Notice>,
    raw_bytes: usize,
    /// What did not fit, per feed: since nothing fits until all is fetched, each is one run of numbers.
    overflow: Vec<(&'static str, u64, u64)>,
    /// Stands for any number of them.
    tip_changed_unheard: bool,
    error: Option<Error>,
    bodies: Bodies,
}

impl Inbox {
    /// Puts in what message `number` of `feed` said.
    pub(super) fn message(&self, feed: &'static str, number: u64, mut notice: Notice) {
        let mut state = self.lock();
        if state.notices.len() >= MAX_NOTICES {
            match state.overflow.iter_mut().find(|(name, ..)| *name == feed) {
                Some((_, _, to)) => *to = number,
                None => state.overflow.push((feed, number, number)),
            }
            state.tip_changed_unheard |= notice == Notice::TipChanged;
            return;
        }
        if let Notice::Added { raw: Some(bytes), .. } = &notice {
            let bytes = bytes.len();
            if state.raw_bytes + bytes > MAX_RAW_BYTES {
                notice = without_raw(notice);
            } else {
                state.raw_bytes += bytes;
            }
        }
        self.push(state, notice);
    }

    /// Puts in a finding of our own; there are few of them.
    pub(super) fn finding(&self, notice: Notice) {
        self.push(self.lock(), notice);
    }

    /// Reports that asking failed; only the last such error is kept.
    pub(super) fn failed(&self, error: Error) {
        self.lock().error = Some(error);
        self.arrived.notify_all();
    }

    /// Keeps the bytes of a transaction in case its notice comes, or has come.
    pub(super) fn body(&self, txid: Txid, raw: Bytes) {
        self.lock().bodies.insert(txid, raw);
    }

    /// Waits at most `wait` for anything, and takes all there is.
    pub(super) fn take(&self, wait: Duration) -> Result<Vec<Notice>> {
        let until = Instant::now() + wait;
        let mut state = self.lock();
        while state.notices.is_empty() && state.error.is_none() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.arrived.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        if let Some(error) = state.error.take() {
            return Err(error);
        }
        let mut notices = std::mem::take(&mut state.notices);
        state.raw_bytes = 0;
        for notice in &mut notices {
            if let Notice::Added { txid, raw: raw @ None, .. } = notice {
                *raw = state.bodies.take(txid);
            }
        }
        notices.extend(state.overflow.drain(..).map(|(feed, from, to)| Notice::Gap { feed, from, to }));
        if std::mem::take(&mut state.tip_changed_unheard) {
            notices.push(Notice::TipChanged);
        }
        Ok(notices)
    }

    fn push(&self, mut state: MutexGuard<'_, State>, notice: Notice) {
        // One ring of the doorbell is enough.
        if notice != Notice::TipChanged || state.notices.last() != Some(&notice) {
            state.notices.push(notice);
            self.arrived.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn without_raw(notice: Notice) -> Notice {
    match notice {
        Notice::Added { txid, sequence, .. } => Notice::Added { txid, sequence, raw: None },
        notice => notice,
    }
}

/// Bytes of transactions, the oldest forgotten first.
#[derive(Debug, Default)]
struct Bodies {
    raw: HashMap<Txid, Bytes>,
    /// In the order in which they came; some have been taken since.
    order: VecDeque<Txid>,
    bytes: usize,
}

impl Bodies {
    fn insert(&mut self, txid: Txid, raw: Bytes) {
        self.bytes += raw.len();
        self.order.push_back(txid);
        if let Some(before) = self.raw.insert(txid, raw) {
            self.bytes -= before.len();
        }
        while self.bytes > MAX_BODY_BYTES || self.order.len() > MAX_BODIES {
            let Some(oldest) = self.order.pop_front() else { break };
            self.take(&oldest);
        }
    }

    fn take(&mut self, txid: &Txid) -> Option<Bytes> {
        let raw = self.raw.remove(txid)?;
        self.bytes -= raw.len();
        Some(raw)
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::hashes::Hash;

    use super::*;

    fn added(n: u64, raw: Option<Bytes>) -> Notice {
        Notice::Added { txid: Txid::hash(&n.to_le_bytes()), sequence: None, raw }
    }

    #[test]
    fn what_does_not_fit_is_reported_as_a_gap_behind_what_did() {
        let inbox = Inbox::default();
        let max = MAX_NOTICES as u64;
        (0..max).for_each(|n| inbox.message("rawtx2", n, added(n, None)));
        inbox.message("hashblock2", 7, Notice::TipChanged);
        (max..max + 5).for_each(|n| inbox.message("rawtx2", n, added(n, None)));
        let notices = inbox.take(Duration::ZERO).unwrap();
        let gap = |feed, from, to| Notice::Gap { feed, from, to };
        let expected = [gap("hashblock2", 7, 7), gap("rawtx2", max, max + 4), Notice::TipChanged];
        assert_eq!(notices[MAX_NOTICES..], expected);
        inbox.message("rawtx2", max + 5, added(0, None));
        assert_eq!(inbox.take(Duration::ZERO).unwrap(), [added(0, None)], "there is room again");
    }

    #[test]
    fn bytes_that_do_not_fit_are_left_out_and_the_notice_stays() {
        let inbox = Inbox::default();
        let half = Bytes::from(vec![0; MAX_RAW_BYTES / 2]);
        (0..3).for_each(|n| inbox.message("rawtx2", n, added(n, Some(half.clone()))));
        let expected = [added(0, Some(half.clone())), added(1, Some(half)), added(2, None)];
        assert_eq!(inbox.take(Duration::ZERO).unwrap(), expected);
    }

    #[test]
    fn bytes_that_came_by_another_way_are_joined_to_their_notice() {
        let inbox = Inbox::default();
        let raw = Bytes::from_static(b"raw");
        inbox.message("sequence", 0, added(1, None));
        inbox.message("sequence", 1, added(2, None));
        inbox.body(Txid::hash(&2u64.to_le_bytes()), raw.clone());
        assert_eq!(inbox.take(Duration::ZERO).unwrap(), [added(1, None), added(2, Some(raw))]);
    }

    #[test]
    fn bytes_that_nobody_asks_for_are_forgotten() {
        let mut bodies = Bodies::default();
        for n in 0..5u64 {
            bodies.insert(Txid::hash(&n.to_le_bytes()), vec![0; MAX_BODY_BYTES / 3].into());
        }
        assert!(bodies.bytes <= MAX_BODY_BYTES && bodies.raw.len() == 3);
        for n in 0..MAX_BODIES as u64 + 10 {
            let txid = Txid::hash(&n.to_le_bytes());
            bodies.insert(txid, Bytes::from_static(b"x"));
            bodies.take(&txid);
        }
        assert!(bodies.order.len() <= MAX_BODIES);
    }

    #[test]
    fn many_rings_of_the_doorbell_are_one() {
        let inbox = Inbox::default();
        (0..3).for_each(|n| inbox.message("hashblock", n, Notice::TipChanged));
        assert_eq!(inbox.take(Duration::ZERO).unwrap(), [Notice::TipChanged]);
        assert_eq!(inbox.take(Duration::ZERO).unwrap(), []);
    }

    #[test]
    fn an_error_is_told_once_and_costs_no_notice() {
        let inbox = Inbox::default();
        inbox.message("hashblock", 0, Notice::TipChanged);
        inbox.failed(Error::Refused { source_id: "node".into(), reason: "no".into() });
        assert!(inbox.take(Duration::ZERO).is_err());
        assert_eq!(inbox.take(Duration::ZERO).unwrap(), [Notice::TipChanged]);
    }
}
