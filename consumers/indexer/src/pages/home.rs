//! The newest blocks, the mempool, and the latest reorgs.

use maud::{Markup, html};
use serde::Deserialize;
use sluice_schemas::{ChainEvent, Phase};

use super::Moment;
use super::layout::{Page, Place};
use super::notice::Notice;
use super::text::{ago, amount, block_link, bytes, count, counted, long, time};
use crate::query::{Block, Reorg};

/// Blocks on a page.
const BLOCKS: usize = 20;
/// Reorgs that are looked at.
const REORGS: usize = 20;

/// What was asked for.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    /// The highest block to show.
    from: Option<i32>,
}

pub(super) fn page(moment: &Moment, asked: &Asked) -> Result<Page, Notice> {
    let tip = moment.view.tip().map_or(0, |tip| tip.height);
    let from = asked.from.unwrap_or(tip).clamp(0, tip);
    let blocks = moment.view.blocks_from(from, BLOCKS)?;
    let reorgs = moment.view.reorgs(REORGS)?;
    let body = html! {
        h1.hidden { "Blocks" }
        @if from == tip { (tiles(moment, blocks.first(), &reorgs)) }
        section aria-labelledby="blocks-title" {
            div.heading {
                h2 id="blocks-title" { @if from == tip { "Newest blocks" } @else { "Blocks up to " (count(from.into())) } }
                @if from == tip { span id="link" .live hidden { "live" } }
            }
            div id="blocks" data-live=[(from == tip).then_some("blocks")] {
                (table(moment, &blocks, &reorgs))
            }
            (pager(from, tip))
        }
    };
    Ok(Page::Shown { title: "Blocks".to_owned(), place: Place::Blocks, body })
}

fn tiles(moment: &Moment, tip: Option<&Block>, reorgs: &[Reorg]) -> Markup {
    let mempool = moment.view.mempool();
    let is_followed = moment.view.position().is_some_and(|position| position.mempool.is_some());
    html! {
        dl.tiles id="tiles" data-live="timer" {
            div {
                dt { "Height" }
                dd {
                    @match tip {
                        Some(tip) => {
                            span.figure id="height" { (count(tip.event.height.into())) }
                            small { "mined " (ago(mined_at(&tip.event), moment.now)) }
                        }
                        None => span.figure { "–" },
                    }
                }
            }
            div {
                dt { "Mempool" }
                dd {
                    @if is_followed {
                        span.figure id="mempool" { (count(mempool.count() as i64)) }
                        small { @if mempool.count() == 0 { "nothing is waiting" } @else { "transactions, " (bytes(mempool.vsize())) } }
                    } @else {
                        span.figure id="mempool" { "–" }
                        small { "not on this log" }
                    }
                }
            }
            div {
                dt { "Waiting fees" }
                dd {
                    span.figure { (amount(mempool.fees(), moment.unit())) }
                    small { @if is_followed { "as far as they are known" } @else { "not on this log" } }
                }
            }
            div {
                dt { "Latest reorg" }
                dd {
                    @match reorgs.first() {
                        Some(reorg) => {
                            span.figure { (counted(reorg.disconnected.len() as i64, "block")) }
                            small { "above " (block_link(&reorg.fork.hash, &count(reorg.fork.height.into()))) ", " (ago(reorg.observed_at, moment.now)) }
                        }
                        None => { span.figure { "none" } small { "on this log" } }
                    }
                }
            }
        }
    }
}

fn table(moment: &Moment, blocks: &[Block], reorgs: &[Reorg]) -> Markup {
    html! {
        table.blocks {
            caption.hidden { "Blocks, the highest first" }
            thead {
                tr {
                    th scope="col" { "Height" }
                    th scope="col" { "Hash" }
                    th.number scope="col" { span.wide { "Transactions" } span.narrow { "Txs" } }
                    th.number.wide scope="col" { "Size" }
                    th.number scope="col" { "Mined" }
                }
            }
            tbody {
                @for block in blocks {
                    (row(moment, block))
                    @for reorg in reorgs.iter().filter(|reorg| reorg.fork.height + 1 == block.event.height) {
                        (marker(moment, reorg))
                    }
                }
            }
        }
    }
}

fn row(moment: &Moment, block: &Block) -> Markup {
    let event = &block.event;
    html! {
        tr id={ "b" (event.hash) } {
            th scope="row" { (block_link(&event.hash, &count(event.height.into()))) }
            td.hash { (long(&event.hash.to_string())) }
            td.number { (count(event.tx_count)) }
            td.number.wide { (bytes(event.size)) }
            td.number { (ago(mined_at(event), moment.now)) }
        }
    }
}

/// When a block was mined, milliseconds: when it was seen where it was seen at once, as miners' clocks are not exact.
fn mined_at(event: &ChainEvent) -> i64 {
    match event.phase {
        Phase::Live => event.observed_at,
        Phase::Backfill => event.time,
    }
}

/// That blocks left the chain above a fork.
fn marker(moment: &Moment, reorg: &Reorg) -> Markup {
    html! {
        tr.reorg id={ "r" (reorg.sequence) } {
            td colspan="5" {
                strong { "Reorg " }
                (ago(reorg.observed_at, moment.now)) ": "
                @if reorg.disconnected.len() == 1 { "block " } @else { (counted(reorg.disconnected.len() as i64, "block")) " left the chain: " }
                @for (index, block) in reorg.disconnected.iter().take(6).enumerate() {
                    @if index > 0 { ", " }
                    (block_link(&block.hash, &count(block.height.into())))
                    span.hash { " …" (tail_of(&block.hash.to_string())) }
                }
                @if reorg.disconnected.len() > 6 { " …" }
                @if reorg.disconnected.len() == 1 { " left the chain" }
            }
        }
    }
}

fn tail_of(hash: &str) -> &str {
    hash.get(hash.len().saturating_sub(8)..).unwrap_or(hash)
}

fn pager(from: i32, tip: i32) -> Markup {
    let step = BLOCKS as i32;
    html! {
        nav.pager aria-label="Pages of blocks" {
            @if from < tip {
                @if from + step >= tip { a rel="prev" href="/" { "Newest" } }
                @else { a rel="prev" href={ "/?from=" (from + step) } { "Newer" } }
            }
            @if from >= step { a rel="next" href={ "/?from=" (from - step) } { "Older" } }
        }
    }
}

/// A time and how long ago it was.
pub(super) fn when(millisecond: i64, now: i64) -> Markup {
    html! { (time(millisecond)) " " small { "(" (ago(millisecond, now)) ")" } }
}
