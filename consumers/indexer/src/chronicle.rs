//! What is written down of how things came about: transactions that were reverted, and what the mempool saw.

use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, Txid};
use sluice_consumer::BlockRef;
use sluice_schemas::{ChainEvent, MempoolEvent, MempoolKind, RemovalReason};

use crate::Result;
use crate::query::StepKind;
use crate::rows::key::{HALF, Key, put_number, take, take_number};
use crate::store::{Rows, Table};

/// Sightings are kept for so many days: as long as the mempool topic keeps its events.
const KEPT_DAYS: u16 = 7;
/// Sightings deleted at once when their day is over.
pub(crate) const PRUNED_AT_ONCE: usize = 10_000;
const DAY_MS: i64 = 86_400_000;
/// Longest name of a source that is kept.
const MAX_SOURCE_BYTES: usize = 200;

/// A transaction that left the best chain with its block.
pub(crate) struct Revert {
    pub(crate) sequence: i64,
    pub(crate) observed_at: i64,
    pub(crate) block: BlockRef,
    pub(crate) position: u32,
    /// Of the event that had connected the block.
    pub(crate) connected_sequence: i64,
    pub(crate) connected_at: i64,
}

/// A row of `reverts`: `disconnected` is the event, `connected` the one it undoes.
pub(crate) fn revert(
    out: &mut Vec<u8>,
    disconnected: &ChainEvent,
    connected: Option<&ChainEvent>,
    position: u32,
) {
    let connected = connected.unwrap_or(disconnected);
    out.clear();
    out.extend_from_slice(disconnected.hash.as_byte_array());
    for number in [
        disconnected.height.into(),
        position.into(),
        disconnected.observed_at,
        connected.sequence,
        connected.observed_at,
    ] {
        put_number(out, number as u64);
    }
}

/// Reads a row of `reverts`.
pub(crate) fn read_revert(key: &[u8], mut row: &[u8]) -> Option<Revert> {
    let sequence = i64::from_be_bytes(key.get(HALF..)?.try_into().ok()?);
    let hash = BlockHash::from_byte_array(take(&mut row)?);
    let height = i32::try_from(take_number(&mut row)?).ok()?;
    let position = u32::try_from(take_number(&mut row)?).ok()?;
    let observed_at = take_number(&mut row)? as i64;
    let connected_sequence = take_number(&mut row)? as i64;
    let connected_at = take_number(&mut row)? as i64;
    let block = BlockRef { height, hash };
    row.is_empty().then_some(Revert {
        sequence,
        observed_at,
        block,
        position,
        connected_sequence,
        connected_at,
    })
}

/// Something that the mempool view showed of a transaction.
pub(crate) struct Sighting {
    pub(crate) observed_at: i64,
    pub(crate) chain_sequence: i64,
    pub(crate) kind: StepKind,
}

/// A day, counted from the Unix epoch.
pub(crate) fn day(observed_at: i64) -> u16 {
    u16::try_from(observed_at / DAY_MS).unwrap_or(u16::MAX)
}

/// The first day that is still kept on `today`.
pub(crate) fn first_kept(today: u16) -> u16 {
    today.saturating_sub(KEPT_DAYS)
}

/// What keys of a transaction's sightings on a day begin with.
pub(crate) fn sightings_of(day: u16, txid: &Txid) -> Vec<u8> {
    [&day.to_be_bytes()[..], &Key::half_txid(txid)].concat()
}

/// Key of a sighting.
pub(crate) fn sighting_key(event: &MempoolEvent) -> Vec<u8> {
    let mut key = sightings_of(day(event.observed_at), &event.txid);
    key.extend(event.epoch.to_be_bytes());
    key.extend(event.sequence.to_be_bytes());
    key
}

const REASONS: [RemovalReason; 6] = [
    RemovalReason::Mined,
    RemovalReason::Replaced,
    RemovalReason::Conflicted,
    RemovalReason::Expired,
    RemovalReason::Evicted,
    RemovalReason::Unknown,
];
/// Beside the index of a reason.
const SEEN: u8 = 0xff;

