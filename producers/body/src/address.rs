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
const BASE58_5: u32 = 58 * 58 * 58 * 58 * 58;
/// Groups of five digits that 25 bytes may take, and limbs of 32 bits.
const GROUPS: usize = 7;
/// Digits that 25 bytes may take.
const BASE58_DIGITS: usize = 5 * GROUPS;

/// The weight of each limb, the highest first, in groups of five digits: a number becomes digits by multiplication and one
/// carry, for divisions have to wait for each other.
const WEIGHTS: [[u32; GROUPS]; GROUPS] = {
    let mut weights = [[0; GROUPS]; GROUPS];
    let mut limb = GROUPS;
    weights[limb - 1][GROUPS - 1] = 1;
    while limb > 1 {
        limb -= 1;
        let (mut group, mut carry) = (GROUPS, 0u64);
        while group > 0 {
            group -= 1;
            let sum = ((weights[limb][group] as u64) << 32) + carry;
            weights[limb - 1][group] = (sum % BASE58_5 as u64) as u32;
            carry = sum / BASE58_5 as u64;
        }
        assert!(carry == 0, "the groups hold the number");
    }
    weights
};

fn base58check(version: u8, hash: &[u8; 20]) -> String {
    let mut payload = [0u8; 28];
    payload[3] = version;
    payload[4..24].copy_from_slice(hash);
    let checksum = double_sha256(&[&payload[3..24]]);
    payload[24..].copy_from_slice(&checksum[..4]);
    let leading_zeros = payload[3..].iter().take_while(|byte| **byte == 0).count();

    // A sum of six products of 2³² and 58⁵, and what the version adds, is less than 2⁶⁴.
    let mut groups = [0u64; GROUPS];
    for (limb, weights) in payload.as_chunks().0.iter().zip(&WEIGHTS) {
        let limb = u64::from(u32::from_be_bytes(*limb));
        for (group, weight) in groups.iter_mut().zip(weights) {
            *group += limb * u64::from(*weight);
        }
    }
    let mut digits = [0u8; BASE58_DIGITS];
    let mut carry = 0;
    for (five, group) in digits.rchunks_exact_mut(5).zip(groups.iter().rev()) {
        let sum = group + carry;
        carry = sum / u64::from(BASE58_5);
        let group = (sum % u64::from(BASE58_5)) as u32;
        for (digit, power) in five.iter_mut().zip([58 * 58 * 58 * 58, 58 * 58 * 58, 58 * 58, 58, 1]) {
            *digit = (group / power % 58) as u8;
        }
    }
    let significant = digits.iter().position(|digit| *digit != 0).unwrap_or(digits.len());
    let mut address = [BASE58[0]; 2 * BASE58_DIGITS];
    let length = leading_zeros + digits.len() - significant;
    for (letter, digit) in address[leading_zeros..].iter_mut().zip(&digits[significant..]) {
        *letter = BASE58[usize::from(*digit)];
    }
    text(&address[..length])
}

const BECH32: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
const BECH32_CONSTANT: u32 = 1;
const BECH32M_CONSTANT: u32 = 0x2bc8_30a3;
const CHECKSUM_DIGITS: usize = 6;
/// Length of the longest address (BIP-173).
const BECH32_LETTERS: usize = 90;

fn bech32(prefix: &str, version: u8, program: &[u8]) -> String {
    let mut address = [b'1'; BECH32_LETTERS];
    address[..prefix.len()].copy_from_slice(prefix.as_bytes());
    let mut length = prefix.len() + 1;
    let mut checksum = 1u32;
    prefix.bytes().for_each(|byte| checksum = polymod(checksum, byte >> 5));
    checksum = polymod(checksum, 0);
    prefix.bytes().for_each(|byte| checksum = polymod(checksum, byte & 31));
    let mut digit = |digit: u8| {
        checksum = polymod(checksum, digit);
        address[length] = BECH32[usize::from(digit)];
        length += 1;
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
        address[length] = BECH32[(checksum >> (5 * n) & 31) as usize];
        length += 1;
    }
    text(&address[..length])
}

fn text(ascii: &[u8]) -> String {
    std::str::from_utf8(ascii).expect("both alphabets are ASCII").to_owned()
}

/// The generator of the code, summed up for each of the 32 digits that may fall out.
const FALLEN_OUT: [u32; 32] = {
    const GENERATOR: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
    let mut sums = [0; 32];
    let mut digit = 0;
    while digit < 32 {
        let mut bit = 0;
        while bit < 5 {
            if digit >> bit & 1 == 1 {
                sums[digit] ^= GENERATOR[bit];
            }
            bit += 1;
        }
        digit += 1;
    }
    sums
};

#[inline]
fn polymod(checksum: u32, digit: u8) -> u32 {
    (checksum & 0x01ff_ffff) << 5 ^ u32::from(digit) ^ FALLEN_OUT[(checksum >> 25) as usize]
}
