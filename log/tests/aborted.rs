//! A long stretch of aborted records on Kafka: readers pass over it in little memory, find what comes after it, and
//! still take little memory there.

// In a test binary every function is part of a test.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod kafka_cluster;

use std::process::Command;
use std::time::{Duration, Instant};

use kafka_cluster::{noise, run_id, shared_brokers};
use sluice_log::{Log, NewRecord, Record, StartAt, Writer};
use sluice_schemas::{Retention, TopicSpec};

/// Transactions that are aborted.
const ABORTED: usize = 3;
/// Records of each, and their bytes, which no compression makes less.
const NOISE: (usize, usize) = (100, 800_000);
/// Committed records after that, and their bytes, of which compression leaves next to nothing: a reader that asks for
/// megabytes by then has to unpack all of it at once.
const ZEROS: (usize, usize) = (1_000, 250_000);
/// What the last record says.
const LAST: &[u8] = b"found";
/// What a process may take.
const ALLOWED_BYTES: u64 = 200_000_000;
/// How long a reader waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_stretch_of_aborted_records_is_passed_over_in_little_memory() {
    let Some(brokers) = shared_brokers() else { return };
    let url = format!("kafka://{brokers}");
    let topic = format!("{}.aborted", run_id());
    let first = fill(&*sluice_log::open(&url).unwrap(), &topic);
    for reader in ["partition", "stream", "group", "point"] {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "the_reader_in_a_process_of_its_own", "--nocapture", "--test-threads=1"]);
        let output =
            child.env("SLUICE_ABORTED_WORK", format!("{reader} {url} {topic} {first}")).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{reader}: {said}\n{}", String::from_utf8_lossy(&output.stderr));
        let peak = said.lines().find_map(|line| line.split("peak ").nth(1)).expect("it says its peak");
        eprintln!("{reader}: {peak}");
        assert!(peak.parse::<u64>().unwrap() < ALLOWED_BYTES, "a {reader} reader took {peak} bytes");
    }
}

/// Fills a topic, and says where the first committed record is.
fn fill(log: &dyn Log, topic: &str) -> i64 {
    let spec = TopicSpec { name: topic.to_owned(), partitions: 1, retention: Retention::Forever };
    log.ensure_topics(&[spec]).unwrap();
    let mut writer = log.writer(topic).unwrap();
    let (records, bytes) = NOISE;
    let noise = noise(bytes);
    for _ in 0..ABORTED {
        send(&mut *writer, topic, &noise, records);
        // Only what is there can be aborted.
        writer.mark().unwrap();
        writer.abort().unwrap();
    }
    let (records, bytes) = ZEROS;
    send(&mut *writer, topic, &vec![0; bytes], records);
    let first = writer.mark().unwrap()[0].first_offset;
    writer.send(&record(topic, LAST)).unwrap();
    writer.commit().unwrap();
    assert!(first >= (ABORTED * NOISE.0) as i64, "the aborted records never came: {first}");
    first
}

fn send(writer: &mut dyn Writer, topic: &str, value: &[u8], records: usize) {
    writer.begin().unwrap();
    for _ in 0..records {
        writer.send(&record(topic, value)).unwrap();
    }
}

fn record<'a>(topic: &'a str, value: &'a [u8]) -> NewRecord<'a> {
    NewRecord { topic, partition: 0, timestamp: 1, key: b"", value, headers: &[] }
}

/// No test: what the test above runs in other processes.
#[test]
fn the_reader_in_a_process_of_its_own() {
    let Ok(work) = std::env::var("SLUICE_ABORTED_WORK") else { return };
    let [reader, url, topic, first] = work.split(' ').collect::<Vec<_>>()[..] else { panic!("{work}") };
    let log = sluice_log::open(url).unwrap();
    let first: i64 = first.parse().unwrap();
    let from = [StartAt { topic: topic.to_owned(), partition: 0, offset: 0 }];
    match reader {
        "partition" => {
            let mut reader = log.partition_readers(&from).unwrap().remove(0);
            read(first, || reader.read(256 * 1024, Duration::from_millis(100)).unwrap());
        }
        "stream" => {
            let mut reader = log.reader(&from).unwrap();
            read(first, || reader.poll(Duration::from_millis(100)).unwrap());
        }
        "group" => {
            let mut reader = log.group(&format!("{topic}.group"), &[topic]).unwrap();
            read(first, || reader.poll(Duration::from_millis(100)).unwrap());
        }
        _ => {
            let mut reader = log.point_reader(topic).unwrap();
            assert!(reader.read_at(0, 0, PATIENCE).unwrap().is_none(), "it was aborted");
            for offset in (first..first + ZEROS.0 as i64).step_by(50) {
                assert!(reader.read_at(0, offset, PATIENCE).unwrap().is_some(), "{offset}");
            }
        }
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kib: u64 = peak.trim().trim_end_matches("kB").trim().parse().unwrap();
    println!("peak {}", kib * 1024);
}

/// Reads every committed record.
fn read(first: i64, mut more: impl FnMut() -> Vec<Record>) {
    let (mut next, deadline) = (first, Instant::now() + PATIENCE);
    loop {
        for record in more() {
            assert_eq!(record.offset, next, "every committed record, and no other");
            next += 1;
            if *record.value == *LAST {
                return;
            }
        }
        assert!(Instant::now() < deadline, "it came as far as offset {next} only");
    }
}
