//! `/tx/…`: one transaction, and lists of them.

use std::io::Write;

use bitcoin::OutPoint;
use sluice_schemas::Transaction;

use super::error::Error;
use super::json::{Outspend, Status, TransactionJson};
use super::out::{Freshness, Media, Out};
use super::params;
use super::script::Hex;
use super::serve::Ask;
use crate::query::Confirmation;

/// Confirmed transactions in one list.
pub(super) const PAGE: usize = 25;
/// Prevouts of one transaction that are looked up where the node did not tell them; the others are null, and the fee.
const PREVOUTS: usize = 1_000;

pub(super) fn transaction(ask: &Ask, out: &mut Out, txid: &str) -> Result<(), Error> {
    let (mut transaction, confirmation) = find(ask, txid)?;
    ask.view.fill_prevouts(&mut transaction, PREVOUTS)?;
    out.json(freshness(ask, confirmation), &json(ask, &transaction, confirmation))
}

/// Of a transaction that nobody has heard of, too, as Esplora does.
pub(super) fn status(ask: &Ask, out: &mut Out, txid: &str) -> Result<(), Error> {
    let confirmation = match ask.view.locate(&params::txid(txid)?)? {
        Some(confirmed) => ask.view.confirmation(confirmed.place)?,
        None => None,
    };
    out.json(freshness(ask, confirmation), &Status::from(confirmation))
}

pub(super) fn raw(ask: &Ask, out: &mut Out, txid: &str) -> Result<(), Error> {
    let (transaction, confirmation) = find(ask, txid)?;
    let head = out.head(Media::Binary, freshness(ask, confirmation));
    head.length = u64::try_from(transaction.size).ok();
    head.tag = Some(tag(&transaction, "raw"));
    Ok(transaction.write_raw(out)?)
}

pub(super) fn hex(ask: &Ask, out: &mut Out, txid: &str) -> Result<(), Error> {
    let (transaction, confirmation) = find(ask, txid)?;
    let head = out.head(Media::Text, freshness(ask, confirmation));
    head.length = u64::try_from(transaction.size).ok().and_then(|size| size.checked_mul(2));
    head.tag = Some(tag(&transaction, "hex"));
    Ok(transaction.write_raw(&mut HexWriter(out))?)
}

/// What stands for a transaction with its witnesses, in one form.
fn tag(transaction: &Transaction, form: &str) -> String {
    match transaction.wtxid {
        Some(wtxid) => format!("{wtxid}-{form}"),
        None => format!("{}-{form}", transaction.txid),
    }
}

/// Writes bytes as hexadecimal digits.
struct HexWriter<'a>(&'a mut Out);

impl Write for HexWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        write!(self.0, "{}", Hex(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

/// Of an output that nobody has heard of, too, as Esplora does.
pub(super) fn outspend(ask: &Ask, out: &mut Out, txid: &str, vout: &str) -> Result<(), Error> {
    let outpoint = OutPoint { txid: params::txid(txid)?, vout: params::number(vout)? };
    let spender = ask.view.outspend(&outpoint)?;
    let freshness = freshness(ask, spender.and_then(|spender| spender.confirmation));
    out.json(freshness, &Outspend::from(spender))
}

pub(super) fn outspends(ask: &Ask, out: &mut Out, txid: &str) -> Result<(), Error> {
    let (transaction, _) = find(ask, txid)?;
    let outpoints =
        (0..).zip(&transaction.outputs).map(|(vout, _)| OutPoint { txid: transaction.txid, vout });
    let outspends = outpoints.map(|outpoint| Ok(Outspend::from(ask.view.outspend(&outpoint)?)));
    out.json_array(Freshness::Changing, outspends)
}

/// Writes a list of transactions, one after another: no more than one is in memory.
pub(super) fn list(
    ask: &Ask,
    out: &mut Out,
    freshness: Freshness,
    transactions: impl Iterator<Item = Result<(Transaction, Option<Confirmation>), Error>>,
) -> Result<(), Error> {
    out.head(Media::Json, freshness);
    let mut separator = b"[";
    for item in transactions {
        let (mut transaction, confirmation) = item?;
        ask.view.fill_prevouts(&mut transaction, PREVOUTS)?;
        out.write_all(separator)?;
        serde_json::to_writer(&mut *out, &json(ask, &transaction, confirmation))?;
        separator = b",";
        out.in_time()?;
    }
    if separator == b"[" {
        out.write_all(b"[")?;
    }
    Ok(out.write_all(b"]")?)
}

fn json<'a>(
    ask: &Ask,
    transaction: &'a Transaction,
    confirmation: Option<Confirmation>,
) -> TransactionJson<'a> {
    TransactionJson { transaction, status: Status::from(confirmation), flavour: ask.network.flavour() }
}

/// A transaction of the best chain or the mempool.
fn find(ask: &Ask, txid: &str) -> Result<(Transaction, Option<Confirmation>), Error> {
    ask.view.transaction(&params::txid(txid)?)?.ok_or(Error::NotFound("Transaction not found"))
}

fn freshness(ask: &Ask, confirmation: Option<Confirmation>) -> Freshness {
    ask.freshness(confirmation.map(|confirmation| confirmation.height))
}
