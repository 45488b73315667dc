//! Single records, by their offsets.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

use super::cluster::{CALL_WAIT, Cluster};
use super::consumer::{Decoder, Trouble, config, introduce};
use super::fault;
use super::listener::Listener;
use crate::chunk::{self, Joiner};
use crate::{Class, Error, PointReader, Record, Result};

/// Bytes fetched ahead: a batch is fetched whole, however large it is, and of a chunked value no more than this.
const QUEUE_KIBIBYTES: usize = 4 * 1024;
/// Bytes asked for; the broker gives one batch where that is larger.
const FETCH_BYTES: usize = 4 * 1024;
/// How long a broker may keep a fetch for which there is nothing: it holds up the next.
const FETCH_WAIT: Duration = Duration::from_millis(10);

/// Reads single records of a topic. A partition is assigned for one read, so that nothing is fetched which nobody asked
/// for. (A partition that is sought instead has the fetch it waits with, which holds up the sought one.)
pub(super) struct KafkaPointReader {
    cluster: Arc<Cluster>,
    topic: String,
    partitions: i32,
    consumer: BaseConsumer<Listener>,
    decoder: Decoder,
}

impl KafkaPointReader {
    pub(super) fn new(cluster: Arc<Cluster>, topic: &str) -> Result<Self> {
        let partitions = cluster.partitions(topic)?.unwrap_or(0);
        let consumer: BaseConsumer<Listener> = config(cluster.options(), QUEUE_KIBIBYTES)
            .set("enable.partition.eof", "true")
            .set("queued.min.messages", "1")
            .set("fetch.message.max.bytes", FETCH_BYTES.to_string())
            .set("fetch.wait.max.ms", FETCH_WAIT.as_millis().to_string())
            .create_with_context(Listener::default())
            .map_err(|e| fault::failed("make a reader".into(), &e))?;
        introduce(&consumer, topic);
        Ok(Self { cluster, topic: topic.to_owned(), partitions, consumer, decoder: Decoder::default() })
    }

    fn attempt(&self, partition: i32, offset: i64) -> String {
        format!("read {}/{partition} at offset {offset}", self.topic)
    }

    /// Reads from the partition while it is assigned.
    fn read_assigned(&mut self, partition: i32, offset: i64, wait: Duration) -> Result<Option<Record>> {
        let deadline = Instant::now() + wait.min(CALL_WAIT);
        let mut joiner = Joiner::default();
        loop {
            match self.consumer.poll(deadline.saturating_duration_since(Instant::now())) {
                // What was on its way for an earlier read.
                Some(Ok(message)) if message.partition() != partition || message.offset() < offset => {}
                Some(Ok(message)) => {
                    let Some(record) = self.decoder.record(&message)? else { return Ok(None) };
                    let starts = record.offset == offset && !chunk::is_continuation(&record);
                    if !joiner.is_partial() && !starts {
                        return Ok(None);
                    }
                    if let Some(whole) = joiner.push(record)? {
                        return Ok(Some(whole));
                    }
                }
                Some(Err(KafkaError::PartitionEOF(at))) if at == partition => return Ok(None),
                Some(Err(error)) => match Trouble::of(error) {
                    Trouble::Passes => {}
                    Trouble::OutOfRange => return Err(self.out_of_range(partition, offset)),
                    Trouble::Damaged(reason) => {
                        return Err(Error::Corrupt { topic: self.topic.clone(), partition, offset, reason });
                    }
                    Trouble::Error(error) => {
                        return Err(fault::failed(self.attempt(partition, offset), &error));
                    }
                },
                None if Instant::now() >= deadline => {
                    return Err(Error::Store {
                        attempt: self.attempt(partition, offset),
                        reason: "the brokers do not answer".into(),
                        class: Class::Retry,
                    });
                }
                None => {}
            }
        }
    }

    fn out_of_range(&self, partition: i32, offset: i64) -> Error {
        match self.cluster.bounds(&self.topic, partition) {
            Ok(bounds) => Error::OutOfRange {
                topic: self.topic.clone(),
                partition,
                offset,
                start: bounds.start,
                end: bounds.end,
            },
            Err(error) => error,
        }
    }
}

impl PointReader for KafkaPointReader {
    fn read_at(&mut self, partition: i32, offset: i64, wait: Duration) -> Result<Option<Record>> {
        if !(0..self.partitions).contains(&partition) {
            return Err(Error::NoSuchPartition { topic: self.topic.clone(), partition });
        }
        if offset < 0 {
            return Err(self.out_of_range(partition, offset));
        }
        let assigned = place(&self.topic, partition, offset)
            .and_then(|place| self.consumer.incremental_assign(&place).map(|()| place));
        let place = assigned.map_err(|e| fault::failed(self.attempt(partition, offset), &e))?;
        let found = self.read_assigned(partition, offset, wait);
        self.consumer
            .incremental_unassign(&place)
            .map_err(|e| fault::failed(self.attempt(partition, offset), &e))?;
        found
    }
}

fn place(topic: &str, partition: i32, offset: i64) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::with_capacity(1);
    list.add_partition_offset(topic, partition, Offset::Offset(offset))?;
    Ok(list)
}
