//! Headers as a source might send them: never a panic, and a refused run changes nothing.
#![no_main]

use bitcoin::block::Header;
use libfuzzer_sys::fuzz_target;
use sluice_chain::{ChainTracker, DifficultyRule, Settings};
use sluice_schemas::Network;

fuzz_target!(|bytes: &[u8]| {
    let mut tracker = ChainTracker::from_genesis(Settings::new(Network::BtcRegtest, DifficultyRule::Trust));
    let mut parent = tracker.best().hash;
    for run in bytes.chunks(160) {
        let mut headers = Vec::new();
        for header in run.chunks_exact(80) {
            let Ok(mut header) = bitcoin::consensus::deserialize::<Header>(header) else { return };
            // Mostly linked, so that the rules beyond the link are reached.
            if header.version.to_consensus() % 8 != 0 {
                header.prev_blockhash = parent;
            }
            parent = header.block_hash();
            headers.push(header);
        }
        let before = tracker.best();
        if tracker.observe(&headers).is_err() {
            assert_eq!(tracker.best(), before);
            parent = before.hash;
        }
        for step in tracker.next_steps(10) {
            tracker.advance(&step).expect("a step that was asked for follows");
        }
    }
});
