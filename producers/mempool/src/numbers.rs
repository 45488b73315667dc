//! The source's numbering of its changes: which numbers never came.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

/// Runs of missing numbers kept apart; beyond, the oldest are joined.
const MAX_HOLES: usize = 1024;

/// The numbers of the changes since the last snapshot that was compared.
///
/// Bitcoin Core numbers additions, removals, and the transactions that a block takes out; of the last it sends no
/// message. So numbers are missing after each block, as many as transactions were mined.
#[derive(Clone, Debug, Default)]
pub(crate) struct Numbers {
    /// Last number of the snapshot; changes up to it are in it.
    base: Option<u64>,
    /// Highest number that came, or was accounted for.
    last: Option<u64>,
    holes: VecDeque<RangeInclusive<u64>>,
    /// Numbers that mined transactions took.
    silent: u64,
}

/// What a numbered change is to the view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It is new.
    Fresh,
    /// It is new, and numbers before it are missing.
    AfterHole,
    /// A snapshot contained it, or it came before.
    Stale,
}

impl Numbers {
    pub(crate) fn arrived(&mut self, number: u64) -> Arrival {
        let stale =
            self.base.is_some_and(|base| number <= base) || self.last.is_some_and(|last| number <= last);
        if stale {
            return Arrival::Stale;
        }
        let hole = self.last.filter(|last| last + 1 < number);
        self.last = Some(number);
        match hole {
            Some(last) => {
                self.miss(last + 1..=number - 1);
                Arrival::AfterHole
            }
            None => Arrival::Fresh,
        }
    }

    /// Notes that mined transactions took numbers without a message.
    pub(crate) fn mined(&mut self, transactions: u64) {
        self.silent += transactions;
    }

    /// Numbers that mined transactions took so far.
    pub(crate) fn silent(&self) -> u64 {
        self.silent
    }

    pub(crate) fn has_reached(&self, number: u64) -> bool {
        self.last.is_some_and(|last| last >= number)
    }

    /// Whether a snapshot is older than one that was compared already.
    pub(crate) fn is_old(&self, number: u64) -> bool {
        self.base.is_some_and(|base| number < base)
    }

    /// Whether `silent` mined transactions explain all numbers up to `number` that did not come.
    pub(crate) fn is_accounted(&self, number: u64, silent: u64) -> bool {
        let inside: u64 = self
            .holes
            .iter()
            .filter(|hole| *hole.start() <= number)
            .map(|hole| (*hole.end()).min(number) - hole.start() + 1)
            .sum();
        let tail = self.last.map_or(0, |last| number.saturating_sub(last));
        inside + tail == silent
    }

    /// Closes the account at a snapshot: the numbers up to `number` that were lost, as far as they are not those of
    /// `silent` mined transactions. Later changes are counted from there.
    pub(crate) fn close(&mut self, number: u64, silent: u64) -> Option<RangeInclusive<u64>> {
        let first = self.base.is_none();
        if let Some(last) = self.last.filter(|last| *last < number) {
            self.miss(last + 1..=number);
        }
        self.last = Some(self.last.map_or(number, |last| last.max(number)));
        self.base = Some(number);
        let (mut range, mut missing): (Option<RangeInclusive<u64>>, u64) = (None, 0);
        while let Some(hole) = self.holes.front().filter(|hole| *hole.start() <= number).cloned() {
            self.holes.pop_front();
            let end = *hole.end().min(&number);
            missing += end - hole.start() + 1;
            range = Some(range.map_or(*hole.start(), |range| *range.start())..=end);
            if end < *hole.end() {
                self.holes.push_front(end + 1..=*hole.end());
                break;
            }
        }
        self.silent = self.silent.saturating_sub(silent);
        range.filter(|_| !first && missing > silent)
    }

    fn miss(&mut self, hole: RangeInclusive<u64>) {
        self.holes.push_back(hole);
        if self.holes.len() > MAX_HOLES
            && let (Some(a), Some(b)) = (self.holes.pop_front(), self.holes.pop_front())
        {
            self.holes.push_front(*a.start()..=*b.end());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_mined_transactions_are_no_loss() {
        let mut numbers = Numbers::default();
        assert_eq!(numbers.close(10, 0), None);
        assert_eq!(numbers.arrived(10), Arrival::Stale);
        assert_eq!(numbers.arrived(11), Arrival::Fresh);
        assert_eq!(numbers.arrived(15), Arrival::AfterHole);
        numbers.mined(3);
        assert_eq!(numbers.close(15, 3), None);
        assert_eq!(numbers.arrived(15), Arrival::Stale);
    }

    #[test]
    fn numbers_that_no_block_explains_are_lost() {
        let mut numbers = Numbers::default();
        numbers.close(10, 0);
        numbers.arrived(13);
        numbers.mined(1);
        assert_eq!(numbers.close(13, 1), Some(11..=12));
        assert_eq!(numbers.close(20, 0), Some(14..=20), "the tail");
    }

    #[test]
    fn changes_after_the_snapshot_stay_on_the_account() {
        let mut numbers = Numbers::default();
        numbers.close(10, 0);
        numbers.arrived(21);
        assert_eq!(numbers.close(15, 0), Some(11..=15));
        numbers.mined(5);
        assert_eq!(numbers.close(21, 5), None);
    }
}
