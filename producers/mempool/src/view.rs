//! The transactions known, their state, and who spends what.

use std::collections::{BTreeMap, HashMap};

use bitcoin::{OutPoint, Txid};
use sluice_schemas::Transaction;

/// Where a transaction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// The source has it; its body is not here yet.
    Wanted,
    /// The source had no body when asked: it left, and word of that is under way.
    Gone,
    /// Published as added.
    Published,
    /// Published as added; the source does not have it any more, and why is not known yet.
    Leaving { order: u64 },
}

/// What is kept of a transaction: no more than conflicts and removals need.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) state: State,
    pub(crate) first_seen: i64,
    /// Grows with each transaction heard of: of two that conflict the later one is in the mempool.
    pub(crate) order: u64,
    /// Whether it is wanted to repair a gap.
    pub(crate) repairs: bool,
    outputs: u32,
    spends: Box<[OutPoint]>,
}

/// The outputs that a transaction spends.
pub(crate) fn spends(transaction: &Transaction) -> impl Iterator<Item = OutPoint> + '_ {
    transaction.inputs.iter().map(|input| OutPoint {
        txid: input.prev_txid,
        vout: u32::try_from(input.prev_vout).unwrap_or(u32::MAX),
    })
}

/// The transactions known.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    entries: HashMap<Txid, Entry>,
    spenders: HashMap<OutPoint, Txid>,
    /// Those in `State::Leaving`, oldest first, with the time since when.
    leaving: BTreeMap<u64, (i64, Txid)>,
    order: u64,
    published: usize,
}

impl View {
    pub(crate) fn get(&self, txid: &Txid) -> Option<&Entry> {
        self.entries.get(txid)
    }

    pub(crate) fn get_mut(&mut self, txid: &Txid) -> Option<&mut Entry> {
        self.entries.get_mut(txid)
    }

    pub(crate) fn spender_of(&self, outpoint: &OutPoint) -> Option<Txid> {
        self.spenders.get(outpoint).copied()
    }

    /// Transactions known, published or not.
    pub(crate) fn known(&self) -> usize {
        self.entries.len()
    }

    /// Transactions published as added.
    pub(crate) fn published(&self) -> usize {
        self.published
    }

    pub(crate) fn is_published(&self, txid: &Txid) -> bool {
        matches!(self.state(txid), Some(State::Published | State::Leaving { .. }))
    }

    /// Whether the source has it, as far as the feed tells.
    pub(crate) fn is_present(&self, txid: &Txid) -> bool {
        matches!(self.state(txid), Some(State::Wanted | State::Gone | State::Published))
    }

    pub(crate) fn state(&self, txid: &Txid) -> Option<State> {
        self.entries.get(txid).map(|entry| entry.state)
    }

    /// All transactions that the source has, as far as the feed tells.
    pub(crate) fn present(&self) -> impl Iterator<Item = (&Txid, State)> {
        let present = |(txid, entry): (_, &Entry)| (txid, entry.state);
        self.entries.iter().map(present).filter(|(_, state)| !matches!(state, State::Leaving { .. }))
    }

    /// Takes in a transaction without its body.
    pub(crate) fn want(&mut self, txid: Txid, now: i64, repairs: bool) {
        self.order += 1;
        let order = self.order;
        self.entries.entry(txid).or_insert(Entry {
            state: State::Wanted,
            first_seen: now,
            order,
            repairs,
            outputs: 0,
            spends: Box::default(),
        });
    }

    /// The other transactions known that spend what this one does.
    pub(crate) fn rivals(&self, transaction: &Transaction) -> Vec<Txid> {
        let mut rivals = Vec::new();
        for rival in spends(transaction).filter_map(|outpoint| self.spender_of(&outpoint)) {
            if rival != transaction.txid && !rivals.contains(&rival) {
                rivals.push(rival);
            }
        }
        rivals
    }

    /// Notes the body of a wanted transaction, which is published from now on.
    pub(crate) fn publish(&mut self, transaction: &Transaction) {
        let Some(entry) = self.entries.get_mut(&transaction.txid) else { return };
        entry.state = State::Published;
        entry.outputs = u32::try_from(transaction.outputs.len()).unwrap_or(u32::MAX);
        entry.spends = spends(transaction).collect();
        self.published += 1;
        for outpoint in &entry.spends {
            self.spenders.insert(*outpoint, transaction.txid);
        }
    }

    /// Holds a published transaction back that left for a reason not known yet.
    pub(crate) fn leave(&mut self, txid: Txid, now: i64) {
        self.order += 1;
        if let Some(entry) = self.entries.get_mut(&txid)
            && entry.state == State::Published
        {
            entry.state = State::Leaving { order: self.order };
            self.leaving.insert(self.order, (now, txid));
        }
    }

    /// Takes a departure back: the source has the transaction again.
    pub(crate) fn stay(&mut self, txid: &Txid) {
        if let Some(entry) = self.entries.get_mut(txid)
            && let State::Leaving { order } = entry.state
        {
            entry.state = State::Published;
            self.leaving.remove(&order);
        }
    }

    pub(crate) fn oldest_leaving(&self) -> Option<(i64, Txid)> {
        self.leaving.first_key_value().map(|(_, leaving)| *leaving)
    }

    pub(crate) fn leaving(&self) -> usize {
        self.leaving.len()
    }

    /// Forgets a transaction.
    pub(crate) fn remove(&mut self, txid: &Txid) -> Option<Entry> {
        let entry = self.entries.remove(txid)?;
        for outpoint in &entry.spends {
            if self.spenders.get(outpoint) == Some(txid) {
                self.spenders.remove(outpoint);
            }
        }
        match entry.state {
            State::Leaving { order } => {
                self.leaving.remove(&order);
                self.published -= 1;
            }
            State::Published => self.published -= 1,
            State::Wanted | State::Gone => {}
        }
        Some(entry)
    }

    /// A published transaction and all published ones that descend from it, children before their parents.
    pub(crate) fn family(&self, txid: Txid) -> Vec<Txid> {
        let mut family = vec![txid];
        let mut seen = std::collections::HashSet::from([txid]);
        let mut next = 0;
        while let Some(parent) = family.get(next).copied() {
            next += 1;
            let outputs = self.entries.get(&parent).map_or(0, |entry| entry.outputs);
            for vout in 0..outputs {
                if let Some(child) = self.spender_of(&OutPoint { txid: parent, vout })
                    && seen.insert(child)
                {
                    family.push(child);
                }
            }
        }
        family.reverse();
        family
    }
}
