//! The log on Kafka: the laws of every log, and what only a cluster can suffer. Needs a real Kafka: the one at
//! `SLUICE_TEST_KAFKA`, else one of its own by `tests/parts/run-kafka.sh`.

// In a test binary every function is part of a test.
#![allow(clippy::unwrap_used)]

mod chain_log;
mod conformance;
mod kafka_cluster;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use conformance::append::append_at_last;
use conformance::{Fixture, PATIENCE, append, assert_values, new, read_from, start, texts, topic, until};
use kafka_cluster::{Cluster, answer, noise, shared_brokers};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::{Offset, TopicPartitionList};
use sluice_log::{Class, Committed, Error, Log, NewRecord, StartAt};
use sluice_schemas::{Retention, TopicSpec};

/// A corner of a cluster: names of its own.
struct Kafka {
    brokers: String,
    options: &'static str,
    prefix: String,
}

impl Kafka {
    fn new(law: &str) -> Option<Self> {
        Some(Self::at(shared_brokers()?, law))
    }

    fn at(brokers: String, law: &str) -> Self {
        // Names have at most 249 characters, and laws have long ones.
        let prefix = format!("{}.{}", kafka_cluster::run_id(), &law[..law.len().min(40)]);
        Self { brokers, options: "?group-session-timeout=5s", prefix }
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        ClientConfig::new().set("bootstrap.servers", &self.brokers).create().unwrap()
    }
}

impl Fixture for Kafka {
    fn url(&self) -> String {
        format!("kafka://{}{}", self.brokers, self.options)
    }

    fn name(&self, base: &str) -> String {
        format!("{}.{base}", self.prefix)
    }

    fn cases(&self) -> u32 {
        6
    }
}

conformance::laws!(Kafka::new);

#[test]
fn a_foreign_record_aborts_one_transaction_and_the_next_one_knows() {
    let Some(kafka) = Kafka::new("a_foreign_record") else { return };
    let t = topic(&kafka, "t", 1);
    let log = kafka.open();
    let mut writer = log.writer(&kafka.name("w")).unwrap();
    append(&mut *writer, &t, 0, &["a"]);
    append(&mut *log.writer(&kafka.name("stranger")).unwrap(), &t, 0, &["foreign"]);

    writer.begin().unwrap();
    writer.send(&new(&t, 0, "never seen")).unwrap();
    let foretold = writer.mark().unwrap()[0].first_offset;
    let error = writer.commit().unwrap_err();
    assert_eq!(error.class(), Class::Abort, "{error}");
    assert!(error.to_string().contains(&format!("at offset {foretold}")), "{error}");
    assert!(writer.begin().is_err(), "an aborted transaction must be aborted");
    writer.abort().unwrap();

    for value in ["b", "c"] {
        writer.begin().unwrap();
        writer.send(&new(&t, 0, value)).unwrap();
        let marked = writer.mark().unwrap()[0].first_offset;
        writer.commit().unwrap();
        assert_eq!(texts(&read_from(&*log, &t, 0, marked, 1)), [value]);
    }
    assert_values(&*log, &t, 0, &["a", "foreign", "b", "c"]);
}

#[test]
fn an_abort_with_records_on_their_way_does_not_fail_the_next_transaction() {
    let Some(kafka) = Kafka::new("an_abort_with_records_on_their_way") else { return };
    let t = topic(&kafka, "t", 3);
    let log = kafka.open();
    let mut writer = log.writer(&kafka.name("w")).unwrap();
    let large = noise(3_000_000);
    for round in 0..20 {
        writer.begin().unwrap();
        for partition in 0..3 {
            let record =
                NewRecord { topic: &t, partition, timestamp: 1, key: b"", value: &large, headers: &[] };
            writer.send(&record).unwrap();
        }
        writer.abort().unwrap();
        append(&mut *writer, &t, 2, &[&round.to_string()]);
    }
    let wanted: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
    assert_values(&*log, &t, 2, &wanted);
}

