//! Reading partitions at offsets of the reader's own, outside of any group.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

use super::cluster::{CALL_WAIT, Cluster, Lease};
use super::consumer::{Decoder, POLL_BYTES, POLL_RECORDS, Trouble, config, introduce, weight};
use super::fault;
use super::listener::Listener;
use super::markers;
use crate::{Bounds, Class, Error, PartitionReader, Reader, Record, Result, StartAt};

/// Bytes fetched ahead for all partitions of one stream.
const STREAM_QUEUE_KIBIBYTES: usize = 32 * 1024;
/// Bytes fetched ahead for each partition that is read at its own pace.
const PARTITION_QUEUE_KIBIBYTES: usize = 2 * 1024;
/// Bytes of one fetch for each of them.
const PARTITION_FETCH_BYTES: usize = 16 * 1024;
/// How long a broker may keep a fetch of partitions that are read at their own pace, and for which there is nothing. Only a
/// fetch that comes back empty shows that a partition has come to its end, and what is read on to the end waits for that.
const PARTITION_FETCH_WAIT: Duration = Duration::from_millis(40);
/// How often librdkafka tells how far it has fetched.
const STATISTICS_INTERVAL: Duration = Duration::from_secs(3);
/// The longest that one read waits, however long it may.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);
/// How long a wait for one partition may go without a look at the consumer's own events.
const MAIN_QUEUE_INTERVAL: Duration = Duration::from_millis(250);
/// Pause before a seek is tried again.
const SEEK_PAUSE: Duration = Duration::from_millis(10);

/// Where a partition is read next.
#[derive(Clone, Debug)]
struct Position {
    topic: String,
    partition: i32,
    next: i64,
}

/// Why reading on makes no sense.
enum Broken {
    /// A partition does not have the offset that it would be read on at.
    OutOfRange(Position),
    /// Damaged bytes, in this partition or in one of several.
    Damaged(Option<Position>, String),
}

impl Broken {
    fn error(&self, cluster: &Cluster) -> Error {
        match self {
            Self::OutOfRange(position) => match cluster.bounds(&position.topic, position.partition) {
                Ok(bounds) => position.out_of_range(bounds),
                Err(error) => error,
            },
            Self::Damaged(Some(position), reason) => Error::Corrupt {
                topic: position.topic.clone(),
                partition: position.partition,
                offset: position.next,
                reason: reason.clone(),
            },
            Self::Damaged(None, reason) => {
                Error::Store { attempt: "read".into(), reason: reason.clone(), class: Class::Fatal }
            }
        }
    }
}

impl Position {
    fn out_of_range(&self, bounds: Bounds) -> Error {
        Error::OutOfRange {
            topic: self.topic.clone(),
            partition: self.partition,
            offset: self.next,
            start: bounds.start,
            end: bounds.end,
        }
    }
}

fn positions(cluster: &Cluster, from: &[StartAt]) -> Result<Vec<Position>> {
    let mut known: Vec<(&str, i32)> = Vec::new();
    for start in from {
        let partitions = match known.iter().find(|(topic, _)| *topic == start.topic) {
            Some((_, partitions)) => *partitions,
            None => {
                let partitions = cluster.partitions(&start.topic)?.unwrap_or(0);
                known.push((&start.topic, partitions));
                partitions
            }
        };
        if !(0..partitions).contains(&start.partition) {
            return Err(Error::NoSuchPartition { topic: start.topic.clone(), partition: start.partition });
        }
        if start.offset < 0 {
            let bounds = cluster.bounds(&start.topic, start.partition)?;
            let next = start.offset;
            let position = Position { topic: start.topic.clone(), partition: start.partition, next };
            return Err(position.out_of_range(bounds));
        }
    }
    Ok(from
        .iter()
        .map(|s| Position { topic: s.topic.clone(), partition: s.partition, next: s.offset })
        .collect())
}

