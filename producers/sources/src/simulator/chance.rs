//! Chance that can be repeated: one stream of numbers per step.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// The chance of one step. It depends on seed and step only, so that a world goes on after a restart as if nothing had
/// happened. The draws are spelled out here rather than left to a library whose algorithms may change.
pub(super) struct Chance(ChaCha8Rng);

impl Chance {
    /// Chance of a step of the world of `seed`.
    pub(super) fn of_step(seed: u64, step: u64) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        let mut rng = ChaCha8Rng::from_seed(key);
        rng.set_stream(step);
        Self(rng)
    }

    /// One of `0..bound`; 0 for a bound of 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.0.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// One of `low..=high`.
    pub(super) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low).saturating_add(1))
    }

    /// True once in `bound`.
    pub(super) fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }

    /// True with probability `parts` of a million.
    pub(super) fn per_million(&mut self, parts: u64) -> bool {
        self.below(1_000_000) < parts
    }

    /// Fills a buffer.
    pub(super) fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chance_depends_on_seed_and_step_only() {
        let draw = |seed, step| Chance::of_step(seed, step).below(u64::MAX);
        assert_eq!(draw(1, 2), draw(1, 2));
        assert_ne!(draw(1, 2), draw(1, 3));
        assert_ne!(draw(1, 2), draw(2, 2));
    }

    #[test]
    fn draws_stay_within_their_bounds() {
        let mut chance = Chance::of_step(7, 0);
        for _ in 0..1000 {
            assert!(chance.below(3) < 3);
            assert!((5..=6).contains(&chance.between(5, 6)));
        }
        assert_eq!(chance.below(0), 0);
        assert_eq!(chance.between(4, 4), 4);
    }
}
