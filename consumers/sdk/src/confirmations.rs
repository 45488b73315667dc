//! How deep transactions are in the chain, told as it changes.

use std::collections::{BTreeMap, HashMap, HashSet};

use bitcoin::Txid;
use sluice_schemas::{Action, ChainEvent, MempoolEvent, MempoolKind};

/// What is told of a watched transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Confirmation {
    /// It has come up for the first time, in the mempool or in a block.
    Seen,
    /// It is this deep by now: 1 in the tip, 2 below it, and so on.
    Confirmed(u32),
    /// It is no longer as deep as was told. `Confirmed` with the same depth follows if it comes to be so again.
    Reverted(u32),
}

/// Turns the stream of changes into what becomes of single transactions: `Seen` once, `Confirmed(n)` for each depth
/// asked for, and `Reverted(n)` for each of these that a reorg takes back, deepest first.
///
/// Pure: keep the heights of mined transactions in the consumer's own store, and `restore` them at the next start.
/// Memory is what is watched; `unwatch` what is deep enough.
#[derive(Clone, Debug, Default)]
pub struct Confirmations {
    /// Ascending.
    depths: Vec<u32>,
    watched: HashMap<Txid, Watched>,
    /// The watched transactions of each height.
    mined: BTreeMap<i32, HashSet<Txid>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Watched {
    seen: bool,
    height: Option<i32>,
}

impl Confirmations {
    /// Tells of these depths; 0 is never told.
    pub fn new(depths: &[u32]) -> Self {
        let mut depths: Vec<u32> = depths.iter().copied().filter(|depth| *depth > 0).collect();
        depths.sort_unstable();
        depths.dedup();
        Self { depths, ..Self::default() }
    }

    /// Watches a transaction from the next change on.
    pub fn watch(&mut self, txid: Txid) {
        self.watched.entry(txid).or_default();
    }

    /// Watches a transaction of which everything up to the present tip has been told: of one that is not mined, that it
    /// was seen.
    pub fn restore(&mut self, txid: Txid, height: Option<i32>) {
        self.unwatch(&txid);
        self.watched.insert(txid, Watched { seen: true, height });
        if let Some(height) = height {
            self.mined.entry(height).or_default().insert(txid);
        }
    }

    /// Tells no more of a transaction.
    pub fn unwatch(&mut self, txid: &Txid) {
        if let Some(Watched { height: Some(height), .. }) = self.watched.remove(txid)
            && let Some(txids) = self.mined.get_mut(&height)
        {
            txids.remove(txid);
            if txids.is_empty() {
                self.mined.remove(&height);
            }
        }
    }

    /// The height at which a watched transaction is mined.
    pub fn height(&self, txid: &Txid) -> Option<i32> {
        self.watched.get(txid)?.height
    }

    /// What a chain event changes; `txids` are those of its transactions.
    pub fn block(
        &mut self,
        event: &ChainEvent,
        txids: impl IntoIterator<Item = Txid>,
    ) -> Vec<(Txid, Confirmation)> {
        match event.action {
            Action::Connected => self.connect(event.height, txids),
            Action::Disconnected => self.disconnect(event.height),
        }
    }

    fn connect(&mut self, height: i32, txids: impl IntoIterator<Item = Txid>) -> Vec<(Txid, Confirmation)> {
        let mut told = Vec::new();
        for txid in txids {
            let Some(watched) = self.watched.get_mut(&txid) else { continue };
            if !std::mem::replace(&mut watched.seen, true) {
                told.push((txid, Confirmation::Seen));
            }
            watched.height = Some(height);
            self.mined.entry(height).or_default().insert(txid);
        }
        for depth in &self.depths {
            let confirmed = self.at_depth(*depth, height);
            told.extend(confirmed.map(|txid| (txid, Confirmation::Confirmed(*depth))));
        }
        told
    }

    fn disconnect(&mut self, height: i32) -> Vec<(Txid, Confirmation)> {
        let mut told = Vec::new();
        for depth in self.depths.iter().rev() {
            let reverted = self.at_depth(*depth, height);
            told.extend(reverted.map(|txid| (txid, Confirmation::Reverted(*depth))));
        }
        for txid in self.mined.remove(&height).unwrap_or_default() {
            if let Some(watched) = self.watched.get_mut(&txid) {
                watched.height = None;
            }
        }
        told
    }

    /// What a change of the mempool changes. That a transaction leaves it is no news of its depth.
    pub fn mempool(&mut self, event: &MempoolEvent) -> Option<(Txid, Confirmation)> {
        let watched = self.watched.get_mut(&event.txid).filter(|_| event.kind == MempoolKind::Added)?;
        let is_new = !std::mem::replace(&mut watched.seen, true);
        is_new.then_some((event.txid, Confirmation::Seen))
    }

