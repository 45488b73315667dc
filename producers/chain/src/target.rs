//! Targets, their compact form, and the work they stand for.

use bitcoin::BlockHash;
use bitcoin::hashes::Hash;

use crate::uint::U256;

/// Decodes `bits` as Bitcoin Core's `arith_uint256::SetCompact`; `None` where they are negative, zero or too large.
pub(crate) fn from_compact(bits: u32) -> Option<U256> {
    let size = bits >> 24;
    let mantissa = bits & 0x007f_ffff;
    let negative = mantissa != 0 && bits & 0x0080_0000 != 0;
    let overflow =
        mantissa != 0 && (size > 34 || (mantissa > 0xff && size > 33) || (mantissa > 0xffff && size > 32));
    if negative || overflow {
        return None;
    }
    let target = if size <= 3 {
        U256::from_u64(u64::from(mantissa >> (8 * (3 - size))))
    } else {
        U256::from_u64(u64::from(mantissa)).shl(8 * (size - 3))
    };
    (target != U256::ZERO).then_some(target)
}

/// Encodes a target as Bitcoin Core's `arith_uint256::GetCompact`: what does not fit the mantissa is lost.
pub(crate) fn to_compact(target: U256) -> u32 {
    let mut size = target.bit_length().div_ceil(8);
    let mut mantissa =
        if size <= 3 { target.low_u64() << (8 * (3 - size)) } else { target.shr(8 * (size - 3)).low_u64() }
            as u32;
    // The highest mantissa bit is the sign.
    if mantissa & 0x0080_0000 != 0 {
        mantissa >>= 8;
        size += 1;
    }
    mantissa | size << 24
}

/// Expected hashes to meet a target: 2^256 / (target + 1), which no 256-bit number can hold, as
/// ~target / (target + 1) + 1.
pub(crate) fn work(target: U256) -> U256 {
    match target.checked_add(U256::ONE) {
        Some(divisor) => target.not().div(divisor).checked_add(U256::ONE).unwrap_or(U256::ZERO),
        None => U256::ONE,
    }
}

/// Whether a hash is a proof of work for a target.
pub(crate) fn is_met_by(target: U256, hash: BlockHash) -> bool {
    U256::from_le_bytes(hash.to_byte_array()) <= target
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::{CompactTarget, Target};
    use proptest::prelude::*;

    #[test]
    fn compact_forms_are_those_of_bitcoin_cores_arith_uint256_tests() {
        for zero in [0, 0x0012_3456, 0x0100_3456, 0x0200_0056, 0x0300_0000, 0x0400_0000, 0x0092_3456] {
            assert_eq!(from_compact(zero), None, "{zero:#x}");
        }
        for (bits, value) in [(0x0112_3456, 0x12), (0x0212_3456, 0x1234), (0x0312_3456, 0x12_3456)] {
            assert_eq!(from_compact(bits), Some(U256::from_u64(value)));
        }
        assert_eq!(to_compact(U256::from_u64(0x80)), 0x0200_8000);
        assert_eq!(from_compact(0x0492_3456), None, "negative");
        assert_eq!(from_compact(0xff12_3456), None, "overflow");
        assert_eq!(from_compact(0x0500_9234), Some(U256::from_u64(0x9234_0000)));
        assert_eq!(to_compact(U256::from_u64(0x9234_0000)), 0x0500_9234);
        let large = U256::from_u64(0x12_3456).shl(8 * 29);
        assert_eq!((from_compact(0x2012_3456), to_compact(large)), (Some(large), 0x2012_3456));
    }

    proptest! {
        #[test]
        fn targets_and_work_are_those_of_rust_bitcoin(exponent in 3u32..=32, mantissa in 0x8000u32..=0x7f_ffff) {
            let bits = exponent << 24 | mantissa;
            let theirs = Target::from_compact(CompactTarget::from_consensus(bits));
            let ours = from_compact(bits).expect("positive and in range");
            prop_assert_eq!(ours.to_be_bytes(), theirs.to_be_bytes());
            prop_assert_eq!(work(ours).to_be_bytes(), theirs.to_work().to_be_bytes());
            prop_assert_eq!(to_compact(ours), theirs.to_compact_lossy().to_consensus());
        }
    }
}
