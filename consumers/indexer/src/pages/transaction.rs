//! One transaction.

use std::ops::Range;

use bitcoin::script::Instruction;
use bitcoin::{OutPoint, Script, Txid};
use maud::{Markup, html};
use serde::Deserialize;
use sluice_schemas::{Input, Output, RemovalReason, ScriptType, Transaction};

use super::home::when;
use super::layout::{Page, Place};
use super::notice::Notice;
use super::text::{
    Excerpt, amount, block_link, count, counted, fee_rate, hexadecimal, long, readable, time, txid_link,
};
use super::{Moment, flow};
use crate::ScriptHash;
use crate::query::{Confirmation, Journey, Spender, Step, StepKind};

/// Inputs, and outputs, on a page.
const LISTED: usize = 50;
/// Transactions that are looked up for prevouts which the node did not tell.
const PREVOUTS: usize = 100;
/// Transactions of more bytes are offered as bytes only: a browser is at pains to show them in any other form.
const LARGE_BYTES: i64 = 1_000_000;
/// Steps of a journey that are shown.
const STEPS: usize = 50;

/// What was asked for.
#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    /// The first input to list.
    #[serde(default)]
    inputs: usize,
    /// The first output to list.
    #[serde(default)]
    outputs: usize,
}

pub(super) fn page(moment: &Moment, txid: &str, asked: &Asked) -> Result<Page, Notice> {
    let parsed = parse(txid)?;
    let journey = moment.view.journey(&parsed)?;
    let body = match moment.view.transaction(&parsed)? {
        Some((mut transaction, confirmation)) => {
            moment.view.fill_prevouts(&mut transaction, PREVOUTS)?;
            if !transaction.coinbase {
                // Of many inputs, those of this page at any rate.
                let shown = window(asked.inputs, transaction.inputs.len());
                moment.view.fill_inputs(&mut transaction.inputs[shown], LISTED)?;
            }
            present(moment, &transaction, confirmation, &journey, asked)?
        }
        None if journey.steps.is_empty() => return Err(Notice::not_found("transaction", txid)),
        None => gone(&parsed, &journey),
    };
    Ok(Page::Shown { title: format!("Transaction {txid}"), place: Place::Elsewhere, body })
}

fn parse(txid: &str) -> Result<Txid, Notice> {
    txid.parse().map_err(|_| Notice::malformed("transaction id", txid, "one has 64 hexadecimal digits"))
}

/// What is listed on a page, from what was asked for.
fn window(start: usize, total: usize) -> Range<usize> {
    let start = start.min(total.saturating_sub(1));
    start..total.min(start + LISTED)
}

/// The bytes of an output's script.
pub(super) fn script(moment: &Moment, txid: &str, vout: &str) -> Result<Page, Notice> {
    let parsed = parse(txid)?;
    let Some((transaction, _)) = moment.view.transaction(&parsed)? else {
        return Err(Notice::not_found("transaction", txid));
    };
    let output = vout.parse::<usize>().ok().and_then(|vout| transaction.outputs.get(vout));
    let output = output.ok_or_else(|| Notice::not_found("output of this transaction", vout))?;
    Ok(Page::Bytes { name: format!("{parsed}-{vout}.script"), bytes: output.script_pubkey.0.clone() })
}

fn present(
    moment: &Moment,
    transaction: &Transaction,
    confirmation: Option<Confirmation>,
    journey: &Journey,
    asked: &Asked,
) -> Result<Markup, Notice> {
    let unit = moment.unit();
    Ok(html! {
        // Until it is mined, whoever looks at it waits for just that.
        div id="standing" data-live=[confirmation.is_none().then_some("timer")] {
            div.heading {
                h1 { "Transaction" }
                @match confirmation {
                    Some(confirmation) => span.badge.good { (counted(moment.confirmations(confirmation.height), "confirmation")) },
                    None => span.badge.pending { "in the mempool" },
                }
                @if transaction.coinbase { span.badge { "coinbase" } }
            }
            p.hash.subject { (transaction.txid) }
            (details(moment, transaction, confirmation))
        }
        section aria-labelledby="flow" {
            h2 id="flow" { "From inputs to outputs" }
            (flow::drawing(transaction, unit))
            div.sides {
                (inputs(transaction, unit, asked))
                (outputs(moment, transaction, unit, asked)?)
            }
        }
        (story(journey))
    })
}

