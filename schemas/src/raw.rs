//! The raw transaction, rebuilt from its event, and the ids that prove it.

use std::io::{self, Write};

use bitcoin::hashes::{Hash, HashEngine, sha256d};
use bitcoin::{Txid, Wtxid};

use crate::event::{Input, Transaction};

/// A transaction event that contradicts itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Mismatch {
    /// The txid is not the hash of the fields.
    #[error("transaction {txid} hashes to {computed}")]
    Txid {
        /// As in the event.
        txid: Txid,
        /// As computed.
        computed: Txid,
    },
    /// The wtxid is not the hash of the fields with their witnesses.
    #[error("transaction {txid} has wtxid {wtxid}, but hashes to {computed}")]
    Wtxid {
        /// As in the event.
        txid: Txid,
        /// As in the event; the txid where that is null.
        wtxid: Wtxid,
        /// As computed.
        computed: Wtxid,
    },
    /// The size is not the length of the raw transaction.
    #[error("transaction {txid} has size {size}, but {computed} bytes")]
    Size {
        /// As in the event.
        txid: Txid,
        /// As in the event.
        size: i64,
        /// As computed.
        computed: i64,
    },
    /// The weight is not that of the raw transaction (BIP-141).
    #[error("transaction {txid} has weight {weight}, but weighs {computed}")]
    Weight {
        /// As in the event.
        txid: Txid,
        /// As in the event.
        weight: i64,
        /// As computed.
        computed: i64,
    },
}

impl Transaction {
    /// The serialized transaction, as on the wire and in a block: with marker, flag and witnesses (BIP-144) where any
    /// input has a witness.
    ///
    /// Unsigned 32-bit fields are cut to their width; [`verify`](Self::verify) tells whether the event is sound.
    pub fn to_raw(&self) -> Vec<u8> {
        let mut raw = Vec::with_capacity(usize::try_from(self.size).unwrap_or(0).min(MAX_RESERVED_BYTES));
        self.serialize(self.has_witness(), |bytes| raw.extend_from_slice(bytes));
        raw
    }

    /// As [`to_raw`](Self::to_raw), written part by part: no second copy of a large transaction.
    ///
    /// # Errors
    /// What the writer said.
    pub fn write_raw(&self, out: &mut impl Write) -> io::Result<()> {
        let mut result = Ok(());
        self.serialize(self.has_witness(), |bytes| {
            if result.is_ok() {
                result = out.write_all(bytes);
            }
        });
        result
    }

    /// Whether any input has a witness.
    pub fn has_witness(&self) -> bool {
        self.inputs.iter().any(|input| !input.witness.is_empty())
    }

    /// Checks txid, wtxid, size and weight against the other fields.
    ///
    /// # Errors
    /// The first contradiction.
    pub fn verify(&self) -> Result<(), Mismatch> {
        let (hash, base_size) = self.hash(false);
        let computed = Txid::from_raw_hash(hash);
        if computed != self.txid {
            return Err(Mismatch::Txid { txid: self.txid, computed });
        }
        let (witness_hash, size) = if self.has_witness() { self.hash(true) } else { (hash, base_size) };
        let computed = Wtxid::from_raw_hash(witness_hash);
        let wtxid = self.wtxid.unwrap_or_else(|| Wtxid::from_raw_hash(self.txid.to_raw_hash()));
        if computed != wtxid {
            return Err(Mismatch::Wtxid { txid: self.txid, wtxid, computed });
        }
        if size != self.size {
            return Err(Mismatch::Size { txid: self.txid, size: self.size, computed: size });
        }
        let computed = base_size.saturating_mul(3).saturating_add(size);
        match self.weight {
            Some(weight) if weight != computed => Err(Mismatch::Weight { txid: self.txid, weight, computed }),
            _ => Ok(()),
        }
    }

    /// Double SHA-256 and length of the serialized form.
    fn hash(&self, witnesses: bool) -> (sha256d::Hash, i64) {
        let mut engine = sha256d::Hash::engine();
        let mut len = 0;
        self.serialize(witnesses, |bytes| {
            engine.input(bytes);
            len += bytes.len() as i64;
        });
        (sha256d::Hash::from_engine(engine), len)
    }

    fn serialize(&self, witnesses: bool, mut put: impl FnMut(&[u8])) {
        put(&self.version.to_le_bytes());
        if witnesses {
            put(&[0x00, 0x01]);
        }
        compact_size(self.inputs.len(), &mut put);
        for Input { prev_txid, prev_vout, script_sig, sequence, .. } in &self.inputs {
            put(prev_txid.as_byte_array());
            put(&(*prev_vout as u32).to_le_bytes());
            compact_size(script_sig.len(), &mut put);
            put(script_sig);
            put(&(*sequence as u32).to_le_bytes());
        }
        compact_size(self.outputs.len(), &mut put);
        for output in &self.outputs {
            put(&output.value.to_le_bytes());
            compact_size(output.script_pubkey.len(), &mut put);
            put(&output.script_pubkey);
        }
        if witnesses {
            for input in &self.inputs {
                compact_size(input.witness.len(), &mut put);
                for item in &input.witness {
                    compact_size(item.len(), &mut put);
                    put(item);
                }
            }
        }
        put(&(self.lock_time as u32).to_le_bytes());
    }
}

/// Most that is reserved on the word of `size` alone; a larger transaction grows its buffer.
const MAX_RESERVED_BYTES: usize = 1 << 20;

/// Bitcoin's CompactSize, shortest form.
fn compact_size(n: usize, put: &mut impl FnMut(&[u8])) {
    let n = n as u64;
    let [a, b, c, d, e, f, g, h] = n.to_le_bytes();
    match n {
        0..=0xfc => put(&[a]),
        0xfd..=0xffff => put(&[0xfd, a, b]),
        0x1_0000..=0xffff_ffff => put(&[0xfe, a, b, c, d]),
        _ => put(&[0xff, a, b, c, d, e, f, g, h]),
    }
}
