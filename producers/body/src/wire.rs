//! The little that the wire format is made of.

use std::io::{self, Read};

use sha2::{Digest, Sha256};

/// A CompactSize that takes more bytes than its number needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NonCanonical;

/// Reads the CompactSize at `at`: its number and where it ends, or `None` while bytes of it are missing.
#[inline]
pub(crate) fn compact_size(bytes: &[u8], at: usize) -> Result<Option<(u64, usize)>, NonCanonical> {
    let Some(&first) = bytes.get(at) else { return Ok(None) };
    let (width, smallest) = match first {
        0..=0xfc => return Ok(Some((u64::from(first), at + 1))),
        0xfd => (2, 0xfd),
        0xfe => (4, 0x1_0000),
        0xff => (8, 0x1_0000_0000),
    };
    let Some(digits) = bytes.get(at + 1..at + 1 + width) else { return Ok(None) };
    let number = digits.iter().rev().fold(0u64, |number, &byte| number << 8 | u64::from(byte));
    if number < smallest { Err(NonCanonical) } else { Ok(Some((number, at + 1 + width))) }
}

/// The `N` bytes at `at`, which the caller knows to be there.
#[inline]
pub(crate) fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("the range is N bytes long")
}

/// Bitcoin's hash: SHA-256 twice, over the parts in order.
#[inline]
pub(crate) fn double_sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    Sha256::digest(hasher.finalize()).into()
}

/// Bytes that have arrived and are not used up. Grows in steps, and only by what arrives.
#[derive(Debug)]
pub(crate) struct Arriving<R> {
    read: R,
    pub(crate) bytes: Vec<u8>,
}

/// What is read at once.
pub(crate) const CHUNK_BYTES: usize = 256 << 10;
/// Spare room that keeps `read_to_end` from growing the buffer to see whether there is more.
const PROBE_BYTES: usize = 64;

impl<R: Read> Arriving<R> {
    pub(crate) fn new(read: R) -> Self {
        Self { read, bytes: Vec::new() }
    }

    /// Reads a chunk more, or an eighth of what is there already: a transaction of a gigabyte grows in few steps and
    /// never takes twice its size. Returns how many bytes came; 0 is the end.
    pub(crate) fn fill(&mut self) -> io::Result<usize> {
        let step = CHUNK_BYTES.max(self.bytes.len() / 8);
        self.bytes.reserve_exact(step + PROBE_BYTES);
        (&mut self.read).take(step as u64).read_to_end(&mut self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_read_only_in_its_shortest_form() {
        for (bytes, expected) in [
            (&[0xfc][..], Ok(Some((0xfc, 1)))),
            (&[0xfd, 0xfd, 0], Ok(Some((0xfd, 3)))),
            (&[0xfd, 0xfc, 0], Err(NonCanonical)),
            (&[0xfe, 0, 0, 1, 0], Ok(Some((0x1_0000, 5)))),
            (&[0xfe, 0xff, 0xff, 0, 0], Err(NonCanonical)),
            (&[0xff, 0, 0, 0, 0, 1, 0, 0, 0], Ok(Some((0x1_0000_0000, 9)))),
            (&[0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0], Err(NonCanonical)),
            (&[0xff; 9], Ok(Some((u64::MAX, 9)))),
            (&[0xfd, 0xfd], Ok(None)),
            (&[], Ok(None)),
        ] {
            assert_eq!(compact_size(bytes, 0), expected, "{bytes:?}");
        }
    }
}