#[test]
fn a_topic_that_takes_no_large_batches_is_named_with_its_setting() {
    let Some(kafka) = Kafka::new("a_topic_that_takes_no_large_batches") else { return };
    let t = kafka.name("t");
    let small = NewTopic::new(&t, 1, TopicReplication::Fixed(1))
        .set("max.message.bytes", "20000")
        .set("message.timestamp.after.max.ms", "9223372036854775807");
    answer(kafka.admin().create_topics([&small], &AdminOptions::new())).unwrap().remove(0).unwrap();
    let log = kafka.open();

    let spec = TopicSpec { name: t.clone(), partitions: 1, retention: Retention::Days(7) };
    let error = log.ensure_topics(&[spec]).unwrap_err();
    assert!(matches!(error, Error::TopicMismatch { setting: "max.message.bytes", .. }), "{error}");

    let mut writer = log.writer(&kafka.name("w")).unwrap();
    writer.begin().unwrap();
    writer
        .send(&NewRecord {
            topic: &t,
            partition: 0,
            timestamp: 1,
            key: b"",
            value: &noise(100_000),
            headers: &[],
        })
        .unwrap();
    let error = writer.commit().unwrap_err();
    assert_eq!(error.class(), Class::Refused, "{error}");
    let line = error.to_string();
    assert!(line.contains(&t) && line.contains("max.message.bytes"), "{line}");
    writer.abort().unwrap();
    // The refused record has left a gap in the sequence numbers, which may cost one more transaction.
    append_at_last(&mut *writer, &t, &["small"]);
    assert_values(&*log, &t, 0, &["small"]);
}

#[test]
fn a_compacted_topic_is_refused() {
    let Some(kafka) = Kafka::new("a_compacted_topic_is_refused") else { return };
    let t = kafka.name("t");
    let compacted = NewTopic::new(&t, 1, TopicReplication::Fixed(1))
        .set("cleanup.policy", "compact")
        .set("retention.ms", "-1");
    answer(kafka.admin().create_topics([&compacted], &AdminOptions::new())).unwrap().remove(0).unwrap();
    let spec = TopicSpec { name: t, partitions: 1, retention: Retention::Forever };
    let error = kafka.open().ensure_topics(&[spec]).unwrap_err();
    assert!(matches!(error, Error::TopicMismatch { setting: "cleanup.policy", .. }), "{error}");
}

#[test]
fn a_block_two_hours_ahead_of_the_clock_is_taken() {
    let Some(kafka) = Kafka::new("a_block_two_hours_ahead") else { return };
    let t = topic(&kafka, "t", 1);
    let log = kafka.open();
    let ahead = SystemTime::now() + Duration::from_secs(2 * 3600);
    let timestamp = ahead.duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
    let mut writer = log.writer(&kafka.name("w")).unwrap();
    writer.begin().unwrap();
    writer
        .send(&NewRecord { topic: &t, partition: 0, timestamp, key: b"", value: b"block", headers: &[] })
        .unwrap();
    writer.commit().unwrap();
    assert_eq!(read_from(&*log, &t, 0, 0, 1)[0].timestamp, timestamp);
}

#[test]
fn a_time_is_not_found_in_aborted_records() {
    let Some(kafka) = Kafka::new("a_time_is_not_found_in_aborted") else { return };
    let t = topic(&kafka, "t", 1);
    let log = kafka.open();
    let mut writer = log.writer(&kafka.name("w")).unwrap();
    let record =
        |timestamp| NewRecord { topic: &t, partition: 0, timestamp, key: b"", value: b"v", headers: &[] };
    for (timestamp, commits) in [(10, true), (99, false), (20, true)] {
        writer.begin().unwrap();
        writer.send(&record(timestamp)).unwrap();
        writer.mark().unwrap();
        if commits { writer.commit().unwrap() } else { writer.abort().unwrap() }
    }
    let last = read_from(&*log, &t, 0, 0, 2)[1].offset;
    assert_eq!(log.offset_at(&t, 0, 20).unwrap(), Some(last));
    assert_eq!(log.offset_at(&t, 0, 99).unwrap(), None);
}

#[test]
fn records_deleted_by_retention_are_out_of_range_and_not_skipped() {
    let Some(kafka) = Kafka::new("records_deleted_by_retention") else { return };
    let t = topic(&kafka, "t", 1);
    let log = kafka.open();
    append(&mut *log.writer(&kafka.name("w")).unwrap(), &t, 0, &["a", "b", "c"]);
    let group = kafka.name("g");
    log.reset_group(&group, &[Committed { topic: t.clone(), partition: 0, offset: 1 }]).unwrap();
    let mut deleted = TopicPartitionList::new();
    deleted.add_partition_offset(&t, 0, Offset::Offset(2)).unwrap();
    answer(kafka.admin().delete_records(&deleted, &AdminOptions::new())).unwrap();

    let gone = |error: Error, offset: i64| match error {
        Error::OutOfRange { offset: asked, start: 2, .. } => assert_eq!(asked, offset),
        error => panic!("{error}"),
    };
    let mut reader = log.partition_readers(&[start(&t, 0)]).unwrap().remove(0);
    gone(reader.read(1, PATIENCE).unwrap_err(), 0);
    gone(reader.read(1, PATIENCE).unwrap_err(), 0);
    reader.seek(2).unwrap();
    assert_eq!(texts(&reader.read(1, PATIENCE).unwrap()), ["c"]);
    let from = StartAt { topic: t.clone(), partition: 0, offset: 1 };
    gone(log.reader(&[from]).unwrap().poll(PATIENCE).unwrap_err(), 1);
    let mut member = log.group(&group, &[&t]).unwrap();
    gone(until("the member is told", || member.poll(Duration::from_millis(200)).err()), 1);
}

