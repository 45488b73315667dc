//! Random lives of the model node.

use proptest::prelude::*;

use super::node::{Kind, World};
use crate::{Input, Lost, SEQUENCE_FEED, TipTime};

#[derive(Clone, Debug)]
enum Act {
    Add { choice: usize, inputs: usize },
    Evict(usize),
    Mine { choice: usize, foreign: bool },
    Reorganise { depth: usize, choice: usize },
    Deliver(usize),
    Follow,
    Answer,
    Pass(i64),
    Lose(usize),
    Suspend,
}

fn act(losing: bool) -> impl Strategy<Value = Act> {
    prop_oneof![
        12 => (0usize..60, 1usize..3).prop_map(|(choice, inputs)| Act::Add { choice, inputs }),
        3 => (0usize..20).prop_map(Act::Evict),
        3 => (0usize..20, any::<bool>()).prop_map(|(choice, foreign)| Act::Mine { choice, foreign }),
        1 => (1usize..4, 0usize..20).prop_map(|(depth, choice)| Act::Reorganise { depth, choice }),
        6 => (1usize..6).prop_map(Act::Deliver),
        4 => Just(Act::Follow),
        6 => Just(Act::Answer),
        4 => (1i64..9000).prop_map(Act::Pass),
        if losing { 2 } else { 0 } => (1usize..5).prop_map(Act::Lose),
        1 => Just(Act::Suspend),
    ]
}

fn live(kind: Kind, acts: Vec<Act>) -> World {
    let mut world = World::new(kind);
    for act in acts {
        match act {
            Act::Add { choice, inputs } => world.add(choice, inputs),
            Act::Evict(choice) => world.evict(choice),
            Act::Mine { choice, foreign } => world.mine(choice, foreign),
            Act::Reorganise { depth, choice } => world.reorganise(depth, choice),
            Act::Deliver(messages) => world.deliver(messages),
            Act::Follow => world.follow(),
            Act::Answer => world.answer(),
            Act::Pass(millis) => world.pass(millis),
            Act::Lose(messages) => world.losing += messages,
            Act::Suspend => {
                world.published.clear();
                world.apply(Input::Suspend);
                world.follow();
                world.detected.clear();
                world.repaired.clear();
                world.lost.clear();
                world.apply(Input::Start(TipTime::default()));
            }
        }
    }
    world
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(Kind::Numbered), Just(Kind::Plain)]
}

proptest! {
    #[test]
    fn without_losses_the_view_becomes_the_mempool_and_no_gap_is_told(
        kind in kind(), acts in prop::collection::vec(act(false), 1..80)
    ) {
        let mut world = live(kind, acts);
        world.quiet(200);
        world.assert_whole();
        prop_assert_eq!(world.detected, vec![]);
    }

    #[test]
    fn with_losses_the_view_becomes_the_mempool_and_every_gap_is_told_and_repaired(
        kind in kind(), acts in prop::collection::vec(act(true), 1..80)
    ) {
        let mut world = live(kind, acts);
        world.quiet(300);
        world.assert_whole();
        let mut detected = world.detected.clone();
        let mut repaired = world.repaired.clone();
        let order = |(feed, lost): &(&'static str, Lost)| format!("{feed} {lost:?}");
        detected.sort_by_key(order);
        repaired.sort_by_key(order);
        prop_assert_eq!(&detected, &repaired);
        // Each message lost before another one came is in a gap told by its number.
        let told = |number: &u64| world.detected.iter().any(|(feed, lost)| {
            *feed == "feed" && matches!(lost, Lost::Numbers { from, to } if (from..=to).contains(&number))
        });
        let tail = world.lost.iter().rev().take_while(|number| !told(number)).count();
        prop_assert!(world.lost[..world.lost.len() - tail].iter().all(told));
    }

    #[test]
    fn loss_in_the_first_moments_of_a_view_is_told(
        kind in kind(),
        before in prop::collection::vec((0usize..60, 1usize..3), 0..20),
        undelivered in 0usize..5, millis in 0i64..20_000, lost in 1usize..6,
    ) {
        let mut world = World::new(kind);
        before.iter().for_each(|(choice, inputs)| world.add(*choice, *inputs));
        world.deliver(before.len().saturating_sub(undelivered));
        world.answer();
        world.pass(millis);
        world.losing = usize::MAX;
        (0..lost).for_each(|i| world.add(i, 1));
        world.quiet(100);
        world.assert_whole();
        prop_assert_eq!(world.detected.len(), 1, "{:?}", world.detected);
        prop_assert_eq!(&world.repaired, &world.detected);
    }

    #[test]
    fn repair_counts_what_it_restored(
        kind in kind(),
        before in prop::collection::vec((0usize..60, 1usize..3), 1..30),
        during in prop::collection::vec((0usize..60, any::<bool>(), prop::bool::weighted(0.3)), 1..30),
    ) {
        let mut world = World::new(kind);
        world.answer();
        before.iter().for_each(|(choice, inputs)| world.add(*choice, *inputs));
        world.quiet(20);
        world.assert_whole();
        world.answers = false;
        for (choice, evict, lose) in during {
            world.losing = usize::from(lose);
            if evict { world.evict(choice) } else { world.add(choice, 1) }
        }
        world.losing = 0;
        world.add(3, 1);
        let lost = world.lost.len();
        world.deliver(usize::MAX);
        world.answers = true;
        world.quiet(1);
        world.answers = false;
        world.pass(4000);
        let truth: std::collections::BTreeSet<_> = world.mempool.keys().copied().collect();
        let wrong = world.published.symmetric_difference(&truth).count() as u64;
        world.answers = true;
        world.quiet(30);
        world.assert_whole();
        prop_assert_eq!(world.detected.is_empty(), lost == 0);
        prop_assert_eq!(world.detected.len(), world.repaired.len());
        prop_assert_eq!(world.recovered, wrong);
    }

    #[test]
    fn lost_tail_is_found_by_the_numbers_even_where_nothing_is_to_repair(
        before in prop::collection::vec((0usize..60, 1usize..3), 1..20), tail in 1usize..6, undone: bool,
    ) {
        let mut world = World::new(Kind::Numbered);
        world.answer();
        before.iter().for_each(|(choice, inputs)| world.add(*choice, *inputs));
        world.quiet(20);
        prop_assert_eq!(&world.detected, &vec![]);
        world.losing = usize::MAX;
        (0..tail).for_each(|i| world.add(i, 1));
        if undone {
            (0..tail).for_each(|i| world.evict(usize::MAX - i));
        }
        let lost = world.lost.len();
        world.quiet(100);
        world.assert_whole();
        if lost > 0 {
            prop_assert_eq!(world.detected.len(), 1);
            let (feed, numbers) = world.detected[0];
            prop_assert_eq!(feed, SEQUENCE_FEED);
            let Lost::Numbers { from, to } = numbers else { panic!("numbered") };
            prop_assert_eq!(to - from + 1, lost as u64);
            prop_assert_eq!(&world.repaired, &world.detected);
        }
    }
}
