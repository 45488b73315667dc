//! A raw transaction: never a panic, and the event rebuilds it byte for byte.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use sluice_body::{parse_transaction, transaction};
use sluice_schemas::Network;

fuzz_target!(|input: (bool, &[u8])| {
    let (witnesses, raw) = input;
    let network = if witnesses { Network::BtcRegtest } else { Network::BsvRegtest };
    if let Ok(parsed) = parse_transaction(Bytes::copy_from_slice(raw), network.flavour()) {
        let event = transaction(&parsed, network, None);
        assert_eq!(event.to_raw(), raw);
        assert_eq!(event.txid, parsed.txid);
    }
});
