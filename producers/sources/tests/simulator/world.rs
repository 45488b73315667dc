//! The pure world.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use bitcoin::Txid;
use sluice_schemas::{Network, RemovalReason};
use sluice_sources::simulator::{BlockFill, Event, FIRST_LIVE_HEIGHT, Place, SimulatorConfig, World};

use crate::ledger::Ledger;

pub(crate) fn lively(network: Network) -> SimulatorConfig {
    SimulatorConfig {
        network,
        seed: 7,
        tx_rate: 3.0,
        block_interval: Duration::from_secs(10),
        reorg_rate: 0.2,
        max_reorg_depth: 20,
        ..SimulatorConfig::default()
    }
}

fn run_to(world: &mut World, height: i32) -> Vec<Event> {
    let mut events = vec![];
    while world.height() < height {
        events.extend(world.step());
    }
    events
}

#[test]
fn the_same_seed_gives_the_same_world() {
    let config = lively(Network::BtcRegtest);
    let (mut one, mut two) = (World::new(&config).unwrap(), World::new(&config).unwrap());
    assert_eq!(run_to(&mut one, 220), run_to(&mut two, 220));
    let mut other = World::new(&SimulatorConfig { seed: 8, ..config }).unwrap();
    run_to(&mut other, 220);
    assert_ne!(one.tip(), other.tip());
}

/// A chain that was published must not change with a new version of the simulator.
#[test]
fn the_chain_of_a_seed_is_the_one_of_earlier_versions() {
    let tip = |network| {
        let mut world = World::new(&lively(network)).unwrap();
        run_to(&mut world, 200);
        world.tip().to_string()
    };
    assert_eq!(tip(Network::BtcRegtest), "5b768f0694c87d4d3771d02045f9ba32dd3ed54dcd7c2c88680bb73ce54cb25f");
    assert_eq!(tip(Network::BsvRegtest), "1699121ffda664e978f8be3fa1bd1e0ab9d7f5e9e43f6d40ce27e2d38661b3c1");
}

fn every_block_is_valid(network: Network) {
    let mut world = World::new(&lively(network)).unwrap();
    let mut ledger = Ledger::new(network);
    let (mut reorgs, mut deepest, mut reasons) = (0, 0, HashSet::new());
    for event in run_to(&mut world, 420) {
        match event {
            Event::Mined { block, place } => {
                ledger.learn(block.hash, block.body(), block.spent());
                if let Place::Tip { disconnected } = place {
                    ledger.go_to(block.hash);
                    assert_eq!(ledger.height(), block.height);
                    reorgs += u32::from(disconnected > 0);
                    deepest = deepest.max(disconnected);
                }
            }
            Event::Removed { reason, .. } => {
                reasons.insert(reason);
            }
            Event::Added { .. } => {}
        }
    }
    assert_eq!(ledger.tip(), world.tip());
    assert!(ledger.payments > 3_000, "{} payments", ledger.payments);
    assert!(reorgs > 20 && deepest > 4, "{reorgs} reorgs up to {deepest}");
    assert!(reasons.contains(&RemovalReason::Conflicted));
    assert_eq!(reasons.contains(&RemovalReason::Replaced), network == Network::BtcRegtest);
}

#[test]
fn every_block_on_every_branch_is_valid_on_bitcoin() {
    every_block_is_valid(Network::BtcRegtest);
}

#[test]
fn every_block_on_every_branch_is_valid_on_bitcoin_sv() {
    every_block_is_valid(Network::BsvRegtest);
}

