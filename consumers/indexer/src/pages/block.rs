//! One block.

use std::ops::Range;

use bitcoin::{BlockHash, Txid};
use maud::{Markup, html};
use serde::Deserialize;
use sluice_schemas::{Transaction, TransactionEvent};

use super::Moment;
use super::home::when;
use super::layout::{Page, Place};
use super::notice::Notice;
use super::text::{amount, block_link, count, counted, txid_link};
use crate::query::{Block, Place as ChainPlace};

/// Transactions on a page.
const TRANSACTIONS: usize = 25;
/// Bytes of transactions that are read for a page; what comes after is only named.
const READ_BYTES: i64 = 4_000_000;
/// Bytes that are read of a block which has left the chain: it can only be read from its start.
const STALE_BYTES: i64 = 64_000_000;

/// What was asked for.
#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    /// Position of the first transaction to list.
    #[serde(default)]
    start: i64,
}

pub(super) fn page(moment: &Moment, hash: &str, asked: &Asked) -> Result<Page, Notice> {
    let Ok(parsed) = hash.parse::<BlockHash>() else {
        return Err(Notice::malformed("block hash", hash, "one has 64 hexadecimal digits"));
    };
    let block = moment.view.block(&parsed)?.ok_or_else(|| Notice::not_found("block", hash))?;
    let start = asked.start.clamp(0, block.event.tx_count.saturating_sub(1).max(0));
    let rows = rows(moment, &block, start)?;
    let body = html! {
        (heading(moment, &block)?)
        (details(moment, &block))
        section aria-labelledby="transactions" {
            h2 id="transactions" { (counted(block.event.tx_count, "transaction")) }
            (rows)
            (pager(&block, start))
        }
    };
    Ok(Page::Shown {
        title: format!("Block {}", count(block.event.height.into())),
        place: Place::Elsewhere,
        body,
    })
}

fn heading(moment: &Moment, block: &Block) -> Result<Markup, Notice> {
    let event = &block.event;
    let above = match event.height.checked_add(1) {
        Some(height) if block.in_best_chain => moment.view.block_at(height)?,
        _ => None,
    };
    Ok(html! {
        div.heading {
            h1 { "Block " (count(event.height.into())) }
            @if block.in_best_chain {
                span.badge.good { (counted(moment.confirmations(event.height), "confirmation")) }
            } @else {
                span.badge.bad { "left the chain" }
            }
            nav.pager aria-label="Neighbours" {
                @if event.height > 0 { a rel="prev" href={ "/explorer/block/" (event.prev_hash) } { "Parent" } }
                @if let Some(above) = above { a rel="next" href={ "/explorer/block/" (above.event.hash) } { "Next" } }
            }
        }
        @if !block.in_best_chain {
            p.banner {
                "This block was on the chain and left it in a reorg. Its transactions may be in other blocks now"
                @if let Some(other) = moment.view.block_at(event.height)? {
                    "; at its height the chain has " (block_link(&other.event.hash, "another block"))
                }
                "."
            }
        }
    })
}

fn details(moment: &Moment, block: &Block) -> Markup {
    let event = &block.event;
    let header: Option<bitcoin::block::Header> = bitcoin::consensus::deserialize(&event.header).ok();
    html! {
        dl.details {
            div.full { dt { "Hash" } dd.hash { (event.hash) } }
            div.full { dt { "Parent" } dd.hash { (block_link(&event.prev_hash, &event.prev_hash.to_string())) } }
            div { dt { "Time" } dd { (when(event.time, moment.now)) } }
            div { dt { "Seen by the producer" } dd { (when(event.observed_at, moment.now)) } }
            div { dt { "On the log" } dd { "sequence " (count(event.sequence)) ", epoch " (event.epoch) } }
            div { dt { "Size" } dd { (count(event.size)) " bytes" } }
            @if let Some(weight) = event.weight { div { dt { "Weight" } dd { (count(weight)) } } }
            @if let Some(header) = header {
                div { dt { "Version" } dd.hash { (format!("{:08x}", header.version.to_consensus())) } }
                div { dt { "Bits" } dd.hash { (format!("{:08x}", header.bits.to_consensus())) } }
                div { dt { "Nonce" } dd { (count(header.nonce.into())) } }
                div.full { dt { "Merkle root" } dd.hash { (header.merkle_root) } }
            }
            div.full { dt { "Chain work" } dd.hash { (hex::encode(event.chain_work)) } }
        }
    }
}

