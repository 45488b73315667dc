//! The cluster as a client without a group sees it: topics, offsets, and calls that wait for a broker, but not forever.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::admin::AdminClient;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::metadata::Metadata;
use rdkafka::types::{RDKafkaErrorCode as Code, RDKafkaRespErr};

use super::fault;
use super::listener::{Listener, lock};
use super::options::Options;
use crate::{Bounds, Class, Error, Result};

/// How long a call waits for brokers that are away or have not heard of a new topic yet.
pub(super) const CALL_WAIT: Duration = Duration::from_secs(20);
/// The first try within such a wait; each next one may take twice as long. A refused login is noticed between two.
const FIRST_TRY: Duration = Duration::from_secs(1);
/// Pause before the same call is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// How often the client's own events are taken in.
const DRAIN_INTERVAL: Duration = Duration::from_millis(100);
/// Consumers of partition readers that are kept for the next ones. To connect takes some milliseconds, to close rdkafka a
/// tenth of a second.
const MAX_IDLE_CONSUMERS: usize = 4;

/// A connection to the cluster, shared by everything that a log gives out.
pub(super) struct Cluster {
    options: Options,
    client: Arc<BaseConsumer<Listener>>,
    stop: Arc<AtomicBool>,
    drain: Option<JoinHandle<()>>,
    admin: OnceLock<AdminClient<Listener>>,
    idle: Mutex<Vec<Arc<BaseConsumer<Listener>>>>,
}

impl Cluster {
    /// Connects, and finds out whether the brokers let this client in.
    pub(super) fn connect(options: Options) -> Result<Self> {
        let mut config = options.client();
        // ListOffsets answers a read-committed client with the last stable offset.
        config.set("isolation.level", "read_committed");
        let client: BaseConsumer<Listener> = config
            .create_with_context(Listener::default())
            .map_err(|e| fault::failed(format!("make a client for {}", options.url), &e))?;
        let client = Arc::new(client);
        let stop = Arc::new(AtomicBool::new(false));
        let drain = {
            let (client, stop) = (client.clone(), stop.clone());
            std::thread::Builder::new().name("kafka-events".into()).spawn(move || {
                while !stop.load(Ordering::Acquire) {
                    // Without a group no record comes here, only log lines and errors, which the listener has had.
                    drop(client.poll(DRAIN_INTERVAL));
                }
            })
        };
        let attempt = format!("connect to {}", options.url);
        let drain = drain.map_err(|e| Error::Store {
            attempt: attempt.clone(),
            reason: e.to_string(),
            class: Class::Retry,
        })?;
        let cluster = Self {
            options,
            client,
            stop,
            drain: Some(drain),
            admin: OnceLock::new(),
            idle: Mutex::default(),
        };
        // Asks for no topic in particular: a topic that is missing is no reason not to connect.
        cluster.patiently(|| attempt.clone(), |client, wait| client.client().fetch_metadata(None, wait))?;
        Ok(cluster)
    }

    /// The options of the URL.
    pub(super) fn options(&self) -> &Options {
        &self.options
    }

    /// A read-committed client without a group.
    pub(super) fn client(&self) -> &BaseConsumer<Listener> {
        &self.client
    }

    /// The client for topics and their settings. One for all: to end it takes a tenth of a second.
    pub(super) fn admin(&self) -> Result<&AdminClient<Listener>> {
        if let Some(admin) = self.admin.get() {
            return Ok(admin);
        }
        let made = self
            .options
            .client()
            .create_with_context(Listener::default())
            .map_err(|e| fault::failed("make an administration client".into(), &e))?;
        Ok(self.admin.get_or_init(|| made))
    }

    /// A consumer for partition readers that `make` has made, now or earlier.
    pub(super) fn lease(
        self: &Arc<Self>,
        make: impl FnOnce() -> Result<BaseConsumer<Listener>>,
    ) -> Result<Lease> {
        let idle = lock(&self.idle).pop();
        let consumer = match idle {
            Some(consumer) => consumer,
            None => Arc::new(make()?),
        };
        Ok(Lease { cluster: self.clone(), consumer })
    }

