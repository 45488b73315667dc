//! Scripts as Esplora tells of them.

use std::fmt;

use bitcoin::Script;
use bitcoin::script::Instruction;
use serde::{Serialize, Serializer};
use sluice_schemas::{Flavour, Input};

/// Bytes as hexadecimal digits, written without a copy of the whole.
#[derive(Clone, Copy)]
pub(super) struct Hex<'a>(pub(super) &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        const PART: usize = 128;
        let mut digits = [0_u8; 2 * PART];
        for part in self.0.chunks(PART) {
            for (two, byte) in digits.chunks_exact_mut(2).zip(part) {
                two[0] = DIGITS[usize::from(byte >> 4)];
                two[1] = DIGITS[usize::from(byte & 15)];
            }
            f.write_str(str::from_utf8(&digits[..2 * part.len()]).map_err(|_| fmt::Error)?)?;
        }
        Ok(())
    }
}

impl Serialize for Hex<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A script in words, as Esplora writes it: `OP_DUP OP_HASH160 OP_PUSHBYTES_20 …`.
#[derive(Clone, Copy)]
pub(super) struct Asm<'a>(pub(super) &'a [u8]);

impl fmt::Display for Asm<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Script::from_bytes(self.0).fmt_asm(f)
    }
}

impl Serialize for Asm<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Esplora's `scriptpubkey_type`. Without witnesses (Bitcoin SV) there are no witness programs, and whatever follows
/// `OP_FALSE OP_RETURN` is data.
pub(super) fn script_type(script: &[u8], flavour: Flavour) -> &'static str {
    let is = Script::from_bytes(script);
    match flavour {
        Flavour::Bsv if script.starts_with(&[0x00, 0x6a]) => return "op_return",
        Flavour::Btc if is.is_p2wpkh() => return "v0_p2wpkh",
        Flavour::Btc if is.is_p2wsh() => return "v0_p2wsh",
        Flavour::Btc if is.is_p2tr() => return "v1_p2tr",
        Flavour::Btc | Flavour::Bsv => {}
    }
    match is {
        is if is.is_empty() => "empty",
        is if is.is_op_return() => "op_return",
        is if is.is_p2pk() => "p2pk",
        is if is.is_p2pkh() => "p2pkh",
        is if is.is_p2sh() => "p2sh",
        _ => "unknown",
    }
}

/// The scripts that an input brings with it for what it spends.
#[derive(Clone, Copy, Default)]
pub(super) struct InnerScripts<'a> {
    /// Of a pay-to-script-hash output: the last push of the unlocking script.
    pub(super) redeem: Option<&'a [u8]>,
    /// Of a pay-to-witness-script-hash output, bare or in a redeem script: the last item of the witness.
    pub(super) witness: Option<&'a [u8]>,
}

impl<'a> InnerScripts<'a> {
    /// Of an input whose prevout is known.
    pub(super) fn of(input: &'a Input) -> Self {
        let Some(prevout) = &input.prevout else { return Self::default() };
        let locking = Script::from_bytes(&prevout.script_pubkey);
        let redeem = if locking.is_p2sh() { last_push(&input.script_sig) } else { None };
        let is_witness_script =
            locking.is_p2wsh() || redeem.is_some_and(|redeem| Script::from_bytes(redeem).is_p2wsh());
        let witness = if is_witness_script { input.witness.last().map(|item| &**item) } else { None };
        Self { redeem, witness }
    }
}

fn last_push(script: &[u8]) -> Option<&[u8]> {
    match Script::from_bytes(script).instructions().last() {
        Some(Ok(Instruction::PushBytes(push))) => Some(push.as_bytes()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sluice_schemas::Prevout;

    fn bytes(hex: &str) -> Vec<u8> {
        hex::decode(hex).unwrap()
    }

    #[test]
    fn types_are_named_as_esplora_names_them() {
        let key = "02".repeat(33);
        for (script, on_btc, on_bsv) in [
            (String::new(), "empty", "empty"),
            ("6a0474657374".into(), "op_return", "op_return"),
            ("006a0474657374".into(), "unknown", "op_return"),
            (format!("21{key}ac"), "p2pk", "p2pk"),
            (format!("76a914{}88ac", "07".repeat(20)), "p2pkh", "p2pkh"),
            (format!("a914{}87", "07".repeat(20)), "p2sh", "p2sh"),
            (format!("0014{}", "07".repeat(20)), "v0_p2wpkh", "unknown"),
            (format!("0020{}", "07".repeat(32)), "v0_p2wsh", "unknown"),
            (format!("5120{}", "07".repeat(32)), "v1_p2tr", "unknown"),
            ("51".into(), "unknown", "unknown"),
            ("4c".into(), "unknown", "unknown"),
        ] {
            let script = bytes(&script);
            assert_eq!(script_type(&script, Flavour::Btc), on_btc, "{script:02x?}");
            assert_eq!(script_type(&script, Flavour::Bsv), on_bsv, "{script:02x?}");
        }
    }

    fn input(script_pubkey: &str, script_sig: &str, witness: &[&str]) -> Input {
        Input {
            prev_txid: bitcoin::hashes::Hash::all_zeros(),
            prev_vout: 0,
            script_sig: bytes(script_sig).into(),
            sequence: 0,
            witness: witness.iter().map(|item| bytes(item).into()).collect(),
            prevout: Some(Prevout {
                value: 1,
                script_pubkey: bytes(script_pubkey).into(),
                address: None,
                height: None,
            }),
        }
    }

    #[test]
    fn inner_scripts_are_found_where_a_hash_stands_for_them() {
        let p2sh = format!("a914{}87", "07".repeat(20));
        let p2wsh = format!("0020{}", "07".repeat(32));
        let spend = input(&p2sh, "0151015202 5353".replace(' ', "").as_str(), &[]);
        assert_eq!(InnerScripts::of(&spend).redeem, Some(&[0x53, 0x53][..]));
        let spend = input(&p2wsh, "", &["00", "51"]);
        assert_eq!(InnerScripts::of(&spend).witness, Some(&[0x51][..]));
        let spend = input(&p2sh, &format!("22{p2wsh}"), &["00", "52"]);
        assert_eq!(InnerScripts::of(&spend).redeem, Some(&bytes(&p2wsh)[..]));
        assert_eq!(InnerScripts::of(&spend).witness, Some(&[0x52][..]));
        // Something else than a push at the end, a script cut short, and another kind of output.
        assert_eq!(InnerScripts::of(&input(&p2sh, "015187", &[])).redeem, None);
        assert_eq!(InnerScripts::of(&input(&p2sh, "4c", &[])).redeem, None);
        assert_eq!(InnerScripts::of(&input("51", "0151", &["51"])).witness, None);
    }

    proptest! {
        #[test]
        fn hexadecimal_digits_are_those_of_the_hex_crate(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            prop_assert_eq!(Hex(&bytes).to_string(), hex::encode(&bytes));
        }

        #[test]
        fn any_bytes_can_be_told_in_words(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(Asm(&bytes).to_string(), Script::from_bytes(&bytes).to_asm_string());
        }
    }
}
