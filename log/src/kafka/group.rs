//! Consumer groups.
//!
//! Members share partitions by the `cooperative-sticky` assignor: a member that joins or leaves takes or gives only the
//! partitions that must move, while all others are read on. With `range`, every rebalance stops every member, and the
//! last ones to join get nothing of a topic with fewer partitions than members.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::base_consumer::BaseConsumer;
use rdkafka::consumer::{CommitMode, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::groups::GroupList;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, TopicPartitionList};
use tracing::{info, warn};

use super::cluster::{CALL_WAIT, Cluster};
use super::consumer::{self, Decoder, POLL_BYTES, POLL_RECORDS, Trouble};
use super::fault;
use super::listener::Listener;
use super::role;
use crate::{Class, Committed, Error, GroupInfo, GroupReader, Record, Result};

/// Heartbeats within one session.
const HEARTBEATS: u32 = 5;
/// How long a member may take between two polls, where its session is not longer.
const POLL_INTERVAL: Duration = Duration::from_secs(300);
/// Bytes fetched ahead for all partitions of a member.
const QUEUE_KIBIBYTES: usize = 32 * 1024;
/// How long a rebalance waits for the committed offsets of new partitions.
const OFFSETS_WAIT: Duration = Duration::from_secs(10);
/// Pause before a commit is tried again.
const COMMIT_PAUSE: Duration = Duration::from_millis(50);

/// Takes part in rebalances.
#[derive(Default)]
pub(super) struct Membership {
    listener: Listener,
    /// Grows with every change of the assignment.
    changes: AtomicU64,
}

impl ClientContext for Membership {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.listener.log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.listener.error(error, reason);
    }
}

impl ConsumerContext for Membership {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, event: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let cooperative = matches!(consumer.rebalance_protocol(), RebalanceProtocol::Cooperative);
        let result = if event == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            let start = starts(consumer, list);
            if cooperative { consumer.incremental_assign(&start) } else { consumer.assign(&start) }
        } else if cooperative {
            consumer.incremental_unassign(list)
        } else {
            consumer.unassign()
        };
        self.changes.fetch_add(1, Ordering::AcqRel);
        let assigned = event == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        match result {
            Ok(()) => info!(partitions = list.count(), assigned, "group rebalanced"),
            Err(error) => warn!(%error, assigned, "failed to take part in a rebalance"),
        }
    }
}

/// Where new partitions are read from: their committed offsets, or their earliest records.
fn starts(consumer: &BaseConsumer<Membership>, list: &TopicPartitionList) -> TopicPartitionList {
    let committed = match consumer.committed_offsets(list.clone(), OFFSETS_WAIT) {
        Ok(committed) => committed,
        Err(error) => {
            // librdkafka asks again by itself, and where there is none the poll fails.
            warn!(%error, "failed to look up committed offsets in time");
            return list.clone();
        }
    };
    let mut start = TopicPartitionList::with_capacity(committed.count());
    for element in committed.elements() {
        let offset = match element.offset() {
            Offset::Offset(offset) => Offset::Offset(offset),
            _ if element.error().is_err() => Offset::Invalid,
            _ => Offset::Beginning,
        };
        // Beginning, Invalid and offsets from the broker can all be represented.
        let mut added = start.add_partition(element.topic(), element.partition());
        if let Err(error) = added.set_offset(offset) {
            warn!(%error, "failed to start a partition at its committed offset");
        }
    }
    start
}

/// A member of a group.
pub(super) struct KafkaGroup {
    cluster: Arc<Cluster>,
    consumer: BaseConsumer<Membership>,
    group: String,
    decoder: Decoder,
}

impl KafkaGroup {
    pub(super) fn join(cluster: Arc<Cluster>, group: &str, topics: &[&str]) -> Result<Self> {
        check_name(group)?;
        for topic in topics {
            cluster.expect_partition(topic, 0)?;
        }
        let attempt = || format!("join group {group}");
        let session = cluster.options().group_session_timeout;
        let consumer: BaseConsumer<Membership> = consumer::config(cluster.options(), QUEUE_KIBIBYTES)
            .set("group.id", group)
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", session.as_millis().to_string())
            .set("heartbeat.interval.ms", (session / HEARTBEATS).as_millis().to_string())
            .set("max.poll.interval.ms", POLL_INTERVAL.max(session).as_millis().to_string())
            .create_with_context(Membership::default())
            .map_err(|e| fault::failed(attempt(), &e))?;
        consumer.subscribe(topics).map_err(|e| fault::failed(attempt(), &e))?;
        Ok(Self { cluster, consumer, group: group.to_owned(), decoder: Decoder::default() })
    }

    fn changes(&self) -> u64 {
        self.consumer.context().changes.load(Ordering::Acquire)
    }