    /// Calls again and again while the error is one that passes, until `CALL_WAIT` is over.
    pub(super) fn patiently<T>(
        &self,
        attempt: impl Fn() -> String,
        mut call: impl FnMut(&BaseConsumer<Listener>, Duration) -> KafkaResult<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + CALL_WAIT;
        let mut this_try = FIRST_TRY;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let error = match call(&self.client, this_try.min(left)) {
                Ok(value) => {
                    self.client.context().welcome();
                    return Ok(value);
                }
                Err(error) => error,
            };
            if let Some(reason) = self.client.context().refusal() {
                return Err(Error::Store { attempt: attempt(), reason, class: Class::Fatal });
            }
            if fault::class(&error) != Class::Retry || left.is_zero() {
                return Err(fault::failed(attempt(), &error));
            }
            this_try *= 2;
            std::thread::sleep(RETRY_PAUSE.min(left));
        }
    }

    /// What the cluster says of one topic, or `None` where there is no such topic.
    pub(super) fn metadata(&self, topic: &str) -> Result<Option<Metadata>> {
        if !is_topic_name(topic) {
            return Ok(None);
        }
        let metadata = self.patiently(
            || format!("look up topic {topic}"),
            |client, wait| {
                let metadata = client.fetch_metadata(Some(topic), wait)?;
                match metadata.topics().first().and_then(|t| t.error()) {
                    None | Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR) => Ok(Some(metadata)),
                    Some(
                        RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART
                        | RDKafkaRespErr::RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC
                        | RDKafkaRespErr::RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION,
                    ) => Ok(None),
                    Some(error) => Err(KafkaError::MetadataFetch(error.into())),
                }
            },
        )?;
        Ok(metadata.filter(|m| m.topics().first().is_some_and(|t| !t.partitions().is_empty())))
    }

    /// Number of partitions of a topic, or `None` where there is no such topic.
    pub(super) fn partitions(&self, topic: &str) -> Result<Option<i32>> {
        let metadata = self.metadata(topic)?;
        Ok(metadata.and_then(|m| m.topics().first().map(|t| t.partitions().len() as i32)))
    }

    /// Fails where there is no such partition.
    pub(super) fn expect_partition(&self, topic: &str, partition: i32) -> Result<()> {
        if self.partitions(topic)?.is_some_and(|partitions| (0..partitions).contains(&partition)) {
            Ok(())
        } else {
            Err(Error::NoSuchPartition { topic: topic.to_owned(), partition })
        }
    }

    /// What a read-committed reader can see of a partition.
    pub(super) fn bounds(&self, topic: &str, partition: i32) -> Result<Bounds> {
        if !is_topic_name(topic) || partition < 0 {
            return Err(Error::NoSuchPartition { topic: topic.to_owned(), partition });
        }
        let attempt = || format!("look up the offsets of {topic}/{partition}");
        let mut missing = false;
        let found =
            self.patiently(attempt, |client, wait| match client.fetch_watermarks(topic, partition, wait) {
                Err(KafkaError::MetadataFetch(
                    Code::UnknownPartition | Code::UnknownTopic | Code::UnknownTopicOrPartition,
                )) if matches!(
                    self.expect_partition(topic, partition),
                    Err(Error::NoSuchPartition { .. })
                ) =>
                {
                    missing = true;
                    Ok((0, 0))
                }
                result => result,
            });
        match found {
            _ if missing => Err(Error::NoSuchPartition { topic: topic.to_owned(), partition }),
            Ok((start, end)) => Ok(Bounds { start, end }),
            Err(error) => Err(error),
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        let (idle, admin) = (std::mem::take(&mut *lock(&self.idle)), self.admin.take());
        // Each takes up to a tenth of a second to end: they do it side by side.
        std::thread::scope(|scope| {
            scope.spawn(|| drop(admin));
            for consumer in idle {
                scope.spawn(|| drop(consumer));
            }
            if let Some(drain) = self.drain.take() {
                // It can only have panicked, and then there is nothing left to end.
                drop(drain.join());
            }
        });
    }
}

/// A consumer lent to partition readers. Goes back to the cluster on drop.
pub(super) struct Lease {
    cluster: Arc<Cluster>,
    consumer: Arc<BaseConsumer<Listener>>,
}

impl Deref for Lease {
    type Target = Arc<BaseConsumer<Listener>>;

    fn deref(&self) -> &Self::Target {
        &self.consumer
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.consumer.client().fatal_error().is_some() || self.consumer.unassign().is_err() {
            return;
        }
        let mut idle = lock(&self.cluster.idle);
        if idle.len() < MAX_IDLE_CONSUMERS {
            idle.push(self.consumer.clone());
        }
    }
}

/// Whether Kafka takes it as the name of a topic. librdkafka's calls must not see any other.
pub(super) fn is_topic_name(name: &str) -> bool {
    (1..=249).contains(&name.len()) && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}
