//! 256-bit unsigned integers: the few operations that targets and work need, exact as the nodes compute them.

use std::fmt;

/// A 256-bit unsigned integer, most significant limb first.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct U256([u64; 4]);

impl U256 {
    pub(crate) const ZERO: Self = Self([0; 4]);
    pub(crate) const ONE: Self = Self([0, 0, 0, 1]);

    pub(crate) const fn from_limbs(limbs: [u64; 4]) -> Self {
        Self(limbs)
    }

    pub(crate) fn from_u64(value: u64) -> Self {
        Self([0, 0, 0, value])
    }

    pub(crate) fn from_be_bytes(bytes: [u8; 32]) -> Self {
        let mut limbs = [0; 4];
        for (limb, chunk) in limbs.iter_mut().zip(bytes.chunks_exact(8)) {
            *limb = chunk.iter().fold(0, |limb, byte| limb << 8 | u64::from(*byte));
        }
        Self(limbs)
    }

    pub(crate) fn from_le_bytes(mut bytes: [u8; 32]) -> Self {
        bytes.reverse();
        Self::from_be_bytes(bytes)
    }

    pub(crate) fn to_be_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (chunk, limb) in bytes.chunks_exact_mut(8).zip(self.0) {
            chunk.copy_from_slice(&limb.to_be_bytes());
        }
        bytes
    }

    /// The sum, or `None` where it needs more than 256 bits.
    pub(crate) fn checked_add(self, other: Self) -> Option<Self> {
        let (mut sum, mut carry) = ([0; 4], 0);
        for i in (0..4).rev() {
            let wide = u128::from(self.0[i]) + u128::from(other.0[i]) + carry;
            sum[i] = wide as u64;
            carry = wide >> 64;
        }
        (carry == 0).then_some(Self(sum))
    }

    /// The difference, or `None` where `other` is larger.
    pub(crate) fn checked_sub(self, other: Self) -> Option<Self> {
        let (mut difference, mut borrow) = ([0; 4], false);
        for i in (0..4).rev() {
            let (part, under) = self.0[i].overflowing_sub(other.0[i]);
            let (part, under_again) = part.overflowing_sub(u64::from(borrow));
            difference[i] = part;
            borrow = under || under_again;
        }
        (!borrow).then_some(Self(difference))
    }

    /// The product modulo 2^256, as `arith_uint256` has it.
    pub(crate) fn wrapping_mul_u64(self, factor: u64) -> Self {
        let (mut product, mut carry) = ([0; 4], 0);
        for i in (0..4).rev() {
            let wide = u128::from(self.0[i]) * u128::from(factor) + carry;
            product[i] = wide as u64;
            carry = wide >> 64;
        }
        Self(product)
    }

    /// The quotient, rounded down. A zero divisor gives zero: no caller has one, and bytes from outside never panic.
    pub(crate) fn div_u64(self, divisor: u64) -> Self {
        if divisor == 0 {
            return Self::ZERO;
        }
        let (mut quotient, mut remainder) = ([0; 4], 0);
        for (i, limb) in self.0.iter().enumerate() {
            let wide = remainder << 64 | u128::from(*limb);
            quotient[i] = (wide / u128::from(divisor)) as u64;
            remainder = wide % u128::from(divisor);
        }
        Self(quotient)
    }

    /// The quotient, rounded down, by shift and subtract. A zero divisor gives zero.
    pub(crate) fn div(self, divisor: Self) -> Self {
        if divisor > self || divisor == Self::ZERO {
            return Self::ZERO;
        }
        let mut shift = self.bit_length() - divisor.bit_length();
        let (mut quotient, mut remainder) = (Self::ZERO, self);
        let mut shifted = divisor.shl(shift);
        loop {
            if let Some(rest) = remainder.checked_sub(shifted) {
                remainder = rest;
                quotient.0[3 - shift as usize / 64] |= 1 << (shift % 64);
            }
            if shift == 0 {
                return quotient;
            }
            shift -= 1;
            shifted = shifted.shr(1);
        }
    }

    pub(crate) fn not(self) -> Self {
        Self(self.0.map(|limb| !limb))
    }

    pub(crate) fn shl(self, bits: u32) -> Self {
        let mut shifted = [0; 4];
        let (limbs, bits) = (bits as usize / 64, bits % 64);
        for (i, limb) in shifted.iter_mut().enumerate() {
            let high = self.0.get(i + limbs).copied().unwrap_or(0);
            let low = self.0.get(i + limbs + 1).copied().unwrap_or(0);
            *limb = if bits == 0 { high } else { high << bits | low >> (64 - bits) };
        }
        Self(shifted)
    }

    pub(crate) fn shr(self, bits: u32) -> Self {
        let mut shifted = [0; 4];
        let (limbs, bits) = (bits as usize / 64, bits % 64);
        for (i, limb) in shifted.iter_mut().enumerate().skip(limbs) {
            let low = self.0[i - limbs];
            let high = if i > limbs { self.0[i - limbs - 1] } else { 0 };
            *limb = if bits == 0 { low } else { low >> bits | high << (64 - bits) };
        }
        Self(shifted)
    }

    /// Position of the highest bit that is set, counted from 1; 0 for zero.
    pub(crate) fn bit_length(self) -> u32 {
        self.0
            .iter()
            .enumerate()
            .find(|(_, limb)| **limb != 0)
            .map_or(0, |(i, limb)| 64 * (4 - i as u32) - limb.leading_zeros())
    }

    pub(crate) fn low_u64(self) -> u64 {
        self.0[3]
    }
}

