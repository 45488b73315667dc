//! What has gone wrong, as the caller is told. The writer's state follows.

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::Producer;
use tracing::warn;

use super::delivery::Failure;
use super::{KafkaWriter, State};
use crate::kafka::fault;
use crate::kafka::ledger::Gap;
use crate::{Class, Error, NewRecord, Result};

impl KafkaWriter {
    /// The error of a producer call; the state follows it.
    pub(super) fn call_error(&mut self, attempt: String, error: &KafkaError) -> Error {
        let fatal = self.producer.client().fatal_error().map(|(code, _)| fault::class_of(code));
        let class = if fatal == Some(Class::Fenced) { Class::Fenced } else { fault::class(error) };
        match class {
            Class::Fenced => {
                self.state = State::Dead;
                return Error::Fenced { transactional_id: self.transactional_id.clone() };
            }
            Class::Abort => self.state = State::Failed,
            Class::Fatal | Class::Refused | Class::Retry if fatal.is_some() => self.state = State::Dead,
            Class::Fatal | Class::Refused | Class::Retry => {}
        }
        let class = if fatal.is_some() { Class::Fatal } else { class };
        Error::Store { attempt, reason: fault::reason(error), class }
    }

    /// Fails where a record of the open transaction has failed.
    pub(super) fn check_deliveries(&mut self) -> Result<()> {
        let Some(failure) = self.producer.context().failure() else { return Ok(()) };
        if self.state == State::Open {
            self.state = State::Failed;
        }
        match failure {
            Failure::Lost { topic, partition, code } => {
                // When a transaction has failed, librdkafka throws away what waits. That is not why it failed.
                if matches!(code, Code::PurgeQueue | Code::PurgeInflight)
                    && let Some(cause) = self.transaction_error()
                {
                    return Err(match self.call_error(format!("append to {topic}/{partition}"), &cause) {
                        Error::Store { attempt, reason, class } => {
                            Error::Store { attempt, reason, class: fault::of_transaction(class) }
                        }
                        error => error,
                    });
                }
                let (fatal, text) = match self.producer.client().fatal_error() {
                    Some((fatal, text)) => (Some(fatal), text),
                    None => (None, code.to_string()),
                };
                let class = fault::of_transaction(fault::class_of(fatal.unwrap_or(code)));
                if class == Class::Fenced {
                    self.state = State::Dead;
                    return Err(Error::Fenced { transactional_id: self.transactional_id.clone() });
                }
                let reason = match code {
                    Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::InvalidMessageSize => {
                        fault::too_large(&topic, self.cluster.options().batch_bytes())
                    }
                    _ => text,
                };
                Err(Error::Store { attempt: format!("append to {topic}/{partition}"), reason, class })
            }
            Failure::Elsewhere { topic, partition, foretold, found } => {
                self.ledger.doubt(&topic, partition);
                warn!(topic, partition, foretold, found, "a record is not where it was foretold to be");
                Err(Error::Store {
                    attempt: format!("append to {topic}/{partition} at offset {foretold}"),
                    reason: format!(
                        "it was stored at offset {found}; something else writes to this partition"
                    ),
                    class: Class::Abort,
                })
            }
        }
    }

    /// Why the open transaction can only be aborted, where it can. Beginning another is refused with the reason, and
    /// changes nothing while one is open.
    pub(super) fn transaction_error(&self) -> Option<KafkaError> {
        let refusal = self.producer.begin_transaction().err()?;
        matches!(&refusal, KafkaError::Transaction(error) if error.txn_requires_abort() || error.is_fatal())
            .then_some(refusal)
    }

    pub(super) fn gap(&mut self, gap: Gap) -> Error {
        self.state = State::Failed;
        self.ledger.doubt(&gap.topic, gap.partition);
        let found = gap.found.map_or("nowhere".into(), |(first, last)| format!("from {first} to {last}"));
        Error::Store {
            attempt: format!("append {} records to {}/{}", gap.sent, gap.topic, gap.partition),
            reason: format!("they were found {found}; something else writes to this partition"),
            class: Class::Abort,
        }
    }

    pub(super) fn send_error(&mut self, record: &NewRecord<'_>, error: &KafkaError) -> Error {
        self.state = State::Failed;
        let attempt = format!("append to {}/{}", record.topic, record.partition);
        match error.rdkafka_error_code() {
            Some(Code::MessageSizeTooLarge) => Error::Store {
                attempt,
                reason: format!(
                    "a key of {} bytes beside a value of at most {} bytes is too large",
                    record.key.len(),
                    self.cluster.options().max_record_bytes
                ),
                class: Class::Fatal,
            },
            // `State` is all that librdkafka says of a record for a transaction that has failed meanwhile.
            code => match self.call_error(
                attempt,
                &self
                    .transaction_error()
                    .filter(|_| code == Some(Code::State))
                    .unwrap_or_else(|| error.clone()),
            ) {
                // The record is missing in the transaction now.
                Error::Store { attempt, reason, class } => {
                    Error::Store { attempt, reason, class: fault::of_transaction(class) }
                }
                error => error,
            },
        }
    }

    pub(super) fn expect_open(&mut self, call: &str) -> Result<()> {
        match self.state {
            State::Open => self.check_deliveries(),
            State::Failed => match self.check_deliveries() {
                Err(error) => Err(error),
                Ok(()) => Err(self.misused(call, "the transaction has failed; abort it", Class::Abort)),
            },
            State::Idle => Err(self.misused(call, "no transaction is open", Class::Fatal)),
            State::InDoubt => Err(self.misused(call, "a commit is in doubt; repeat it", Class::Fatal)),
            State::Dead => Err(self.dead(call)),
        }
    }

    pub(super) fn misused(&self, call: &str, reason: &str, class: Class) -> Error {
        Error::Store {
            attempt: format!("{call} as writer {}", self.transactional_id),
            reason: reason.into(),
            class,
        }
    }

    pub(super) fn dead(&self, call: &str) -> Error {
        match self.producer.client().fatal_error() {
            Some((code, _)) if fault::class_of(code) == Class::Fenced => {
                Error::Fenced { transactional_id: self.transactional_id.clone() }
            }
            Some((_, reason)) => self.misused(call, &reason, Class::Fatal),
            None => self.misused(call, "this writer has failed for good", Class::Fatal),
        }
    }
}
