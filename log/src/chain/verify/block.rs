//! The transactions of one block, one by one: ids, content, sums.

use sluice_schemas::{ChainEvent, Transaction};

use super::{Depth, Invariant, header};
use crate::chain::{MerkleRoot, MerkleTree};

/// What was broken, and how.
type Finding = (Invariant, String);

/// Bytes of a block header.
const HEADER_BYTES: i64 = 80;

/// A block under audit.
pub(super) struct BlockCheck {
    depth: Depth,
    merkle: MerkleTree,
    count: u64,
    size: i64,
    weight: Option<i64>,
}

impl BlockCheck {
    pub(super) fn new(depth: Depth) -> Self {
        Self { depth, merkle: MerkleTree::default(), count: 0, size: 0, weight: Some(0) }
    }

    /// Takes the next transaction.
    pub(super) fn add(&mut self, transaction: &Transaction) -> Result<(), Finding> {
        if self.depth == Depth::Content {
            transaction.verify().map_err(|mismatch| (Invariant::I5, mismatch.to_string()))?;
            check_fee(transaction).map_err(|reason| (Invariant::I4, reason))?;
        }
        self.merkle.push(&transaction.txid);
        self.count += 1;
        self.size = self.size.saturating_add(transaction.size);
        self.weight = self.weight.zip(transaction.weight).map(|(sum, weight)| sum.saturating_add(weight));
        Ok(())
    }

    /// Compares with the event after the last transaction.
    pub(super) fn finish(self, event: &ChainEvent) -> Result<(), Finding> {
        let root = header::merkle_root(event).map_err(|reason| (Invariant::I5, reason))?;
        match self.merkle.root() {
            Some(MerkleRoot::Unique(found)) if found == root => {}
            Some(MerkleRoot::Unique(found)) => {
                let reason = format!("the merkle root of its transactions is {found}, the header has {root}");
                return Err((Invariant::I5, reason));
            }
            Some(MerkleRoot::Ambiguous(_)) => {
                let reason = "transactions are repeated at the end of the block (CVE-2012-2459)";
                return Err((Invariant::I5, reason.to_owned()));
            }
            None => return Err((Invariant::I4, "a block without transactions".to_owned())),
        }
        let overhead = HEADER_BYTES + compact_size_bytes(self.count);
        let size = self.size.saturating_add(overhead);
        if size != event.size {
            return Err((Invariant::I4, format!("size is {}, the transactions make {size}", event.size)));
        }
        let weight = self.weight.map(|weight| weight.saturating_add(4 * overhead));
        if weight != event.weight {
            let reason = format!("weight is {:?}, the transactions make {weight:?}", event.weight);
            return Err((Invariant::I4, reason));
        }
        Ok(())
    }
}

/// The fee is what is spent less what is paid, or null.
fn check_fee(transaction: &Transaction) -> Result<(), String> {
    let Some(fee) = transaction.fee else { return Ok(()) };
    if transaction.coinbase {
        return match fee {
            0 => Ok(()),
            _ => Err(format!("coinbase {} has a fee of {fee}", transaction.txid)),
        };
    }
    // In 128 bits, for the values are whatever the log says.
    let paid: i128 = transaction.outputs.iter().map(|output| i128::from(output.value)).sum();
    let spent: Option<i128> = transaction
        .inputs
        .iter()
        .map(|input| input.prevout.as_ref().map(|prevout| i128::from(prevout.value)))
        .sum();
    match spent {
        Some(spent) if spent - paid == i128::from(fee) => Ok(()),
        Some(spent) => Err(format!(
            "transaction {} has a fee of {fee}, but spends {spent} and pays {paid}",
            transaction.txid
        )),
        None => Err(format!("transaction {} has a fee, though not every prevout is known", transaction.txid)),
    }
}

/// Bytes of a count on the wire.
fn compact_size_bytes(count: u64) -> i64 {
    match count {
        ..0xfd => 1,
        0xfd..0x1_0000 => 3,
        0x1_0000..0x1_0000_0000 => 5,
        _ => 9,
    }
}
