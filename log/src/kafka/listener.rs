//! What librdkafka tells of its own accord: log lines, errors that belong to no call, and how far it has fetched.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;
use rdkafka::statistics::Statistics;
use rdkafka::types::RDKafkaErrorCode as Code;
use tracing::{debug, warn};

/// Passes log lines on, and remembers that the brokers refused this client, and how far it has fetched.
#[derive(Debug, Default)]
pub(super) struct Listener {
    refusal: Mutex<Option<String>>,
    /// Of each partition the offset to be fetched next, and when it was first seen.
    fetched: Mutex<HashMap<(String, i32), (i64, Instant)>>,
}

impl Listener {
    /// Why the brokers refused this client, if they did since the last `welcome`.
    pub(super) fn refusal(&self) -> Option<String> {
        lock(&self.refusal).clone()
    }

    /// When a partition was last seen to be fetched on, records or not. Of a consumer with statistics only.
    pub(super) fn moved(&self, topic: &str, partition: i32) -> Option<Instant> {
        lock(&self.fetched).get(&(topic.to_owned(), partition)).map(|(_, since)| *since)
    }

    /// A call succeeded, so the client is not refused.
    pub(super) fn welcome(&self) {
        lock(&self.refusal).take();
    }
}

impl ClientContext for Listener {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        match level {
            RDKafkaLogLevel::Info | RDKafkaLogLevel::Notice | RDKafkaLogLevel::Debug => {
                debug!(facility, line, "librdkafka says");
            }
            _ => warn!(facility, line, "librdkafka warns"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        debug!(%error, reason, "librdkafka reports");
        let refused = match error.rdkafka_error_code() {
            Some(Code::Authentication | Code::SaslAuthenticationFailed | Code::UnsupportedSASLMechanism) => {
                true
            }
            // A handshake also fails when a broker goes away in the middle of it; that passes.
            Some(Code::SSL) => ["certificate", "verify", "alert"].iter().any(|word| reason.contains(word)),
            _ => false,
        };
        if refused {
            *lock(&self.refusal) = Some(reason.to_owned());
        }
    }

    fn stats(&self, statistics: Statistics) {
        let now = Instant::now();
        let mut fetched = lock(&self.fetched);
        for (name, topic) in statistics.topics {
            for partition in topic.partitions.into_values() {
                let (offset, since) = fetched
                    .entry((name.clone(), partition.partition))
                    .or_insert((partition.next_offset, now));
                if *offset != partition.next_offset {
                    (*offset, *since) = (partition.next_offset, now);
                }
            }
        }
    }
}

impl ConsumerContext for Listener {}

/// Locks, also after a panic of another holder: what is kept under our locks is whole between any two statements.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use rdkafka::statistics::{Partition, Topic};

    use super::*;

    fn tell(listener: &Listener, next_offset: i64) {
        let partition = Partition { partition: 3, next_offset, ..Partition::default() };
        let topic = Topic { partitions: [(3, partition)].into(), ..Topic::default() };
        listener.stats(Statistics { topics: [("t".to_owned(), topic)].into(), ..Statistics::default() });
    }

    #[test]
    fn a_partition_moves_when_it_is_fetched_on_and_not_when_that_is_told_again() {
        let listener = Listener::default();
        assert_eq!(listener.moved("t", 3), None);
        tell(&listener, 7);
        let first = listener.moved("t", 3).unwrap();
        tell(&listener, 7);
        assert_eq!(listener.moved("t", 3), Some(first));
        tell(&listener, 8);
        assert!(listener.moved("t", 3).unwrap() > first);
        assert_eq!(listener.moved("t", 0), None);
    }
}
