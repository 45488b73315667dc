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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dlq::Source;
    use bitcoin::hashes::Hash;
    use proptest::prelude::*;

    /// Events of a partition: the transaction of each offset.
    const EVENTS: [u8; 12] = [0, 1, 0, 2, 0, 1, 1, 2, 0, 2, 1, 0];

    fn key(offset: usize) -> Txid {
        Txid::from_byte_array([EVENTS[offset]; 32])
    }

    fn source(offset: usize) -> Source {
        Source { topic: "t".into(), partition: 0, offset: offset as i64 }
    }

    fn rejected(offset: usize) -> (Txid, Note) {
        let note = Note::Rejected { source: source(offset), error: String::new(), attempts: 1 };
        (key(offset), note)
    }

    fn any_note() -> impl Strategy<Value = (Txid, Note)> {
        let offset = || 0..EVENTS.len();
        prop_oneof![
            offset().prop_map(rejected),
            offset().prop_map(|offset| (key(offset), Note::Parked(source(offset)))),
            offset().prop_map(|offset| (key(offset), Note::Retry)),
            offset().prop_map(|offset| (key(offset), Note::Done(source(offset)))),
            offset().prop_map(|offset| (key(offset), Note::Dropped(source(offset)))),
        ]
    }

    fn fold(notes: &[(Txid, Note)]) -> Letters {
        let mut letters = Letters::default();
        (0..).zip(notes).for_each(|(place, (txid, note))| letters.apply(place, 0, *txid, note));
        letters
    }

    proptest! {
        /// Whatever has been written: one letter of a transaction is due at most, in order it is the first one, and it is never
        /// one that waits for a person.
        #[test]
        fn what_is_due_keeps_the_order(notes in prop::collection::vec(any_note(), 0..60)) {
            let mut letters = fold(&notes);
            for order in [KeyOrder::OrderedByKey, KeyOrder::Independent] {
                // As a lane asks that begins with the topic as it is.
                letters.stirred = letters.by_key.keys().copied().collect();
                let due = letters.due(order);
                let keys: BTreeSet<_> = due.iter().map(|(_, letter)| letter.txid).collect();
                prop_assert_eq!(keys.len(), due.len());
                for (offset, letter) in due {
                    prop_assert!(letter.state != State::Rejected && letters.is_open(offset));
                    prop_assert!(order == KeyOrder::Independent || !letters.holds_back(&letter.txid, offset));
                }
            }
        }

        /// After a retry of every transaction, handling what is due until nothing is leaves nothing, in the order of each
        /// transaction, and a lane that has followed record by record knows as much as one that starts in the middle.
        #[test]
        fn a_retry_of_everything_resolves_everything(notes in prop::collection::vec(any_note(), 0..60), restart in any::<bool>()) {
            for order in [KeyOrder::OrderedByKey, KeyOrder::Independent] {
                let mut notes = notes.clone();
                notes.extend((0..EVENTS.len()).map(|offset| (key(offset), Note::Retry)));
                let mut letters = fold(&notes);
                let (all, mut handled) = (letters.len(), Vec::new());
                loop {
                    if restart {
                        letters = fold(&notes);
                    }
                    let Some((offset, letter)) = letters.due(order).into_iter().next() else { break };
                    handled.push((letter.txid, offset));
                    notes.push((letter.txid, Note::Done(source(offset as usize))));
                    letters.apply(0, 0, letter.txid, &Note::Done(source(offset as usize)));
                }
                prop_assert!(letters.is_empty());
                prop_assert_eq!(handled.len(), all);
                for number in 0..3 {
                    let txid = Txid::from_byte_array([number; 32]);
                    prop_assert!(handled.iter().filter(|(of, _)| *of == txid).is_sorted());
                }
            }
        }

        /// A record that is there twice, as after an append whose end nobody knows, says the same.
        #[test]
        fn a_record_that_is_there_twice_says_the_same(notes in prop::collection::vec(any_note(), 0..60)) {
            let twice: Vec<_> = notes.iter().flat_map(|note| [note.clone(), note.clone()]).collect();
            let states = |letters: &Letters| letters.iter().map(|(offset, letter)| (offset, letter.state)).collect::<Vec<_>>();
            prop_assert_eq!(states(&fold(&twice)), states(&fold(&notes)));
        }
    }

    #[test]
    fn a_letter_refused_again_holds_the_others_back_again() {
        let mut letters = fold(&[rejected(0), (key(2), Note::Parked(source(2))), (key(0), Note::Retry)]);
        assert_eq!(letters.due(KeyOrder::OrderedByKey).len(), 1);
        let (txid, note) = rejected(0);
        letters.apply(3, 0, txid, &note);
        assert_eq!(letters.due(KeyOrder::OrderedByKey), []);
        letters.apply(4, 0, txid, &Note::Dropped(source(0)));
        assert_eq!(letters.due(KeyOrder::OrderedByKey)[0].0, 2);
    }
}
