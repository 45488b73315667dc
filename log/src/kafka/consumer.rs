//! What every consumer has in common, in a group or outside of any.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use tracing::debug;

use super::cluster::CALL_WAIT;
use super::fault;
use super::listener::Listener;
use super::options::Options;
use crate::{Class, Error, Record, Result};

/// Bytes of one fetch from a broker for all partitions, as compressed; a batch comes whole in any case. All of a fetch is
/// unpacked, whatever the queue has: batches of a quarter of a megabyte may take 100 bytes each, where the data repeats
/// itself. What partitions ask for does not bound that: librdkafka doubles it with each fetch of nothing but aborted
/// records, and never takes it back.
const FETCH_BYTES: usize = 32 * 1024;
/// Bytes that one `poll` of a stream returns at most, give or take a record.
pub(super) const POLL_BYTES: usize = 4 * 1024 * 1024;
/// Records that one `poll` or `read` returns at most.
pub(super) const POLL_RECORDS: usize = 50_000;
/// How long a broker may keep a fetch of a stream for which there is nothing.
const STREAM_FETCH_WAIT: Duration = Duration::from_millis(250);

/// What every consumer is configured with.
pub(super) fn config(options: &Options, queue_kibibytes: usize) -> ClientConfig {
    let mut config = options.client();
    config
        .set("group.id", &options.reader_group)
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // Records that are gone are an error, not a reason to read others.
        .set("auto.offset.reset", "error")
        .set("check.crcs", "true")
        .set("queued.min.messages", "1000000")
        .set("queued.max.messages.kbytes", queue_kibibytes.to_string())
        // By default a full queue stops the fetcher for a second.
        .set("fetch.queue.backoff.ms", "5")
        .set("fetch.message.max.bytes", FETCH_BYTES.to_string())
        .set("fetch.max.bytes", FETCH_BYTES.to_string())
        // Says nothing to a consumer, but must not be more than that.
        .set("message.max.bytes", FETCH_BYTES.to_string())
        .set("fetch.wait.max.ms", STREAM_FETCH_WAIT.as_millis().to_string())
        .set("fetch.error.backoff.ms", "100");
    config
}

/// Makes consumer records of librdkafka's. One topic name is shared by all of its records.
#[derive(Default)]
pub(super) struct Decoder(Vec<Arc<str>>);

impl Decoder {
    /// Copies a record out of librdkafka's memory. Gives nothing for one without a value: it has ended a transaction.
    pub(super) fn record(&mut self, message: &BorrowedMessage<'_>) -> Result<Option<Record>> {
        let Some(value) = message.payload() else { return Ok(None) };
        let key = message.key().unwrap_or_default();
        let mut bytes = BytesMut::with_capacity(key.len() + value.len());
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(value);
        let mut value = bytes.freeze();
        let key = value.split_to(key.len());
        let topic = self.topic(message.topic());
        let headers = headers(message).ok_or_else(|| Error::Corrupt {
            topic: topic.to_string(),
            partition: message.partition(),
            offset: message.offset(),
            reason: "the name of a header is not UTF-8".into(),
        })?;
        Ok(Some(Record {
            topic,
            partition: message.partition(),
            offset: message.offset(),
            timestamp: message.timestamp().to_millis().unwrap_or(-1),
            key,
            value,
            headers,
        }))
    }

    fn topic(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.0.iter().find(|known| ***known == *name) {
            return known.clone();
        }
        let name: Arc<str> = name.into();
        self.0.push(name.clone());
        name
    }
}

/// Headers in order, `None` where one has a name that is not UTF-8.
fn headers(message: &BorrowedMessage<'_>) -> Option<Vec<(String, Bytes)>> {
    let Some(headers) = message.headers() else { return Some(Vec::new()) };
    // rdkafka panics on such a name and has no other way to ask; bytes from a broker must not end a thread.
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        headers
            .iter()
            .map(|header| (header.key.to_owned(), Bytes::copy_from_slice(header.value.unwrap_or_default())))
            .collect()
    }))
    .ok()
}

/// Bytes that a record counts as where reads are bounded.
pub(super) fn weight(record: &Record) -> usize {
    const OVERHEAD: usize = 64;
    OVERHEAD + record.key.len() + record.value.len()
}

/// What an error of a consumer means.
pub(super) enum Trouble {
    /// librdkafka goes on by itself.
    Passes,
    /// The offset that some partition would go on at is not on the log.
    OutOfRange,
    /// Some record does not have the checksum that it was written with.
    Damaged(String),
    /// The caller must know.
    Error(KafkaError),
}

impl Trouble {
    pub(super) fn of(error: KafkaError) -> Self {
        match error.rdkafka_error_code() {
            Some(Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::LogTruncation) => Self::OutOfRange,
            Some(Code::BadMessage | Code::InvalidMessage | Code::BadCompression) => {
                Self::Damaged(fault::reason(&error))
            }
            _ if matches!(error, KafkaError::PartitionEOF(_)) => Self::Passes,
            _ if fault::class(&error) == Class::Retry => {
                debug!(%error, "a consumer waits for the brokers");
                Self::Passes
            }
            _ => Self::Error(error),
        }
    }
}

/// Makes the leaders of a topic known to a consumer. By itself it asks for them a second after the first fetch is due.
pub(super) fn introduce(consumer: &BaseConsumer<Listener>, topic: &str) {
    if let Err(error) = consumer.fetch_metadata(Some(topic), CALL_WAIT) {
        debug!(topic, %error, "a consumer has not found the leaders yet");
    }
}
