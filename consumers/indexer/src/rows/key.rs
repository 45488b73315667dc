//! How keys and rows are written.

use bitcoin::hashes::Hash;
use bitcoin::{OutPoint, Txid};

use crate::ScriptHash;
use crate::query::Place;

/// Bytes of a hash that are kept in a key.
pub(crate) const HALF: usize = 16;
/// Bytes of a txid in the table of txids.
pub(crate) const TXID_HEAD: usize = 8;
/// Bytes of a place.
pub(crate) const PLACE: usize = 7;
/// The highest height that a place can have.
pub(crate) const MAX_HEIGHT: u32 = (1 << 24) - 1;

/// A key in the making. The longest is of half a script hash, half a txid and an output index.
#[derive(Clone, Copy)]
pub(crate) struct Key {
    bytes: [u8; 2 * HALF + 5],
    len: usize,
}

impl std::ops::Deref for Key {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl AsRef<[u8]> for Key {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Key {
    fn empty() -> Self {
        Self { bytes: [0; 2 * HALF + 5], len: 0 }
    }

    fn with(mut self, part: &[u8]) -> Self {
        self.bytes[self.len..self.len + part.len()].copy_from_slice(part);
        self.len += part.len();
        self
    }

    /// An output index: one byte up to 250, else 255 and four.
    fn with_vout(self, vout: u32) -> Self {
        match u8::try_from(vout) {
            Ok(vout @ 0..=250) => self.with(&[vout]),
            _ => self.with(&[u8::MAX]).with(&vout.to_be_bytes()),
        }
    }

    /// Of `places` and `transactions`.
    pub(crate) fn place(place: Place) -> Self {
        Self::empty().with(&place_bytes(place))
    }

    /// Of `heights`.
    pub(crate) fn height(height: u32) -> Self {
        Self::empty().with(&height.to_be_bytes())
    }

    /// Of `txids`: all the places of a txid.
    pub(crate) fn txid(txid: &Txid) -> Self {
        Self::empty().with(&txid.as_byte_array()[..TXID_HEAD])
    }

    /// Of `txids`.
    pub(crate) fn txid_at(txid: &Txid, place: Place) -> Self {
        Self::txid(txid).with(&place_bytes(place))
    }

    /// Of `reverts`: all of a txid.
    pub(crate) fn half_txid(txid: &Txid) -> Self {
        Self::empty().with(&txid.as_byte_array()[..HALF])
    }

    /// Of `reverts`.
    pub(crate) fn revert(txid: &Txid, sequence: i64) -> Self {
        Self::half_txid(txid).with(&sequence.to_be_bytes())
    }

    /// Of `spends` and `coins`.
    pub(crate) fn outpoint(outpoint: &OutPoint) -> Self {
        Self::half_txid(&outpoint.txid).with_vout(outpoint.vout)
    }

    /// Of `history` and `unspent`: all of a script.
    pub(crate) fn script(script: &ScriptHash) -> Self {
        Self::empty().with(&script.0[..HALF])
    }

    /// Of `history`.
    pub(crate) fn script_at(script: &ScriptHash, place: Place) -> Self {
        Self::script(script).with(&place_bytes(place))
    }

    /// Of `unspent`.
    pub(crate) fn unspent(script: &ScriptHash, outpoint: &OutPoint) -> Self {
        Self::script(script).with(&outpoint.txid.as_byte_array()[..HALF]).with_vout(outpoint.vout)
    }
}

/// Three bytes of height and four of position, so that their order is that of the chain.
pub(crate) fn place_bytes(place: Place) -> [u8; PLACE] {
    let [_, a, b, c] = place.height.to_be_bytes();
    let [d, e, f, g] = place.position.to_be_bytes();
    [a, b, c, d, e, f, g]
}

/// Reads what `place_bytes` wrote.
pub(crate) fn place_from(bytes: &[u8]) -> Option<Place> {
    let [a, b, c, d, e, f, g] = *<&[u8; PLACE]>::try_from(bytes).ok()?;
    Some(Place { height: u32::from_be_bytes([0, a, b, c]), position: u32::from_be_bytes([d, e, f, g]) })
}

/// Reads what `with_vout` wrote.
pub(crate) fn vout_from(bytes: &[u8]) -> Option<u32> {
    match *bytes {
        [vout @ 0..=250] => Some(vout.into()),
        [u8::MAX, a, b, c, d] => Some(u32::from_be_bytes([a, b, c, d])),
        _ => None,
    }
}

/// Appends a number, seven bits to a byte, lowest first.
pub(crate) fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Takes what `put_number` appended from the front.
pub(crate) fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

/// Takes bytes from the front.
pub(crate) fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_in_the_order_of_the_chain_and_survive_their_bytes() {
        let place = |height, position| Place { height, position };
        let ascending =
            [place(0, 0), place(0, 1), place(0, u32::MAX), place(1, 0), place(255, 3), place(MAX_HEIGHT, 0)];
        for pair in ascending.windows(2) {
            assert!(place_bytes(pair[0]) < place_bytes(pair[1]));
        }
        for place in ascending {
            assert_eq!(place_from(&place_bytes(place)), Some(place));
        }
        assert_eq!(place_from(&[0; 6]), None);
    }

    #[test]
    fn numbers_and_output_indices_survive_their_bytes() {
        for number in [0, 1, 0x7f, 0x80, 0x3fff, 0x4000, u64::from(u32::MAX), u64::MAX] {
            let mut bytes = Vec::new();
            put_number(&mut bytes, number);
            let mut rest = &bytes[..];
            assert_eq!((take_number(&mut rest), rest.len()), (Some(number), 0));
            assert_eq!(take_number(&mut &bytes[..bytes.len() - 1]), None);
        }
        for vout in [0, 250, 251, 255, 256, u32::MAX] {
            assert_eq!(vout_from(&Key::empty().with_vout(vout)), Some(vout));
        }
    }

    #[test]
    fn a_number_without_an_end_is_refused() {
        assert_eq!(take_number(&mut &[0xff; 11][..]), None);
    }
}
