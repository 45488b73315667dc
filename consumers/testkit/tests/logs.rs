//! The logs that scripts make are sound, and unsound where a script says so.
#![allow(clippy::unwrap_used)]

use sluice_consumer_testkit::{
    Fault, Script, chain, data, pay, returned, script_of, share, split, sweep, waiting,
};
use sluice_log::chain::verify::{Depth, Error, Invariant, Summary};
use sluice_schemas::{EventKind, Network, RemovalReason, StatusEvent};

/// Everything that can be on a log at all.
fn everything() -> Script {
    chain()
        .mined_by("alice", [])
        .takeover()
        .block([pay("alice", "bob", 1_000_000), split("alice", 300), share("bob", "bob", 50)])
        .added([share("alice", "bob", 10), share("bob", "carol", 10)])
        .block([data("alice", b"hello"), sweep("bob", "carol"), data("alice", &[0x5a; 2_000_000])])
        .crowd(1_000)
        .reorg(3)
        .block([returned()])
        .added([share("alice", "bob", 10)])
        .block([waiting()])
        .added([share("bob", "alice", 10), share("carol", "alice", 10)])
        .removed(RemovalReason::Evicted)
        .takeover()
        .gap("rawtx", 7)
        .repaired("rawtx", 7)
        .blocks(3)
}

fn audit(script: &Script) -> Result<Summary, Error> {
    script.build().chain.verify(0, Depth::Content, &mut ())
}

#[test]
fn a_log_of_everything_passes_the_audit() {
    for network in [Network::BtcRegtest, Network::BsvRegtest] {
        let script = everything().on(network);
        let log = script.build();
        let summary = log.chain.verify(0, Depth::Content, &mut ()).unwrap();
        assert_eq!((summary.disconnected, summary.deepest_reorg), (3, 3), "{script:?}");
        assert_eq!(summary.tip.map(|tip| tip.hash), Some(log.tip().hash));
        assert!(summary.transactions > 2_000);
    }
}

#[test]
fn the_mempool_on_the_log_is_that_of_the_script() {
    let log = everything().build();
    let view = log.chain.mempool_view().unwrap().unwrap();
    assert!(!log.mempool().is_empty());
    assert_eq!(view.txids, log.mempool().into_iter().collect());
    assert_eq!(view.epoch, 2);
}

#[test]
fn what_a_reorg_took_back_is_mined_again_unless_it_was_double_spent() {
    let log = chain()
        .mined_by("alice", [])
        .mined_by("bob", [])
        .block([pay("alice", "carol", 1_000), pay("bob", "carol", 2_000)])
        .reorg(1)
        .block([pay("bob", "dave", 3_000), returned()])
        .build();
    assert_eq!((log.balance("carol"), log.balance("dave")), (1_000, 3_000));
}

#[test]
fn the_same_script_makes_the_same_blocks() {
    let hashes = || everything().build().best_chain().map(|event| event.hash).collect::<Vec<_>>();
    assert_eq!(hashes(), hashes());
}

#[test]
fn a_log_goes_on_with_another_script() {
    let mut log = everything().build();
    log.play(&chain().reorg(2).block([share("alice", "bob", 10)]));
    let summary = log.chain.verify(0, Depth::Content, &mut ()).unwrap();
    assert_eq!(summary.reorgs, 2);
}

#[test]
fn everybody_has_a_script_of_the_networks_kind() {
    for network in [Network::BtcRegtest, Network::BsvRegtest] {
        let log = chain().on(network).mined_by("alice", []).build();
        let [coin] = log.coins() else { panic!("{:?}", log.coins()) };
        assert_eq!(coin.script_pubkey, script_of("alice", network.flavour()));
        assert_eq!(coin.script_pubkey.is_p2wpkh(), network == Network::BtcRegtest);
    }
}

#[test]
fn the_audit_finds_each_fault() {
    let sound = chain().mined_by("alice", []).block([share("alice", "bob", 10)]);
    audit(&sound).unwrap();
    let violated = |fault| match audit(&sound.clone().faulty(fault, [share("alice", "bob", 10)])) {
        Err(Error::Violation(violation)) => Some(violation.invariant),
        _ => None,
    };
    assert_eq!(violated(Fault::Count), Some(Invariant::I4));
    assert_eq!(violated(Fault::MerkleRoot), Some(Invariant::I5));
    assert_eq!(violated(Fault::Sequence), Some(Invariant::I1));
    assert!(audit(&sound.clone().faulty(Fault::Parent, [])).is_err());
    assert!(audit(&sound.clone().faulty(Fault::Undecodable, [])).is_err());
    assert!(audit(&sound.clone().poison(EventKind::Chain)).is_err());
    assert!(audit(&sound.poison(EventKind::Transaction)).is_err());
}

#[test]
fn a_gap_is_told_on_the_status_topic() {
    let log = chain().gap("rawtx", 7).repaired("rawtx", 7).build();
    let last: StatusEvent = log.chain.last_event(&log.chain.topics.status, 0).unwrap().unwrap().event;
    assert_eq!((last.feed.as_deref(), last.recovered), (Some("rawtx"), Some(7)));
}

#[test]
#[should_panic(expected = "bob has 0 satoshis")]
fn who_has_nothing_cannot_pay() {
    chain().block([pay("bob", "alice", 1)]).build();
}

#[test]
fn a_script_prints_as_the_code_that_makes_it() {
    let script = chain().without_prevouts().mined_by("alice", [data("bob", b"\x00hi")]).reorg(2).crowd(9);
    let code = r#"chain().without_prevouts()
    .mined_by("alice", [data("bob", b"\x00hi")])
    .reorg(2)
    .crowd(9)"#;
    assert_eq!(format!("{script:?}"), code);
}
