//! A block body as a node might send it: never a panic, and what passes has the hash that was asked for.
#![no_main]

use bitcoin::block::Header;
use libfuzzer_sys::fuzz_target;
use sluice_body::{BlockReader, Limits};
use sluice_schemas::Flavour;

fuzz_target!(|input: (bool, &[u8])| {
    let (witnesses, bytes) = input;
    let limits = Limits::of(if witnesses { Flavour::Btc } else { Flavour::Bsv });
    // The hash that the bytes have, so that the reader gets past the header.
    let Some(Ok(header)) = bytes.get(..80).map(bitcoin::consensus::deserialize::<Header>) else { return };
    let Ok(mut block) = BlockReader::new(bytes, header.block_hash(), limits) else { return };
    let mut count = 0;
    while let Ok(Some(_)) = block.next_tx() {
        count += 1;
    }
    if let Ok(summary) = block.finish() {
        assert_eq!(summary.tx_count, count);
        assert_eq!(summary.size, bytes.len() as u64);
    }
});
