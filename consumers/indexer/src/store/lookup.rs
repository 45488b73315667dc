//! What a moment of the store says, read.

use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, OutPoint, Txid};
use sluice_schemas::{ChainEvent, Codec};

use super::{Rows, Table};
use crate::query::{Activity, Confirmed, Place};
use crate::rows::Coin;
use crate::rows::key::{HALF, Key, place_from, vout_from};
use crate::rows::row::{self, Spend};
use crate::{Error, Result, ScriptHash};

/// A row of `unspent`: half of the txid, the output index, and the satoshis.
pub(crate) struct UnspentRow {
    pub(crate) half_txid: [u8; HALF],
    pub(crate) vout: u32,
    pub(crate) value: i64,
}

impl Rows {
    /// The block of the best chain at a height.
    pub(crate) fn hash_at(&self, height: u32) -> Result<Option<BlockHash>> {
        self.get(Table::Heights, &Key::height(height))?.map(|row| hash(&row)).transpose()
    }

    /// The blocks of the best chain from `height` downwards.
    pub(crate) fn hashes_down(&self, height: u32) -> impl Iterator<Item = Result<BlockHash>> + use<> {
        let end = Key::height(height.saturating_add(1));
        self.range(Table::Heights, &Key::height(0), &end).rev().map(|row| hash(&row?.1))
    }

    /// The event that connected a block.
    pub(crate) fn block(&self, hash: &BlockHash) -> Result<Option<ChainEvent>> {
        let Some(row) = self.get(Table::Blocks, hash.as_byte_array())? else { return Ok(None) };
        Codec::single_object().decode(&row).map(Some).map_err(|_| damaged(Table::Blocks))
    }

    /// The transaction at a place.
    pub(crate) fn confirmed_at(&self, place: Place) -> Result<Option<Confirmed>> {
        let Some(row) = self.get(Table::Places, &Key::place(place))? else { return Ok(None) };
        confirmed(place, &row).map(Some)
    }

    /// The transactions of `height` from position `start` on.
    pub(crate) fn confirmed_from(&self, start: Place) -> impl Iterator<Item = Result<Confirmed>> + use<> {
        let end = Key::place(Place { height: start.height + 1, position: 0 });
        self.range(Table::Places, &Key::place(start), &end).map(|item| {
            let (key, row) = item?;
            confirmed(place_from(&key).ok_or_else(|| damaged(Table::Places))?, &row)
        })
    }

    /// Every place of a transaction on the best chain, lowest first: one, but for the two coinbases of BIP-30.
    pub(crate) fn places_of(&self, txid: &Txid) -> Result<Vec<Confirmed>> {
        self.places_of_half(&half(txid))
    }

    /// As `places_of`, with what keys keep of a txid.
    pub(crate) fn places_of_half(&self, half_txid: &[u8; HALF]) -> Result<Vec<Confirmed>> {
        let mut found = Vec::new();
        let mut padded = [0; 32];
        padded[..HALF].copy_from_slice(half_txid);
        let head = Key::txid(&Txid::from_byte_array(padded));
        for item in self.prefix(Table::Txids, &head) {
            let (key, _) = item?;
            let place = place_from(&key[head.len()..]).ok_or_else(|| damaged(Table::Txids))?;
            let confirmed = self.confirmed_at(place)?.ok_or_else(|| damaged(Table::Places))?;
            if confirmed.txid.as_byte_array().starts_with(half_txid) {
                found.push(confirmed);
            }
        }
        Ok(found)
    }

    /// Whether a transaction is on the chain below a height.
    pub(crate) fn is_below(&self, txid: &Txid, height: u32) -> Result<bool> {
        let head = Key::txid(txid);
        for item in self.prefix(Table::Txids, &head) {
            let (key, _) = item?;
            let place = place_from(&key[head.len()..]).ok_or_else(|| damaged(Table::Txids))?;
            if place.height < height && self.confirmed_at(place)?.is_some_and(|found| found.txid == *txid) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What spends an output.
    pub(crate) fn spend(&self, outpoint: &OutPoint) -> Result<Option<Spend>> {
        let Some(row) = self.get(Table::Spends, &Key::outpoint(outpoint))? else { return Ok(None) };
        row::read_spend(&row).map(Some).ok_or_else(|| damaged(Table::Spends))
    }

    /// What an output is worth, where it is kept.
    pub(crate) fn coin(&self, outpoint: &OutPoint) -> Result<Option<Coin>> {
        let Some(row) = self.get(Table::Coins, &Key::outpoint(outpoint))? else { return Ok(None) };
        row::read_coin(&row).map(Some).ok_or_else(|| damaged(Table::Coins))
    }

    /// What happened to a script in places `from..to`, in order.
    pub(crate) fn history(
        &self,
        script: &ScriptHash,
        from: Place,
        to: Place,
    ) -> impl DoubleEndedIterator<Item = Result<(Place, Activity)>> + use<> {
        self.range(Table::History, &Key::script_at(script, from), &Key::script_at(script, to)).map(|item| {
            let (key, row) = item?;
            let place = key.get(HALF..).and_then(place_from);
            place.zip(row::read_activity(&row)).ok_or_else(|| damaged(Table::History))
        })
    }

    /// The outputs to a script that nothing on the chain spends.
    pub(crate) fn unspent(&self, script: &ScriptHash) -> impl Iterator<Item = Result<UnspentRow>> + use<> {
        self.prefix(Table::Unspent, &Key::script(script)).map(|item| {
            let (key, row) = item?;
            unspent(&key, &row).ok_or_else(|| damaged(Table::Unspent))
        })
    }
}

/// What keys keep of a txid.
pub(crate) fn half(txid: &Txid) -> [u8; HALF] {
    let mut half = [0; HALF];
    half.copy_from_slice(&txid.as_byte_array()[..HALF]);
    half
}

pub(crate) fn damaged(table: Table) -> Error {
    Error::Damaged { table: table.name() }
}

fn confirmed(place: Place, row: &[u8]) -> Result<Confirmed> {
    let (txid, location) = row::read_location(row).ok_or_else(|| damaged(Table::Places))?;
    Ok(Confirmed { txid, place, location })
}

fn hash(row: &[u8]) -> Result<BlockHash> {
    BlockHash::from_slice(row).map_err(|_| damaged(Table::Heights))
}

fn unspent(key: &[u8], row: &[u8]) -> Option<UnspentRow> {
    let (half_txid, vout) = key.get(HALF..)?.split_first_chunk()?;
    Some(UnspentRow { half_txid: *half_txid, vout: vout_from(vout)?, value: row::read_satoshis(row)? })
}
