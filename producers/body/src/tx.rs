//! One transaction: its bytes, its ids, and where its parts are.

use std::ops::Range;

use bitcoin::hashes::Hash;
use bitcoin::{OutPoint, Txid, Wtxid};
use bytes::Bytes;
use sluice_schemas::{Flavour, Script};

use crate::scan::{Layout, Progress, Scan};
use crate::wire::{NonCanonical, array, compact_size, double_sha256};

/// Why bytes are not a transaction.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TxError {
    /// Bytes are missing.
    #[error("truncated after {bytes} bytes, at least {needed} are needed")]
    Truncated {
        /// How many there are.
        bytes: u64,
        /// How many there must be, as far as is known.
        needed: u64,
    },
    /// Bytes follow that do not belong to it.
    #[error("{bytes} bytes follow after its end")]
    Trailing {
        /// How many.
        bytes: u64,
    },
    /// A count or length takes more bytes than it needs.
    #[error("a count or length is not in its shortest form")]
    NonCanonicalSize,
    /// It is larger than the limit.
    #[error("it has at least {bytes} bytes, {max} are allowed")]
    TooLarge {
        /// Size as far as is known.
        bytes: u64,
        /// The limit.
        max: u64,
    },
    /// It has no inputs.
    #[error("it has no inputs")]
    NoInputs,
    /// Its flag byte announces data that nobody knows (BIP-144).
    #[error("unknown flag {flag:#04x}")]
    UnknownFlag {
        /// The byte.
        flag: u8,
    },
    /// It announces witnesses and has none.
    #[error("it announces witnesses and has none")]
    SuperfluousWitness,
}

impl From<NonCanonical> for TxError {
    fn from(_: NonCanonical) -> Self {
        Self::NonCanonicalSize
    }
}

/// A transaction as it is on the wire. Cheap to clone: its bytes, and the scripts taken from it, are slices of the chunk
/// in which it arrived, and keep that chunk in memory.
#[derive(Clone, Debug)]
pub struct RawTx {
    /// Its bytes.
    pub raw: Bytes,
    /// Hash without witnesses.
    pub txid: Txid,
    /// Hash with witnesses; the same as `txid` where it has none.
    pub wtxid: Wtxid,
    /// Size in bytes without witnesses.
    pub base_size: u64,
    layout: Layout,
}

/// An input of a [`RawTx`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputRef {
    /// What it spends.
    pub outpoint: OutPoint,
    /// Where its unlocking script is.
    pub script_sig: Range<usize>,
    /// Sequence number.
    pub sequence: u32,
}

/// An output of a [`RawTx`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputRef {
    /// Satoshis.
    pub value: i64,
    /// Where its locking script is.
    pub script_pubkey: Range<usize>,
}

impl RawTx {
    /// Takes bytes that `scan` has found to be exactly one transaction.
    pub(crate) fn new(raw: Bytes, layout: Layout) -> Self {
        if !layout.segwit {
            let hash = double_sha256(&[&raw]);
            let base_size = raw.len() as u64;
            return Self {
                raw,
                txid: Txid::from_byte_array(hash),
                wtxid: Wtxid::from_byte_array(hash),
                base_size,
                layout,
            };
        }
        let parts = [&raw[..4], &raw[layout.body..layout.witnesses], &raw[layout.lock_time..]];
        Self {
            txid: Txid::from_byte_array(double_sha256(&parts)),
            wtxid: Wtxid::from_byte_array(double_sha256(&[&raw])),
            base_size: parts.iter().map(|part| part.len() as u64).sum(),
            raw,
            layout,
        }
    }

    /// Size in bytes, with witnesses.
    pub fn size(&self) -> u64 {
        self.raw.len() as u64
    }

    /// Weight (BIP-141).
    pub fn weight(&self) -> u64 {
        self.base_size * 3 + self.size()
    }

    /// Version.
    pub fn version(&self) -> i32 {
        i32::from_le_bytes(array(&self.raw, 0))
    }

    /// Lock time.
    pub fn lock_time(&self) -> u32 {
        u32::from_le_bytes(array(&self.raw, self.layout.lock_time))
    }

    /// Whether it carries witnesses.
    pub fn has_witness(&self) -> bool {
        self.layout.segwit
    }

    /// Whether it is a coinbase: one input that spends nothing.
    pub fn is_coinbase(&self) -> bool {
        let outpoint = &self.raw[self.layout.inputs..][..36];
        self.layout.input_count == 1 && outpoint[..32] == [0; 32] && outpoint[32..] == [0xff; 4]
    }

    /// Number of inputs.
    pub fn input_count(&self) -> usize {
        self.layout.input_count as usize
    }

    /// Number of outputs.
    pub fn output_count(&self) -> usize {
        self.layout.output_count as usize
    }

    /// What its inputs spend, in order; one outpoint that is null for a coinbase.
    pub fn outpoints(&self) -> impl Iterator<Item = OutPoint> {
        self.inputs().map(|input| input.outpoint)
    }

    /// Its inputs in order.
    pub fn inputs(&self) -> impl Iterator<Item = InputRef> {
        let mut at = self.layout.inputs;
        (0..self.layout.input_count).map(move |_| {
            let outpoint = OutPoint {
                txid: Txid::from_byte_array(array(&self.raw, at)),
                vout: u32::from_le_bytes(array(&self.raw, at + 32)),
            };
            let script_sig = self.sized(at + 36);
            at = script_sig.end + 4;
            InputRef { outpoint, sequence: u32::from_le_bytes(array(&self.raw, script_sig.end)), script_sig }
        })
    }

    /// Its outputs in order.
    pub fn outputs(&self) -> impl Iterator<Item = OutputRef> {
        let mut at = self.layout.outputs;
        (0..self.layout.output_count).map(move |_| {
            let value = i64::from_le_bytes(array(&self.raw, at));
            let script_pubkey = self.sized(at + 8);
            at = script_pubkey.end;
            OutputRef { value, script_pubkey }
        })
    }

    /// The witness of each input in order; none at all where it has no witnesses.
    pub fn witnesses(&self) -> impl Iterator<Item = Vec<Script>> {
        let mut at = self.layout.witnesses;
        let inputs = if self.layout.segwit { self.layout.input_count } else { 0 };
        (0..inputs).map(move |_| {
            let (items, next) = self.count(at);
            at = next;
            (0..items)
                .map(|_| {
                    let item = self.sized(at);
                    at = item.end;
                    self.slice(item)
                })
                .collect()
        })
    }

    /// A part of its bytes, without a copy.
    pub fn slice(&self, range: Range<usize>) -> Script {
        Script(if range.is_empty() { Bytes::new() } else { self.raw.slice(range) })
    }

    fn count(&self, at: usize) -> (u64, usize) {
        compact_size(&self.raw, at).ok().flatten().expect("the scan has read this size")
    }

    fn sized(&self, at: usize) -> Range<usize> {
        let (length, start) = self.count(at);
        start..start + length as usize
    }
}

/// Reads one whole transaction.
///
/// # Errors
/// Where the bytes are not exactly one transaction of the flavour.
pub fn parse_transaction(raw: Bytes, flavour: Flavour) -> Result<RawTx, TxError> {
    let mut scan = Scan::new(flavour);
    match scan.advance(&raw)? {
        Progress::Done(end) if end == raw.len() => Ok(RawTx::new(raw, scan.layout)),
        Progress::Done(end) => Err(TxError::Trailing { bytes: (raw.len() - end) as u64 }),
        Progress::Need(needed) => Err(TxError::Truncated { bytes: raw.len() as u64, needed }),
    }
}
