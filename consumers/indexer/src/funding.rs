//! What transactions spend: told by the node, or found by the index's own tables.

use std::collections::HashMap;

use bitcoin::OutPoint;
use sluice_schemas::{Flavour, Input, Transaction};

use crate::overlay::Overlay;
use crate::query::Index;
use crate::rows::{Coin, Context, Placed, Spent, is_spendable};
use crate::store::{Store, meta};
use crate::{Result, ScriptHash};

/// Finds what inputs spend.
///
/// Outputs are kept as coins until they are spent, so that they are found where the node does not tell prevouts. Where the
/// first ones that are met are told, that is left. Should a later one not be told, it is read from the log, and coins
/// are kept again.
pub(crate) struct Funding {
    index: Index,
    prevouts: Prevouts,
    /// Coins whose rows are still to be written.
    recent: HashMap<OutPoint, Coin>,
    /// Coins whose rows are being written.
    on_their_way: HashMap<OutPoint, Coin>,
}

/// Whether the node tells prevouts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prevouts {
    /// None was met yet.
    Unmet,
    /// The first ones that were met are told.
    Told,
    /// Not all are.
    Untold,
}

impl Prevouts {
    /// The row of `meta`.
    pub(crate) fn row(self) -> &'static [u8] {
        match self {
            Self::Unmet => b"unmet",
            Self::Told => b"told",
            Self::Untold => b"untold",
        }
    }

    /// Reads the row of `meta`.
    pub(crate) fn read(store: &Store) -> Result<Self> {
        let row = store.meta(meta::PREVOUTS)?;
        let known = [Self::Unmet, Self::Told, Self::Untold];
        let found = known.into_iter().find(|known| row.as_deref() == Some(known.row()));
        Ok(found.unwrap_or(Self::Unmet))
    }
}

impl Funding {
    pub(crate) fn open(index: &Index) -> Result<Self> {
        let prevouts = Prevouts::read(index.store())?;
        Ok(Self { index: index.clone(), prevouts, recent: HashMap::new(), on_their_way: HashMap::new() })
    }

    /// Prevouts are not told, as is known beforehand.
    pub(crate) fn expect_untold(&mut self) {
        self.prevouts = Prevouts::Untold;
    }

    pub(crate) fn prevouts(&self) -> Prevouts {
        self.prevouts
    }

    fn keeps_coins(&self) -> bool {
        self.prevouts != Prevouts::Told
    }

    /// Whether coins are kept again from this transaction on, so that those before it must be read from the log.
    pub(crate) fn begins_to_keep(&mut self, transaction: &Transaction) -> bool {
        if transaction.coinbase || self.prevouts == Prevouts::Untold {
            return false;
        }
        let before = self.prevouts;
        self.prevouts = match transaction.inputs.iter().all(|input| input.prevout.is_some()) {
            true => Prevouts::Told,
            false => Prevouts::Untold,
        };
        (before, self.prevouts) == (Prevouts::Told, Prevouts::Untold)
    }

    /// The rows so far are being written, and those before them have been.
    pub(crate) fn handed_over(&mut self) {
        self.on_their_way.clear();
        std::mem::swap(&mut self.recent, &mut self.on_their_way);
    }

    /// All rows so far are in the store.
    pub(crate) fn written(&mut self) {
        self.recent.clear();
        self.on_their_way.clear();
    }

    /// What the rows of a transaction that comes need to know.
    pub(crate) fn connecting(&mut self, placed: &Placed<'_>) -> Result<Context> {
        let Placed { transaction, flavour, .. } = *placed;
        let mut context = Context { keeps_coins: self.keeps_coins(), ..Context::default() };
        if !transaction.coinbase {
            context.spent.reserve(transaction.inputs.len());
            for input in &transaction.inputs {
                context.spent.push(self.spent(input, flavour)?);
            }
        }
        if self.keeps_coins() {
            for (outpoint, coin) in coins_of(transaction, flavour) {
                self.recent.insert(outpoint, coin);
            }
        }
        Ok(context)
    }

    fn spent(&mut self, input: &Input, flavour: Flavour) -> Result<Spent> {
        let outpoint = outpoint(input);
        if let Some(coin) = told(input) {
            let kept = self.keeps_coins() && self.kept(&outpoint)?.is_some();
            return Ok(Spent { coin: Some(coin), untold: false, kept, outlives: true });
        }
        if let Some(coin) = self.recent.remove(&outpoint).or_else(|| self.on_their_way.remove(&outpoint)) {
            return Ok(Spent { coin: Some(coin), untold: true, kept: true, outlives: true });
        }
        let rows = self.index.store().snapshot();
        if let Some(coin) = rows.coin(&outpoint)? {
            return Ok(Spent { coin: Some(coin), untold: true, kept: true, outlives: true });
        }
        // A part of this very block may have been written before a crash.
        if let Some(spend) = rows.spend(&outpoint)?
            && spend.coin.is_some()
        {
            return Ok(Spent { coin: spend.coin, untold: true, kept: spend.was_kept, outlives: true });
        }
        let coin = match rows.places_of(&outpoint.txid)?.last() {
            Some(funding) => output(&self.index.read(&rows, funding)?, &outpoint, flavour),
            None => None,
        };
        Ok(Spent { coin, untold: true, kept: false, outlives: true })
    }

