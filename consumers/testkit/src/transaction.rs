//! Transactions by who pays whom.

use std::fmt;

use bitcoin::hashes::{Hash, hash160};
use bitcoin::opcodes::all::OP_RETURN;
use bitcoin::script::{Builder, PushBytesBuf};
use bitcoin::{PubkeyHash, ScriptBuf, WPubkeyHash};
use sluice_schemas::Flavour;

/// Satoshis that every transaction leaves to the miner.
pub const FEE: u64 = 500;
/// Bytes of data that print as text.
const PRINTED_BYTES: usize = 64;

/// A transaction of a script. Who pays is known by name; coins are chosen from the oldest on, in the order of the block's
/// transactions, and change goes back to the payer.
#[derive(Clone, PartialEq)]
pub struct Tx(pub(crate) What);

#[derive(Clone, PartialEq)]
pub(crate) enum What {
    Pay { from: String, to: String, satoshis: u64 },
    Share { from: String, to: String, percent: u64 },
    Sweep { from: String, to: String },
    Split { from: String, outputs: u64 },
    Data { from: String, data: Vec<u8> },
    Returned,
    Waiting,
}

/// Pays so many satoshis. Building the log panics where the payer lacks them.
pub fn pay(from: &str, to: &str, satoshis: u64) -> Tx {
    Tx(What::Pay { from: from.to_owned(), to: to.to_owned(), satoshis })
}

/// Pays so many percent of what the payer has. Like all that follow, it is left out where the payer has not even the fee.
pub fn share(from: &str, to: &str, percent: u64) -> Tx {
    Tx(What::Share { from: from.to_owned(), to: to.to_owned(), percent })
}

/// Pays everything, with one input for each coin.
pub fn sweep(from: &str, to: &str) -> Tx {
    Tx(What::Sweep { from: from.to_owned(), to: to.to_owned() })
}

/// Splits the oldest coin into so many.
pub fn split(from: &str, outputs: u64) -> Tx {
    Tx(What::Split { from: from.to_owned(), outputs })
}

/// Spends the oldest coin, back to its owner, and carries data in an output of its own.
pub fn data(from: &str, data: &[u8]) -> Tx {
    Tx(What::Data { from: from.to_owned(), data: data.to_owned() })
}

/// All transactions that the last reorg took back, less those that cannot be any more.
pub fn returned() -> Tx {
    Tx(What::Returned)
}

/// All transactions in the mempool.
pub fn waiting() -> Tx {
    Tx(What::Waiting)
}

/// The locking script of somebody: a hash of a key, by witness where there are witnesses. Nobody has the key.
pub fn script_of(name: &str, flavour: Flavour) -> ScriptBuf {
    let hash = hash160::Hash::hash(name.as_bytes());
    match flavour {
        Flavour::Btc => ScriptBuf::new_p2wpkh(&WPubkeyHash::from_raw_hash(hash)),
        Flavour::Bsv => ScriptBuf::new_p2pkh(&PubkeyHash::from_raw_hash(hash)),
    }
}

/// A script that carries data and can never be spent.
pub(crate) fn data_script(data: &[u8], flavour: Flavour) -> ScriptBuf {
    let data = PushBytesBuf::try_from(data.to_owned()).expect("data is shorter than 4 GB");
    let builder = match flavour {
        Flavour::Btc => Builder::new(),
        // Since the Genesis upgrade only OP_FALSE makes an output unspendable.
        Flavour::Bsv => Builder::new().push_int(0),
    };
    builder.push_opcode(OP_RETURN).push_slice(data).into_script()
}

impl fmt::Debug for Tx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            What::Pay { from, to, satoshis } => write!(f, "pay({from:?}, {to:?}, {satoshis})"),
            What::Share { from, to, percent } => write!(f, "share({from:?}, {to:?}, {percent})"),
            What::Sweep { from, to } => write!(f, "sweep({from:?}, {to:?})"),
            What::Split { from, outputs } => write!(f, "split({from:?}, {outputs})"),
            What::Data { from, data } if data.len() <= PRINTED_BYTES => {
                write!(f, "data({from:?}, b\"{}\")", data.escape_ascii())
            }
            What::Data { from, data } => write!(f, "data({from:?}, &[{}; {}])", data[0], data.len()),
            What::Returned => f.write_str("returned()"),
            What::Waiting => f.write_str("waiting()"),
        }
    }
}
