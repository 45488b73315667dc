//! `/tx/:txid/…-proof`: that a transaction is in a block, in three forms.

use serde::Serialize;

use super::blocks::{TXIDS, missing};
use super::error::Error;
use super::json::Shown;
use super::out::{Freshness, Out};
use super::params;
use super::script::Hex;
use super::serve::Ask;
use crate::merkle::{Branch, BranchBuilder};
use crate::query::Block;

/// As Electrum's `blockchain.transaction.get_merkle`.
pub(super) fn electrum(ask: &Ask, out: &mut Out, txid: &str) -> Result<(), Error> {
    #[derive(Serialize)]
    struct Proof {
        block_height: i32,
        merkle: Vec<Shown<bitcoin::TxMerkleNode>>,
        pos: u64,
    }
    let (branch, block, freshness) = find(ask, out, txid)?;
    let merkle = branch.electrum().into_iter().map(Shown).collect();
    out.json(freshness, &Proof { block_height: block.event.height, merkle, pos: branch.position })
}

/// As Bitcoin Core's `gettxoutproof`.
pub(super) fn merkle_block(ask: &Ask, out: &mut Out, txid: &str) -> Result<(), Error> {
    let (branch, block, freshness) = find(ask, out, txid)?;
    out.text(freshness, Hex(&branch.merkle_block(&block.event.header)))
}

/// As BRC-74 has it, in hexadecimal digits.
pub(super) fn bump(ask: &Ask, out: &mut Out, txid: &str) -> Result<(), Error> {
    let (branch, block, freshness) = find(ask, out, txid)?;
    let height = u64::from(block.event.height.unsigned_abs());
    out.text(freshness, Hex(&branch.bump(height)))
}

fn find(ask: &Ask, out: &Out, txid: &str) -> Result<(Branch, Block, Freshness), Error> {
    let not_found = Error::NotFound("Transaction not found or is unconfirmed");
    let confirmed = ask.view.locate(&params::txid(txid)?)?.ok_or(not_found)?;
    let height = i32::try_from(confirmed.place.height).unwrap_or(i32::MAX);
    let block = ask.view.block_at(height)?.ok_or(Error::NotFound("Block not found"))?;
    let count = block.event.tx_count;
    let mut branch = BranchBuilder::new(u64::from(confirmed.place.position), count.unsigned_abs())?;
    for start in (0..count).step_by(TXIDS) {
        let txids = ask.view.txids(&block, start, TXIDS)?;
        txids.iter().for_each(|txid| branch.push(txid));
        out.in_time()?;
    }
    let branch = branch.finish()?;
    if branch.txid != confirmed.txid {
        return Err(missing(&block.event.hash));
    }
    Ok((branch, block, ask.freshness(Some(height))))
}
