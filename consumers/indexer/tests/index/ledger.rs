//! The best chain, read off a log by the simplest means.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bitcoin::{BlockHash, OutPoint, Txid};
use sluice_consumer_testkit::TestLog;
use sluice_indexer::ScriptHash;
use sluice_indexer::query::Activity;
use sluice_schemas::{Flavour, Transaction};

/// A transaction and its block.
pub(crate) struct Placed {
    pub(crate) transaction: Transaction,
    pub(crate) height: i32,
    pub(crate) block: BlockHash,
}

/// Everything that is on the best chain.
#[derive(Default)]
pub(crate) struct Ledger {
    pub(crate) blocks: HashMap<BlockHash, Vec<Txid>>,
    pub(crate) transactions: BTreeMap<Txid, Placed>,
    pub(crate) spends: HashMap<OutPoint, (Txid, u32)>,
    /// What transactions do to each script, in the order of the chain.
    pub(crate) scripts: HashMap<ScriptHash, Vec<(Txid, Activity)>>,
    outputs: BTreeMap<OutPoint, (ScriptHash, i64)>,
    pub(crate) addresses: BTreeSet<String>,
}

impl Ledger {
    pub(crate) fn read(log: &TestLog) -> Self {
        let mut ledger = Self::default();
        let flavour = log.network().flavour();
        for event in log.best_chain() {
            for transaction in log.chain.transactions(event).unwrap() {
                ledger.take(transaction.unwrap().transaction, event.height, event.hash, flavour);
            }
        }
        ledger
    }

    fn take(&mut self, transaction: Transaction, height: i32, block: BlockHash, flavour: Flavour) {
        let txid = transaction.txid;
        let mut touched: BTreeMap<ScriptHash, Activity> = BTreeMap::new();
        for (vout, output) in transaction.outputs.iter().enumerate() {
            let carries_data: &[u8] = if flavour == Flavour::Bsv { &[0x00, 0x6a] } else { &[0x6a] };
            if output.script_pubkey.starts_with(carries_data) {
                continue;
            }
            let script = ScriptHash::of(&output.script_pubkey);
            self.outputs.insert(OutPoint { txid, vout: vout as u32 }, (script, output.value));
            self.addresses.extend(output.address.clone());
            let activity = touched.entry(script).or_default();
            activity.funded_txo_count += 1;
            activity.funded_txo_sum += output.value;
        }
        for (vin, input) in transaction.inputs.iter().enumerate().filter(|_| !transaction.coinbase) {
            let outpoint = OutPoint { txid: input.prev_txid, vout: input.prev_vout as u32 };
            let (script, value) = self.outputs[&outpoint];
            self.spends.insert(outpoint, (txid, vin as u32));
            let activity = touched.entry(script).or_default();
            activity.spent_txo_count += 1;
            activity.spent_txo_sum += value;
        }
        for (script, activity) in touched {
            self.scripts.entry(script).or_default().push((txid, Activity { tx_count: 1, ..activity }));
        }
        self.blocks.entry(block).or_default().push(txid);
        self.transactions.insert(txid, Placed { transaction, height, block });
    }

    /// What nothing on the chain spends.
    pub(crate) fn unspent(&self, script: &ScriptHash) -> impl Iterator<Item = (OutPoint, i64)> {
        let its = self.outputs.iter().filter(move |(_, (of, _))| of == script);
        its.filter(|(outpoint, _)| !self.spends.contains_key(outpoint))
            .map(|(outpoint, (_, value))| (*outpoint, *value))
    }
}
