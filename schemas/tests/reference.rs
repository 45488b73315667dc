//! apache-avro reads what we write and writes what we read, for any event; nothing from outside panics.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use apache_avro::{Schema, from_avro_datum, from_value, to_avro_datum, to_value};
use proptest::prelude::*;
use sluice_schemas::{Codec, Event, EventKind, codec};

/// Length of the single-object header.
const HEADER: usize = 10;

fn agrees<E: Event + PartialEq + std::fmt::Debug>(event: &E) {
    let codec = Codec::single_object();
    let schema = Schema::parse_str(E::KIND.schema()).unwrap();
    let mut ours = Vec::new();
    codec.encode(event, &mut ours);

    let value = from_avro_datum(&schema, &mut &ours[HEADER..], None).unwrap();
    assert!(value.validate(&schema));
    assert_eq!(&from_value::<E>(&value).unwrap(), event, "apache-avro reads what we write");

    let value = to_value(event).unwrap().resolve(&schema).unwrap();
    let theirs = to_avro_datum(&schema, value).unwrap();
    let framed = [&ours[..HEADER], &theirs].concat();
    assert_eq!(&codec.decode::<E>(&framed).unwrap(), event, "we read what apache-avro writes");
    assert_eq!(hex::encode(&ours[HEADER..]), hex::encode(theirs), "there is one form");
}

/// Cut short, or with more behind it, an event is refused.
fn is_whole<E: Event>(event: &E, cut: prop::sample::Index) {
    let codec = Codec::single_object();
    let mut bytes = Vec::new();
    codec.encode(event, &mut bytes);
    assert!(codec.decode::<E>(&bytes[..cut.index(bytes.len())]).is_err());
    bytes.push(0);
    assert!(matches!(codec.decode::<E>(&bytes), Err(codec::Error::Datum { .. })));
}

/// Decodes as every kind, bare and behind the header of each.
fn decode_all(bytes: &[u8]) {
    codec::fuzz(bytes);
    for kind in EventKind::ALL {
        codec::fuzz(&[&[0xC3, 0x01], kind.fingerprint().as_slice(), bytes].concat());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn chain_events_agree_with_apache_avro(event in common::chain_event(), cut: prop::sample::Index) {
        agrees(&event);
        is_whole(&event, cut);
    }

    #[test]
    fn transaction_events_agree_with_apache_avro(event in common::transaction_event(), cut: prop::sample::Index) {
        agrees(&event);
        is_whole(&event, cut);
    }

    #[test]
    fn mempool_events_agree_with_apache_avro(event in common::mempool_event(), cut: prop::sample::Index) {
        agrees(&event);
        is_whole(&event, cut);
    }

    #[test]
    fn status_events_agree_with_apache_avro(event in common::status_event(), cut: prop::sample::Index) {
        agrees(&event);
        is_whole(&event, cut);
    }

    #[test]
    fn bytes_from_outside_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        decode_all(&bytes);
    }

    #[test]
    fn damaged_events_never_panic(
        event in common::mempool_event(), at: prop::sample::Index, with: u8, more in prop::collection::vec(any::<u8>(), 0..12),
    ) {
        let mut bytes = Vec::new();
        Codec::single_object().encode(&event, &mut bytes);
        let at = at.index(bytes.len());
        bytes[at] = with;
        bytes.splice(at..at, more);
        codec::fuzz(&bytes);
    }
}