    fn kept(&self, outpoint: &OutPoint) -> Result<Option<Coin>> {
        match self.recent.get(outpoint).or_else(|| self.on_their_way.get(outpoint)) {
            Some(coin) => Ok(Some(*coin)),
            None => self.index.store().snapshot().coin(outpoint),
        }
    }

    /// What the rows of a transaction that goes need to know. Everything before it must be in the store.
    pub(crate) fn disconnecting(&self, placed: &Placed<'_>) -> Result<Context> {
        let Placed { place, transaction, flavour, .. } = *placed;
        let rows = self.index.store().snapshot();
        // Those that were kept before it was known that prevouts are told go too.
        let mut context = Context { keeps_coins: true, ..Context::default() };
        for input in transaction.inputs.iter().filter(|_| !transaction.coinbase) {
            let outpoint = outpoint(input);
            let outlives = rows.is_below(&outpoint.txid, place.height)?;
            context.spent.push(match told(input) {
                Some(coin) => {
                    let kept =
                        self.keeps_coins() && rows.spend(&outpoint)?.is_some_and(|spend| spend.was_kept);
                    Spent { coin: Some(coin), untold: false, kept, outlives }
                }
                None => {
                    // Without a row it has been undone already, before a crash.
                    let spend = rows.spend(&outpoint)?;
                    let kept = spend.is_some_and(|spend| spend.was_kept);
                    Spent { coin: spend.and_then(|spend| spend.coin), untold: true, kept, outlives }
                }
            });
        }
        let twin = transaction.coinbase && rows.is_below(&transaction.txid, place.height)?;
        for (vout, output) in transaction.outputs.iter().enumerate() {
            let script = ScriptHash::of(&output.script_pubkey);
            let is_known = output.address.is_some()
                && is_spendable(&output.script_pubkey, flavour)
                && match rows.history(&script, crate::query::Place::START, place).next() {
                    Some(item) => item?.0.height < place.height,
                    None => false,
                };
            context.address_stays.push(is_known);
            if twin {
                let outpoint = OutPoint { txid: transaction.txid, vout: vout as u32 };
                context.output_stays.push(rows.spend(&outpoint)?.is_none());
            }
        }
        Ok(context)
    }

    /// What a transaction of the mempool spends.
    pub(crate) fn waiting(
        &self,
        transaction: &Transaction,
        overlay: &Overlay,
        flavour: Flavour,
    ) -> Result<Vec<Spent>> {
        let mut spent = Vec::with_capacity(transaction.inputs.len());
        for input in &transaction.inputs {
            let outpoint = outpoint(input);
            let parent = || overlay.output(&outpoint, flavour).map(coin);
            let coin = match told(input).or_else(parent) {
                None => self.confirmed(&outpoint, flavour)?,
                coin => coin,
            };
            spent.push(Spent { coin, untold: false, kept: false, outlives: true });
        }
        Ok(spent)
    }

    /// A coin of a confirmed transaction: as it is kept, else from the log. Nodes that tell the prevouts of a block do not
    /// tell those of what is waiting.
    fn confirmed(&self, outpoint: &OutPoint, flavour: Flavour) -> Result<Option<Coin>> {
        if self.keeps_coins()
            && let Some(coin) = self.kept(outpoint)?
        {
            return Ok(Some(coin));
        }
        let rows = self.index.store().snapshot();
        match rows.places_of(&outpoint.txid)?.last() {
            Some(funding) => Ok(output(&self.index.read(&rows, funding)?, outpoint, flavour)),
            None => Ok(None),
        }
    }
}

fn outpoint(input: &Input) -> OutPoint {
    OutPoint { txid: input.prev_txid, vout: input.prev_vout as u32 }
}

/// The coin, where the node tells it.
fn told(input: &Input) -> Option<Coin> {
    let prevout = input.prevout.as_ref()?;
    Some(Coin { script: ScriptHash::of(&prevout.script_pubkey), value: prevout.value })
}

fn coin(output: &sluice_schemas::Output) -> Coin {
    Coin { script: ScriptHash::of(&output.script_pubkey), value: output.value }
}

fn output(transaction: &Transaction, outpoint: &OutPoint, flavour: Flavour) -> Option<Coin> {
    let output = transaction.outputs.get(outpoint.vout as usize)?;
    is_spendable(&output.script_pubkey, flavour).then(|| coin(output))
}

fn coins_of(transaction: &Transaction, flavour: Flavour) -> impl Iterator<Item = (OutPoint, Coin)> {
    let outputs = transaction.outputs.iter().enumerate();
    outputs
        .filter(move |(_, output)| is_spendable(&output.script_pubkey, flavour))
        .map(|(vout, output)| (OutPoint { txid: transaction.txid, vout: vout as u32 }, coin(output)))
}
