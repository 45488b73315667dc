//! Commits and aborts of which a partition misses the marker. Brokers of Kafka 4.3.1 leave it out where the partition has no
//! leader at that moment: its records then wait for whatever ends the writer's next transaction there.

// In a test binary every function is part of a test.
#![allow(clippy::unwrap_used)]

mod chain_log;
mod kafka_cluster;

use std::sync::{Arc, Barrier, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chain_log::TestLog;
use kafka_cluster::{Cluster, answer, run_id};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use sluice_log::chain::verify::Depth;
use sluice_log::{AppendedRange, Ending, Log, NewRecord, StartAt, Writer};
use sluice_schemas::{Action, Retention, TopicSpec, Topics};

/// Partitions of the topic: with one replica each, every broker leads some.
const PARTITIONS: i32 = 6;
/// The broker that goes away.
const NODE: &str = "3";
/// After this time the others take it for dead (`broker.session.timeout.ms` in tests is 3 s).
const DEAD: Duration = Duration::from_secs(5);
/// Blocks of a chain, and payments in each: enough for every partition.
const BLOCKS: u64 = 4;
const PAYMENTS: u64 = 30;
const PATIENCE: Duration = Duration::from_secs(60);
/// By then a record that is not there has gone missing.
const LATER: Duration = Duration::from_secs(9);

/// Three brokers, and a topic without any second replica. One test at a time has them.
struct Fragile {
    cluster: Arc<Cluster>,
    log: Arc<dyn Log>,
    topic: String,
    _turn: MutexGuard<'static, Option<Arc<Cluster>>>,
}

impl Fragile {
    fn new(name: &str) -> Option<Self> {
        static CLUSTER: Mutex<Option<Arc<Cluster>>> = Mutex::new(None);
        let mut turn = CLUSTER.lock().unwrap_or_else(PoisonError::into_inner);
        if turn.is_none() {
            *turn = Cluster::start_or_skip(&[("NODES", "3"), ("HEAP", "320m")]).map(Arc::new);
        }
        let cluster = turn.clone()?;
        let url =
            format!("kafka://{}?replication-factor=1&min-insync-replicas=1", cluster.env("KAFKA_BOOTSTRAP"));
        let log = sluice_log::open(&url).unwrap();
        let topic = format!("{}.{name}", run_id());
        let spec = TopicSpec { name: topic.clone(), partitions: PARTITIONS, retention: Retention::Forever };
        log.ensure_topics(&[spec]).unwrap();
        Some(Self { cluster, log, topic, _turn: turn })
    }

    /// A chain of some blocks on topics of its own.
    fn chain(&self, case: &Case) -> TestLog {
        let topics = Topics::new(&format!("{}.{}", run_id(), case.name));
        let (node, transactions) = ([case.blocks], case.transactions.map(|node| [node]));
        let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
            .set("bootstrap.servers", self.cluster.env("KAFKA_BOOTSTRAP"))
            .create()
            .unwrap();
        for (name, nodes) in [
            (&topics.blocks, vec![&node[..]]),
            (&topics.transactions, transactions.iter().map(|node| &node[..]).collect()),
        ] {
            let topic = NewTopic::new(name, nodes.len() as i32, TopicReplication::Variable(&nodes))
                .set("retention.ms", "-1")
                .set("min.insync.replicas", "1")
                .set("message.timestamp.after.max.ms", "9223372036854775807");
            let made = admin.create_topics([&topic], &AdminOptions::new());
            answer(made).unwrap().remove(0).unwrap();
        }
        let mut log = TestLog::on(self.log.clone(), topics);
        (0..BLOCKS).for_each(|_| log.connect(PAYMENTS));
        log
    }

    fn writer(&self) -> Box<dyn Writer> {
        self.log.writer(&self.topic).unwrap()
    }

    /// Begins a transaction of one record in each partition. A writer's first one has them stored.
    fn fill(&self, writer: &mut dyn Writer, value: &str) -> Vec<AppendedRange> {
        writer.begin().unwrap();
        for partition in 0..PARTITIONS {
            let value = value.as_bytes();
            writer
                .send(&NewRecord {
                    topic: &self.topic,
                    partition,
                    timestamp: 1,
                    key: b"",
                    value,
                    headers: &[],
                })
                .unwrap();
        }
        writer.mark().unwrap()
    }

    /// Ends a transaction while some partitions have no leader.
    fn end_without_leaders(&self, end: impl FnOnce()) {
        self.cluster.run("kill", &[NODE]);
        std::thread::sleep(DEAD);
        end();
        self.cluster.run("up", &[NODE]);
    }

    /// What there is in a partition, with offsets.
    fn read(&self, partition: i32, count: usize) -> Vec<(i64, String)> {
        let start = StartAt { topic: self.topic.clone(), partition, offset: 0 };
        let mut reader = self.log.reader(&[start]).unwrap();
        let (mut found, deadline) = (Vec::new(), Instant::now() + PATIENCE);
        while found.len() < count && Instant::now() < deadline {
            let records = reader.poll(Duration::from_millis(200)).unwrap();
            found.extend(
                records.into_iter().map(|r| (r.offset, String::from_utf8(r.value.to_vec()).unwrap())),
            );
        }
        found
    }
}

#[test]
fn a_commit_without_a_marker_is_seen_before_the_next_transaction_begins() {
    let Some(kafka) = Fragile::new("seen") else { return };
    let mut writer = kafka.writer();
    let first = kafka.fill(&mut *writer, "first");
    kafka.end_without_leaders(|| writer.commit().unwrap());
    let second = kafka.fill(&mut *writer, "second");
    for partition in 0..PARTITIONS {
        assert_eq!(kafka.read(partition, 1), [(at(&first, partition), "first".to_owned())]);
    }
    writer.abort().unwrap();
    let third = kafka.fill(&mut *writer, "third");
    writer.commit().unwrap();
    for partition in 0..PARTITIONS {
        let wanted = [(at(&first, partition), "first"), (at(&third, partition), "third")];
        assert_eq!(kafka.read(partition, 2), wanted.map(|(at, value)| (at, value.to_owned())));
    }
    // A record without a value, and its marker, where there was none.
    let filled = (0..PARTITIONS).filter(|&p| at(&second, p) == at(&first, p) + 3).count();
    assert!(filled > 0 && filled < PARTITIONS as usize, "{filled} partitions were without a marker");
}

#[test]
fn the_next_writer_ends_what_has_no_end_either_way() {
    let Some(kafka) = Fragile::new("either") else { return };
    let mut wanted = Vec::new();
    for (value, ending) in [("committed", Ending::Commit), ("aborted", Ending::Abort)] {
        let mut writer = kafka.writer();
        let filled = kafka.fill(&mut *writer, value);
        kafka.end_without_leaders(|| match ending {
            Ending::Commit => writer.commit().unwrap(),
            Ending::Abort => writer.abort().unwrap(),
        });
        let mut next = kafka.writer();
        let unfinished = kafka.log.unfinished(&[&kafka.topic]).unwrap();
        assert!(!unfinished.is_empty() && unfinished.len() < PARTITIONS as usize, "{unfinished:?}");
        assert!(
            unfinished.iter().all(|u| u.offset == at(&filled, u.partition)),
            "{unfinished:?}, {filled:?}"
        );
        next.finish(&unfinished, ending).unwrap();
        assert_eq!(kafka.log.unfinished(&[&kafka.topic]).unwrap(), []);
        let after = kafka.fill(&mut *next, "after");
        next.commit().unwrap();
        let committed = Some((filled, value)).filter(|_| ending == Ending::Commit);
        wanted.extend(committed.into_iter().chain([(after, "after")]));
        for partition in 0..PARTITIONS {
            let wanted = wanted.iter().map(|(ranges, value)| (at(ranges, partition), (*value).to_owned()));
            assert_eq!(kafka.read(partition, wanted.len()), wanted.collect::<Vec<_>>());
        }
    }
}

/// A chain, and the brokers that lead the partitions of its blocks and transactions.
struct Case {
    name: &'static str,
    blocks: i32,
    transactions: [i32; chain_log::PARTITIONS as usize],
    /// Whether the block that has no end is committed.
    committed: bool,
    /// Whether it is there once it has one.
    is_there: bool,
}

const CASES: [Case; 4] = [
    Case { name: "transactions", blocks: 1, transactions: [1, 2, 3], committed: true, is_there: true },
    Case { name: "event", blocks: 3, transactions: [1, 2, 1], committed: true, is_there: true },
    // Nobody has seen anything of it.
    Case { name: "all", blocks: 3, transactions: [3, 3, 3], committed: true, is_there: false },
    Case { name: "given_up", blocks: 1, transactions: [1, 2, 3], committed: false, is_there: false },
];

#[test]
fn the_next_producer_settles_what_has_no_end_and_the_log_is_sound() {
    let Some(kafka) = Fragile::new("settled") else { return };
    let mut chains = CASES.map(|case| (kafka.chain(&case), case));
    let (sent, dead) = (Arc::new(Barrier::new(CASES.len() + 1)), Arc::new(Barrier::new(CASES.len() + 1)));
    std::thread::scope(|scope| {
        let mut ended = Vec::new();
        for (log, case) in &mut chains {
            let (sent, dead) = (sent.clone(), dead.clone());
            let between = move || {
                sent.wait();
                dead.wait();
            };
            ended.push(scope.spawn(move || {
                let block = log.block(PAYMENTS, None);
                log.take_over();
                if case.committed {
                    log.before_commit = Some(Box::new(between));
                    log.append(block, Action::Connected, |_| {}, |_| {});
                } else {
                    log.give_up(&block, between);
                }
            }));
        }
        sent.wait();
        kafka.end_without_leaders(|| {
            dead.wait();
            ended.into_iter().for_each(|thread| thread.join().unwrap());
        });
    });
    let reader = {
        let chain = chains[0].0.chain.clone();
        std::thread::spawn(move || chain.verify(0, Depth::Content, &mut ()).map(|summary| summary.events))
    };
    std::thread::sleep(LATER);
    assert!(!reader.is_finished(), "a reader did not wait for the end of a transaction");
    for (log, case) in chains {
        let chain = log.chain.clone();
        let mut writer = chain.log.writer(&chain.topics.prefix).unwrap();
        let before = chain.tail().unwrap().unwrap().sequence;
        chain.settle(&mut *writer).unwrap();
        let summary = chain.verify(0, Depth::Content, &mut ()).unwrap();
        assert_eq!(summary.events, BLOCKS + u64::from(case.is_there), "{}: {before} before", case.name);
    }
    assert_eq!(reader.join().unwrap().unwrap(), BLOCKS + 1);
}

/// Where one of these records is that are one in each partition.
fn at(ranges: &[AppendedRange], partition: i32) -> i64 {
    ranges[partition as usize].first_offset
}
