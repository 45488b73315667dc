//! How fast the log appends to Kafka, and reads back, in megabytes of values a second.
//!
//! `cargo run --release -p sluice-log --example kafka_throughput -- URL RECORDS RECORD_BYTES PARTITIONS`
//!
//! Values are random capital letters, as those of Kafka's own `ProducerPerformance`; see tests/benches.

#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::time::{Duration, Instant};

use sluice_log::{NewRecord, StartAt};
use sluice_schemas::{Retention, TopicSpec};

/// Records in one transaction.
const TRANSACTION_RECORDS: usize = 200_000;
/// How long to wait for the next record.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [url, records, record_bytes, partitions] = &args[..] else {
        panic!("takes URL RECORDS RECORD_BYTES PARTITIONS");
    };
    let (records, bytes): (usize, usize) = (records.parse().unwrap(), record_bytes.parse().unwrap());
    let partitions: i32 = partitions.parse().unwrap();
    let log = sluice_log::open(url).unwrap();
    let topic = format!("throughput-{}", std::process::id());
    log.ensure_topics(&[TopicSpec { name: topic.clone(), partitions, retention: Retention::Forever }])
        .unwrap();

    let mut state = 88_172_645_463_325_252u64;
    let letters: Vec<u8> = (0..bytes * 1_009)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            b'A' + (state % 26) as u8
        })
        .collect();
    let megabytes = (records * bytes) as f64 / 1e6;

    let began = Instant::now();
    let mut writer = log.writer(&topic).unwrap();
    for first in (0..records).step_by(TRANSACTION_RECORDS) {
        writer.begin().unwrap();
        for n in first..records.min(first + TRANSACTION_RECORDS) {
            let at = n * 7 % (letters.len() - bytes);
            let (key, value) = ((n as u64).to_be_bytes(), &letters[at..at + bytes]);
            let partition = (n % partitions as usize) as i32;
            writer.send(&NewRecord { topic: &topic, partition, timestamp: 1, key: &key, value }).unwrap();
            if n % 2_000 == 1_999 {
                writer.mark().unwrap();
            }
        }
        writer.commit().unwrap();
    }
    let took = began.elapsed().as_secs_f64();
    println!("append: {records} records of {bytes} bytes in {took:.2} s, {:.1} MB/s", megabytes / took);

    let from: Vec<StartAt> =
        (0..partitions).map(|partition| StartAt { topic: topic.clone(), partition, offset: 0 }).collect();
    let began = Instant::now();
    let mut reader = log.reader(&from).unwrap();
    let mut read = 0;
    while read < records {
        let more = reader.poll(PATIENCE).unwrap();
        assert!(!more.is_empty(), "{read} of {records} records came");
        read += more.len();
    }
    let took = began.elapsed().as_secs_f64();
    println!("read:   {read} records in {took:.2} s, {:.1} MB/s", megabytes / took);
}
