use apache_avro::types::Value;
use apache_avro::{Schema, to_avro_datum, to_value};
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, Txid};
use serde_json::{Value as Json, json};

use super::*;
use crate::event::{MempoolKind, RemovalReason, StatusKind};

fn heartbeat() -> StatusEvent {
    StatusEvent {
        kind: StatusKind::Heartbeat,
        source: "simulator:7".into(),
        epoch: 3,
        tip_hash: Some(BlockHash::from_byte_array([7; 32])),
        tip_height: Some(5),
        chain_sequence: 5,
        source_height: Some(6),
        feed: None,
        from: None,
        to: None,
        recovered: None,
        detail: String::new(),
        observed_at: 1_700_000_000_000,
    }
}

fn removed() -> MempoolEvent {
    MempoolEvent {
        epoch: 1,
        sequence: 2,
        chain_sequence: 3,
        kind: MempoolKind::Removed,
        txid: Txid::from_byte_array([1; 32]),
        transaction: None,
        reason: Some(RemovalReason::Replaced),
        block_hash: None,
        replaced_by: Some(Txid::from_byte_array([2; 32])),
        first_seen: Some(4),
        observed_at: 5,
        source: "p2p".into(),
    }
}

/// A codec that also knows the writer of `schema`, and the header of that writer.
fn knowing(kind: EventKind, schema: &str) -> (Codec, [u8; 10]) {
    let fingerprint = crate::schema::fingerprint(schema).unwrap();
    let mut codec = Codec::new_single_object();
    let inner = Arc::get_mut(&mut codec.inner).unwrap();
    inner.released.insert((kind, fingerprint), Writer::new(kind, schema).unwrap());
    (codec, Header::single_object(fingerprint).bytes)
}

fn edited(kind: EventKind, edit: impl FnOnce(&mut Vec<Json>)) -> String {
    let mut schema: Json = serde_json::from_str(kind.schema()).unwrap();
    edit(schema["fields"].as_array_mut().unwrap());
    schema.to_string()
}

#[test]
fn an_event_is_appended() {
    let codec = Codec::single_object();
    let mut bytes = b"before".to_vec();
    codec.encode(&heartbeat(), &mut bytes);
    assert_eq!(&bytes[..8], b"before\xc3\x01");
    assert_eq!(&bytes[8..16], EventKind::Status.fingerprint());
    assert_eq!(codec.decode::<StatusEvent>(&bytes[6..]).unwrap(), heartbeat());
}

#[test]
fn framings_are_told_apart() {
    assert_eq!(Header::confluent(0x0102_0304).bytes[..5], [0, 1, 2, 3, 4]);
    let codec = Codec::single_object();
    let message = |bytes: &[u8]| codec.decode::<StatusEvent>(bytes).unwrap_err().to_string();
    assert_eq!(message(&[0xC3, 1, 8, 7, 6, 5, 4, 3, 2, 1]), "unknown schema fingerprint 0x0102030405060708");
    assert_eq!(message(&[0, 0, 0, 1, 0]), "unknown schema registry id 256 (no schema registry is set)");
    assert_eq!(message(&[]), "failed to read the framing of Status event: 0 bytes are too few");
    assert_eq!(message(&[0xC3, 1, 8]), "failed to read the framing of Status event: 3 bytes are too few");
    assert_eq!(message(&[0, 0, 0]), "failed to read the framing of Status event: 3 bytes are too few");
    assert_eq!(message(b"{}"), "failed to read the framing of Status event: 0x7b7d starts no known framing");
    assert_eq!(
        message(&[0xC3, 2]),
        "failed to read the framing of Status event: 0xc302 starts no known framing"
    );
}

#[test]
fn an_event_of_another_topic_is_of_an_unknown_schema() {
    let codec = Codec::single_object();
    let mut bytes = Vec::new();
    codec.encode(&heartbeat(), &mut bytes);
    assert!(matches!(codec.decode::<ChainEvent>(&bytes), Err(Error::UnknownSchema { .. })));
}