fn assign<C: ConsumerContext>(consumer: &BaseConsumer<C>, positions: &[Position]) -> Result<()> {
    let mut list = TopicPartitionList::with_capacity(positions.len());
    let assigned = positions
        .iter()
        .try_for_each(|p| list.add_partition_offset(&p.topic, p.partition, Offset::Offset(p.next)))
        .and_then(|()| consumer.assign(&list));
    assigned.map_err(|e| fault::failed(format!("read {} partitions", positions.len()), &e))
}

/// Several partitions as one stream.
pub(super) struct KafkaReader {
    cluster: Arc<Cluster>,
    consumer: BaseConsumer<Listener>,
    decoder: Decoder,
    positions: Vec<Position>,
    /// Set where the stream has ended.
    broken: Option<Broken>,
}

impl KafkaReader {
    pub(super) fn new(cluster: Arc<Cluster>, from: &[StartAt]) -> Result<Self> {
        let positions = positions(&cluster, from)?;
        let consumer: BaseConsumer<Listener> = config(cluster.options(), STREAM_QUEUE_KIBIBYTES)
            .create_with_context(Listener::default())
            .map_err(|e| fault::failed("make a reader".into(), &e))?;
        assign(&consumer, &positions)?;
        Ok(Self { cluster, consumer, decoder: Decoder::default(), positions, broken: None })
    }

    /// The partition whose next offset is not on the log; librdkafka does not say which.
    fn out_of_range(&self) -> Result<Broken> {
        for position in &self.positions {
            let bounds = self.cluster.bounds(&position.topic, position.partition)?;
            if position.next < bounds.start || position.next > bounds.end {
                return Ok(Broken::OutOfRange(position.clone()));
            }
        }
        Ok(Broken::Damaged(None, "a partition was shorter than what had been read of it".into()))
    }
}

impl Reader for KafkaReader {
    fn poll(&mut self, wait: Duration) -> Result<Vec<Record>> {
        let deadline = Instant::now() + wait.min(LONGEST_WAIT);
        let (mut records, mut bytes) = (Vec::new(), 0);
        while self.broken.is_none() && bytes < POLL_BYTES && records.len() < POLL_RECORDS {
            let left = if records.is_empty() {
                deadline.saturating_duration_since(Instant::now())
            } else {
                Duration::ZERO
            };
            match self.consumer.poll(left) {
                Some(Ok(message)) => {
                    let record = self.decoder.record(&message)?;
                    let here = |p: &&mut Position| {
                        p.partition == message.partition() && *p.topic == *message.topic()
                    };
                    if let Some(position) = self.positions.iter_mut().find(here) {
                        position.next = message.offset() + 1;
                    }
                    if let Some(record) = record {
                        bytes += weight(&record);
                        records.push(record);
                    }
                }
                Some(Err(error)) => match Trouble::of(error) {
                    Trouble::Passes => {}
                    Trouble::OutOfRange => self.broken = Some(self.out_of_range()?),
                    Trouble::Damaged(reason) => self.broken = Some(Broken::Damaged(None, reason)),
                    Trouble::Error(error) => return Err(fault::failed("read".into(), &error)),
                },
                None if !records.is_empty() || Instant::now() >= deadline => break,
                None => {}
            }
        }
        // What has been read goes first; the next poll reports.
        match &self.broken {
            Some(broken) if records.is_empty() => Err(broken.error(&self.cluster)),
            _ => Ok(records),
        }
    }
}

/// One partition of several, read at its own pace.
pub(super) struct KafkaPartitionReader {
    cluster: Arc<Cluster>,
    queue: PartitionQueue<Listener>,
    // Goes back after the queue has been given up.
    consumer: Arc<Lease>,
    decoder: Decoder,
    position: Position,
    /// Whether the broker said that there is no more, since the partition was opened or sought.
    at_end: bool,
    /// Set where reading on makes no sense before a seek.
    broken: Option<Broken>,
}

