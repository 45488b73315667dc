//! Blocks and transactions out of bytes that arrive, at flat memory.
//!
//! ```text
//!   any Read ──► BlockReader ── next_tx ──► RawTx ── transaction() ──► sluice_schemas::Transaction
//!                    │ header = the block asked for      ▲
//!   any Read ──► SpentReader ── next_for ──► [Spent] ────┘
//!                    │
//!                    └─ finish ──► Summary: merkle root, witness commitment, nothing missing, nothing left over
//! ```
//!
//! Memory is bounded by the largest transaction and one chunk, never by the block; a length that has been announced is
//! not believed before its bytes have arrived. Nothing that arrives makes it panic.

mod address;
mod block;
mod convert;
mod merkle;
mod scan;
mod script;
mod spent;
mod tx;
mod wire;

pub use address::address;
pub use block::{BlockReader, Error, Summary};
pub use convert::transaction;
pub use script::script_type;
pub use spent::{Spent, SpentReader};
pub use tx::{InputRef, OutputRef, RawTx, TxError, parse_transaction};

use sluice_schemas::Flavour;

/// What a reader takes at most, and by which rules it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Whether transactions may carry witnesses (BIP-144).
    pub flavour: Flavour,
    /// Largest transaction, serialized size in bytes.
    pub max_tx_bytes: u64,
    /// Most memory for the outputs that one transaction spends, in bytes.
    pub max_spent_bytes: u64,
}

impl Limits {
    /// Largest transaction of Bitcoin Core's rules: it has to fit into a block of 4,000,000 weight units.
    pub const BTC_TX_BYTES: u64 = 4_000_000;
    /// Largest transaction that Bitcoin SV's rules allow since its Genesis upgrade.
    pub const BSV_TX_BYTES: u64 = 1_000_000_000;
    /// Outputs spent by one transaction: some 24,000 inputs fit into a block, each of them may spend a script of 10,000
    /// bytes.
    pub const BTC_SPENT_BYTES: u64 = 256 << 20;
    /// No node tells them for Bitcoin SV; the bound is for those who have them from elsewhere.
    pub const BSV_SPENT_BYTES: u64 = 1 << 30;

    /// What the rules of the flavour allow.
    pub fn of(flavour: Flavour) -> Self {
        let (max_tx_bytes, max_spent_bytes) = match flavour {
            Flavour::Btc => (Self::BTC_TX_BYTES, Self::BTC_SPENT_BYTES),
            Flavour::Bsv => (Self::BSV_TX_BYTES, Self::BSV_SPENT_BYTES),
        };
        Self { flavour, max_tx_bytes, max_spent_bytes }
    }
}
