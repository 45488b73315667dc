//! The state of dead letters: a fold over their topic.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bitcoin::Txid;

use super::entry::Note;
use crate::handler::KeyOrder;

/// How a letter stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It waits for a person: `sluice dlq retry` or `drop`.
    Rejected,
    /// It waits for an earlier event of its transaction.
    Parked,
    /// It is to be handled again.
    Retrying,
}

impl State {
    /// For people and programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Parked => "parked",
            Self::Retrying => "retrying",
        }
    }
}

/// A letter that is not resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Its transaction.
    pub txid: Txid,
    /// Offset on the dead letter topic of the first record that holds the event.
    pub place: i64,
    /// How it stands.
    pub state: State,
    /// How often the event was tried before it became a letter.
    pub attempts: u32,
    /// When it became a letter, milliseconds since 1970.
    pub at: i64,
}

/// The unresolved letters of one partition of one topic, by the offset that the event has there.
///
/// The order of a transaction's letters is that of their offsets. The first one that is left is the one that matters: once it
/// is resolved, those parked behind it are handled, one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Letters {
    open: BTreeMap<i64, Letter>,
    by_key: HashMap<Txid, BTreeSet<i64>>,
    /// Keys that may have something to be handled: a superset.
    stirred: BTreeSet<Txid>,
}

impl Letters {
    /// Takes in what a record says, which is known to be about this partition, or about a transaction's letters.
    pub fn apply(&mut self, place: i64, at: i64, txid: Txid, note: &Note) {
        match note {
            Note::Rejected { source, attempts, .. } => {
                let letter = Letter { txid, place, state: State::Rejected, attempts: *attempts, at };
                self.put(source.offset, letter);
            }
            Note::Parked(source) if !self.open.contains_key(&source.offset) => {
                self.put(source.offset, Letter { txid, place, state: State::Parked, attempts: 0, at });
            }
            Note::Parked(_) => {}
            Note::Retry => {
                for offset in self.by_key.get(&txid).into_iter().flatten() {
                    if let Some(letter) = self.open.get_mut(offset)
                        && letter.state == State::Rejected
                    {
                        letter.state = State::Retrying;
                    }
                }
            }
            Note::Done(source) | Note::Dropped(source) => {
                self.open.remove(&source.offset);
                if let Some(offsets) = self.by_key.get_mut(&txid) {
                    offsets.remove(&source.offset);
                    if offsets.is_empty() {
                        self.by_key.remove(&txid);
                    }
                }
            }
        }
        self.stirred.insert(txid);
    }

    fn put(&mut self, offset: i64, letter: Letter) {
        self.by_key.entry(letter.txid).or_default().insert(offset);
        self.open.insert(offset, letter);
    }

    /// Whether the event at an offset is an unresolved letter.
    pub fn is_open(&self, offset: i64) -> bool {
        self.open.contains_key(&offset)
    }

    /// Whether an earlier event of the transaction is an unresolved letter.
    pub fn holds_back(&self, txid: &Txid, offset: i64) -> bool {
        self.by_key.get(txid).and_then(BTreeSet::first).is_some_and(|first| *first < offset)
    }

    /// The letters to be handled now, one of each transaction at most.
    pub fn due(&mut self, order: KeyOrder) -> Vec<(i64, Letter)> {
        let (open, by_key) = (&self.open, &self.by_key);
        let next_of = |txid: &Txid| {
            let mut offsets = by_key.get(txid)?.iter();
            let ready = |offset: &i64| {
                open.get(offset)
                    .filter(|letter| letter.state != State::Rejected)
                    .map(|letter| (*offset, *letter))
            };
            match order {
                KeyOrder::OrderedByKey => ready(offsets.next()?),
                KeyOrder::Independent => offsets.find_map(ready),
            }
        };
        let due: Vec<_> = self.stirred.iter().filter_map(next_of).collect();
        let still: BTreeSet<_> = due.iter().map(|(_, letter)| letter.txid).collect();
        self.stirred = still;
        due
    }

    /// The unresolved letters, in the order of their offsets.
    pub fn iter(&self) -> impl Iterator<Item = (i64, &Letter)> {
        self.open.iter().map(|(offset, letter)| (*offset, letter))
    }

    /// How many are unresolved.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether none is unresolved.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
}
