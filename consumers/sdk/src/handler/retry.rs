//! How often, and after which pauses, a transient failure is tried again.

use std::time::Duration;

/// Longest time that the pauses of one event may add up to. A member whose events all wait takes nothing new meanwhile, and
/// one that takes nothing for five minutes counts as stuck: its partitions go to others.
pub const LONGEST_RETRY: Duration = Duration::from_secs(240);

/// How often a transient failure is tried again, with pauses that double.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts in all, the first one included.
    pub attempts: u32,
    /// The pause after the first attempt.
    pub first_pause: Duration,
    /// The pauses double up to this one.
    pub longest_pause: Duration,
    /// What happens after the last attempt.
    pub exhausted: Exhausted,
}

/// What happens to an event whose last attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exhausted {
    /// It becomes a dead letter. Right where one event may fail for ever while others go well.
    DeadLetter,
    /// The member stops, and nothing is committed past the event. Right where a failure means that whatever the handler
    /// needs is down, for all events.
    Stop,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 10,
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(30),
            exhausted: Exhausted::DeadLetter,
        }
    }
}

impl RetryPolicy {
    /// The pause after an attempt, counted from 1; `chance` in `0.0..1.0` spreads members that failed together. Half of
    /// the pause is fixed, half is chance. `None` after the last attempt.
    pub fn pause(&self, attempt: u32, chance: f64) -> Option<Duration> {
        if attempt >= self.attempts {
            return None;
        }
        Some(self.ceiling(attempt).mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0))
    }

    /// The longest that all pauses together may take.
    pub fn total(&self) -> Duration {
        // Pauses that double have stopped growing after as many as a number has bits; the rest is a product.
        let growing = self.attempts.saturating_sub(1).min(u32::BITS);
        let sum =
            (1..=growing).fold(Duration::ZERO, |sum, attempt| sum.saturating_add(self.ceiling(attempt)));
        let rest = self.attempts.saturating_sub(1) - growing;
        sum.saturating_add(self.ceiling(u32::BITS + 1).checked_mul(rest).unwrap_or(Duration::MAX))
    }

    fn ceiling(&self, attempt: u32) -> Duration {
        let factor = 2_u32.checked_pow(attempt.saturating_sub(1)).unwrap_or(u32::MAX);
        self.first_pause.saturating_mul(factor).min(self.longest_pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_default_gives_up_within_two_minutes() {
        let policy = RetryPolicy::default();
        assert_eq!(policy.total(), Duration::from_millis(51_100));
        assert!(policy.total() < LONGEST_RETRY);
        assert_eq!(policy.pause(1, 1.0), Some(Duration::from_millis(100)));
        assert_eq!(policy.pause(1, 0.0), Some(Duration::from_millis(50)));
        assert_eq!(policy.pause(9, 1.0), Some(Duration::from_millis(25_600)));
        assert_eq!(policy.pause(10, 1.0), None);
    }

    proptest! {
        #[test]
        fn the_pauses_grow_are_bounded_and_end(
            attempts in 0..50_u32, first in 0..5_000_u64, longest in 0..50_000_u64, chance in 0.0..1.0_f64,
        ) {
            let (first_pause, longest_pause) = (Duration::from_millis(first), Duration::from_millis(longest));
            let policy = RetryPolicy { attempts, first_pause, longest_pause, exhausted: Exhausted::Stop };
            let pauses: Vec<_> = (1..).map_while(|attempt| policy.pause(attempt, 1.0)).collect();
            prop_assert_eq!(pauses.len() as u32, attempts.saturating_sub(1));
            prop_assert!(pauses.is_sorted() && pauses.iter().all(|pause| *pause <= longest_pause));
            prop_assert_eq!(pauses.iter().sum::<Duration>(), policy.total());
            for (attempt, longest) in (1..).zip(&pauses) {
                let pause = policy.pause(attempt, chance).unwrap();
                prop_assert!(pause <= *longest && pause >= *longest / 2);
            }
        }

        #[test]
        fn no_policy_panics(attempts in any::<u32>(), first in any::<u64>(), longest in any::<u64>(), attempt in any::<u32>()) {
            let (first_pause, longest_pause) = (Duration::from_secs(first), Duration::from_secs(longest));
            let policy = RetryPolicy { attempts, first_pause, longest_pause, exhausted: Exhausted::Stop };
            prop_assert!(policy.total() >= Duration::ZERO);
            prop_assume!(longest < u64::MAX / 4);
            let _ = policy.pause(attempt, 0.5);
        }
    }
}
