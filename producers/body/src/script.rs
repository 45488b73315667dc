//! The standard form of a locking script, decided as Bitcoin Core's solver does.

use sluice_schemas::{Flavour, ScriptType};

const OP_0: u8 = 0x00;
const OP_PUSHDATA1: u8 = 0x4c;
const OP_PUSHDATA2: u8 = 0x4d;
const OP_PUSHDATA4: u8 = 0x4e;
const OP_1: u8 = 0x51;
const OP_16: u8 = 0x60;
const OP_RETURN: u8 = 0x6a;
const OP_DUP: u8 = 0x76;
const OP_EQUAL: u8 = 0x87;
const OP_EQUALVERIFY: u8 = 0x88;
const OP_HASH160: u8 = 0xa9;
const OP_CHECKSIG: u8 = 0xac;
const OP_CHECKMULTISIG: u8 = 0xae;
const MAX_MULTISIG_KEYS: u64 = 20;

/// Program of a pay-to-anchor output (Bitcoin Core 28, BIP-433).
const ANCHOR_PROGRAM: [u8; 2] = [0x4e, 0x73];

/// The standard form of `script`. Where there are no witnesses (Bitcoin SV) a witness program is non-standard, and
/// whatever follows `OP_FALSE OP_RETURN` is data.
pub fn script_type(script: &[u8], flavour: Flavour) -> ScriptType {
    if pubkey_hash(script).is_some() {
        return ScriptType::Pubkeyhash;
    }
    if script_hash(script).is_some() {
        return ScriptType::Scripthash;
    }
    match flavour {
        Flavour::Btc => {
            if let Some((version, program)) = witness_program(script) {
                return match (version, program.len()) {
                    (0, 20) => ScriptType::WitnessV0Keyhash,
                    (0, 32) => ScriptType::WitnessV0Scripthash,
                    (0, _) => ScriptType::Nonstandard,
                    (1, 32) => ScriptType::WitnessV1Taproot,
                    (1, 2) if program == ANCHOR_PROGRAM => ScriptType::Anchor,
                    _ => ScriptType::WitnessUnknown,
                };
            }
        }
        Flavour::Bsv if script.starts_with(&[OP_0, OP_RETURN]) => return ScriptType::Nulldata,
        Flavour::Bsv => {}
    }
    match script {
        [OP_RETURN, rest @ ..] if is_push_only(rest) => ScriptType::Nulldata,
        [length @ (33 | 65), key @ .., OP_CHECKSIG] if key.len() == usize::from(*length) && is_key(key) => {
            ScriptType::Pubkey
        }
        [.., OP_CHECKMULTISIG] if is_multisig(script) => ScriptType::Multisig,
        _ => ScriptType::Nonstandard,
    }
}

/// The key hash of a P2PKH script.
pub(crate) fn pubkey_hash(script: &[u8]) -> Option<&[u8; 20]> {
    match script {
        [OP_DUP, OP_HASH160, 20, hash @ .., OP_EQUALVERIFY, OP_CHECKSIG] => hash.try_into().ok(),
        _ => None,
    }
}

/// The script hash of a P2SH script.
pub(crate) fn script_hash(script: &[u8]) -> Option<&[u8; 20]> {
    match script {
        [OP_HASH160, 20, hash @ .., OP_EQUAL] => hash.try_into().ok(),
        _ => None,
    }
}

/// Version and program of a witness program (BIP-141).
pub(crate) fn witness_program(script: &[u8]) -> Option<(u8, &[u8])> {
    let [version @ (OP_0 | OP_1..=OP_16), length @ 2..=40, program @ ..] = script else { return None };
    let version = if *version == OP_0 { 0 } else { version - OP_1 + 1 };
    (program.len() == usize::from(*length)).then_some((version, program))
}

/// The next operation of a script, what it pushes, and what follows; `None` at the end or where a push is cut off.
fn operation(script: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&opcode, rest) = script.split_first()?;
    let (length, rest) = match opcode {
        ..OP_PUSHDATA1 => (usize::from(opcode), rest),
        OP_PUSHDATA1 => {
            rest.split_first_chunk().map(|(n, rest)| (usize::from(u8::from_le_bytes(*n)), rest))?
        }
        OP_PUSHDATA2 => {
            rest.split_first_chunk().map(|(n, rest)| (usize::from(u16::from_le_bytes(*n)), rest))?
        }
        OP_PUSHDATA4 => rest.split_first_chunk().map(|(n, rest)| (u32::from_le_bytes(*n) as usize, rest))?,
        _ => (0, rest),
    };
    let (data, rest) = rest.split_at_checked(length)?;
    Some((opcode, data, rest))
}

fn is_push_only(mut script: &[u8]) -> bool {
    while !script.is_empty() {
        match operation(script) {
            Some((..=OP_16, _, rest)) => script = rest,
            _ => return false,
        }
    }
    true
}

/// Whether the bytes have the length that their first byte announces for a public key.
fn is_key(bytes: &[u8]) -> bool {
    match bytes.first() {
        Some(2 | 3) => bytes.len() == 33,
        Some(4 | 6 | 7) => bytes.len() == 65,
        _ => false,
    }
}

/// A number from `min` to `MAX_MULTISIG_KEYS`, pushed in its shortest form.
fn number(opcode: u8, data: &[u8], min: u64) -> Option<u64> {
    let number = match (opcode, data) {
        (OP_1..=OP_16, _) => u64::from(opcode - OP_1 + 1),
        // Above 16 the shortest form is a push of one byte; 0x80 is its sign.
        (1, [byte @ 17..=0x7f]) => u64::from(*byte),
        _ => return None,
    };
    (min..=MAX_MULTISIG_KEYS).contains(&number).then_some(number)
}

fn is_multisig(script: &[u8]) -> bool {
    let Some((opcode, data, mut rest)) = operation(script) else { return false };
    let Some(required) = number(opcode, data, 1) else { return false };
    let mut keys = 0;
    loop {
        let Some((opcode, data, next)) = operation(rest) else { return false };
        rest = next;
        if is_key(data) {
            keys += 1;
            continue;
        }
        return number(opcode, data, required) == Some(keys) && rest == [OP_CHECKMULTISIG];
    }
}
