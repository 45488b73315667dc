//! What a row holds beside its key, written and read.

use bitcoin::Txid;
use bitcoin::hashes::Hash;
use sluice_log::chain::Location;

use super::key::{place_bytes, place_from, put_number, take, take_number};
use super::{Coin, Spent};
use crate::ScriptHash;
use crate::query::{Activity, Place};

/// Of `places`.
pub(crate) fn location(out: &mut Vec<u8>, txid: &Txid, location: Location) {
    out.clear();
    out.extend_from_slice(txid.as_byte_array());
    put_number(out, location.partition as u64);
    put_number(out, location.offset as u64);
}

/// Reads a row of `places`.
pub(crate) fn read_location(mut row: &[u8]) -> Option<(Txid, Location)> {
    let txid = Txid::from_byte_array(take(&mut row)?);
    let partition = i32::try_from(take_number(&mut row)?).ok()?;
    let offset = i64::try_from(take_number(&mut row)?).ok()?;
    row.is_empty().then_some((txid, Location { partition, offset }))
}

/// Of `unspent`.
pub(crate) fn satoshis(out: &mut Vec<u8>, value: i64) -> &[u8] {
    out.clear();
    put_number(out, value as u64);
    out
}

/// Reads a row of `unspent`.
pub(crate) fn read_satoshis(mut row: &[u8]) -> Option<i64> {
    let value = take_number(&mut row)? as i64;
    row.is_empty().then_some(value)
}

/// Of `coins`.
pub(crate) fn coin<'a>(out: &'a mut Vec<u8>, coin: &Coin) -> &'a [u8] {
    out.clear();
    put_coin(out, coin);
    out
}

fn put_coin(out: &mut Vec<u8>, coin: &Coin) {
    out.extend_from_slice(&coin.script.0);
    put_number(out, coin.value as u64);
}

/// Reads a row of `coins`.
pub(crate) fn read_coin(mut row: &[u8]) -> Option<Coin> {
    let coin = Coin { script: ScriptHash(take(&mut row)?), value: take_number(&mut row)? as i64 };
    row.is_empty().then_some(coin)
}

/// In the number that begins the rest of a row of `spends`: the coin follows; it was in `coins`.
const HAS_COIN: u64 = 1;
const WAS_KEPT: u64 = 2;
const FLAG_BITS: u32 = 2;

/// Of `spends`.
pub(crate) fn spend<'a>(out: &'a mut Vec<u8>, place: Place, vin: u32, spent: &Spent) -> &'a [u8] {
    let coin = spent.coin.as_ref().filter(|_| spent.untold);
    out.clear();
    out.extend_from_slice(&place_bytes(place));
    let flags = if coin.is_some() { HAS_COIN } else { 0 } | if spent.kept { WAS_KEPT } else { 0 };
    put_number(out, u64::from(vin) << FLAG_BITS | flags);
    if let Some(coin) = coin {
        put_coin(out, coin);
    }
    out
}

/// A row of `spends`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spend {
    pub(crate) place: Place,
    pub(crate) vin: u32,
    /// Where the node did not tell it.
    pub(crate) coin: Option<Coin>,
    pub(crate) was_kept: bool,
}

/// Reads a row of `spends`.
pub(crate) fn read_spend(mut row: &[u8]) -> Option<Spend> {
    let place = place_from(&take::<{ super::key::PLACE }>(&mut row)?)?;
    let number = take_number(&mut row)?;
    let coin = match number & HAS_COIN {
        0 => None,
        _ => Some(read_coin(std::mem::take(&mut row))?),
    };
    let spend = Spend {
        place,
        vin: u32::try_from(number >> FLAG_BITS).ok()?,
        coin,
        was_kept: number & WAS_KEPT != 0,
    };
    row.is_empty().then_some(spend)
}

/// Of `history`: what is paid, and then, if anything is, what is spent.
pub(crate) fn activity<'a>(out: &'a mut Vec<u8>, activity: &Activity) -> &'a [u8] {
    out.clear();
    put_number(out, activity.funded_txo_count as u64);
    if activity.funded_txo_count != 0 {
        put_number(out, activity.funded_txo_sum as u64);
    }
    if activity.spent_txo_count != 0 {
        put_number(out, activity.spent_txo_count as u64);
        put_number(out, activity.spent_txo_sum as u64);
    }
    out
}

/// Reads a row of `history`.
pub(crate) fn read_activity(mut row: &[u8]) -> Option<Activity> {
    let mut activity = Activity { tx_count: 1, ..Activity::default() };
    activity.funded_txo_count = take_number(&mut row)? as i64;
    if activity.funded_txo_count != 0 {
        activity.funded_txo_sum = take_number(&mut row)? as i64;
    }
    if !row.is_empty() {
        activity.spent_txo_count = take_number(&mut row)? as i64;
        activity.spent_txo_sum = take_number(&mut row)? as i64;
    }
    row.is_empty().then_some(activity)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COIN: Coin = Coin { script: ScriptHash([7; 32]), value: 5_000_000_000 };
    const PLACE: Place = Place { height: 800_000, position: 70_000_000 };

    #[test]
    fn a_spend_is_read_as_it_was_written() {
        for (coin, untold, kept) in
            [(Some(COIN), true, true), (Some(COIN), false, false), (None, true, false)]
        {
            let spent = Spent { coin, untold, kept, outlives: true };
            let mut out = Vec::new();
            let written = spend(&mut out, PLACE, 300, &spent);
            let stored = coin.filter(|_| untold);
            let expected = Spend { place: PLACE, vin: 300, coin: stored, was_kept: kept };
            assert_eq!(read_spend(written), Some(expected));
            assert_eq!(read_spend(&written[..written.len() - 1]), None);
        }
    }

    #[test]
    fn activity_is_read_as_it_was_written() {
        let paid =
            Activity { tx_count: 1, funded_txo_count: 2, funded_txo_sum: 1 << 50, ..Activity::default() };
        let spent = Activity { tx_count: 1, spent_txo_count: 1, spent_txo_sum: 300, ..Activity::default() };
        let both = Activity { tx_count: 1, spent_txo_count: 1, spent_txo_sum: 9, ..paid };
        for case in [paid, spent, both] {
            let mut out = Vec::new();
            assert_eq!(read_activity(activity(&mut out, &case)), Some(case));
        }
        assert_eq!(read_activity(&[]), None);
    }

    #[test]
    fn a_location_is_read_as_it_was_written() {
        let txid = Txid::from_byte_array([9; 32]);
        let at = Location { partition: 11, offset: 1 << 40 };
        let mut out = Vec::new();
        location(&mut out, &txid, at);
        assert_eq!(read_location(&out), Some((txid, at)));
        out.push(0);
        assert_eq!(read_location(&out), None);
    }
}
