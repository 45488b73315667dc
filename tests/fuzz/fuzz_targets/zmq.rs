//! A ZMQ message as a node might publish it: never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| sluice_sources::node::fuzz(bytes));
