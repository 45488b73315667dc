//! `/mempool…` and `/fee-estimates`.

use bitcoin::Txid;
use serde::Serialize;

use super::error::Error;
use super::fees;
use super::json::Shown;
use super::out::{Freshness, Out};
use super::serve::Ask;

/// Blocks whose sizes tell how much fits into the next one.
const RECENT_BLOCKS: usize = 12;

pub(super) fn summary(ask: &Ask, out: &mut Out) -> Result<(), Error> {
    #[derive(Serialize)]
    struct Summary {
        count: usize,
        vsize: i64,
        total_fee: i64,
        fee_histogram: Vec<(f64, i64)>,
    }
    let mempool = ask.view.mempool();
    let summary = Summary {
        count: mempool.count(),
        vsize: mempool.vsize(),
        total_fee: mempool.fees(),
        fee_histogram: mempool.fee_histogram(),
    };
    out.json(Freshness::Changing, &summary)
}

pub(super) fn txids(ask: &Ask, out: &mut Out) -> Result<(), Error> {
    let txids = ask.view.mempool().entries().map(|entry| Ok(Shown(entry.transaction.txid)));
    out.json_array(Freshness::Changing, txids)
}

pub(super) fn recent(ask: &Ask, out: &mut Out) -> Result<(), Error> {
    #[derive(Serialize)]
    struct Recent {
        txid: Shown<Txid>,
        /// Null while a prevout is unknown.
        fee: Option<i64>,
        vsize: i64,
        value: i64,
    }
    let recent = ask.view.mempool().recent().map(|entry| {
        let value = entry.transaction.outputs.iter().map(|output| output.value).sum();
        Ok(Recent { txid: Shown(entry.transaction.txid), fee: entry.fee, vsize: entry.vsize, value })
    });
    out.json_array(Freshness::Changing, recent)
}

pub(super) fn fee_estimates(ask: &Ask, out: &mut Out) -> Result<(), Error> {
    let tip = ask.view.tip().ok_or(Error::Empty)?;
    let recent = ask.view.blocks_from(tip.height, RECENT_BLOCKS)?;
    let largest = recent.iter().map(|block| block.event.size).max().unwrap_or(0);
    let capacity = fees::block_capacity(ask.network.flavour(), largest);
    let estimates = fees::estimates(&ask.view.mempool().fee_histogram(), capacity, ask.network.flavour());
    out.json(Freshness::Changing, &fees::Json(&estimates))
}
