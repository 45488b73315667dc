//! What fee rate gets a transaction into one of the next blocks.
//!
//! From what is known for sure: the mempool, sorted by fee rate, is cut into blocks of the size that blocks have. To be
//! among the next `n`, a transaction has to pay as much as the last one that fits into the `n`th; where everything fits,
//! the lowest rate that nodes relay is enough. What will still come, and what children pay for their parents, is not
//! foreseen.

use serde::{Serialize, Serializer};
use sluice_schemas::Flavour;

/// The numbers of blocks that estimates are given for, as Esplora gives them.
const TARGETS: [u16; 28] = [
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 144, 504, 1008,
];
/// Virtual bytes of a full block of Bitcoin Core's.
const BTC_BLOCK: i64 = 1_000_000;
/// Bytes that a block of Bitcoin SV's takes at least: the default that nodes mine up to is far larger.
const BSV_BLOCK: i64 = 32_000_000;

/// The lowest rate that nodes relay by default, satoshis per virtual byte.
fn lowest_rate(flavour: Flavour) -> f64 {
    match flavour {
        Flavour::Btc => 1.0,
        Flavour::Bsv => 0.05,
    }
}

/// Virtual bytes that fit into a block. Where consensus sets no limit, as many as the largest of the latest blocks had.
pub(super) fn block_capacity(flavour: Flavour, largest: i64) -> i64 {
    match flavour {
        Flavour::Btc => BTC_BLOCK,
        Flavour::Bsv => largest.max(BSV_BLOCK),
    }
}

/// Satoshis per virtual byte for each target, from a mempool's `(lowest rate, virtual bytes)` bins, highest rate first.
pub(super) fn estimates(histogram: &[(f64, i64)], capacity: i64, flavour: Flavour) -> Vec<(u16, f64)> {
    let lowest = lowest_rate(flavour);
    let for_target = |target: u16| {
        let mut room = capacity.saturating_mul(i64::from(target));
        for (rate, vsize) in histogram {
            room = room.saturating_sub(*vsize);
            if room < 0 {
                return rate.max(lowest);
            }
        }
        lowest
    };
    TARGETS.map(|target| (target, for_target(target))).to_vec()
}

/// Estimates as Esplora's JSON object.
pub(super) struct Json<'a>(pub(super) &'a [(u16, f64)]);

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(target, rate)| (target, rate)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn who_wants_to_be_in_the_next_block_pays_as_much_as_the_last_that_fits() {
        let histogram = [(50.0, 600_000), (20.0, 600_000), (5.0, 900_000), (2.0, 100_000)];
        let estimates = estimates(&histogram, 1_000_000, Flavour::Btc);
        assert_eq!(estimates[..3], [(1, 20.0), (2, 5.0), (3, 1.0)]);
        assert_eq!(estimates.last(), Some(&(1008, 1.0)));
    }

    #[test]
    fn an_empty_mempool_asks_for_the_lowest_rate_only() {
        assert!(estimates(&[], BTC_BLOCK, Flavour::Btc).iter().all(|(_, rate)| *rate == 1.0));
        assert!(estimates(&[], BSV_BLOCK, Flavour::Bsv).iter().all(|(_, rate)| *rate == 0.05));
    }

    #[test]
    fn the_json_is_an_object_by_target() {
        assert_eq!(serde_json::to_string(&Json(&[(1, 2.5), (2, 1.0)])).unwrap(), r#"{"1":2.5,"2":1.0}"#);
    }

    proptest! {
        #[test]
        fn waiting_longer_never_costs_more(
            mut bins in proptest::collection::vec((0.0_f64..1000.0, 0_i64..2_000_000), 0..200)
        ) {
            bins.sort_by(|(a, _), (b, _)| b.total_cmp(a));
            let estimates = estimates(&bins, BTC_BLOCK, Flavour::Btc);
            prop_assert!(estimates.is_sorted_by(|(_, sooner), (_, later)| sooner >= later));
        }
    }
}
