//! What librdkafka tells of its own accord: log lines, and errors that belong to no call.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode as Code;
use tracing::{debug, warn};

/// Passes log lines on, and remembers that the brokers refused this client.
#[derive(Debug, Default)]
pub(super) struct Listener {
    refusal: Mutex<Option<String>>,
}

impl Listener {
    /// Why the brokers refused this client, if they did since the last `welcome`.
    pub(super) fn refusal(&self) -> Option<String> {
        lock(&self.refusal).clone()
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
}

impl ConsumerContext for Listener {}

/// Locks, also after a panic of another holder: what is kept under our locks is whole between any two statements.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
