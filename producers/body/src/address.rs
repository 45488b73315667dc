//! Addresses of locking scripts: Base58Check, Bech32 (BIP-173) and Bech32m (BIP-350), written for speed: a block asks for
//! thousands.

use bitcoin::network::NetworkKind;
use sluice_schemas::{Flavour, Network};

use crate::script::{pubkey_hash, script_hash, witness_program};
use crate::wire::double_sha256;

/// The address of a locking script on a network, where it has one. A bare public key has none.
pub fn address(script: &[u8], network: Network) -> Option<String> {
    let main = NetworkKind::from(network.bitcoin()).is_mainnet();
    if let Some(hash) = pubkey_hash(script) {
        return Some(base58check(if main { 0 } else { 111 }, hash));
    }
    if let Some(hash) = script_hash(script) {
        return Some(base58check(if main { 5 } else { 196 }, hash));
    }
    if network.flavour() == Flavour::Bsv {
        return None;
    }
    match witness_program(script)? {
        (0, program) if ![20, 32].contains(&program.len()) => None,
        (version, program) => Some(bech32(human_readable_part(network), version, program)),
    }
}

fn human_readable_part(network: Network) -> &'static str {
    match network {
        Network::BtcMainnet | Network::BsvMainnet => "bc",
        Network::BtcTestnet4 | Network::BtcSignet | Network::BsvTestnet => "tb",
        Network::BtcRegtest | Network::BsvRegtest => "bcrt",
    }
}

const BASE58: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
/// 58⁵, the largest power that fits into 32 bits.
const BASE58_5: u64 = 58 * 58 * 58 * 58 * 58;

fn base58check(version: u8, hash: &[u8; 20]) -> String {
    let mut payload = [0u8; 28];
    payload[3] = version;
    payload[4..24].copy_from_slice(hash);
    let checksum = double_sha256(&[&payload[3..24]]);
    payload[24..].copy_from_slice(&checksum[..4]);
    let leading_zeros = payload[3..].iter().take_while(|byte| **byte == 0).count();

    // Seven limbs of 32 bits, divided by 58⁵ until nothing is left: five digits at a time, from the last.
    let mut limbs = [0u32; 7];
    for (limb, bytes) in limbs.iter_mut().zip(payload.chunks_exact(4)) {
        *limb = bytes.iter().fold(0, |limb, byte| limb << 8 | u32::from(*byte));
    }
    let mut digits = [0u8; 35];
    for group in digits.rchunks_exact_mut(5) {
        let mut remainder = 0u64;
        for limb in &mut limbs {
            let dividend = remainder << 32 | u64::from(*limb);
            *limb = (dividend / BASE58_5) as u32;
            remainder = dividend % BASE58_5;
        }
        for digit in group.iter_mut().rev() {
            *digit = (remainder % 58) as u8;
            remainder /= 58;
        }
    }
    let significant = digits.iter().position(|digit| *digit != 0).unwrap_or(digits.len());
    let mut address = String::with_capacity(35);
    address.extend(std::iter::repeat_n('1', leading_zeros));
    address.extend(digits[significant..].iter().map(|digit| char::from(BASE58[usize::from(*digit)])));
    address
}

const BECH32: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
const BECH32_CONSTANT: u32 = 1;
const BECH32M_CONSTANT: u32 = 0x2bc8_30a3;
const CHECKSUM_DIGITS: usize = 6;

fn bech32(prefix: &str, version: u8, program: &[u8]) -> String {
    let mut address = String::with_capacity(prefix.len() + 2 + program.len() * 8 / 5 + 1 + CHECKSUM_DIGITS);
    address.push_str(prefix);
    address.push('1');
    let mut checksum = 1u32;
    prefix.bytes().for_each(|byte| checksum = polymod(checksum, byte >> 5));
    checksum = polymod(checksum, 0);
    prefix.bytes().for_each(|byte| checksum = polymod(checksum, byte & 31));
    let mut digit = |digit: u8| {
        checksum = polymod(checksum, digit);
        address.push(char::from(BECH32[usize::from(digit)]));
    };
    digit(version);
    let (mut bits, mut pending) = (0u32, 0u32);
    for byte in program {
        bits = bits << 8 | u32::from(*byte);
        pending += 8;
        while pending >= 5 {
            pending -= 5;
            digit((bits >> pending & 31) as u8);
        }
    }
    if pending > 0 {
        digit((bits << (5 - pending) & 31) as u8);
    }
    (0..CHECKSUM_DIGITS).for_each(|_| checksum = polymod(checksum, 0));
    checksum ^= if version == 0 { BECH32_CONSTANT } else { BECH32M_CONSTANT };
    for n in (0..CHECKSUM_DIGITS).rev() {
        address.push(char::from(BECH32[(checksum >> (5 * n) & 31) as usize]));
    }
    address
}

#[inline]
fn polymod(checksum: u32, digit: u8) -> u32 {
    const GENERATOR: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
    let top = checksum >> 25;
    let mut next = (checksum & 0x01ff_ffff) << 5 ^ u32::from(digit);
    for (n, generator) in GENERATOR.iter().enumerate() {
        next ^= generator & 0u32.wrapping_sub(top >> n & 1);
    }
    next
}