    /// The partition that cannot be read on, after librdkafka said that there is one.
    fn out_of_range(&self) -> Error {
        match self.find_out_of_range() {
            Ok(error) | Err(error) => error,
        }
    }

    fn find_out_of_range(&self) -> Result<Error> {
        let attempt = || format!("read as member of {}", self.group);
        let position = self.consumer.position().map_err(|e| fault::failed(attempt(), &e))?;
        let committed = self
            .consumer
            .committed_offsets(position.clone(), CALL_WAIT)
            .map_err(|e| fault::failed(attempt(), &e))?;
        for element in position.elements() {
            let (topic, partition) = (element.topic().to_owned(), element.partition());
            let committed = committed.find_partition(&topic, partition).map(|e| e.offset());
            let offset = match (element.offset(), committed) {
                (Offset::Offset(offset), _) | (_, Some(Offset::Offset(offset))) => offset,
                _ => continue,
            };
            let bounds = self.cluster.bounds(&topic, partition)?;
            if offset < bounds.start || offset > bounds.end {
                return Ok(Error::OutOfRange {
                    topic,
                    partition,
                    offset,
                    start: bounds.start,
                    end: bounds.end,
                });
            }
        }
        let reason = "a partition has no offset to start at; join again".into();
        Ok(Error::Store { attempt: attempt(), reason, class: Class::Retry })
    }

    fn not_assigned(&self, topic: &str, partition: i32) -> Error {
        Error::NotAssigned { group: self.group.clone(), topic: topic.to_owned(), partition }
    }
}

impl GroupReader for KafkaGroup {
    fn poll(&mut self, wait: Duration) -> Result<Vec<Record>> {
        let deadline = Instant::now() + wait;
        let before = self.changes();
        let (mut records, mut bytes): (Vec<Record>, usize) = (Vec::new(), 0);
        while bytes < POLL_BYTES && records.len() < POLL_RECORDS && self.changes() == before {
            let left = if records.is_empty() {
                deadline.saturating_duration_since(Instant::now())
            } else {
                Duration::ZERO
            };
            match self.consumer.poll(left) {
                Some(Ok(message)) => {
                    if let Some(record) = self.decoder.record(&message)? {
                        bytes += consumer::weight(&record);
                        records.push(record);
                    }
                }
                Some(Err(error)) => match Trouble::of(error) {
                    Trouble::Passes => {}
                    Trouble::OutOfRange => return Err(self.out_of_range()),
                    Trouble::Damaged(reason) => {
                        let attempt = format!("read as member of {}", self.group);
                        return Err(Error::Store { attempt, reason, class: Class::Fatal });
                    }
                    Trouble::Error(error) => {
                        return Err(fault::failed(format!("read as member of {}", self.group), &error));
                    }
                },
                None if !records.is_empty() || Instant::now() >= deadline => break,
                None => {}
            }
        }
        if self.changes() != before && !records.is_empty() {
            let mine = self.assignment()?;
            records.retain(|r| mine.iter().any(|(topic, p)| *p == r.partition && **topic == *r.topic));
        }
        Ok(records)
    }

    fn assignment(&self) -> Result<Vec<(String, i32)>> {
        let attempt = || format!("look up the partitions of a member of {}", self.group);
        if self.consumer.assignment_lost() {
            return Ok(Vec::new());
        }
        let list = self.consumer.assignment().map_err(|e| fault::failed(attempt(), &e))?;
        let mut mine: Vec<_> =
            list.elements().iter().map(|e| (e.topic().to_owned(), e.partition())).collect();
        mine.sort_unstable();
        Ok(mine)
    }

    fn commit(&mut self, offsets: &[Committed]) -> Result<()> {
        if offsets.is_empty() {
            return Ok(());
        }
        let mine = self.assignment()?;
        for c in offsets {
            if !mine.iter().any(|(topic, partition)| *topic == c.topic && *partition == c.partition) {
                return Err(self.not_assigned(&c.topic, c.partition));
            }
        }
        let attempt = format!("commit offsets of group {}", self.group);
        match commit(&self.consumer, offsets) {
            Ok(()) => Ok(()),
            Err(error) => match error.rdkafka_error_code() {
                Some(
                    Code::UnknownMemberId
                    | Code::IllegalGeneration
                    | Code::FencedInstanceId
                    | Code::AssignmentLost
                    | Code::StaleMemberEpoch
                    | Code::FencedMemberEpoch,
                ) => Err(self.not_assigned(&offsets[0].topic, offsets[0].partition)),
                _ => Err(fault::failed(attempt, &error)),
            },
        }
    }
}

fn list_of(offsets: &[Committed]) -> Result<TopicPartitionList, KafkaError> {
    let mut list = TopicPartitionList::with_capacity(offsets.len());
    for c in offsets {
        list.add_partition_offset(&c.topic, c.partition, Offset::Offset(c.offset))?;
    }
    Ok(list)
}

