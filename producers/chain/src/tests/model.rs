//! The tracker against a brute-force model, on random trees in random order.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::target::{from_compact, work};
use crate::uint::U256;

/// One act of a random history.
#[derive(Clone, Debug)]
enum Act {
    /// A branch of some blocks on top of one of the newest ones.
    Grow { back: usize, length: usize, hard: bool },
    /// Some steps are published.
    Publish(usize),
    /// The process starts again from what its log has.
    Restart { suffix: usize },
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => (0usize..40, 1usize..7, prop::bool::weighted(0.2)).prop_map(|(back, length, hard)| Act::Grow { back, length, hard }),
        2 => (0usize..8).prop_map(Act::Publish),
        1 => (1usize..20).prop_map(|suffix| Act::Restart { suffix }),
    ]
}

/// Every header in the order in which it was taken, with its work and what a replay of the log gives.
#[derive(Default)]
struct Model {
    work: HashMap<BlockHash, U256>,
    order: Vec<Header>,
    chain: Vec<Block>,
}

impl Model {
    fn take(&mut self, header: Header) {
        let own = work(from_compact(header.bits.to_consensus()).expect("a target"));
        let before = self.work.get(&header.prev_blockhash).copied().unwrap_or(U256::ZERO);
        self.work.insert(header.block_hash(), before.checked_add(own).expect("small"));
        self.order.push(header);
    }

    /// The first seen of the heaviest.
    fn best(&self) -> BlockHash {
        let mut best = self.order[0].block_hash();
        for header in &self.order {
            let hash = header.block_hash();
            if self.work[&hash] > self.work[&best] {
                best = hash;
            }
        }
        best
    }

    fn publish(&mut self, step: &Step) {
        match step {
            Step::Connect { hash, block } => {
                assert_eq!(*hash, block.header.block_hash());
                if let Some(tip) = self.chain.last() {
                    assert_eq!(
                        (block.header.prev_blockhash, block.height),
                        (tip.block_ref().hash, tip.height + 1)
                    );
                }
                assert_eq!(block.chain_work, self.work[hash].to_be_bytes());
                self.chain.push(*block);
                let newest = &self.chain[self.chain.len().saturating_sub(11)..];
                let mut times: Vec<_> = newest.iter().map(|block| block.header.time).collect();
                times.sort_unstable();
                assert_eq!(block.median_time, times[times.len() / 2]);
            }
            Step::Disconnect(block) => {
                assert_eq!(self.chain.pop().map(|tip| tip.block_ref()), Some(*block));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn best_block_and_steps_are_those_of_the_model(acts in prop::collection::vec(act(), 1..40), keep in 11usize..30) {
        let settings = Settings { keep, ..settings(DifficultyRule::Trust) };
        let mut tracker = ChainTracker::from_genesis(settings.clone());
        let mut model = Model::default();
        model.take(genesis());

        for act in acts {
            match act {
                Act::Grow { back, length, hard } => {
                    let parent = model.order[model.order.len() - 1 - back.min(model.order.len() - 1)];
                    let run = chain_on(&parent, length, if hard { HARD } else { EASY });
                    let mut back = 0;
                    // What the tracker has let go is given back from the log, and from the source.
                    loop {
                        match tracker.observe(&run) {
                            Ok(_) => break run.iter().for_each(|header| model.take(*header)),
                            Err(crate::Error::NeedsOlder { oldest, .. }) => {
                                let known = model.chain.iter().rposition(|block| block.block_ref() == oldest);
                                let known = known.expect("the oldest block held is published");
                                if known == 0 || back == model.chain.len() {
                                    break;
                                }
                                let older: Vec<_> = model.chain[..known].iter().rev().take(7).copied().collect();
                                tracker.extend_back(&older).expect("the log's own blocks join");
                                back += 1;
                            }
                            // Its parent was on a branch that is forgotten.
                            Err(crate::Error::UnknownParent { .. }) => break,
                            Err(error) => panic!("{error}"),
                        }
                    }
                }
                Act::Publish(steps) => {
                    for step in tracker.next_steps(steps) {
                        tracker.advance(&step).expect("follows the tip");
                        model.publish(&step);
                    }
                }
                Act::Restart { suffix } if !model.chain.is_empty() => {
                    let newest_first: Vec<_> = model.chain.iter().rev().take(suffix).copied().collect();
                    tracker = ChainTracker::from_published(settings.clone(), &newest_first).expect("linked");
                    // What was not published is forgotten, and the published tip is the first seen.
                    let mut fresh = Model::default();
                    model.chain.iter().for_each(|block| fresh.take(block.header));
                    fresh.chain = model.chain;
                    model = fresh;
                }
                Act::Restart { .. } => {}
            }
            prop_assert_eq!(tracker.best().hash, model.best());
        }

        for step in publish_all(&mut tracker) {
            model.publish(&step);
        }
        prop_assert_eq!(tracker.tip(), Some(tracker.best()));
        prop_assert_eq!(model.chain.last().map(|tip| tip.block_ref().hash), Some(model.best()));
    }
}
