//! The log on a Kafka cluster, by librdkafka.
//!
//! Every promise of the log is one of Kafka's: the writer is a transactional producer, readers are read-committed
//! consumers, groups are consumer groups. What Kafka does not say, and the log does, is added here: where records will
//! be before they are stored (`ledger`), values larger than a record, leadership (`role`), and topics that are not
//! as the event contract wants them (`topics`).

mod cluster;
mod consumer;
mod fault;
mod group;
mod ledger;
mod listener;
mod markers;
mod options;
mod point;
mod reader;
mod role;
mod topics;
mod writer;

use std::sync::Arc;

use rdkafka::consumer::Consumer;
use rdkafka::{Offset, TopicPartitionList};
use sluice_schemas::TopicSpec;

use self::cluster::Cluster;
use self::options::Options;
use crate::{
    Bounds, Candidate, Committed, GroupInfo, GroupReader, Log, PartitionReader, PointReader, Reader, Result,
    StartAt, TopicInfo, TopicOutcome, Writer,
};

/// A log on Kafka.
pub struct KafkaLog {
    cluster: Arc<Cluster>,
}

impl KafkaLog {
    /// Connects to the brokers of a URL `kafka://HOST:PORT,…[?OPTION=VALUE&…]`. Every option is also an environment
    /// variable `SLUICE_KAFKA_OPTION`, which the URL wins over.
    ///
    /// | option | takes | default |
    /// |---|---|---|
    /// | `security` | `plaintext`, `tls`, `sasl_tls`, `sasl_plaintext` | `plaintext` |
    /// | `ca-file` | certificates that brokers' are signed by, PEM | the system's |
    /// | `cert-file`, `key-file` | this client's certificate and key, PEM | none |
    /// | `sasl-mechanism` | `PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512` | `SCRAM-SHA-512` |
    /// | `user` | name | none |
    /// | `password-file` | file; or give `SLUICE_KAFKA_PASSWORD` in the environment | none |
    /// | `compression` | `zstd`, `lz4`, `none` | `zstd` |
    /// | `max-record-bytes` | largest value of one record | 900000 |
    /// | `replication-factor` | of new topics | the brokers' |
    /// | `min-insync-replicas` | of topics | 2 where there are 3 replicas or more |
    /// | `transaction-timeout` | how long an open transaction of a silent writer is kept | `15m` |
    /// | `delivery-timeout` | how long a record may take to be stored | `60s` |
    /// | `role-session-timeout` | after how long a silent leader loses its role | `6s` |
    /// | `group-session-timeout` | after how long a silent member of a group loses its partitions | `15s` |
    /// | `reader-group` | `group.id` of readers in no group (for access lists) | `sluice.reader` |
    /// | `client-id` | name in the brokers' logs and quotas | `sluice` |
    ///
    /// # Errors
    /// `Error::Url` names the option that cannot be used. Fails within seconds where the brokers refuse this client,
    /// and within 20 s, to be tried again, where none answers.
    pub fn connect(url: &str) -> Result<Self> {
        let options = Options::parse(url, |name| std::env::var(name).ok())?;
        Ok(Self { cluster: Arc::new(Cluster::connect(options)?) })
    }
}

impl Log for KafkaLog {
    fn url(&self) -> &str {
        &self.cluster.options().url
    }

    fn ensure_topics(&self, specs: &[TopicSpec]) -> Result<Vec<TopicOutcome>> {
        topics::ensure(&self.cluster, specs)
    }

    fn topic(&self, name: &str) -> Result<Option<TopicInfo>> {
        topics::find(&self.cluster, name)
    }

    fn campaign(&self, role: &str) -> Result<Box<dyn Candidate>> {
        Ok(Box::new(role::campaign(&self.cluster, role)?))
    }

    fn writer(&self, transactional_id: &str) -> Result<Box<dyn Writer>> {
        Ok(Box::new(writer::KafkaWriter::new(self.cluster.clone(), transactional_id)?))
    }

    fn unfinished(&self, topics: &[&str]) -> Result<Vec<StartAt>> {
        let mut partitions = Vec::new();
        for &topic in topics {
            let count = self.cluster.partitions(topic)?.unwrap_or(0);
            partitions.extend((0..count).map(|partition| (topic, partition)));
        }
        markers::unfinished(&self.cluster, &partitions)
    }

    fn reader(&self, from: &[StartAt]) -> Result<Box<dyn Reader>> {
        Ok(Box::new(reader::KafkaReader::new(self.cluster.clone(), from)?))
    }

    fn partition_readers(&self, from: &[StartAt]) -> Result<Vec<Box<dyn PartitionReader>>> {
        let readers = reader::partition_readers(&self.cluster, from)?;
        Ok(readers.into_iter().map(|r| Box::new(r) as Box<dyn PartitionReader>).collect())
    }

    fn point_reader(&self, topic: &str) -> Result<Box<dyn PointReader>> {
        Ok(Box::new(point::KafkaPointReader::new(self.cluster.clone(), topic)?))
    }

    fn group(&self, group: &str, topics: &[&str]) -> Result<Box<dyn GroupReader>> {
        Ok(Box::new(group::KafkaGroup::join(self.cluster.clone(), group, topics)?))
    }

    fn bounds(&self, topic: &str, partition: i32) -> Result<Bounds> {
        self.cluster.bounds(topic, partition)
    }

    fn offset_at(&self, topic: &str, partition: i32, timestamp: i64) -> Result<Option<i64>> {
        let bounds = self.cluster.bounds(topic, partition)?;
        if bounds.start >= bounds.end {
            return Ok(None);
        }
        // Below 0 ListOffsets takes a timestamp for something else.
        let asked = timestamp.max(0);
        let found = self.cluster.patiently(
            || format!("look for time {timestamp} in {topic}/{partition}"),
            |client, wait| {
                let mut list = TopicPartitionList::with_capacity(1);
                list.add_partition_offset(topic, partition, Offset::Offset(asked))?;
                let found = client.offsets_for_times(list, wait)?;
                let element = found.find_partition(topic, partition);
                element.map_or(Ok(Offset::End), |e| e.error().map(|()| e.offset()))
            },
        )?;
        match found {
            // Kafka's index also knows the records of aborted transactions.
            Offset::Offset(offset) => {
                reader::first_at(&self.cluster, topic, partition, offset.max(bounds.start), timestamp)
            }
            _ => Ok(None),
        }
    }

    fn groups(&self) -> Result<Vec<GroupInfo>> {
        group::groups(&self.cluster)
    }

    fn reset_group(&self, group: &str, offsets: &[Committed]) -> Result<()> {
        group::reset(&self.cluster, group, offsets)
    }
}