/// Commits, waiting for a coordinator that is away. A rebalance is not waited for: it needs a poll.
fn commit<C: ConsumerContext>(consumer: &BaseConsumer<C>, offsets: &[Committed]) -> Result<(), KafkaError> {
    let list = list_of(offsets)?;
    let deadline = Instant::now() + CALL_WAIT;
    loop {
        let Err(error) = consumer.commit(&list, CommitMode::Sync) else { return Ok(()) };
        let rebalances = error.rdkafka_error_code() == Some(Code::RebalanceInProgress);
        if rebalances || fault::class(&error) != Class::Retry || Instant::now() >= deadline {
            return Err(error);
        }
        std::thread::sleep(COMMIT_PAUSE);
    }
}

/// The groups that have committed an offset or have a member.
pub(super) fn groups(cluster: &Cluster) -> Result<Vec<GroupInfo>> {
    let list = cluster.patiently(|| "list the groups".into(), |c, wait| c.fetch_group_list(None, wait))?;
    let topics = cluster.patiently(|| "list the topics".into(), |c, wait| c.fetch_metadata(None, wait))?;
    let mut all = TopicPartitionList::new();
    // Kafka's own topics are read by no group of ours, and there are many partitions of them.
    for topic in topics.topics().iter().filter(|t| !t.name().starts_with("__")) {
        for partition in topic.partitions() {
            all.add_partition(topic.name(), partition.id());
        }
    }
    let mut groups = Vec::new();
    for group in list.groups() {
        // Other protocols than the consumers' have no offsets: Connect's workers, and so on.
        let ours = ["consumer", ""].contains(&group.protocol_type()) && !role::is_group(group.name());
        if !ours || check_name(group.name()).is_err() {
            continue;
        }
        let committed = committed(cluster, group.name(), &all)?;
        if !group.members().is_empty() || !committed.is_empty() {
            groups.push(GroupInfo {
                name: group.name().to_owned(),
                members: group.members().len(),
                committed,
            });
        }
    }
    groups.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(groups)
}

fn committed(cluster: &Cluster, group: &str, all: &TopicPartitionList) -> Result<Vec<Committed>> {
    if all.count() == 0 {
        return Ok(Vec::new());
    }
    let attempt = || format!("look up the committed offsets of group {group}");
    let consumer = outsider(cluster, group).map_err(|e| fault::failed(attempt(), &e))?;
    let found =
        consumer.committed_offsets(all.clone(), CALL_WAIT).map_err(|e| fault::failed(attempt(), &e))?;
    let mut committed: Vec<Committed> = found
        .elements()
        .iter()
        .filter_map(|element| match element.offset() {
            Offset::Offset(offset) => {
                Some(Committed { topic: element.topic().to_owned(), partition: element.partition(), offset })
            }
            _ => None,
        })
        .collect();
    committed.sort_unstable_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
    Ok(committed)
}

/// Sets a stopped group's committed offsets.
pub(super) fn reset(cluster: &Cluster, group: &str, offsets: &[Committed]) -> Result<()> {
    check_name(group)?;
    for c in offsets {
        cluster.expect_partition(&c.topic, c.partition)?;
    }
    expect_stopped(cluster, group)?;
    if offsets.is_empty() {
        return Ok(());
    }
    let attempt = || format!("set the committed offsets of group {group}");
    let consumer = outsider(cluster, group).map_err(|e| fault::failed(attempt(), &e))?;
    match commit(&consumer, offsets) {
        Ok(()) => Ok(()),
        Err(error) => {
            // A member may have joined since; the coordinator then takes nothing from an outsider.
            expect_stopped(cluster, group)?;
            Err(fault::failed(attempt(), &error))
        }
    }
}

fn expect_stopped(cluster: &Cluster, group: &str) -> Result<()> {
    let list: GroupList = cluster
        .patiently(|| format!("describe group {group}"), |c, wait| c.fetch_group_list(Some(group), wait))?;
    let members = list.groups().iter().find(|g| g.name() == group).map_or(0, |g| g.members().len());
    if members > 0 { Err(Error::GroupRunning { group: group.to_owned(), members }) } else { Ok(()) }
}

/// A client that asks about a group without being a member.
fn outsider(cluster: &Cluster, group: &str) -> Result<BaseConsumer<Listener>, KafkaError> {
    cluster
        .options()
        .client()
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .create_with_context(Listener::default())
}

/// Refuses what librdkafka cannot take as the name of a group.
fn check_name(group: &str) -> Result<()> {
    if group.is_empty() || group.contains('\0') {
        return Err(Error::Store {
            attempt: format!("use group {group:?}"),
            reason: "a group has a name, without a zero byte".into(),
            class: Class::Fatal,
        });
    }
    Ok(())
}
