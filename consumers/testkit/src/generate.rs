//! Scripts made by chance.

use proptest::collection::vec;
use proptest::prelude::*;
use sluice_schemas::{Network, RemovalReason};

use crate::script::{Script, Step, chain};
use crate::transaction::{Tx, data, returned, share, split, sweep, waiting};

/// Who is in the scripts made by chance. Few, so that they meet again and again.
pub const PEOPLE: [&str; 4] = ["alice", "bob", "carol", "dave"];
/// Steps after the first blocks, at the most.
const MOST_STEPS: usize = 24;
/// Transactions of one step, at the most.
const MOST_TRANSACTIONS: usize = 6;

/// Scripts of blocks, payments, reorganisations and what returns, on both networks' rules. Where `mempool` says so,
/// transactions come and go before they are mined, and producers take over.
pub fn scripts(mempool: bool) -> impl Strategy<Value = Script> {
    let settings = (any::<bool>(), any::<bool>(), 1..4);
    (settings, vec(step(mempool), 0..MOST_STEPS)).prop_map(move |((bsv, prevouts, partitions), steps)| {
        let mut script = chain().partitions(partitions);
        if bsv {
            script = script.on(Network::BsvRegtest);
        } else if !prevouts {
            script = script.without_prevouts();
        }
        script = PEOPLE.iter().fold(script, |script, name| script.mined_by(name, []));
        if mempool {
            script = script.takeover();
        }
        steps.into_iter().fold(script, Script::step)
    })
}

fn step(mempool: bool) -> impl Strategy<Value = Step> {
    let block = (person(), transactions(mempool))
        .prop_map(|(miner, transactions)| Step::Block { miner: miner.to_owned(), transactions });
    let reason = prop_oneof![Just(RemovalReason::Evicted), Just(RemovalReason::Expired)];
    let seen = u32::from(mempool);
    prop_oneof![
        8 => block,
        4 => (1..5usize).prop_map(Step::Reorg),
        1 => (0..40u64).prop_map(Step::Crowd),
        6 * seen => transactions(false).prop_map(Step::Added),
        2 * seen => reason.prop_map(Step::Removed),
        seen => Just(Step::Takeover),
    ]
}

fn transactions(mempool: bool) -> impl Strategy<Value = Vec<Tx>> {
    let pair = (person(), person());
    let transaction = prop_oneof![
        8 => (pair.clone(), 1..90u64).prop_map(|((from, to), percent)| share(from, to, percent)),
        2 => pair.prop_map(|(from, to)| sweep(from, to)),
        2 => (person(), 2..6u64).prop_map(|(from, outputs)| split(from, outputs)),
        2 => (person(), vec(any::<u8>(), 0..20)).prop_map(|(from, bytes)| data(from, &bytes)),
        4 => Just(returned()),
        8 * u32::from(mempool) => Just(waiting()),
    ];
    vec(transaction, 0..MOST_TRANSACTIONS)
}

fn person() -> impl Strategy<Value = &'static str> + Clone {
    proptest::sample::select(&PEOPLE[..])
}
