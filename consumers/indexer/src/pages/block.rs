//! One block.

use bitcoin::BlockHash;
use maud::{Markup, html};
use serde::Deserialize;
use sluice_schemas::Transaction;

use super::Moment;
use super::home::when;
use super::layout::{Page, Place};
use super::notice::Notice;
use super::text::{amount, block_link, bytes, count, counted, txid_link};
use crate::query::{Block, Place as ChainPlace};

/// Transactions on a page.
const TRANSACTIONS: usize = 25;
/// In a block whose transactions are larger on average, they are named and not read.
const READ_BYTES: i64 = 100_000;
/// Transactions that are passed over in a block that has left the chain: it is read from its start.
const MAX_SKIPPED: i64 = 10_000;

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
            div { dt { "Size" } dd { (count(event.size)) " bytes" } }
            @if let Some(weight) = event.weight { div { dt { "Weight" } dd { (count(weight)) } } }
            @if let Some(header) = header {
                div { dt { "Version" } dd.hash { (format!("{:08x}", header.version.to_consensus())) } }
                div { dt { "Bits" } dd.hash { (format!("{:08x}", header.bits.to_consensus())) } }
                div { dt { "Nonce" } dd { (count(header.nonce.into())) } }
                div.full { dt { "Merkle root" } dd.hash { (header.merkle_root) } }
            }
            div.full { dt { "Chain work" } dd.hash { (hex::encode(event.chain_work)) } }
            div { dt { "On the log" } dd { "sequence " (count(event.sequence)) ", epoch " (event.epoch) } }
        }
    }
}

fn rows(moment: &Moment, block: &Block, start: i64) -> Result<Markup, Notice> {
    let event = &block.event;
    if event.size / event.tx_count.max(1) > READ_BYTES {
        let txids = moment.view.txids(block, start, TRANSACTIONS)?;
        return Ok(html! {
            p { "Its transactions have " (bytes(event.size / event.tx_count.max(1))) " on average; they are only named here." }
            ol.plain start=(start) { @for txid in &txids { li { (txid_link(txid)) } } }
        });
    }
    let transactions = match block.in_best_chain {
        true => of_the_chain(moment, block, start)?,
        false if start > MAX_SKIPPED => Vec::new(),
        false => {
            let all = moment.view.block_transactions(block)?;
            let some = all.skip(start as usize).take(TRANSACTIONS);
            some.map(|item| item.map(|event| event.transaction)).collect::<Result<_, _>>()?
        }
    };
    Ok(html! {
        table {
            caption.hidden { "Transactions in the order of the block" }
            thead {
                tr {
                    th.number.wide scope="col" { "No." }
                    th scope="col" { "Transaction" }
                    th.number.wide scope="col" { "In → out" }
                    th.number scope="col" { "Amount" }
                    th.number.wide scope="col" { "Fee" }
                }
            }
            tbody {
                @for (position, transaction) in (start..).zip(&transactions) { (row(moment, position, transaction)) }
            }
        }
    })
}

fn of_the_chain(moment: &Moment, block: &Block, start: i64) -> Result<Vec<Transaction>, Notice> {
    let mut transactions = Vec::new();
    let end = start.saturating_add(TRANSACTIONS as i64).min(block.event.tx_count);
    for position in start..end {
        let (Ok(height), Ok(position)) = (block.event.height.try_into(), position.try_into()) else { break };
        let Some(confirmed) = moment.view.confirmed_at(ChainPlace { height, position })? else { break };
        transactions.push(moment.view.read(&confirmed)?);
    }
    Ok(transactions)
}

fn row(moment: &Moment, position: i64, transaction: &Transaction) -> Markup {
    let sum = transaction.outputs.iter().fold(0_i64, |sum, output| sum.saturating_add(output.value));
    html! {
        tr {
            td.number.wide { (count(position)) }
            td.hash {
                div.named {
                    (txid_link(&transaction.txid))
                    @if transaction.coinbase { span.badge.wide { "coinbase" } }
                }
            }
            td.number.wide { (transaction.inputs.len()) " → " (transaction.outputs.len()) }
            td.number { (amount(sum, moment.unit())) }
            td.number.wide {
                @match transaction.fee {
                    Some(fee) if !transaction.coinbase => (amount(fee, moment.unit())),
                    _ => "–",
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