/// A transaction that is known but nowhere any more.
fn gone(txid: &Txid, journey: &Journey) -> Markup {
    html! {
        div.heading { h1 { "Transaction" } span.badge.bad { "gone" } }
        p.hash.subject { (txid) }
        p.banner {
            strong { "This transaction is neither on the chain nor in the mempool now. " }
            (why(journey)) " What is known of it is below."
        }
        (story(journey))
    }
}

/// Why a transaction is gone: the last that was told of it.
fn why(journey: &Journey) -> Markup {
    let last = journey.steps.iter().rev().find(|step| !matches!(step.kind, StepKind::Seen { .. }));
    html! {
        @match last.map(|step| &step.kind) {
            Some(StepKind::Reverted { block }) => {
                "Its block " (block_link(&block.hash, &count(block.height.into()))) " left the chain in a reorg."
            }
            Some(StepKind::Left { reason: RemovalReason::Mined, .. }) => "It was mined, in a block that is not on the chain now.",
            Some(StepKind::Left { reason, replaced_by, .. }) => {
                "It left the mempool: " (because(*reason))
                @if let Some(other) = replaced_by { " by " (txid_link(other)) }
                "."
            }
            _ => "The mempool that it was in began again without it.",
        }
    }
}

fn details(moment: &Moment, transaction: &Transaction, confirmation: Option<Confirmation>) -> Markup {
    let vsize = transaction.weight.map_or(transaction.size, |weight| weight.saturating_add(3) / 4);
    let per = if transaction.weight.is_some() { "sat/vB" } else { "sat/B" };
    html! {
        dl.details {
            @if let Some(confirmation) = confirmation {
                div {
                    dt { "Block" }
                    dd {
                        (block_link(&confirmation.block_hash, &count(confirmation.height.into())))
                        ", position " (count(confirmation.position.into()))
                    }
                }
                div { dt { "Block time" } dd { (when(i64::from(confirmation.block_time) * 1000, moment.now)) } }
            }
            @if !transaction.coinbase {
                div {
                    dt { "Fee" }
                    dd {
                        @match transaction.fee {
                            Some(fee) => { (amount(fee, moment.unit())) " " small { "(" (fee_rate(fee, vsize)) " " (per) ")" } }
                            None if transaction.inputs.len() > PREVOUTS => "unknown: it spends more than is looked up here",
                            None => "unknown: not all that it spends is known here",
                        }
                    }
                }
            }
            div {
                dt { "Size" }
                dd {
                    (count(transaction.size)) " bytes"
                    @if let Some(weight) = transaction.weight { " " small { "(weight " (count(weight)) ")" } }
                }
            }
            div { dt { "Version" } dd { (transaction.version) } }
            div { dt { "Lock time" } dd { (count(transaction.lock_time)) } }
            div {
                dt { "Raw" }
                dd {
                    a href={ "/tx/" (transaction.txid) "/raw" } download={ (transaction.txid) ".tx" } { "bytes" }
                    @if transaction.size <= LARGE_BYTES {
                        " · " a href={ "/tx/" (transaction.txid) "/hex" } { "hexadecimal" }
                        " · " a href={ "/tx/" (transaction.txid) } { "JSON" }
                    }
                }
            }
            @if let Some(wtxid) = transaction.wtxid { div.full { dt { "Witness id" } dd.hash { (wtxid) } } }
        }
    }
}

