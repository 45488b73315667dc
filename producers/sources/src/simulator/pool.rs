//! The mempool of the simulated world.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bitcoin::{OutPoint, Txid};

use super::chance::Chance;
use super::transaction::SimTransaction;

/// Unconfirmed transactions in the order in which they came: parents before children.
#[derive(Default)]
pub(super) struct Pool {
    next: u64,
    order: BTreeMap<u64, Arc<SimTransaction>>,
    places: HashMap<Txid, u64>,
    spenders: HashMap<OutPoint, u64>,
}

impl Pool {
    /// An empty pool that numbers its entries from `next` on.
    pub(super) fn from_number(next: u64) -> Self {
        Self { next, ..Self::default() }
    }

    /// Goes on numbering with `next`.
    pub(super) fn number_from(&mut self, next: u64) {
        self.next = next;
    }

    /// Number of the next entry.
    pub(super) fn next_number(&self) -> u64 {
        self.next
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    /// All with their numbers, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Arc<SimTransaction>)> {
        self.order.iter().map(|(number, transaction)| (*number, transaction))
    }

    /// One of them.
    pub(super) fn get(&self, txid: &Txid) -> Option<&Arc<SimTransaction>> {
        self.order.get(self.places.get(txid)?)
    }

    /// Whether it is there.
    pub(super) fn contains(&self, txid: &Txid) -> bool {
        self.places.contains_key(txid)
    }

    /// One by chance; not each is as likely as the others.
    pub(super) fn pick(&self, chance: &mut Chance) -> Option<&Arc<SimTransaction>> {
        let (first, last) = (*self.order.first_key_value()?.0, *self.order.last_key_value()?.0);
        self.order.range(chance.between(first, last)..).next().map(|(_, transaction)| transaction)
    }

    /// Adds one that spends nothing which another spends.
    pub(super) fn push(&mut self, transaction: Arc<SimTransaction>) {
        self.place(self.next, transaction);
    }

    /// Adds one under a number, at least that of [`Pool::next_number`].
    pub(super) fn place(&mut self, number: u64, transaction: Arc<SimTransaction>) {
        self.next = self.next.max(number + 1);
        self.places.insert(transaction.txid, number);
        for input in &transaction.transaction.input {
            self.spenders.insert(input.previous_output, number);
        }
        self.order.insert(number, transaction);
    }

    /// Takes one out.
    pub(super) fn remove(&mut self, txid: &Txid) -> Option<Arc<SimTransaction>> {
        let transaction = self.order.remove(&self.places.remove(txid)?)?;
        for input in &transaction.transaction.input {
            self.spenders.remove(&input.previous_output);
        }
        Some(transaction)
    }

    /// A transaction and all that spend its outputs, children before parents.
    pub(super) fn with_descendants(&self, txid: &Txid) -> Vec<Arc<SimTransaction>> {
        let mut found: BTreeSet<u64> = self.places.get(txid).copied().into_iter().collect();
        let mut todo: Vec<u64> = found.iter().copied().collect();
        while let Some(transaction) = todo.pop().and_then(|number| self.order.get(&number)) {
            for vout in 0..transaction.transaction.output.len() as u32 {
                let outpoint = OutPoint { txid: transaction.txid, vout };
                if let Some(&spender) = self.spenders.get(&outpoint)
                    && found.insert(spender)
                {
                    todo.push(spender);
                }
            }
        }
        found.iter().rev().filter_map(|number| self.order.get(number)).cloned().collect()
    }

    /// The same transactions behind others that come first.
    pub(super) fn behind(self, first: impl IntoIterator<Item = Arc<SimTransaction>>) -> Self {
        let mut pool = Self::from_number(self.next);
        first.into_iter().chain(self.order.into_values()).for_each(|transaction| pool.push(transaction));
        pool
    }
}