/// Readers of several partitions that share one consumer.
pub(super) fn partition_readers(
    cluster: &Arc<Cluster>,
    from: &[StartAt],
) -> Result<Vec<KafkaPartitionReader>> {
    let positions = positions(cluster, from)?;
    let consumer = cluster.lease(|| {
        config(cluster.options(), PARTITION_QUEUE_KIBIBYTES)
            .set("enable.partition.eof", "true")
            .set("fetch.wait.max.ms", PARTITION_FETCH_WAIT.as_millis().to_string())
            .set("fetch.message.max.bytes", PARTITION_FETCH_BYTES.to_string())
            .set("statistics.interval.ms", STATISTICS_INTERVAL.as_millis().to_string())
            .create_with_context(Listener::default())
            .map_err(|e| fault::failed("make readers".into(), &e))
    })?;
    let mut topics: Vec<&str> = from.iter().map(|start| &*start.topic).collect();
    topics.sort_unstable();
    topics.dedup();
    topics.into_iter().for_each(|topic| introduce(&consumer, topic));
    let consumer = Arc::new(consumer);
    let readers: Option<Vec<_>> = positions
        .iter()
        .map(|position| {
            // Split off before the assignment starts fetching, so that no record goes to the common queue.
            Some(KafkaPartitionReader {
                cluster: cluster.clone(),
                queue: consumer.split_partition_queue(&position.topic, position.partition)?,
                consumer: consumer.clone(),
                decoder: Decoder::default(),
                position: position.clone(),
                at_end: false,
                broken: None,
            })
        })
        .collect();
    let readers = readers.ok_or_else(|| Error::Store {
        attempt: format!("read {} partitions", positions.len()),
        reason: "librdkafka has no queue for one of them".into(),
        class: Class::Fatal,
    })?;
    assign(&consumer, &positions)?;
    Ok(readers)
}

impl KafkaPartitionReader {
    fn place(&self) -> String {
        format!("{}/{}", self.position.topic, self.position.partition)
    }

    /// Starts to fetch at the position again. librdkafka has stopped a partition that is out of range, and does not seek
    /// in it.
    fn restart(&self) -> Result<()> {
        let Position { topic, partition, next } = &self.position;
        let mut list = TopicPartitionList::with_capacity(1);
        let restarted = list
            .add_partition_offset(topic, *partition, Offset::Offset(*next))
            .and_then(|()| self.consumer.incremental_unassign(&list))
            .and_then(|()| self.consumer.incremental_assign(&list));
        restarted.map_err(|e| fault::failed(format!("go to offset {next} of {}", self.place()), &e))
    }

    /// Serves the consumer's own events, which belong to no partition.
    fn serve_consumer(&self) -> Result<()> {
        match self.consumer.poll(Duration::ZERO) {
            None => Ok(()),
            Some(Err(error)) => match Trouble::of(error) {
                Trouble::Error(error) => Err(fault::failed(format!("read {}", self.place()), &error)),
                _ => Ok(()),
            },
            Some(Ok(message)) => Err(Error::Store {
                attempt: format!("read {}", self.place()),
                reason: format!(
                    "librdkafka gave offset {} of {}/{} to the wrong queue",
                    message.offset(),
                    message.topic(),
                    message.partition()
                ),
                class: Class::Fatal,
            }),
        }
    }
}