    /// The transactions that are exactly this deep under a tip.
    fn at_depth(&self, depth: u32, tip: i32) -> impl Iterator<Item = Txid> + use<'_> {
        let height = i64::from(tip) + 1 - i64::from(depth);
        let txids = i32::try_from(height).ok().and_then(|height| self.mined.get(&height));
        txids.into_iter().flatten().copied()
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::hashes::Hash;
    use proptest::prelude::*;

    use super::*;

    const DEPTHS: [u32; 3] = [1, 2, 6];
    const WATCHED: u8 = 4;

    fn txid(number: u8) -> Txid {
        Txid::from_byte_array([number; 32])
    }

    /// A chain that grows and shrinks by chance: `Some` connects a block with those of these transactions that are not
    /// mined yet, `None` disconnects the tip.
    fn steps() -> impl Strategy<Value = Vec<Option<Vec<u8>>>> {
        let block = prop::collection::vec(0..WATCHED * 2, 0..3);
        prop::collection::vec(prop_oneof![3 => block.prop_map(Some), 2 => Just(None)], 0..60)
    }

    /// The depth that each transaction has in a chain of blocks.
    fn depths(chain: &[Vec<u8>]) -> HashMap<Txid, usize> {
        let blocks = chain.iter().rev().enumerate();
        blocks.flat_map(|(below, txids)| txids.iter().map(move |number| (txid(*number), below + 1))).collect()
    }

    proptest! {
        #[test]
        fn what_was_told_adds_up_to_the_chain_as_it_is(steps in steps(), restart in 0..60_usize) {
            let mut confirmations = Confirmations::new(&DEPTHS);
            (0..WATCHED).for_each(|number| confirmations.watch(txid(number)));
            let mut chain: Vec<Vec<u8>> = Vec::new();
            let mut holds: HashSet<(Txid, u32)> = HashSet::new();
            let mut seen = HashSet::new();
            for (index, step) in steps.into_iter().enumerate() {
                if index == restart {
                    let known: Vec<_> = confirmations.watched.iter().map(|(txid, at)| (*txid, *at)).collect();
                    confirmations = Confirmations::new(&DEPTHS);
                    for (txid, Watched { seen, height }) in known {
                        if seen { confirmations.restore(txid, height) } else { confirmations.watch(txid) }
                    }
                }
                let told = match step {
                    Some(mut numbers) => {
                        numbers.sort_unstable();
                        numbers.dedup();
                        numbers.retain(|number| !chain.iter().flatten().any(|mined| mined == number));
                        let told = confirmations.connect(chain.len() as i32, numbers.iter().map(|n| txid(*n)));
                        chain.push(numbers);
                        told
                    }
                    None if chain.is_empty() => continue,
                    None => {
                        chain.pop();
                        confirmations.disconnect(chain.len() as i32)
                    }
                };
                for (txid, what) in told {
                    match what {
                        Confirmation::Seen => prop_assert!(seen.insert(txid), "seen twice"),
                        Confirmation::Confirmed(depth) => prop_assert!(holds.insert((txid, depth)), "told twice"),
                        Confirmation::Reverted(depth) => prop_assert!(holds.remove(&(txid, depth)), "never told"),
                    }
                }
                let depths = depths(&chain);
                let expected: HashSet<_> = (0..WATCHED)
                    .map(txid)
                    .flat_map(|txid| DEPTHS.map(|depth| (txid, depth)))
                    .filter(|(txid, depth)| depths.get(txid).is_some_and(|found| *found >= *depth as usize))
                    .collect();
                prop_assert_eq!(&holds, &expected);
            }
        }
    }

    #[test]
    fn a_reorg_takes_back_the_deepest_first_and_tells_it_again() {
        let mut confirmations = Confirmations::new(&[2, 1, 1, 0]);
        confirmations.watch(txid(1));
        let connect = |confirmations: &mut Confirmations, height, txids: &[Txid]| {
            confirmations
                .connect(height, txids.iter().copied())
                .into_iter()
                .map(|(_, what)| what)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            connect(&mut confirmations, 5, &[txid(1), txid(2)]),
            [Confirmation::Seen, Confirmation::Confirmed(1)]
        );
        assert_eq!(connect(&mut confirmations, 6, &[]), [Confirmation::Confirmed(2)]);
        assert_eq!(confirmations.disconnect(6), [(txid(1), Confirmation::Reverted(2))]);
        assert_eq!(confirmations.disconnect(5), [(txid(1), Confirmation::Reverted(1))]);
        assert_eq!(confirmations.height(&txid(1)), None);
        assert_eq!(connect(&mut confirmations, 5, &[]), []);
        assert_eq!(connect(&mut confirmations, 6, &[txid(1)]), [Confirmation::Confirmed(1)]);
        confirmations.unwatch(&txid(1));
        assert_eq!(connect(&mut confirmations, 7, &[txid(1)]), []);
        assert!(confirmations.mined.is_empty());
    }
}