#[test]
fn a_broker_killed_in_mid_transaction_costs_nothing_but_time() {
    let Some(cluster) = Cluster::start_or_skip(&[]) else { return };
    let kafka = Kafka::at(cluster.env("KAFKA_BOOTSTRAP"), "broker_killed");
    let t = topic(&kafka, "t", 1);
    let log: Arc<dyn Log> = kafka.open();
    let mut writer = log.writer(&kafka.name("w")).unwrap();
    append(&mut *writer, &t, 0, &["before"]);
    let mut reader = log.reader(&[start(&t, 0)]).unwrap();
    let mut seen = Vec::new();

    writer.begin().unwrap();
    writer.send(&new(&t, 0, "first half")).unwrap();
    writer.mark().unwrap();
    cluster.run("kill", &["1"]);
    writer.send(&new(&t, 0, "second half")).unwrap();
    cluster.run("up", &["1"]);
    let halves: &[&str] = match writer.commit() {
        Ok(()) => &["first half", "second half"],
        Err(error) => {
            assert_eq!(error.class(), Class::Abort, "{error}");
            writer.abort().unwrap();
            &[]
        }
    };
    append_at_last(&mut *writer, &t, &["after"]);
    let wanted: Vec<&str> = ["before"].iter().chain(halves).chain(&["after"]).copied().collect();
    until("the reader has gone on", || {
        seen.extend(reader.poll(Duration::from_millis(200)).unwrap());
        (seen.len() >= wanted.len()).then_some(())
    });
    assert_eq!(texts(&seen), wanted);
    assert_values(&*log, &t, 0, &wanted);
}

#[test]
fn three_brokers_lose_one_and_the_log_goes_on() {
    let Some(cluster) = Cluster::start_or_skip(&[("NODES", "3"), ("HEAP", "320m")]) else { return };
    let kafka = Kafka::at(cluster.env("KAFKA_BOOTSTRAP"), "three_brokers");
    let t = topic(&kafka, "t", 3);
    let log = kafka.open();
    let mut writer = log.writer(&kafka.name("w")).unwrap();
    for node in ["1", "2"] {
        append_at_last(&mut *writer, &t, &[&format!("before {node}")]);
        cluster.run("kill", &[node]);
        append_at_last(&mut *writer, &t, &[&format!("without {node}")]);
        cluster.run("up", &[node]);
        append_at_last(&mut *writer, &t, &[&format!("with {node}")]);
    }
    assert_values(&*log, &t, 0, &["before 1", "without 1", "with 1", "before 2", "without 2", "with 2"]);
}

#[test]
fn a_secured_cluster_lets_in_who_may_and_tells_the_others_why() {
    let Some(cluster) = Cluster::start_or_skip(&[("SECURE", "1")]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (right, wrong) = (file("right", "alice-secret\n"), file("wrong", "malice-secret\n"));
    let (sasl, tls, ca) = (cluster.env("KAFKA_SASL_SSL"), cluster.env("KAFKA_SSL"), cluster.env("KAFKA_CA"));

    for mechanism in ["SCRAM-SHA-512", "SCRAM-SHA-256"] {
        let url = |password: &str| {
            format!(
                "kafka://{sasl}?security=sasl_tls&ca-file={ca}&user=alice&sasl-mechanism={mechanism}&password-file={password}"
            )
        };
        let log = sluice_log::open(&url(&right)).unwrap();
        assert!(!log.url().contains("secret"), "{}", log.url());
        let kafka = Kafka::at(sasl.clone(), &mechanism.to_lowercase());
        let t = kafka.name("t");
        log.ensure_topics(&[TopicSpec { name: t.clone(), partitions: 1, retention: Retention::Forever }])
            .unwrap();
        append(&mut *log.writer(&kafka.name("w")).unwrap(), &t, 0, &["let in"]);
        assert_values(&*log, &t, 0, &["let in"]);

        let error = sluice_log::open(&url(&wrong)).err().unwrap();
        let line = error.to_string();
        assert_eq!(error.class(), Class::Fatal, "{line}");
        assert!(line.contains("uthentication") && !line.contains("malice"), "{line}");
    }

    sluice_log::open(&format!("kafka://{tls}?security=tls&ca-file={ca}")).unwrap();
    let error = sluice_log::open(&format!("kafka://{tls}?security=tls")).err().unwrap();
    assert_eq!(error.class(), Class::Fatal, "{error}");
    assert!(error.to_string().contains("certificate"), "{error}");
}
