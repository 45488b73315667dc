//! What somebody typed: a height, a hash, a transaction's id, an address, or the beginning of one.

use bitcoin::{BlockHash, Txid};
use maud::html;

use super::Moment;
use super::layout::{Page, Place};
use super::notice::Notice;
use crate::ScriptHash;
use crate::events::script_of_address;
use crate::query::Stats;

/// Shortest beginning of an address that is looked for.
const MIN_PREFIX: usize = 4;
/// Addresses that are listed.
const CANDIDATES: usize = 20;

pub(super) fn page(moment: &Moment, typed: &str) -> Result<Page, Notice> {
    // People copy heights with their thousands apart.
    let typed = typed.trim();
    let digits: String = typed.chars().filter(|c| !matches!(c, ',' | ' ' | '_' | '\u{202f}')).collect();
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.len() < 64 {
        return height(moment, &digits);
    }
    if typed.len() == 64 && typed.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return hash(moment, typed);
    }
    if moment.network.and_then(|network| script_of_address(typed, network)).is_some() {
        return Ok(Page::Elsewhere(format!("/explorer/address/{typed}")));
    }
    prefix(moment, typed)
}

fn height(moment: &Moment, digits: &str) -> Result<Page, Notice> {
    let block = match digits.parse() {
        Ok(height) => moment.view.block_at(height)?,
        Err(_) => None,
    };
    let block = block.ok_or_else(|| Notice::not_found("block at height", digits))?;
    Ok(Page::Elsewhere(format!("/explorer/block/{}", block.event.hash)))
}

fn hash(moment: &Moment, digits: &str) -> Result<Page, Notice> {
    let unknown = || Notice::not_found("block, transaction or script", digits);
    let (Ok(block), Ok(txid), Ok(script)) =
        (digits.parse::<BlockHash>(), digits.parse::<Txid>(), digits.parse::<ScriptHash>())
    else {
        return Err(unknown());
    };
    if moment.view.block(&block)?.is_some() {
        return Ok(Page::Elsewhere(format!("/explorer/block/{block}")));
    }
    let is_transaction = moment.view.mempool().get(&txid).is_some() || moment.view.locate(&txid)?.is_some();
    if is_transaction || !moment.view.journey(&txid)?.steps.is_empty() {
        return Ok(Page::Elsewhere(format!("/explorer/tx/{txid}")));
    }
    if moment.view.stats(&script)? != Stats::default() {
        return Ok(Page::Elsewhere(format!("/explorer/scripthash/{script}")));
    }
    Err(unknown())
}

fn prefix(moment: &Moment, typed: &str) -> Result<Page, Notice> {
    let could_be = typed.len() >= MIN_PREFIX && typed.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let found = if could_be { moment.view.address_prefix(typed, CANDIDATES)? } else { Vec::new() };
    match &found[..] {
        [] => Err(Notice::not_found("block, transaction or address", typed)),
        [one] => Ok(Page::Elsewhere(format!("/explorer/address/{one}"))),
        several => {
            let body = html! {
                h1 { (several.len()) " addresses begin with " q { (typed) } }
                ul.plain { @for address in several { li.hash { a href={ "/explorer/address/" (address) } { (address) } } } }
            };
            Ok(Page::Shown { title: "Search".to_owned(), place: Place::Elsewhere, body })
        }
    }
}
