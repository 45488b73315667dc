//! One event of a key at a time, in the order in which they came.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use bitcoin::Txid;

/// The keys whose events are at work, and what waits behind them.
#[derive(Debug)]
pub(crate) struct KeyGate<T> {
    busy: HashMap<Txid, VecDeque<T>>,
}

impl<T> Default for KeyGate<T> {
    fn default() -> Self {
        Self { busy: HashMap::new() }
    }
}

impl<T> KeyGate<T> {
    /// Gives the item back where its key was free, which is taken now. Otherwise the item waits.
    pub(crate) fn enter(&mut self, key: Txid, item: T) -> Option<T> {
        match self.busy.entry(key) {
            Entry::Vacant(free) => {
                free.insert(VecDeque::new());
                Some(item)
            }
            Entry::Occupied(mut waiting) => {
                waiting.get_mut().push_back(item);
                None
            }
        }
    }

    /// The item at work has ended: the next one of its key, which is at work now; without one the key is free.
    pub(crate) fn leave(&mut self, key: &Txid) -> Option<T> {
        let next = self.busy.get_mut(key).and_then(VecDeque::pop_front);
        if next.is_none() {
            self.busy.remove(key);
        }
        next
    }

    /// Whether an event of the key is at work.
    pub(crate) fn is_busy(&self, key: &Txid) -> bool {
        self.busy.contains_key(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::hashes::Hash;
    use proptest::prelude::*;

    fn key(number: u8) -> Txid {
        Txid::from_byte_array([number; 32])
    }

    proptest! {
        /// Events come and end in any order: those of one key are never at work together, and none is overtaken or lost.
        #[test]
        fn a_key_has_one_event_at_work_and_keeps_its_order(steps in prop::collection::vec((0..4_u8, any::<bool>()), 1..200)) {
            let mut gate = KeyGate::default();
            let (mut came, mut begun) = (vec![Vec::new(); 4], vec![Vec::new(); 4]);
            let mut at_work = [false; 4];
            for (number, (of, comes)) in steps.into_iter().enumerate() {
                let index = usize::from(of);
                let started = if comes {
                    came[index].push(number);
                    gate.enter(key(of), number)
                } else if at_work[index] {
                    at_work[index] = false;
                    gate.leave(&key(of))
                } else {
                    continue;
                };
                if let Some(item) = started {
                    prop_assert!(!at_work[index]);
                    at_work[index] = true;
                    begun[index].push(item);
                }
            }
            for of in 0..4_u8 {
                let index = usize::from(of);
                prop_assert_eq!(gate.is_busy(&key(of)), at_work[index]);
                while gate.is_busy(&key(of)) {
                    begun[index].extend(gate.leave(&key(of)));
                }
                prop_assert_eq!(&begun[index], &came[index]);
            }
        }
    }
}