/// What is told of a transaction of the block.
enum Listed {
    Read(Transaction),
    Named(Txid),
}

fn rows(moment: &Moment, block: &Block, start: i64) -> Result<Markup, Notice> {
    let end = start.saturating_add(TRANSACTIONS as i64).min(block.event.tx_count);
    let listed = match block.in_best_chain {
        true => of_the_chain(moment, block, start..end)?,
        false => of_the_log(moment, block, start..end)?,
    };
    // A node that does not tell what is spent tells no fees.
    let has_fees = listed.iter().any(|listed| matches!(listed, Listed::Read(read) if read.fee.is_some()));
    let is_cut = listed.len() as i64 != end - start;
    Ok(html! {
        table {
            caption.hidden { "Transactions in block order" }
            thead {
                tr {
                    th.number.wide scope="col" { "Position" }
                    th scope="col" { "Transaction" }
                    th.number.wide scope="col" { "In → out" }
                    th.number scope="col" { "Amount" }
                    @if has_fees { th.number.wide scope="col" { "Fee" } }
                }
            }
            tbody {
                @for (position, listed) in (start..).zip(&listed) { (row(moment, position, listed, has_fees)) }
            }
        }
        @if listed.iter().any(|listed| matches!(listed, Listed::Named(_))) {
            p { "Those marked … are not read for this page, as the ones before them are large." }
        }
        @if is_cut {
            p {
                "A block that has left the chain is read from its start, and of this one not further than here; "
                a href={ "/block/" (block.event.hash) "/txids" } { "all its transactions' ids" } "."
            }
        }
    })
}

fn of_the_chain(moment: &Moment, block: &Block, positions: Range<i64>) -> Result<Vec<Listed>, Notice> {
    let mut listed = Vec::new();
    let mut read = 0;
    for position in positions {
        let (Ok(height), Ok(position)) = (block.event.height.try_into(), position.try_into()) else { break };
        let Some(confirmed) = moment.view.confirmed_at(ChainPlace { height, position })? else { break };
        if read > READ_BYTES {
            listed.push(Listed::Named(confirmed.txid));
            continue;
        }
        let transaction = moment.view.read(&confirmed)?;
        read += transaction.size;
        listed.push(Listed::Read(transaction));
    }
    Ok(listed)
}

fn of_the_log(moment: &Moment, block: &Block, positions: Range<i64>) -> Result<Vec<Listed>, Notice> {
    let mut listed = Vec::new();
    let mut read = 0;
    for item in moment.view.block_transactions(block)? {
        let TransactionEvent { position, transaction, .. } = item?;
        if position >= positions.end || read > STALE_BYTES {
            break;
        }
        read += transaction.size;
        if position >= positions.start {
            listed.push(Listed::Read(transaction));
        }
    }
    Ok(listed)
}

fn row(moment: &Moment, position: i64, listed: &Listed, has_fees: bool) -> Markup {
    let (txid, read) = match listed {
        Listed::Read(transaction) => (&transaction.txid, Some(transaction)),
        Listed::Named(txid) => (txid, None),
    };
    html! {
        tr {
            td.number.wide { (count(position)) }
            td.hash {
                div.named {
                    (txid_link(txid))
                    @if read.is_some_and(|read| read.coinbase) { span.badge.wide { "coinbase" } }
                }
            }
            @match read {
                Some(Transaction { inputs, outputs, .. }) => {
                    td.number.wide { (count(inputs.len() as i64)) " → " (count(outputs.len() as i64)) }
                    td.number { (amount(outputs.iter().fold(0, |sum, output| output.value.saturating_add(sum)), moment.unit())) }
                }
                // Not read, for the size of those before it.
                None => { td.number.wide { "…" } td.number { "…" } }
            }
            @if has_fees {
                td.number.wide {
                    @match read.filter(|read| !read.coinbase).and_then(|read| read.fee) {
                        Some(fee) => (amount(fee, moment.unit())),
                        None => "–",
                    }
                }
            }
        }
    }
}

fn pager(block: &Block, start: i64) -> Markup {
    let step = TRANSACTIONS as i64;
    let page = |start: i64| format!("/explorer/block/{}?start={start}#transactions", block.event.hash);
    html! {
        nav.pager aria-label="Pages of transactions" {
            @if start > 0 { a rel="prev" href=(page((start - step).max(0))) { "Previous" } }
            @if start + step < block.event.tx_count { a rel="next" href=(page(start + step)) { "Next" } }
        }
    }
}