/// A row of `sightings`; `None` for what is no sighting of a transaction.
pub(crate) fn sighting<'a>(out: &'a mut Vec<u8>, event: &MempoolEvent) -> Option<&'a [u8]> {
    out.clear();
    match event.kind {
        MempoolKind::Reset => return None,
        MempoolKind::Added => out.push(SEEN),
        MempoolKind::Removed => {
            let reason = event.reason.unwrap_or(RemovalReason::Unknown);
            out.push(REASONS.iter().position(|known| *known == reason).unwrap_or(0) as u8);
        }
    }
    put_number(out, event.observed_at as u64);
    put_number(out, event.chain_sequence.saturating_add(1) as u64);
    put_number(out, event.first_seen.unwrap_or(event.observed_at) as u64);
    let mut source_bytes = event.source.len().min(MAX_SOURCE_BYTES);
    while !event.source.is_char_boundary(source_bytes) {
        source_bytes -= 1;
    }
    put_number(out, source_bytes as u64);
    out.extend_from_slice(&event.source.as_bytes()[..source_bytes]);
    out.extend(event.replaced_by.iter().flat_map(|txid| txid.to_byte_array()));
    Some(out)
}

/// Reads a row of `sightings`.
pub(crate) fn read_sighting(mut row: &[u8]) -> Option<Sighting> {
    let [tag] = take(&mut row)?;
    let observed_at = take_number(&mut row)? as i64;
    let chain_sequence = (take_number(&mut row)? as i64).saturating_sub(1);
    let first_seen = take_number(&mut row)? as i64;
    let source_bytes = usize::try_from(take_number(&mut row)?).ok()?;
    let (source, mut row) = row.split_at_checked(source_bytes)?;
    let source = String::from_utf8(source.to_vec()).ok()?;
    let replaced_by = match row.is_empty() {
        true => None,
        false => Some(Txid::from_byte_array(take(&mut row)?)),
    };
    let kind = match tag {
        SEEN => StepKind::Seen { source, first_seen },
        tag => StepKind::Left { source, reason: *REASONS.get(usize::from(tag))?, replaced_by },
    };
    row.is_empty().then_some(Sighting { observed_at, chain_sequence, kind })
}

/// The days that have sightings, in order.
pub(crate) fn days(rows: &Rows) -> Result<Vec<u16>> {
    let mut days = Vec::new();
    let mut from = [0, 0];
    while let Some(item) = rows.range(Table::Sightings, &from, &[0xff; 2]).next() {
        let (key, _) = item?;
        let Some((day, _)) = key.split_first_chunk() else { break };
        let day = u16::from_be_bytes(*day);
        days.push(day);
        from = day.saturating_add(1).to_be_bytes();
    }
    Ok(days)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sighting_is_read_as_it_was_written() {
        let txid = Txid::from_byte_array([3; 32]);
        let mut event = MempoolEvent {
            epoch: 2,
            sequence: 9,
            chain_sequence: -1,
            kind: MempoolKind::Added,
            txid,
            transaction: None,
            reason: None,
            block_hash: None,
            replaced_by: None,
            first_seen: Some(1_700_000_000_000),
            observed_at: 1_700_000_000_500,
            source: "é".repeat(150),
        };
        let mut out = Vec::new();
        let seen = read_sighting(sighting(&mut out, &event).unwrap()).unwrap();
        let kind = StepKind::Seen { source: "é".repeat(100), first_seen: 1_700_000_000_000 };
        assert_eq!((seen.observed_at, seen.chain_sequence, seen.kind), (event.observed_at, -1, kind));
        event.kind = MempoolKind::Removed;
        event.source = "node".into();
        for reason in REASONS {
            (event.reason, event.replaced_by) = (Some(reason), Some(txid));
            let left = read_sighting(sighting(&mut out, &event).unwrap()).unwrap();
            let kind = StepKind::Left { source: "node".into(), reason, replaced_by: Some(txid) };
            assert_eq!(left.kind, kind);
        }
        assert!(read_sighting(&[]).is_none() && read_sighting(&[0, 1]).is_none());
        event.kind = MempoolKind::Reset;
        assert!(sighting(&mut out, &event).is_none());
    }
}