#[test]
fn the_world_shows_all_that_a_chain_can_show() {
    let mut world = World::new(&lively(Network::BtcRegtest)).unwrap();
    let (mut locks, mut data, mut chained, mut longest) = (HashSet::new(), 0, 0, 0);
    let mut depth: HashMap<Txid, usize> = HashMap::new();
    for event in run_to(&mut world, 300) {
        let Event::Added { transaction, .. } = event else { continue };
        let tx = &transaction.transaction;
        tx.output.iter().for_each(|out| {
            let script = &out.script_pubkey;
            data += usize::from(script.is_op_return());
            locks.insert((script.is_p2pkh(), script.is_p2wpkh(), script.is_p2tr()));
        });
        let before = tx.input.iter().filter_map(|input| depth.get(&input.previous_output.txid)).max();
        chained += usize::from(before.is_some());
        longest = longest.max(before.map_or(1, |before| before + 1));
        depth.insert(transaction.txid, before.map_or(1, |before| before + 1));
    }
    assert_eq!(locks.len(), 4, "P2PKH, P2WPKH, P2TR and OP_RETURN");
    assert!(data > 50 && chained > 100 && longest > 3, "{data} data, {chained} chained, {longest} in a row");
}

#[test]
fn mempool_changes_replayed_over_blocks_give_the_mempool() {
    for network in [Network::BtcRegtest, Network::BsvRegtest] {
        let mut world = World::new(&lively(network)).unwrap();
        let mut view: HashSet<Txid> = HashSet::new();
        let mut number = 0;
        while world.height() < 330 {
            for event in world.step() {
                match event {
                    Event::Added { transaction, sequence } => {
                        assert!(view.insert(transaction.txid), "added once");
                        assert!(sequence > number);
                        number = sequence;
                    }
                    Event::Removed { txid, sequence, .. } => {
                        assert!(view.remove(&txid), "was there");
                        assert!(sequence > number);
                        number = sequence;
                    }
                    Event::Mined { block, .. } => {
                        block.transactions.iter().for_each(|mined| {
                            view.remove(&mined.txid);
                        });
                    }
                }
            }
            assert_eq!(view, world.mempool().map(|transaction| transaction.txid).collect());
            assert!(number <= world.sequence());
        }
    }
}

#[test]
fn a_world_stops_at_the_height_asked_for() {
    let config = SimulatorConfig { blocks: Some(165), ..lively(Network::BtcRegtest) };
    let mut world = World::new(&config).unwrap();
    run_to(&mut world, 165);
    assert_eq!(world.next_at(), None);
    assert_eq!(world.step(), []);
    assert_eq!(world.height(), 165);
}

#[test]
fn blocks_are_filled_on_request() {
    for (network, bytes) in [(Network::BtcRegtest, 300_000), (Network::BsvRegtest, 3_000_000)] {
        let fill = Some(BlockFill { transactions: 300, big_transaction_bytes: bytes });
        let config = SimulatorConfig { fill, tx_rate: 0.0, reorg_rate: 0.0, ..lively(network) };
        let mut world = World::new(&config).unwrap();
        run_to(&mut world, FIRST_LIVE_HEIGHT + 2);
        let (mut big, mut payments) = (0, 0);
        for event in run_to(&mut world, FIRST_LIVE_HEIGHT + 6) {
            if let Event::Mined { block, .. } = event {
                big += block.transactions.iter().filter(|transaction| transaction.raw.len() > bytes).count();
                payments += block.transactions.len();
            }
        }
        assert!(big >= 2 && payments > 800, "{big} big ones, {payments} in all");
    }
}

#[test]
fn settings_that_cannot_be_are_refused_by_name() {
    let refused = |config: SimulatorConfig| World::new(&config).err().expect("refused");
    let ok = SimulatorConfig::default;
    assert!(refused(SimulatorConfig { network: Network::BtcMainnet, ..ok() }).contains("btc-mainnet"));
    assert!(refused(SimulatorConfig { tx_rate: f64::NAN, ..ok() }).contains("transaction rate"));
    assert!(refused(SimulatorConfig { tx_rate: -1.0, ..ok() }).contains("transaction rate"));
    assert!(refused(SimulatorConfig { reorg_rate: 1.5, ..ok() }).contains("reorg rate"));
    assert!(refused(SimulatorConfig { max_reorg_depth: 51, ..ok() }).contains("reorg depth"));
    assert!(refused(SimulatorConfig { block_interval: Duration::ZERO, ..ok() }).contains("block interval"));
}
