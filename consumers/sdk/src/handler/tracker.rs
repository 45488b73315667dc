//! Which offsets of a partition are done: what may be committed is the longest run of done events from the first one on.

use std::collections::VecDeque;

/// Names an event that was taken up, in the order of the partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

/// Events taken up and not committed yet.
#[derive(Debug, Default)]
pub(crate) struct Tracker {
    /// Ticket of the front.
    first: u64,
    pending: VecDeque<Pending>,
    /// The offset that may be committed, where it has moved since it was asked for.
    ready: Option<i64>,
}

#[derive(Debug)]
struct Pending {
    /// The offset after the event.
    next: i64,
    is_done: bool,
}

impl Tracker {
    /// Takes up an event; `next` is the offset after it.
    pub(crate) fn begin(&mut self, next: i64) -> Ticket {
        let ticket = Ticket(self.first + self.pending.len() as u64);
        self.pending.push_back(Pending { next, is_done: false });
        ticket
    }

    /// An event is done. A ticket that is not pending is none of this tracker's, and does nothing.
    pub(crate) fn done(&mut self, ticket: Ticket) {
        let index = ticket.0.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        if let Some(pending) = index.and_then(|index| self.pending.get_mut(index)) {
            pending.is_done = true;
        }
        while self.pending.front().is_some_and(|pending| pending.is_done) {
            self.first += 1;
            self.ready = self.pending.pop_front().map(|pending| pending.next);
        }
    }

    /// The offset to commit, where it has moved since the last call.
    pub(crate) fn take_ready(&mut self) -> Option<i64> {
        self.ready.take()
    }

    /// Says again what a commit that failed was about, unless more is ready by now.
    pub(crate) fn not_committed(&mut self, offset: i64) {
        self.ready.get_or_insert(offset);
    }

    /// Events between the first one that is not done and the last one taken up.
    pub(crate) fn len(&self) -> usize {
        self.pending.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nothing_is_committed_past_an_event_that_is_not_done() {
        let mut tracker = Tracker::default();
        let tickets: Vec<_> = [11, 12, 15].map(|next| tracker.begin(next)).into();
        tracker.done(tickets[2]);
        tracker.done(tickets[1]);
        assert_eq!(tracker.take_ready(), None);
        tracker.done(tickets[0]);
        assert_eq!((tracker.take_ready(), tracker.take_ready()), (Some(15), None));
        assert_eq!(tracker.len(), 0);
    }

    proptest! {
        /// Whatever the order in which events end: an offset is ready exactly when all events before it are done.
        #[test]
        fn what_is_ready_is_the_contiguous_prefix(order in Just((0..40_usize).collect::<Vec<_>>()).prop_shuffle(), gap in 1..9_i64) {
            let mut tracker = Tracker::default();
            let tickets: Vec<_> = order.iter().enumerate().map(|(index, _)| tracker.begin((index as i64 + 1) * gap)).collect();
            let (mut done, mut ready) = (vec![false; order.len()], 0);
            for index in order {
                tracker.done(tickets[index]);
                done[index] = true;
                ready = tracker.take_ready().unwrap_or(ready);
                let prefix = done.iter().take_while(|done| **done).count() as i64;
                prop_assert_eq!(ready, prefix * gap);
            }
            // Told twice, or of another tracker: no harm.
            tracker.done(tickets[0]);
            tracker.done(Ticket(u64::MAX));
            prop_assert_eq!(tracker.take_ready(), None);
        }
    }
}
