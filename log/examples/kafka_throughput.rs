//! How fast the log appends to Kafka, and reads back, in megabytes (10^6) of values a second.
//!
//! `cargo run --release -p sluice-log --example kafka_throughput -- URL RECORDS PAYLOAD_FILE PARTITIONS`
//!
//! Each value is a line of the file, chosen at random, as with `--payload-file` of Kafka's own `ProducerPerformance`:
//! only on the same file do the two compress, and so compare, alike. That one prints MB of 2^20 bytes.

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
    let [url, records, payload_file, partitions] = &args[..] else {
        panic!("takes URL RECORDS PAYLOAD_FILE PARTITIONS");
    };
    let records: usize = records.parse().unwrap();
    let payload = std::fs::read_to_string(payload_file).unwrap();
    let values: Vec<&[u8]> = payload.lines().map(str::as_bytes).collect();
    let partitions: i32 = partitions.parse().unwrap();
    let log = sluice_log::open(url).unwrap();
    let topic = format!("throughput-{}", std::process::id());
    log.ensure_topics(&[TopicSpec { name: topic.clone(), partitions, retention: Retention::Forever }])
        .unwrap();

    let mut state = 88_172_645_463_325_252u64;
    let mut sent_bytes = 0;
    let began = Instant::now();
    let mut writer = log.writer(&topic).unwrap();
    for first in (0..records).step_by(TRANSACTION_RECORDS) {
        writer.begin().unwrap();
        for n in first..records.min(first + TRANSACTION_RECORDS) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let (key, value) = ((n as u64).to_be_bytes(), values[(state % values.len() as u64) as usize]);
            sent_bytes += value.len();
            let partition = (n % partitions as usize) as i32;
            writer
                .send(&NewRecord { topic: &topic, partition, timestamp: 1, key: &key, value, headers: &[] })
                .unwrap();
            if n % 2_000 == 1_999 {
                writer.mark().unwrap();
            }
        }
        writer.commit().unwrap();
    }
    let took = began.elapsed().as_secs_f64();
    let megabytes = sent_bytes as f64 / 1e6;
    println!("append: {records} records in {took:.2} s, {:.1} MB/s", megabytes / took);

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
