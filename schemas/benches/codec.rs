//! What it costs to write and read one typical event, ours beside apache-avro's.
//!
//! `cargo bench -p sluice-schemas --bench codec`

use std::hint::black_box;

use apache_avro::{Schema, from_avro_datum, from_value, to_avro_datum, to_value, write_avro_datum_ref};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sluice_schemas::{
    Action, Codec, Event, EventKind, Input, Output, Prevout, Script, ScriptType, Transaction,
    TransactionEvent,
};

/// Length of the single-object header.
const HEADER: usize = 10;

/// One witness input, two outputs: the commonest shape on mainnet.
fn typical() -> TransactionEvent {
    let hash = "00000000d1145790a8694403d4063f323d499e655c83426834d4ce2f8dd4a2ee";
    let txid = "6c972fe677b6ed76e51c6eb9eb3f50958932919f1858948bbc1be0b1474ccca9".parse();
    let txid = txid.expect("a txid");
    let wtxid = "fdea4ae43e639d38c7446c1454f279aa7c0768741bb58ae6c01e88a8b23bef37".parse();
    let bytes = |len: usize| Script::from(vec![0x51; len]);
    let output = |value| Output {
        value,
        script_pubkey: bytes(22),
        script_type: ScriptType::WitnessV0Keyhash,
        address: Some("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4".into()),
    };
    TransactionEvent {
        sequence: 850_000,
        action: Action::Connected,
        block_hash: hash.parse().expect("a hash"),
        height: 850_000,
        block_time: 1_719_000_000_000,
        position: 1234,
        transaction: Transaction {
            txid,
            wtxid: Some(wtxid.expect("a wtxid")),
            version: 2,
            lock_time: 849_999,
            size: 222,
            weight: Some(561),
            coinbase: false,
            inputs: vec![Input {
                prev_txid: txid,
                prev_vout: 1,
                script_sig: Script::default(),
                sequence: 0xffff_fffd,
                witness: vec![bytes(72), bytes(33)],
                prevout: Some(Prevout {
                    value: 123_456_789,
                    script_pubkey: bytes(22),
                    address: Some("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4".into()),
                    height: Some(840_000),
                }),
            }],
            outputs: vec![output(100_000_000), output(23_455_000)],
            fee: Some(1_789),
        },
    }
}

fn benches(criterion: &mut Criterion) {
    let codec = Codec::single_object();
    let event = typical();
    let schema = Schema::parse_str(EventKind::Transaction.schema()).expect("the schema is valid");
    let mut bytes = Vec::new();
    codec.encode(&event, &mut bytes);
    assert_eq!(<TransactionEvent as Event>::KIND, EventKind::Transaction);

    let mut group = criterion.benchmark_group("transaction");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    let mut out = Vec::with_capacity(bytes.len());
    group.bench_function("encode/ours", |b| {
        b.iter(|| {
            out.clear();
            codec.encode(black_box(&event), &mut out)
        });
    });
    group.bench_function("encode/apache-avro, by serde", |b| {
        b.iter(|| {
            out.clear();
            write_avro_datum_ref(&schema, black_box(&event), &mut out)
        });
    });
    group.bench_function("encode/apache-avro, by value", |b| {
        b.iter(|| {
            let value = to_value(black_box(&event)).and_then(|value| value.resolve(&schema));
            to_avro_datum(&schema, value.expect("it has a value"))
        });
    });
    group.bench_function("decode/ours", |b| {
        b.iter(|| codec.decode::<TransactionEvent>(black_box(&bytes)));
    });
    group.bench_function("decode/apache-avro", |b| {
        b.iter(|| {
            let value = from_avro_datum(&schema, &mut black_box(&bytes[HEADER..]), None);
            from_value::<TransactionEvent>(&value.expect("it can be read"))
        });
    });
    group.bench_function("rebuild raw", |b| b.iter(|| black_box(&event).transaction.to_raw()));
    group.finish();
}

criterion_group!(codec, benches);
criterion_main!(codec);