/// A later version has one more field, one field less, another order and one more kind.
#[test]
fn a_later_writer_is_resolved_to_the_readers_schema() {
    let schema = edited(EventKind::Status, |fields| {
        fields[0]["type"]["symbols"].as_array_mut().unwrap().insert(0, json!("PAUSED"));
        fields.retain(|field| field["name"] != "feed");
        fields.insert(1, json!({ "name": "peers", "type": "int", "default": 0 }));
        let last = fields.pop().unwrap();
        fields.insert(0, last);
    });
    let (codec, header) = knowing(EventKind::Status, &schema);
    let schema = Schema::parse_str(&schema).unwrap();
    for (kind, read_as) in [
        ("PAUSED", StatusKind::Heartbeat),
        ("REORG", StatusKind::Reorg),
        ("HEARTBEAT", StatusKind::Heartbeat),
    ] {
        let Value::Record(mut fields) = to_value(heartbeat()).unwrap() else { panic!("a record") };
        fields.retain(|(name, _)| name != "feed");
        fields.push(("peers".into(), Value::Int(8)));
        fields[0].1 = Value::String(kind.into());
        let datum = to_avro_datum(&schema, Value::Record(fields).resolve(&schema).unwrap()).unwrap();
        let event: StatusEvent = codec.decode(&[&header[..], &datum].concat()).unwrap();
        assert_eq!(event, StatusEvent { kind: read_as, ..heartbeat() });
        for len in 0..datum.len() {
            assert!(codec.decode::<StatusEvent>(&[&header[..], &datum[..len]].concat()).is_err());
        }
        assert!(codec.decode::<StatusEvent>(&[&header[..], &datum, &[0]].concat()).is_err());
    }
}

#[test]
fn an_unknown_reason_is_read_as_the_default() {
    let schema = edited(EventKind::Mempool, |fields| {
        let reason = fields.iter_mut().find(|field| field["name"] == "reason").unwrap();
        reason["type"][1]["symbols"].as_array_mut().unwrap().push(json!("BANNED"));
    });
    let (codec, header) = knowing(EventKind::Mempool, &schema);
    let schema = Schema::parse_str(&schema).unwrap();
    let Value::Record(mut fields) = to_value(removed()).unwrap() else { panic!("a record") };
    fields.iter_mut().find(|(name, _)| name == "reason").unwrap().1 =
        Value::Union(1, Box::new(Value::String("BANNED".into())));
    let datum = to_avro_datum(&schema, Value::Record(fields).resolve(&schema).unwrap()).unwrap();
    let event: MempoolEvent = codec.decode(&[&header[..], &datum].concat()).unwrap();
    assert_eq!(event, MempoolEvent { reason: Some(RemovalReason::Unknown), ..removed() });
}

#[test]
fn a_writer_of_another_record_is_refused() {
    let error = Writer::new(EventKind::Chain, EventKind::Status.schema()).err().unwrap();
    assert_eq!(error, "it is of chainsluice.v1.StatusEvent, not of chainsluice.v1.ChainEvent");
    assert!(Writer::new(EventKind::Chain, "\"long\"").is_err());
    assert!(Writer::new(EventKind::Chain, "nonsense").is_err());
    assert!(matches!(Writer::new(EventKind::Chain, EventKind::Chain.schema()), Ok(Writer::Current)));
}

/// Zigzag varint of a long.
fn long(n: i64) -> Vec<u8> {
    let mut rest = ((n << 1) ^ (n >> 63)) as u64;
    let mut bytes = Vec::new();
    while rest >= 0x80 {
        bytes.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes
}

/// Claims of lengths up to 2^63 in few bytes: on the hot path and where apache-avro reads.
#[test]
fn claimed_lengths_are_not_believed() {
    let later = edited(EventKind::Transaction, |fields| {
        fields.push(json!({ "name": "more", "type": "long", "default": 0 }));
    });
    let (codec, later) = knowing(EventKind::Transaction, &later);
    let current = Header::single_object(EventKind::Transaction.fingerprint()).bytes;
    for header in [current, later] {
        for claim in [i64::MAX, i64::MIN, -1, 1 << 31, 1 << 29, -(1 << 29), 1000] {
            let before_inputs = [&[0, 0][..], &[9; 32], &[0, 0, 0], &[8; 32], &[0, 2, 0, 2, 0, 0]].concat();
            let inputs = [&header[..], &before_inputs, &long(claim), &long(1)].concat();
            assert!(codec.decode::<TransactionEvent>(&inputs).is_err());
            let one_input = [&header[..], &before_inputs, &long(1), &[7; 32], &[0]].concat();
            let script = [&one_input[..], &long(claim), &[0; 20]].concat();
            assert!(codec.decode::<TransactionEvent>(&script).is_err());
            let witness = [&one_input[..], &[0, 0], &long(claim), &long(1), &[0; 20]].concat();
            assert!(codec.decode::<TransactionEvent>(&witness).is_err());
        }
    }
}
