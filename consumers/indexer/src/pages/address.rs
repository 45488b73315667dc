//! What an address, or a script by its hash, has and had.

use bitcoin::Txid;
use maud::{Markup, html};
use serde::Deserialize;

use super::Moment;
use super::layout::{Page, Place};
use super::notice::Notice;
use super::text::{ago, amount, block_link, count, counted, difference, txid_link};
use crate::ScriptHash;
use crate::events::script_of_address;
use crate::query::{Activity, HistoryEntry, Place as ChainPlace, Stats, Unspent};

/// Confirmed transactions on a page.
const HISTORY: usize = 25;
/// Unconfirmed transactions that are shown.
const WAITING: usize = 25;
/// Unspent outputs that are shown.
const UNSPENT: usize = 25;

/// Whose page it is.
#[derive(Clone, Debug)]
pub(super) enum Subject {
    Address(String),
    ScriptHash(String),
}

/// What was asked for.
#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    /// Go on below this place: `height.position`.
    after: Option<String>,
}

impl Subject {
    fn script(&self, moment: &Moment) -> Result<ScriptHash, Notice> {
        match self {
            Self::Address(address) => {
                moment.network.and_then(|network| script_of_address(address, network)).ok_or_else(|| {
                    Notice::malformed(
                        "address of this network",
                        address,
                        "look for a letter that is wrong or missing",
                    )
                })
            }
            Self::ScriptHash(hash) => hash
                .parse()
                .map_err(|_| Notice::malformed("hash of a script", hash, "one has 64 hexadecimal digits")),
        }
    }

    fn url(&self) -> String {
        match self {
            Self::Address(address) => format!("/explorer/address/{address}"),
            Self::ScriptHash(hash) => format!("/explorer/scripthash/{hash}"),
        }
    }

    fn words(&self) -> (&'static str, &str) {
        match self {
            Self::Address(address) => ("Address", address),
            Self::ScriptHash(hash) => ("Script", hash),
        }
    }
}

/// `height.position`, as the pager writes it.
fn place(text: &str) -> Option<ChainPlace> {
    let (height, position) = text.split_once('.')?;
    Some(ChainPlace { height: height.parse().ok()?, position: position.parse().ok()? })
}

pub(super) fn page(moment: &Moment, subject: &Subject, asked: &Asked) -> Result<Page, Notice> {
    let script = subject.script(moment)?;
    let after = match asked.after.as_deref() {
        Some(text) => {
            Some(place(text).ok_or_else(|| Notice::malformed("place", text, "take it from a link"))?)
        }
        None => None,
    };
    let stats = moment.view.stats(&script)?;
    let history = moment.view.history(&script, after, HISTORY)?;
    let (kind, name) = subject.words();
    let body = html! {
        div.heading { h1 { (kind) } }
        p.hash.subject { (name) }
        (tiles(moment, &stats))
        @if after.is_none() { (unspent(moment, &script)?) }
        section aria-labelledby="history" {
            h2 id="history" { (counted(stats.chain.tx_count + stats.mempool.tx_count, "transaction")) }
            @if stats == Stats::default() {
                p.empty { "Nothing on this chain or in its mempool pays or spends it." }
            } @else {
                (transactions(moment, &script, &history, after.is_none())?)
            }
            (pager(subject, &history, after.is_some()))
        }
    };
    Ok(Page::Shown { title: format!("{kind} {name}"), place: Place::Elsewhere, body })
}

fn balance(activity: &Activity) -> i64 {
    activity.funded_txo_sum - activity.spent_txo_sum
}

