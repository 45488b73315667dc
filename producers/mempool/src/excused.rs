//! Transactions about which the source is known to say one thing in its feed and another in its snapshot.

use std::collections::{HashSet, VecDeque};

use bitcoin::Txid;

use crate::MAX_EXCUSED;

/// Transactions of which a difference between feed and snapshot is no loss: announced and not taken in, because they
/// are not final, or because a block that has them was published first. The oldest are forgotten first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Excused {
    txids: HashSet<Txid>,
    order: VecDeque<Txid>,
}

impl Excused {
    pub(crate) fn insert(&mut self, txid: Txid) {
        if self.txids.insert(txid) {
            self.order.push_back(txid);
        }
        // `order` may name transactions that were taken; they count, so that it is bounded too.
        while self.order.len() > MAX_EXCUSED {
            if let Some(oldest) = self.order.pop_front() {
                self.txids.remove(&oldest);
            }
        }
    }

    pub(crate) fn contains(&self, txid: &Txid) -> bool {
        self.txids.contains(txid)
    }

    pub(crate) fn take(&mut self, txid: &Txid) -> bool {
        self.txids.remove(txid)
    }
}