fn inputs(transaction: &Transaction, unit: &str, asked: &Asked) -> Markup {
    let total = transaction.inputs.len();
    let shown = window(asked.inputs, total);
    html! {
        section.side aria-labelledby="inputs" {
            h3 id="inputs" { (counted(total as i64, "input")) }
            ol.coins start=(shown.start) {
                @for input in &transaction.inputs[shown.clone()] {
                    li { @if transaction.coinbase { (coinbase(input)) } @else { (spend(input, unit)) } }
                }
            }
            (more(&transaction.txid, "inputs", shown.start, total, asked.outputs))
        }
    }
}

fn coinbase(input: &Input) -> Markup {
    html! {
        div.line { span { "New coins and fees" } }
        div.data { (bytes(&Excerpt::of(&input.script_sig))) }
    }
}

/// Bytes that somebody put on the chain, as text where they are text.
fn bytes(data: &Excerpt) -> Markup {
    html! {
        @if let Some(text) = readable(data) { q { (text) } " " }
        code { (hexadecimal(data)) }
    }
}

fn spend(input: &Input, unit: &str) -> Markup {
    html! {
        div.line {
            @match &input.prevout {
                Some(prevout) => {
                    (owner(prevout.address.as_deref(), &prevout.script_pubkey))
                    (amount(prevout.value, unit))
                }
                None => { span { "unknown" } span { "–" } }
            }
        }
        div.origin { "output " (input.prev_vout) " of " (txid_link(&input.prev_txid)) }
    }
}

fn outputs(moment: &Moment, transaction: &Transaction, unit: &str, asked: &Asked) -> Result<Markup, Notice> {
    let total = transaction.outputs.len();
    let shown = window(asked.outputs, total);
    let mut rows = Vec::new();
    for vout in shown.clone() {
        let outpoint = OutPoint { txid: transaction.txid, vout: u32::try_from(vout).unwrap_or(u32::MAX) };
        rows.push((outpoint, &transaction.outputs[vout], moment.view.outspend(&outpoint)?));
    }
    Ok(html! {
        section.side aria-labelledby="outputs" {
            h3 id="outputs" { (counted(total as i64, "output")) }
            ol.coins start=(shown.start) {
                @for (outpoint, output, spender) in &rows { li { (coin(outpoint, output, spender.as_ref(), unit)) } }
            }
            (more(&transaction.txid, "outputs", shown.start, total, asked.inputs))
        }
    })
}

fn coin(outpoint: &OutPoint, output: &Output, spender: Option<&Spender>, unit: &str) -> Markup {
    let data = data(output);
    html! {
        div.line {
            @if data.is_some() { span.badge { "data" } }
            @else { (owner(output.address.as_deref(), &output.script_pubkey)) }
            (amount(output.value, unit))
        }
        @if let Some(data) = &data {
            div.data { (bytes(data)) }
        } @else {
            div.origin {
                @match spender {
                    Some(spender) => {
                        @if spender.confirmation.is_some() { "spent in " } @else { "being spent in " }
                        (txid_link(&spender.txid))
                    }
                    None => span.unspent { "unspent" },
                }
            }
        }
        @if Excerpt::of(&output.script_pubkey).is_cut() {
            div.origin { a href={ "/explorer/tx/" (outpoint.txid) "/script/" (outpoint.vout) } { "the whole script" } }
        }
    }
}

/// Whose a coin is: an address, or else its script.
fn owner(address: Option<&str>, script: &[u8]) -> Markup {
    html! {
        @match address {
            Some(address) => a.hash href={ "/explorer/address/" (address) } { (long(address)) },
            None => a.hash href={ "/explorer/scripthash/" (ScriptHash::of(script)) } { "script " (long(&hexadecimal(&Excerpt::of(script)))) },
        }
    }
}