impl PartitionReader for KafkaPartitionReader {
    fn read(&mut self, max_bytes: usize, wait: Duration) -> Result<Vec<Record>> {
        self.serve_consumer()?;
        let deadline = Instant::now() + wait.min(LONGEST_WAIT);
        let (mut records, mut bytes) = (Vec::new(), 0);
        while self.broken.is_none()
            && (records.is_empty() || (bytes < max_bytes && records.len() < POLL_RECORDS))
        {
            let left = if records.is_empty() {
                deadline.saturating_duration_since(Instant::now())
            } else {
                Duration::ZERO
            };
            match self.queue.poll(left.min(MAIN_QUEUE_INTERVAL)) {
                Some(Ok(message)) => {
                    let record = self.decoder.record(&message)?;
                    self.position.next = message.offset() + 1;
                    if let Some(record) = record {
                        bytes += weight(&record);
                        records.push(record);
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) => self.at_end = true,
                Some(Err(error)) => match Trouble::of(error) {
                    Trouble::Passes => {}
                    Trouble::OutOfRange => self.broken = Some(Broken::OutOfRange(self.position.clone())),
                    Trouble::Damaged(reason) => {
                        self.broken = Some(Broken::Damaged(Some(self.position.clone()), reason));
                    }
                    Trouble::Error(error) => {
                        return Err(fault::failed(format!("read {}", self.place()), &error));
                    }
                },
                None if !records.is_empty() || Instant::now() >= deadline => break,
                None => self.serve_consumer()?,
            }
        }
        // What has been read goes first; the next read reports.
        match &self.broken {
            Some(broken) if records.is_empty() => Err(broken.error(&self.cluster)),
            _ => Ok(records),
        }
    }

    fn is_at_end(&self) -> bool {
        self.at_end
    }

    fn is_unfinished(&self) -> Result<bool> {
        let here = (self.position.topic.as_str(), self.position.partition);
        Ok(!markers::unfinished(&self.cluster, &[here])?.is_empty())
    }

    fn moved(&self) -> Option<Instant> {
        self.consumer.context().moved(&self.position.topic, self.position.partition)
    }

    fn seek(&mut self, offset: i64) -> Result<()> {
        let (topic, partition) = (self.position.topic.clone(), self.position.partition);
        if offset < 0 {
            let bounds = self.cluster.bounds(&topic, partition)?;
            return Err(Position { topic, partition, next: offset }.out_of_range(bounds));
        }
        self.position.next = offset;
        self.at_end = false;
        if self.broken.take().is_some() {
            return self.restart();
        }
        let deadline = Instant::now() + CALL_WAIT;
        // A partition that is about to start cannot be sought yet.
        while let Err(error) = self.consumer.seek(&topic, partition, Offset::Offset(offset), CALL_WAIT) {
            if Instant::now() >= deadline {
                return Err(fault::failed(format!("go to offset {offset} of {}", self.place()), &error));
            }
            std::thread::sleep(SEEK_PAUSE);
        }
        Ok(())
    }
}

/// Offset of the first committed record at or after `offset` whose timestamp is `timestamp` or later.
pub(super) fn first_at(
    cluster: &Arc<Cluster>,
    topic: &str,
    partition: i32,
    offset: i64,
    timestamp: i64,
) -> Result<Option<i64>> {
    let position = Position { topic: topic.to_owned(), partition, next: offset };
    let attempt = || format!("look for the record of time {timestamp} in {topic}/{partition}");
    let consumer: BaseConsumer<Listener> = config(cluster.options(), PARTITION_QUEUE_KIBIBYTES)
        .set("enable.partition.eof", "true")
        .set("statistics.interval.ms", STATISTICS_INTERVAL.as_millis().to_string())
        .create_with_context(Listener::default())
        .map_err(|e| fault::failed(attempt(), &e))?;
    assign(&consumer, &[position])?;
    let mut silent_since = Instant::now();
    let moved = || consumer.context().moved(topic, partition);
    loop {
        match consumer.poll(MAIN_QUEUE_INTERVAL) {
            Some(Ok(message))
                if message.payload().is_some()
                    && message.timestamp().to_millis().is_some_and(|t| t >= timestamp) =>
            {
                return Ok(Some(message.offset()));
            }
            Some(Ok(_)) => silent_since = Instant::now(),
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(None),
            Some(Err(error)) if !matches!(Trouble::of(error.clone()), Trouble::Passes) => {
                return Err(fault::failed(attempt(), &error));
            }
            _ if silent_since.max(moved().unwrap_or(silent_since)).elapsed() >= CALL_WAIT => {
                let reason = "the brokers do not answer".into();
                return Err(Error::Store { attempt: attempt(), reason, class: Class::Retry });
            }
            _ => {}
        }
    }
}
