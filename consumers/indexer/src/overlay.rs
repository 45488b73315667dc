//! The mempool, in memory: rebuilt from the log at each start.

use std::sync::Arc;

use bitcoin::{OutPoint, Txid};
use rpds::{HashTrieMapSync, RedBlackTreeMapSync};
use sluice_schemas::{Flavour, Transaction};

use crate::ScriptHash;
use crate::query::{Activity, Unspent};
use crate::rows::is_spendable;

/// How many of the newest transactions `recent` gives at most.
pub const RECENT: usize = 10;

/// Virtual bytes that one bin of `fee_histogram` has at least.
const BIN_VSIZE: i64 = 50_000;

/// The mempool at one moment. Clones share what they have in common, so that a clone costs nothing and stays as it is
/// while the mempool goes on.
#[derive(Clone, Debug, Default)]
pub struct Overlay {
    entries: HashTrieMapSync<Txid, Arc<Entry>>,
    arrivals: RedBlackTreeMapSync<u64, Txid>,
    spends: HashTrieMapSync<OutPoint, (Txid, u32)>,
    scripts: HashTrieMapSync<ScriptHash, RedBlackTreeMapSync<u64, Txid>>,
    next_arrival: u64,
    vsize: i64,
    fees: i64,
}

/// A transaction of the mempool.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The transaction. Prevouts that the node does not tell are `None`.
    pub transaction: Transaction,
    /// Fee in satoshis; `None` while the value of any input is unknown.
    pub fee: Option<i64>,
    /// Virtual size: a quarter of the weight, rounded up; the size where the chain has no witnesses.
    pub vsize: i64,
    /// When the producer first saw it, milliseconds since the Unix epoch.
    pub first_seen: i64,
    /// Grows with each arrival.
    pub arrival: u64,
    /// What it does to each script.
    pub scripts: Box<[(ScriptHash, Activity)]>,
}

impl Overlay {
    /// How many transactions there are.
    pub fn count(&self) -> usize {
        self.entries.size()
    }

    /// Sum of their virtual sizes.
    pub fn vsize(&self) -> i64 {
        self.vsize
    }

    /// Sum of the fees that are known, in satoshis.
    pub fn fees(&self) -> i64 {
        self.fees
    }

    /// One transaction.
    pub fn get(&self, txid: &Txid) -> Option<&Arc<Entry>> {
        self.entries.get(txid)
    }

    /// All transactions, oldest arrival first.
    pub fn entries(&self) -> impl DoubleEndedIterator<Item = &Arc<Entry>> {
        self.arrivals.values().filter_map(|txid| self.entries.get(txid))
    }

    /// The newest arrivals, newest first; `RECENT` at most.
    pub fn recent(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.entries().rev().take(RECENT)
    }

    /// The transactions that pay or spend a script, newest first.
    pub fn of_script(&self, script: &ScriptHash) -> impl Iterator<Item = &Arc<Entry>> {
        let txids = self.scripts.get(script).into_iter().flat_map(|txids| txids.values().rev());
        txids.filter_map(|txid| self.entries.get(txid))
    }

    /// What the mempool does to a script, in sum.
    pub fn activity(&self, script: &ScriptHash) -> Activity {
        let mut sum = Activity::default();
        for entry in self.of_script(script) {
            // Ordered by script, as they are collected.
            if let Ok(index) = entry.scripts.binary_search_by_key(script, |(of, _)| *of) {
                sum.add(&entry.scripts[index].1);
            }
        }
        sum
    }

    /// The transaction that spends an output, and by which input.
    pub fn spender(&self, outpoint: &OutPoint) -> Option<(Txid, u32)> {
        self.spends.get(outpoint).copied()
    }

    /// The outputs to a script that nothing in the mempool spends.
    pub fn unspent(&self, script: &ScriptHash) -> impl Iterator<Item = Unspent> {
        self.of_script(script).flat_map(move |entry| {
            let Transaction { txid, outputs, .. } = &entry.transaction;
            let outpoints = outputs
                .iter()
                .enumerate()
                .map(|(vout, output)| (OutPoint { txid: *txid, vout: vout as u32 }, output));
            outpoints.filter_map(move |(outpoint, output)| {
                let is_its = ScriptHash::of(&output.script_pubkey) == *script;
                let unspent = Unspent { outpoint, value: output.value, confirmation: None };
                (is_its && self.spender(&outpoint).is_none()).then_some(unspent)
            })
        })
    }