/// The bytes that an output which nobody can spend carries: its pushes, one after the other.
fn data(output: &Output) -> Option<Excerpt> {
    let script: &[u8] = &output.script_pubkey;
    let unlocked = script.strip_prefix(&[0x00]).unwrap_or(script);
    let pushes = match output.script_type {
        ScriptType::Nulldata => unlocked.strip_prefix(&[0x6a]).unwrap_or(unlocked),
        _ => script.strip_prefix(&[0x00, 0x6a])?,
    };
    let mut data = Excerpt::default();
    for instruction in Script::from_bytes(pushes).instructions() {
        match instruction {
            Ok(Instruction::PushBytes(push)) => data.push(push.as_bytes()),
            Ok(Instruction::Op(_)) => {}
            // Not a script at all: the bytes as they are.
            Err(_) => return Some(Excerpt::of(pushes)),
        }
    }
    Some(data)
}

fn more(txid: &Txid, side: &str, start: usize, total: usize, other: usize) -> Markup {
    let page = |start: usize| match side {
        "inputs" => format!("/explorer/tx/{txid}?inputs={start}&outputs={other}#inputs"),
        _ => format!("/explorer/tx/{txid}?inputs={other}&outputs={start}#outputs"),
    };
    html! {
        @if total > LISTED {
            nav.pager aria-label={ "Pages of " (side) } {
                @if start > 0 { a rel="prev" href=(page(start.saturating_sub(LISTED))) { "Previous" } }
                @if start + LISTED < total { a rel="next" href=(page(start + LISTED)) { "Next" } }
            }
        }
    }
}

fn story(journey: &Journey) -> Markup {
    html! {
        @if !journey.steps.is_empty() {
            section aria-labelledby="journey" {
                h2 id="journey" { "Journey" }
                ol.journey {
                    @for step in journey.steps.iter().take(STEPS) { (stage(step)) }
                }
                @if journey.steps.len() > STEPS { p { "… and " (counted((journey.steps.len() - STEPS) as i64, "more step")) "." } }
            }
        }
    }
}

fn stage(step: &Step) -> Markup {
    let (class, words) = match &step.kind {
        StepKind::Seen { source, .. } => ("seen", html! { "Seen in the mempool of " b { (source) } }),
        StepKind::Left { source, reason, replaced_by } => {
            let class = if *reason == RemovalReason::Mined { "mined" } else { "lost" };
            let words = html! {
                "Left the mempool of " b { (source) } ": " (because(*reason))
                @if let Some(other) = replaced_by { " by " (txid_link(other)) }
            };
            (class, words)
        }
        StepKind::Mined { block, position } => (
            "mined",
            html! { "Mined in block " (block_link(&block.hash, &count(block.height.into()))) ", position " (count((*position).into())) },
        ),
        StepKind::Reverted { block } => (
            "lost",
            html! { "Taken back: block " (block_link(&block.hash, &count(block.height.into()))) " left the chain" },
        ),
    };
    html! { li class=(class) { p { (words) } p { small { (time(step.observed_at)) } } } }
}

fn because(reason: RemovalReason) -> &'static str {
    match reason {
        RemovalReason::Mined => "mined",
        RemovalReason::Replaced => "replaced",
        RemovalReason::Conflicted => "what it spends was spent",
        RemovalReason::Expired => "it waited for too long",
        RemovalReason::Evicted => "the mempool was full",
        RemovalReason::Unknown => "for an unknown reason",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(script: &[u8], script_type: ScriptType) -> Output {
        Output { value: 0, script_pubkey: script.to_vec().into(), script_type, address: None }
    }

    #[test]
    fn data_is_what_the_pushes_of_an_unspendable_output_hold() {
        for (script, script_type, carried) in [
            (&b"\x6a\x02hi\x01!"[..], ScriptType::Nulldata, Some(&b"hi!"[..])),
            (b"\x00\x6a\x02hi", ScriptType::Nonstandard, Some(b"hi")),
            (b"\x6a\x4c", ScriptType::Nulldata, Some(b"\x4c")),
            (b"\x51", ScriptType::Nonstandard, None),
            (b"", ScriptType::Nonstandard, None),
        ] {
            assert_eq!(data(&output(script, script_type)), carried.map(Excerpt::of), "{script:?}");
        }
    }
}
