//! A broker that stands still with records on their way to it.

// In a test binary every function is part of a test.
#![allow(clippy::unwrap_used)]

mod kafka_cluster;

use std::fs;
use std::time::Duration;

use kafka_cluster::{Cluster, noise, run_id};
use sluice_log::{NewRecord, StartAt};
use sluice_schemas::{Retention, TopicSpec};

/// Several batches of a partition, so that others wait for those that are on their way.
const RECORDS: (usize, usize) = (300, 10_000);
/// How long the broker stands still.
const STILL: Duration = Duration::from_secs(2);
/// What the threads that talk to it may take of a processor in that time, before the commit and during it.
const MOST_TICKS: u64 = 50;

/// Ticks of a processor, 100 per second, that this process's threads for brokers have taken.
fn broker_ticks() -> u64 {
    let tasks = fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    let brokers = tasks.filter(|task| {
        fs::read_to_string(task.join("comm")).is_ok_and(|name| name.starts_with("rdk:broker"))
    });
    brokers
        .map(|task| {
            let stat = fs::read_to_string(task.join("stat")).unwrap();
            // utime and stime, fields 14 and 15 of proc_pid_stat(5), counted from behind the name.
            let fields = stat.rsplit_once(')').unwrap().1.split_whitespace().skip(11).take(2);
            fields.map(|ticks| ticks.parse::<u64>().unwrap()).sum::<u64>()
        })
        .sum()
}

/// The ticks that they take now.
fn ticks_while_still() -> u64 {
    let before = broker_ticks();
    std::thread::sleep(STILL);
    broker_ticks() - before
}

#[test]
fn a_writer_that_waits_for_a_silent_broker_takes_no_processor() {
    let Some(cluster) = Cluster::start_or_skip(&[]) else { return };
    let url = format!("kafka://{}?compression=none", cluster.env("KAFKA_BOOTSTRAP"));
    let log = sluice_log::open(&url).unwrap();
    let topic = format!("{}.silent", run_id());
    log.ensure_topics(&[TopicSpec { name: topic.clone(), partitions: 1, retention: Retention::Forever }])
        .unwrap();
    let mut writer = log.writer(&topic).unwrap();
    let value = noise(RECORDS.1);
    let record =
        NewRecord { topic: &topic, partition: 0, timestamp: 1, key: b"key", value: &value, headers: &[] };
    // The transaction has the partition before the broker stops, or nothing would be sent at all.
    writer.begin().unwrap();
    writer.send(&record).unwrap();
    writer.mark().unwrap();
    cluster.signal("1", "-STOP");
    (0..RECORDS.0).for_each(|_| writer.send(&record).unwrap());
    let sent = ticks_while_still();
    std::thread::scope(|scope| {
        let committed = scope.spawn(|| writer.commit());
        let committing = ticks_while_still();
        cluster.signal("1", "-CONT");
        committed.join().unwrap().unwrap();
        assert!(sent <= MOST_TICKS && committing <= MOST_TICKS, "{sent} and {committing} ticks in {STILL:?}");
    });
    let mut reader = log.reader(&[StartAt { topic: topic.clone(), partition: 0, offset: 0 }]).unwrap();
    let mut found = 0;
    while found <= RECORDS.0 {
        found += reader.poll(Duration::from_secs(60)).unwrap().len();
    }
    assert_eq!(found, RECORDS.0 + 1);
}