    /// Virtual size by fee rate, highest first: `(satoshis per virtual byte, virtual bytes)` in bins of about 50,000
    /// virtual bytes, as Esplora's `fee_histogram`. The rate is the lowest in its bin. Without transactions whose fee is
    /// unknown.
    pub fn fee_histogram(&self) -> Vec<(f64, i64)> {
        let rate = |entry: &Arc<Entry>| Some((entry.fee? as f64 / entry.vsize.max(1) as f64, entry.vsize));
        let mut rates: Vec<_> = self.entries.values().filter_map(rate).collect();
        rates.sort_unstable_by(|(a, _), (b, _)| b.total_cmp(a));
        let mut bins = Vec::new();
        let mut filled = 0;
        let mut last = None;
        for (rate, vsize) in rates {
            // A rate is never split between two bins.
            if filled > BIN_VSIZE && last != Some(rate) {
                bins.extend(last.map(|last| (last, filled)));
                filled = 0;
            }
            filled += vsize;
            last = Some(rate);
        }
        bins.extend(last.map(|last| (last, filled)));
        bins
    }

    /// Takes a transaction in. One that is there already stays as it is.
    pub(crate) fn add(
        &mut self,
        transaction: Transaction,
        fee: Option<i64>,
        first_seen: i64,
        scripts: Box<[(ScriptHash, Activity)]>,
    ) {
        let txid = transaction.txid;
        if self.entries.contains_key(&txid) {
            return;
        }
        let arrival = self.next_arrival;
        self.next_arrival += 1;
        for (vin, input) in transaction.inputs.iter().enumerate() {
            let outpoint = OutPoint { txid: input.prev_txid, vout: input.prev_vout as u32 };
            self.spends.insert_mut(outpoint, (txid, vin as u32));
        }
        for (script, _) in &scripts {
            let mut txids = self.scripts.get(script).cloned().unwrap_or_default();
            txids.insert_mut(arrival, txid);
            self.scripts.insert_mut(*script, txids);
        }
        let vsize = vsize(&transaction);
        self.vsize += vsize;
        self.fees += fee.unwrap_or(0);
        self.arrivals.insert_mut(arrival, txid);
        self.entries
            .insert_mut(txid, Arc::new(Entry { transaction, fee, vsize, first_seen, arrival, scripts }));
    }

    /// Lets a transaction go, and gives it.
    pub(crate) fn remove(&mut self, txid: &Txid) -> Option<Arc<Entry>> {
        let entry = self.entries.get(txid)?.clone();
        self.entries.remove_mut(txid);
        self.arrivals.remove_mut(&entry.arrival);
        self.vsize -= entry.vsize;
        self.fees -= entry.fee.unwrap_or(0);
        for input in &entry.transaction.inputs {
            let outpoint = OutPoint { txid: input.prev_txid, vout: input.prev_vout as u32 };
            // A replacement may have come before the replaced one left.
            if self.spender(&outpoint).is_some_and(|(spender, _)| spender == *txid) {
                self.spends.remove_mut(&outpoint);
            }
        }
        for (script, _) in &entry.scripts {
            let Some(txids) = self.scripts.get(script) else { continue };
            let txids = txids.remove(&entry.arrival);
            match txids.is_empty() {
                true => self.scripts.remove_mut(script),
                false => {
                    self.scripts.insert_mut(*script, txids);
                    true
                }
            };
        }
        Some(entry)
    }

    /// The output that an outpoint names, where a transaction of the mempool has it and it can be spent.
    pub(crate) fn output(&self, outpoint: &OutPoint, flavour: Flavour) -> Option<&sluice_schemas::Output> {
        let outputs = &self.get(&outpoint.txid)?.transaction.outputs;
        outputs.get(outpoint.vout as usize).filter(|output| is_spendable(&output.script_pubkey, flavour))
    }
}

fn vsize(transaction: &Transaction) -> i64 {
    match transaction.weight {
        Some(weight) => weight.saturating_add(3) / 4,
        None => transaction.size,
    }
}
