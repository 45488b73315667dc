//! Measures appending to and reading from a log: `throughput URL [RECORDS] [RECORDS_PER_COMMIT] [lz4]`.
//!
//! The records are events of payments with one input and two outputs, about 600 bytes each.

#![allow(clippy::print_stdout)]

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bitcoin::BlockHash;
use bitcoin::hashes::{Hash, sha256d};
use sluice_log::sqlite::{Compression, Options, SqliteLog};
use sluice_log::{Log, NewRecord, StartAt};
use sluice_schemas::topics::partition;
use sluice_schemas::{
    Action, Codec, Input, Output, Prevout, Retention, Script, ScriptType, TopicSpec, Transaction,
    TransactionEvent,
};

const TOPIC: &str = "throughput";
const PARTITIONS: i32 = 12;

/// Different events, appended again and again: more than any compression looks back.
const EVENTS: u32 = 20_000;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let url = args.next().ok_or("usage: throughput URL [RECORDS] [RECORDS_PER_COMMIT] [lz4]")?;
    let mut number = |default: usize| args.next().map_or(Ok(default), |arg| arg.parse());
    let (records, per_commit) = (number(2_000_000)?, number(20_000)?);
    let log: Arc<dyn Log> = match (url.strip_prefix("sqlite:"), args.next()) {
        (Some(path), Some(compression)) => {
            let compression = if compression == "lz4" { Compression::Lz4 } else { Compression::None };
            Arc::new(SqliteLog::open_with(path, Options { compression, ..Options::default() })?)
        }
        _ => sluice_log::open(&url)?,
    };

    let events = (0..EVENTS).map(event).collect::<Result<Vec<_>, _>>()?;
    let bytes = events.iter().map(|(_, value)| value.len()).sum::<usize>() / events.len();
    let spec = TopicSpec { name: TOPIC.into(), partitions: PARTITIONS, retention: Retention::Forever };
    log.ensure_topics(&[spec])?;
    let mut writer = log.writer("throughput")?;
    let starts = (0..PARTITIONS).map(|partition| {
        let offset = log.bounds(TOPIC, partition)?.end;
        Ok(StartAt { topic: TOPIC.into(), partition, offset })
    });
    let starts = starts.collect::<Result<Vec<_>, sluice_log::Error>>()?;

    let began = Instant::now();
    let mut slowest = Duration::ZERO;
    for first in (0..records).step_by(per_commit) {
        writer.begin()?;
        for n in first..records.min(first + per_commit) {
            let (key, value) = &events[n % events.len()];
            let partition = partition(key, PARTITIONS);
            writer.send(&NewRecord {
                topic: TOPIC,
                partition,
                timestamp: n as i64,
                key,
                value,
                headers: &[],
            })?;
        }
        let commit = Instant::now();
        writer.commit()?;
        slowest = slowest.max(commit.elapsed());
    }
    report("appended", records, bytes, began.elapsed());
    println!("slowest commit {slowest:?}, memory {}", resident());

    let began = Instant::now();
    let mut read = 0;
    for mut reader in log.partition_readers(&starts)? {
        loop {
            let batch = reader.read(4 << 20, Duration::ZERO)?;
            if batch.is_empty() {
                break;
            }
            read += batch.len();
        }
    }
    report("read", read, bytes, began.elapsed());
    println!("memory {}", resident());
    Ok(())
}

/// Key and value of a payment.
fn event(number: u32) -> Result<([u8; 32], Vec<u8>), Box<dyn Error>> {
    let hash = |salt: u8| sha256d::Hash::hash(&[&number.to_le_bytes()[..], &[salt]].concat()).to_byte_array();
    let txid = hash(0);
    let script = |salt: u8| Script([&[0x76, 0xa9, 20], &hash(salt)[..20], &[0x88, 0xac]].concat().into());
    // As long as an address, and as hard to compress.
    let address = |salt: u8| Some(bitcoin::Txid::from_byte_array(hash(salt)).to_string()[..34].to_owned());
    let output = |salt: u8| Output {
        value: i64::from(number) * 1000 + i64::from(salt),
        script_pubkey: script(salt),
        script_type: ScriptType::Pubkeyhash,
        address: address(salt),
    };
    let signature = [&[72, 0x30][..], &hash(1), &hash(2), &[33], &hash(3), &[1; 8]].concat();
    let event = TransactionEvent {
        sequence: i64::from(number / 2000),
        action: Action::Connected,
        block_hash: BlockHash::from_byte_array([7; 32]),
        height: 800_000,
        block_time: 1_700_000_000_000,
        position: i64::from(number % 2000),
        transaction: Transaction {
            txid: bitcoin::Txid::from_byte_array(txid),
            wtxid: None,
            version: 2,
            lock_time: 0,
            size: 226,
            weight: Some(904),
            coinbase: false,
            inputs: vec![Input {
                prev_txid: bitcoin::Txid::from_byte_array(hash(4)),
                prev_vout: 1,
                script_sig: Script(signature.into()),
                sequence: 0xffff_fffd,
                witness: Vec::new(),
                prevout: Some(Prevout {
                    value: 123_456_789,
                    script_pubkey: script(5),
                    address: address(5),
                    height: Some(790_000),
                }),
            }],
            outputs: vec![output(6), output(7)],
            fee: Some(2260),
        },
    };
    let mut value = Vec::new();
    Codec::single_object().encode(&event, &mut value);
    Ok((txid, value))
}

fn report(what: &str, records: usize, bytes: usize, took: Duration) {
    let rate = records as f64 / took.as_secs_f64();
    println!(
        "{what} {records} records in {took:.2?}: {rate:.0} records/s, {:.0} MB/s",
        rate * bytes as f64 / 1e6
    );
}

/// Peak of resident memory, where the system tells it.
fn resident() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.map_or_else(|| "unknown".into(), |peak| format!("peak {}", peak.trim()))
}
