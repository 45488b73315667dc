//! Single transactions, against rust-bitcoin.

#![allow(clippy::unwrap_used)]

mod common;

use bitcoin::consensus::serialize;
use bytes::Bytes;
use proptest::prelude::*;
use sluice_body::{Spent, TxError, address, parse_transaction, script_type, transaction};
use sluice_schemas::{Flavour, Network, Script, ScriptType};

proptest! {
    #[test]
    fn any_transaction_has_the_ids_and_weight_that_rust_bitcoin_computes(tx in common::transaction(true)) {
        let raw = serialize(&tx);
        let parsed = parse_transaction(raw.clone().into(), Flavour::Btc).unwrap();
        prop_assert_eq!(parsed.txid, tx.compute_txid());
        prop_assert_eq!(parsed.wtxid, tx.compute_wtxid());
        prop_assert_eq!(parsed.weight(), tx.weight().to_wu());
        prop_assert_eq!(parsed.base_size, tx.base_size() as u64);
        prop_assert_eq!(parsed.outpoints().collect::<Vec<_>>(), tx.input.iter().map(|i| i.previous_output).collect::<Vec<_>>());
        let event = transaction(&parsed, Network::BtcRegtest, None);
        prop_assert_eq!(event.to_raw(), raw);
        event.verify().unwrap();
        prop_assert_eq!(event.wtxid.is_some(), tx.compute_wtxid().to_raw_hash() != tx.compute_txid().to_raw_hash());
        prop_assert_eq!(event.fee, None);
    }

    #[test]
    fn a_transaction_without_witnesses_reads_the_same_by_both_rules(tx in common::transaction(false)) {
        let raw = serialize(&tx);
        let parsed = parse_transaction(raw.clone().into(), Flavour::Bsv).unwrap();
        prop_assert_eq!(parsed.txid, tx.compute_txid());
        let event = transaction(&parsed, Network::BsvRegtest, None);
        prop_assert_eq!((event.wtxid, event.weight), (None, None));
        prop_assert_eq!(event.to_raw(), raw);
        event.verify().unwrap();
    }

    #[test]
    fn a_transaction_cut_anywhere_is_truncated_and_one_with_a_byte_more_has_a_trailing_byte(tx in common::transaction(true)) {
        let mut raw = serialize(&tx);
        for end in 0..raw.len() {
            let cut = parse_transaction(Bytes::copy_from_slice(&raw[..end]), Flavour::Btc);
            prop_assert!(matches!(cut, Err(TxError::Truncated { .. })), "{} {:?}", end, cut);
        }
        raw.push(0);
        prop_assert_eq!(parse_transaction(raw.into(), Flavour::Btc).unwrap_err(), TxError::Trailing { bytes: 1 });
    }

    #[test]
    fn bytes_that_are_no_transaction_are_refused_without_panic(
        tx in common::transaction(true), changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        noise in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut raw = serialize(&tx);
        for (at, byte) in changes {
            let at = at.index(raw.len());
            raw[at] = byte;
        }
        for bytes in [raw, noise] {
            for (flavour, network) in [(Flavour::Btc, Network::BtcMainnet), (Flavour::Bsv, Network::BsvMainnet)] {
                if let Ok(tx) = parse_transaction(bytes.clone().into(), flavour) {
                    let event = transaction(&tx, network, None);
                    prop_assert_eq!(event.inputs.len(), tx.input_count());
                }
            }
        }
    }

    #[test]
    fn addresses_are_those_of_rust_bitcoin(
        kind in 0..4u8, version in 0..=16u8, program in proptest::collection::vec(any::<u8>(), 2..=40), zeros in 0..6usize,
    ) {
        let mut hash = [0u8; 32];
        hash[..program.len().min(32)].copy_from_slice(&program[..program.len().min(32)]);
        hash[..zeros].fill(0);
        let script: Vec<u8> = match kind {
            0 => [&[0x76, 0xa9, 20][..], &hash[..20], &[0x88, 0xac]].concat(),
            1 => [&[0xa9, 20][..], &hash[..20], &[0x87]].concat(),
            2 => [&[if version == 0 { 0 } else { 0x50 + version }, program.len() as u8][..], &program].concat(),
            _ => [&[0x51, 32][..], &hash].concat(),
        };
        for network in Network::ALL {
            let expected = bitcoin::Address::from_script(bitcoin::Script::from_bytes(&script), network.bitcoin());
            let expected = expected.ok().map(|address| address.to_string());
            let witness = kind >= 2;
            let expected = if witness && network.flavour() == Flavour::Bsv { None } else { expected };
            prop_assert_eq!(address(&script, network), expected, "{:?}", network);
        }
    }

    #[test]
    fn the_form_of_any_script_is_found_without_panic(script in proptest::collection::vec(any::<u8>(), 0..80)) {
        let parsed: &bitcoin::Script = bitcoin::Script::from_bytes(&script);
        let found = script_type(&script, Flavour::Btc);
        prop_assert_eq!(found == ScriptType::Pubkeyhash, parsed.is_p2pkh());
        prop_assert_eq!(found == ScriptType::Scripthash, parsed.is_p2sh());
        prop_assert_eq!(found == ScriptType::WitnessV0Keyhash, parsed.is_p2wpkh());
        prop_assert_eq!(found == ScriptType::Multisig, parsed.is_multisig());
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    hex::decode(hex.replace(' ', "")).unwrap()
}

#[test]
fn scripts_have_the_form_that_bitcoin_core_names() {
    let key = format!("02{}", "11".repeat(32));
    let long_key = format!("04{}", "11".repeat(64));
    for (script, btc, bsv) in [
        (format!("76a914{}88ac", "22".repeat(20)), ScriptType::Pubkeyhash, ScriptType::Pubkeyhash),
        (format!("a914{}87", "22".repeat(20)), ScriptType::Scripthash, ScriptType::Scripthash),
        (format!("21{key}ac"), ScriptType::Pubkey, ScriptType::Pubkey),
        (format!("41{long_key}ac"), ScriptType::Pubkey, ScriptType::Pubkey),
        (format!("2105{}ac", "11".repeat(32)), ScriptType::Nonstandard, ScriptType::Nonstandard),
        (format!("5121{key}51ae"), ScriptType::Multisig, ScriptType::Multisig),
        (format!("5121{key}41{long_key}52ae"), ScriptType::Multisig, ScriptType::Multisig),
        (format!("5221{key}51ae"), ScriptType::Nonstandard, ScriptType::Nonstandard),
        (format!("5121{key}52ae"), ScriptType::Nonstandard, ScriptType::Nonstandard),
        (format!("51{}0111ae", format!("21{key}").repeat(17)), ScriptType::Multisig, ScriptType::Multisig),
        (format!("5121{key}0101ae"), ScriptType::Nonstandard, ScriptType::Nonstandard),
        (format!("0014{}", "22".repeat(20)), ScriptType::WitnessV0Keyhash, ScriptType::Nonstandard),
        (format!("0020{}", "22".repeat(32)), ScriptType::WitnessV0Scripthash, ScriptType::Nonstandard),
        (format!("0015{}", "22".repeat(21)), ScriptType::Nonstandard, ScriptType::Nonstandard),
        (format!("5120{}", "22".repeat(32)), ScriptType::WitnessV1Taproot, ScriptType::Nonstandard),
        ("51024e73".into(), ScriptType::Anchor, ScriptType::Nonstandard),
        (format!("6028{}", "22".repeat(40)), ScriptType::WitnessUnknown, ScriptType::Nonstandard),
        ("6a".into(), ScriptType::Nulldata, ScriptType::Nulldata),
        ("6a04deadbeef".into(), ScriptType::Nulldata, ScriptType::Nulldata),
        ("6a04dead".into(), ScriptType::Nonstandard, ScriptType::Nonstandard),
        ("6aac".into(), ScriptType::Nonstandard, ScriptType::Nonstandard),
        ("006aac00ff".into(), ScriptType::Nonstandard, ScriptType::Nulldata),
        (String::new(), ScriptType::Nonstandard, ScriptType::Nonstandard),
        ("ae".into(), ScriptType::Nonstandard, ScriptType::Nonstandard),
        ("51".into(), ScriptType::Nonstandard, ScriptType::Nonstandard),
    ] {
        assert_eq!(script_type(&bytes(&script), Flavour::Btc), btc, "{script}");
        assert_eq!(script_type(&bytes(&script), Flavour::Bsv), bsv, "{script}");
    }
}

/// One input, one output of 7 satoshis.
const LEGACY: &str =
    "01000000 01 1111111111111111111111111111111111111111111111111111111111111111 02000000 00 ffffffff
    01 0700000000000000 01 51 00000000";

fn legacy() -> String {
    LEGACY.replace(['\n', ' '], "")
}

#[test]
fn the_fee_is_known_only_with_every_prevout() {
    let tx = parse_transaction(bytes(&legacy()).into(), Flavour::Btc).unwrap();
    let spent = |value| Spent { value, script_pubkey: Script::from(vec![0x51]), height: Some(3) };
    assert_eq!(transaction(&tx, Network::BtcRegtest, Some(&[spent(10)])).fee, Some(3));
    for unknown in [None, Some(&[][..]), Some(&[spent(10), spent(10)][..])] {
        let event = transaction(&tx, Network::BtcRegtest, unknown);
        assert_eq!((event.fee, event.inputs[0].prevout.clone()), (None, None));
    }
    let event = transaction(&tx, Network::BtcRegtest, Some(&[spent(i64::MIN)]));
    assert_eq!(event.fee, None, "an amount that overflows is no fee");
}

#[test]
fn a_marker_and_flag_are_only_for_chains_with_witnesses() {
    let segwit = legacy().replacen("0100000001", "01000000000101", 1);
    let segwit = format!("{}01015100000000", &segwit[..segwit.len() - 8]);
    let tx = parse_transaction(bytes(&segwit).into(), Flavour::Btc).unwrap();
    assert_eq!(tx.txid, parse_transaction(bytes(&legacy()).into(), Flavour::Btc).unwrap().txid);
    assert!(tx.has_witness());
    assert_eq!(parse_transaction(bytes(&segwit).into(), Flavour::Bsv).unwrap_err(), TxError::NoInputs);

    let superfluous = format!("{}0000000000", &segwit[..segwit.len() - 14]);
    assert_eq!(
        parse_transaction(bytes(&superfluous).into(), Flavour::Btc).unwrap_err(),
        TxError::SuperfluousWitness
    );
    let flag = legacy().replacen("0100000001", "01000000000201", 1);
    assert_eq!(
        parse_transaction(bytes(&flag).into(), Flavour::Btc).unwrap_err(),
        TxError::UnknownFlag { flag: 2 }
    );
    let twice = legacy().replacen("0100000001", "010000000001000101", 1);
    assert_eq!(parse_transaction(bytes(&twice).into(), Flavour::Btc).unwrap_err(), TxError::NoInputs);
}

#[test]
fn a_count_that_is_longer_than_needed_is_refused() {
    let raw = legacy().replacen("0100000001", "01000000fd0100", 1);
    assert_eq!(parse_transaction(bytes(&raw).into(), Flavour::Btc).unwrap_err(), TxError::NonCanonicalSize);
}

#[test]
fn a_length_that_nothing_follows_costs_nothing() {
    for count in ["ffffffffffffffffff", "feffffffff"] {
        let inputs = legacy().replacen("0100000001", &format!("01000000{count}"), 1);
        let script = legacy().replacen("020000000", &format!("02000000{count}0"), 1);
        for raw in [inputs, script] {
            let error = parse_transaction(bytes(&raw).into(), Flavour::Bsv).unwrap_err();
            assert!(matches!(error, TxError::Truncated { .. }), "{error}");
        }
    }
}
