//! Locking scripts by hash.

use std::fmt;
use std::str::FromStr;

use bitcoin::hashes::{Hash, sha256};

/// SHA-256 of a locking script, by which Esplora and Electrum name what an address names. Displayed as Esplora does, in
/// the order of the digest; Electrum's protocol reverses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ScriptHash(pub [u8; 32]);

impl ScriptHash {
    /// The hash of a script.
    pub fn of(script_pubkey: &[u8]) -> Self {
        Self(sha256::Hash::hash(script_pubkey).to_byte_array())
    }
}

impl fmt::Display for ScriptHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// The text is no script hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a script hash is 64 hexadecimal digits")]
pub struct NotAScriptHash;

impl FromStr for ScriptHash {
    type Err = NotAScriptHash;

    fn from_str(text: &str) -> Result<Self, NotAScriptHash> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| NotAScriptHash)?;
        Ok(Self(bytes))
    }
}
