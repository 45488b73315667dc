//! The spent outputs of a block as a node might send them: never a panic, memory bounded by what arrives.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice_body::{Limits, SpentReader};
use sluice_schemas::Flavour;

fuzz_target!(|bytes: &[u8]| {
    let mut spent = SpentReader::new(bytes, Limits::of(Flavour::Btc));
    while let Ok(Some(_)) = spent.next_tx() {}
});
