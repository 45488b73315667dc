//! `/block…`: blocks, their headers, and their transactions.

use std::io::Write;

use bitcoin::BlockHash;

use super::error::Error;
use super::json::{BlockJson, BlockStatus, Shown};
use super::out::{Freshness, Media, Out};
use super::params;
use super::script::Hex;
use super::serve::Ask;
use super::transactions::{self, PAGE};
use crate::query::{Block, Place};

/// Blocks in one list.
const BLOCKS: usize = 10;
/// Ids read from the index at a time.
pub(super) const TXIDS: usize = 10_000;

pub(super) fn tip_hash(ask: &Ask, out: &mut Out) -> Result<(), Error> {
    let tip = ask.view.tip().ok_or(Error::Empty)?;
    out.text(Freshness::Changing, tip.hash)
}

pub(super) fn tip_height(ask: &Ask, out: &mut Out) -> Result<(), Error> {
    let tip = ask.view.tip().ok_or(Error::Empty)?;
    out.text(Freshness::Changing, tip.height)
}

pub(super) fn hash_at(ask: &Ask, out: &mut Out, height: &str) -> Result<(), Error> {
    let block = block_at(ask, height)?;
    out.text(ask.freshness(Some(block.event.height)), block.event.hash)
}

pub(super) fn list(ask: &Ask, out: &mut Out, start: Option<&str>) -> Result<(), Error> {
    let (start, freshness) = match start {
        None => (ask.view.tip().ok_or(Error::Empty)?.height, Freshness::Changing),
        Some(start) => {
            let start = block_at(ask, start)?.event.height;
            (start, ask.freshness(Some(start)))
        }
    };
    let blocks = ask.view.blocks_from(start, BLOCKS)?;
    out.json_array(freshness, blocks.iter().map(json))
}

pub(super) fn block(ask: &Ask, out: &mut Out, hash: &str) -> Result<(), Error> {
    let block = find(ask, hash)?;
    out.json(Freshness::Immutable, &json(&block)?)
}

pub(super) fn header(ask: &Ask, out: &mut Out, hash: &str) -> Result<(), Error> {
    let block = find(ask, hash)?;
    out.text(Freshness::Immutable, Hex(&block.event.header))
}

/// Of a block that nobody has heard of, too, as Esplora does.
pub(super) fn status(ask: &Ask, out: &mut Out, hash: &str) -> Result<(), Error> {
    let best = ask.view.block(&params::block_hash(hash)?)?.filter(|block| block.in_best_chain);
    let Some(block) = best else { return out.json(Freshness::Changing, &BlockStatus::default()) };
    let height = block.event.height;
    let next = ask.view.block_at(height.saturating_add(1))?;
    let status = BlockStatus {
        in_best_chain: true,
        height: Some(height),
        next_best: next.map(|next| Shown(next.event.hash)),
    };
    out.json(ask.freshness(Some(height)), &status)
}

/// The whole block as it is on the wire, rebuilt transaction by transaction from the log.
pub(super) fn raw(ask: &Ask, out: &mut Out, hash: &str) -> Result<(), Error> {
    let block = find(ask, hash)?;
    let head = out.head(Media::Binary, Freshness::Immutable);
    head.length = u64::try_from(block.event.size).ok();
    head.tag = Some(format!("{}-raw", block.event.hash));
    out.write_all(&block.event.header)?;
    out.write_all(&compact_size(block.event.tx_count))?;
    for event in ask.view.block_transactions(&block)? {
        event?.transaction.write_raw(out)?;
        out.in_time()?;
    }
    Ok(())
}

pub(super) fn txids(ask: &Ask, out: &mut Out, hash: &str) -> Result<(), Error> {
    let block = find(ask, hash)?;
    out.head(Media::Json, Freshness::Immutable).tag = Some(format!("{}-txids", block.event.hash));
    let pages = (0..block.event.tx_count).step_by(TXIDS).map(|start| ask.view.txids(&block, start, TXIDS));
    let txids = pages.flat_map(|page| match page {
        Ok(txids) => txids.into_iter().map(Ok).collect(),
        Err(error) => vec![Err(Error::from(error))],
    });
    out.json_array(Freshness::Immutable, txids.map(|txid| txid.map(Shown)))
}

pub(super) fn txid(ask: &Ask, out: &mut Out, hash: &str, index: &str) -> Result<(), Error> {
    let block = find(ask, hash)?;
    let index: i64 = params::number(index)?;
    let txids = if index < block.event.tx_count { ask.view.txids(&block, index, 1)? } else { Vec::new() };
    let txid = txids.first().ok_or(Error::NotFound("tx index out of range"))?;
    out.text(Freshness::Immutable, txid)
}

pub(super) fn txs(ask: &Ask, out: &mut Out, hash: &str, start: Option<&str>) -> Result<(), Error> {
    let block = find(ask, hash)?;
    let start: i64 = start.map_or(Ok(0), params::number)?;
    if start % PAGE as i64 != 0 {
        return Err(Error::Invalid("start index must be a multiple of 25"));
    }
    if start >= block.event.tx_count {
        return Err(Error::Invalid("start index out of range"));
    }
    if !block.in_best_chain {
        // Its transactions are in no table any more: the log still has them, and reads them from the start.
        let events = ask.view.block_transactions(&block)?.skip(start as usize).take(PAGE);
        let events = events.map(|event| Ok((event?.transaction, None)));
        return transactions::list(ask, out, Freshness::Changing, events);
    }
    let end = block.event.tx_count.min(start + PAGE as i64);
    let places = (start..end).map(|position| place(&block, position));
    let page = places.map(|place| {
        let confirmed = ask.view.confirmed_at(place?)?.ok_or_else(|| missing(&block.event.hash))?;
        Ok((ask.view.read(&confirmed)?, ask.view.confirmation(confirmed.place)?))
    });
    transactions::list(ask, out, ask.freshness(Some(block.event.height)), page)
}

fn place(block: &Block, position: i64) -> Result<Place, Error> {
    match (u32::try_from(block.event.height), u32::try_from(position)) {
        (Ok(height), Ok(position)) => Ok(Place { height, position }),
        _ => Err(missing(&block.event.hash)),
    }
}

/// A block that is or once was on the best chain.
fn find(ask: &Ask, hash: &str) -> Result<Block, Error> {
    ask.view.block(&params::block_hash(hash)?)?.ok_or(Error::NotFound("Block not found"))
}

fn block_at(ask: &Ask, height: &str) -> Result<Block, Error> {
    let not_found = Error::NotFound("Block not found");
    // A number that no height can be is one that no block has.
    let Ok(height) = i32::try_from(params::number::<u64>(height)?) else { return Err(not_found) };
    ask.view.block_at(height)?.ok_or(not_found)
}

fn json(block: &Block) -> Result<BlockJson, Error> {
    BlockJson::of(&block.event)
        .ok_or_else(|| Error::Internal(format!("the header of block {} is none", block.event.hash).into()))
}

pub(super) fn missing(hash: &BlockHash) -> Error {
    Error::Internal(format!("the index lacks transactions of block {hash}").into())
}

/// Bitcoin's CompactSize.
fn compact_size(n: i64) -> Vec<u8> {
    bitcoin::consensus::serialize(&bitcoin::VarInt(n.unsigned_abs()))
}