fn tiles(moment: &Moment, stats: &Stats) -> Markup {
    let unit = moment.unit();
    let (chain, waiting) = (&stats.chain, &stats.mempool);
    html! {
        dl.tiles {
            div {
                dt { "Balance" }
                dd {
                    span.figure { (amount(balance(chain), unit)) }
                    small { "in " (counted(chain.funded_txo_count - chain.spent_txo_count, "output")) }
                }
            }
            @if waiting.tx_count > 0 {
                div {
                    dt { "In the mempool" }
                    dd {
                        span.figure { (difference(balance(waiting), unit)) }
                        small { "by " (counted(waiting.tx_count, "transaction")) }
                    }
                }
            }
            div {
                dt { "Received" }
                dd { span.figure { (amount(chain.funded_txo_sum, unit)) } small { "in " (counted(chain.funded_txo_count, "output")) } }
            }
            div {
                dt { "Spent" }
                dd { span.figure { (amount(chain.spent_txo_sum, unit)) } small { "of " (counted(chain.spent_txo_count, "output")) } }
            }
        }
    }
}

fn unspent(moment: &Moment, script: &ScriptHash) -> Result<Markup, Notice> {
    let mut coins = moment.view.utxos(script, UNSPENT + 1)?;
    let has_more = coins.len() > UNSPENT;
    coins.truncate(UNSPENT);
    Ok(html! {
        @if !coins.is_empty() {
            details.fold {
                summary { "Unspent outputs" }
                table {
                    caption.hidden { "Unspent outputs" }
                    thead { tr { th scope="col" { "Output" } th.number scope="col" { "Amount" } th.number scope="col" { "Block" } } }
                    tbody { @for coin in &coins { (coin_row(moment, coin)) } }
                }
                @if has_more { p { "There are more; " code { "/scripthash/" (script) "/utxo" } " lists them all." } }
            }
        }
    })
}

fn coin_row(moment: &Moment, coin: &Unspent) -> Markup {
    html! {
        tr {
            td.hash { (txid_link(&coin.outpoint.txid)) ":" (coin.outpoint.vout) }
            td.number { (amount(coin.value, moment.unit())) }
            td.number {
                @match &coin.confirmation {
                    Some(confirmation) => (block_link(&confirmation.block_hash, &count(confirmation.height.into()))),
                    None => "mempool",
                }
            }
        }
    }
}

fn transactions(
    moment: &Moment,
    script: &ScriptHash,
    history: &[HistoryEntry],
    is_first: bool,
) -> Result<Markup, Notice> {
    let mut rows = Vec::new();
    for entry in history {
        let confirmation = moment.view.confirmation(entry.transaction.place)?;
        let block = confirmation.map(|found| {
            html! { (block_link(&found.block_hash, &count(found.height.into()))) " " small.wide { (ago(i64::from(found.block_time) * 1000, moment.now)) } }
        });
        rows.push(row(
            moment,
            &entry.transaction.txid,
            &entry.activity,
            &block.unwrap_or_else(|| html! { "–" }),
        ));
    }
    let waiting = moment.view.mempool().of_script(script).take(if is_first { WAITING } else { 0 });
    Ok(html! {
        table {
            caption.hidden { "Transactions, the newest first" }
            thead { tr { th scope="col" { "Transaction" } th.number scope="col" { "Change" } th.number scope="col" { "Block" } } }
            tbody {
                @for entry in waiting {
                    @for (_, activity) in entry.scripts.iter().filter(|(of, _)| of == script) {
                        (row(moment, &entry.transaction.txid, activity, &html! { span.badge.pending { "mempool" } }))
                    }
                }
                @for row in &rows { (row) }
            }
        }
    })
}

fn row(moment: &Moment, txid: &Txid, activity: &Activity, block: &Markup) -> Markup {
    html! {
        tr {
            td.hash { (txid_link(txid)) }
            td.number { (difference(balance(activity), moment.unit())) }
            td.number { (block) }
        }
    }
}

fn pager(subject: &Subject, history: &[HistoryEntry], has_before: bool) -> Markup {
    let next = history.last().filter(|_| history.len() == HISTORY).map(|last| last.transaction.place);
    html! {
        nav.pager aria-label="Pages of transactions" {
            @if has_before { a rel="prev" href=(subject.url()) { "Newest" } }
            @if let Some(ChainPlace { height, position }) = next {
                a rel="next" href={ (subject.url()) "?after=" (height) "." (position) "#history" } { "Older" }
            }
        }
    }
}
