//! A value read from a topic: never a panic, and an event that can be read survives being written.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| sluice_schemas::codec::fuzz(bytes));
