//! What stands in the path of a request. Nothing here panics, whatever the bytes.

use std::str::FromStr;

use bitcoin::address::{Address, NetworkUnchecked};
use bitcoin::{BlockHash, Txid};
use sluice_schemas::{Flavour, Network};

use super::error::Error;
use crate::ScriptHash;

/// A block's hash.
pub(super) fn block_hash(text: &str) -> Result<BlockHash, Error> {
    hex_digits(text)?;
    text.parse().map_err(|_| Error::Invalid("Invalid hex string"))
}

/// A transaction's id.
pub(super) fn txid(text: &str) -> Result<Txid, Error> {
    hex_digits(text)?;
    text.parse().map_err(|_| Error::Invalid("Invalid hex string"))
}

fn hex_digits(text: &str) -> Result<(), Error> {
    if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(());
    }
    Err(Error::Invalid("Invalid hex string"))
}

/// A whole number, in decimal digits.
pub(super) fn number<N: FromStr>(text: &str) -> Result<N, Error> {
    let invalid = Error::Invalid("Invalid number");
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(invalid);
    }
    text.parse().map_err(|_| invalid)
}

/// A script's hash, as `/scripthash/:hash` takes it.
pub(super) fn script_hash(text: &str) -> Result<ScriptHash, Error> {
    text.parse().map_err(|_| Error::Invalid("Invalid scripthash"))
}

/// The hash of the script that an address stands for.
pub(super) fn address(text: &str, network: Network) -> Result<ScriptHash, Error> {
    let address: Address<NetworkUnchecked> =
        text.parse().map_err(|_| Error::Invalid("Invalid Bitcoin address"))?;
    let other = Error::Invalid("Address on invalid network");
    let address = address.require_network(network.bitcoin()).map_err(|_| other)?;
    if network.flavour() == Flavour::Bsv && address.witness_program().is_some() {
        return Err(Error::Invalid("Address on invalid network"));
    }
    Ok(ScriptHash::of(address.script_pubkey().as_bytes()))
}

/// The beginning of an address.
pub(super) fn address_prefix(text: &str) -> Result<&str, Error> {
    /// The longest address: Bech32 has 90 characters at most.
    const LONGEST: usize = 90;
    if (1..=LONGEST).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Ok(text);
    }
    Err(Error::Invalid("Invalid address prefix"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refusal<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn hashes_are_64_hexadecimal_digits() {
        assert!(txid(&"ab".repeat(32)).is_ok());
        assert!(block_hash(&"AB".repeat(32)).is_ok());
        for wrong in ["", "ab", &"ab".repeat(33), &"zz".repeat(32), &"é".repeat(32)] {
            assert_eq!(refusal(txid(wrong)), "Invalid hex string", "{wrong}");
            assert_eq!(refusal(block_hash(wrong)), "Invalid hex string", "{wrong}");
            assert_eq!(refusal(script_hash(wrong)), "Invalid scripthash", "{wrong}");
        }
    }

    #[test]
    fn numbers_have_digits_only_and_fit() {
        assert_eq!(number::<u32>("0042").ok(), Some(42));
        for wrong in ["", "-1", "+1", "1e3", "0x10", "4294967296", "99999999999999999999999999"] {
            assert_eq!(refusal(number::<u32>(wrong)), "Invalid number", "{wrong}");
        }
    }

    #[test]
    fn an_address_is_of_its_network() {
        let main = "12cbQLTFMXRnSzktFkuoG3eHoMeFtpTu3S";
        let test = "mfWxJ45yp2SFn7UciZyNpvDKrzbhyfKrY8";
        let witness = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4";
        assert!(address(main, Network::BsvMainnet).is_ok());
        assert!(address(test, Network::BtcRegtest).is_ok());
        assert!(address(witness, Network::BtcMainnet).is_ok());
        assert!(address(&witness.to_uppercase(), Network::BtcMainnet).is_ok());
        for (text, network) in [
            (main, Network::BtcRegtest),
            (test, Network::BtcMainnet),
            (witness, Network::BtcSignet),
            (witness, Network::BsvMainnet),
        ] {
            assert_eq!(refusal(address(text, network)), "Address on invalid network");
        }
        for wrong in ["", "12cbQLTFMXRnSzktFkuoG3eHoMeFtpTu3T", "bc1q", "🪙", &"1".repeat(5000)] {
            assert_eq!(refusal(address(wrong, Network::BtcMainnet)), "Invalid Bitcoin address");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in any::<String>()) {
            let _ = (block_hash(&text), txid(&text), number::<i32>(&text), script_hash(&text));
            let _ = (address(&text, Network::BtcMainnet), address_prefix(&text));
        }
    }
}
