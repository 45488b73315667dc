//! A memory of answers that cannot grow past a bound.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{PoisonError, RwLock};

/// Remembers at most `max` values; at the bound it forgets all of them and begins again. Simple, and right where the
/// bound is only ever reached by damaged or hostile input.
pub(crate) struct Bounded<K, V> {
    max: usize,
    values: RwLock<HashMap<K, V>>,
}

impl<K: Eq + Hash, V: Clone> Bounded<K, V> {
    pub(crate) fn new(max: usize) -> Self {
        Self { max, values: RwLock::default() }
    }

    pub(crate) fn get(&self, key: &K) -> Option<V> {
        self.values.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    pub(crate) fn insert(&self, key: K, value: V) {
        let mut values = self.values.write().unwrap_or_else(PoisonError::into_inner);
        if values.len() >= self.max {
            values.clear();
        }
        values.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_the_bound_all_is_forgotten_but_the_newest() {
        let bounded = Bounded::new(3);
        (0..3).for_each(|n| bounded.insert(n, n));
        assert_eq!(bounded.get(&0), Some(0));
        bounded.insert(3, 3);
        assert_eq!((bounded.get(&0), bounded.get(&2), bounded.get(&3)), (None, None, Some(3)));
    }
}