impl fmt::Debug for U256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d] = self.0;
        write!(f, "0x{a:016x}{b:016x}{c:016x}{d:016x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wide(value: u128) -> U256 {
        U256([0, 0, (value >> 64) as u64, value as u64])
    }

    proptest! {
        #[test]
        fn arithmetic_below_128_bits_is_that_of_u128(a: u128, b: u128, factor: u32, bits in 0u32..128) {
            let (x, y) = (wide(a), wide(b));
            prop_assert_eq!(x.cmp(&y), a.cmp(&b));
            prop_assert_eq!(x.checked_sub(y), a.checked_sub(b).map(wide));
            prop_assert_eq!(x.shr(bits), wide(a >> bits));
            prop_assert_eq!(x.bit_length(), 128 - a.leading_zeros());
            if let Some(sum) = a.checked_add(b) {
                prop_assert_eq!(x.checked_add(y), Some(wide(sum)));
            }
            if let Some(product) = a.checked_mul(u128::from(factor)) {
                prop_assert_eq!(x.wrapping_mul_u64(u64::from(factor)), wide(product));
            }
            prop_assert_eq!(x.div(y), wide(a.checked_div(b).unwrap_or(0)));
            prop_assert_eq!(x.div_u64(u64::from(factor)), wide(a.checked_div(u128::from(factor)).unwrap_or(0)));
        }

        #[test]
        fn shifts_multiplication_and_division_agree_over_256_bits(limbs: [u64; 4], bits in 0u32..256, divisor: u64) {
            let x = U256(limbs);
            prop_assert_eq!(x.shl(bits).shr(bits), x.shl(bits).div(U256::ONE.shl(bits)));
            prop_assert_eq!(x.shr(bits), x.div(U256::ONE.shl(bits)));
            prop_assert_eq!(x.div_u64(divisor), x.div(U256::from_u64(divisor)));
            prop_assert_eq!(U256::from_be_bytes(x.to_be_bytes()), x);
            if divisor != 0 {
                let back = x.div_u64(divisor).wrapping_mul_u64(divisor);
                prop_assert!(x.checked_sub(back).is_some_and(|rest| rest < U256::from_u64(divisor)));
            }
        }
    }
}
