//! The mempool of the node that a log would have come from.

use std::collections::HashSet;

use bitcoin::{Transaction, Txid};
use sluice_schemas::Transaction as TransactionFields;

use crate::coins::Coins;

/// Transactions that wait, parents before children.
#[derive(Default)]
pub(crate) struct Pool {
    pub(crate) transactions: Vec<Transaction>,
}

/// How the pool has changed.
pub(crate) struct PoolChange {
    pub(crate) added: Vec<TransactionFields>,
    pub(crate) removed: Vec<Txid>,
}

impl Pool {
    /// Coins as they would be were the whole pool in the next block.
    pub(crate) fn coins(&self, confirmed: &Coins, height: i32) -> Coins {
        let mut coins = confirmed.clone();
        self.transactions.iter().for_each(|transaction| drop(coins.take(transaction, height)));
        coins
    }

    /// What of `before` and the pool can still be, given what is confirmed; the rest leaves.
    pub(crate) fn settle(&mut self, before: Vec<Transaction>, confirmed: &Coins, height: i32) -> PoolChange {
        let was: HashSet<_> = self.transactions.iter().map(Transaction::compute_txid).collect();
        let mut candidates = before;
        candidates.append(&mut self.transactions);
        let mut coins = confirmed.clone();
        let mut added = Vec::new();
        let mut is = HashSet::new();
        for transaction in candidates {
            if let Some(fields) = coins.take(&transaction, height) {
                is.insert(fields.txid);
                self.transactions.push(transaction);
                if !was.contains(&fields.txid) {
                    added.push(fields);
                }
            }
        }
        let mut removed: Vec<_> = was.difference(&is).copied().collect();
        removed.sort_unstable();
        PoolChange { added, removed }
    }
}
