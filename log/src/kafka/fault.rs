//! What an error of librdkafka or of a broker means to the caller: the one place where Kafka's errors are classified.

use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode as Code;

use crate::{Class, Error};

/// The error of a call that `attempt`ed something.
pub(super) fn failed(attempt: String, error: &KafkaError) -> Error {
    Error::Store { attempt, reason: reason(error), class: class(error) }
}

/// What to do after `error`.
pub(super) fn class(error: &KafkaError) -> Class {
    match error {
        KafkaError::Transaction(error) => match class_of(error.code()) {
            Class::Fenced => Class::Fenced,
            _ if error.txn_requires_abort() => Class::Abort,
            _ if error.is_retriable() => Class::Retry,
            _ if error.is_fatal() => Class::Fatal,
            class => class,
        },
        // Says only why in words; it fails on a state that passes, or on nonsense that our own checks refuse before.
        KafkaError::Seek(_) | KafkaError::Canceled => Class::Retry,
        _ => error.rdkafka_error_code().map_or(Class::Fatal, class_of),
    }
}

/// What to do after an error with this code.
pub(super) fn class_of(code: Code) -> Class {
    match code {
        // A broker that is away, restarts, moves a leader or a coordinator, or is slow.
        Code::BrokerTransportFailure
        | Code::BrokerDestroy
        | Code::DestroyBroker
        | Code::Resolve
        | Code::AllBrokersDown
        | Code::OperationTimedOut
        | Code::MessageTimedOut
        | Code::TimedOutQueue
        | Code::QueueFull
        | Code::WaitingForCoordinator
        | Code::WaitCache
        | Code::InProgress
        | Code::PreviousInProgress
        | Code::ISRInsufficient
        | Code::NodeUpdate
        | Code::Outdated
        | Code::Retry
        | Code::UnknownBroker
        | Code::UnknownPartition
        | Code::UnknownTopic
        | Code::UnknownTopicOrPartition
        | Code::UnknownTopicId
        | Code::LeaderNotAvailable
        | Code::NotLeaderForPartition
        | Code::RequestTimedOut
        | Code::BrokerNotAvailable
        | Code::ReplicaNotAvailable
        | Code::NetworkException
        | Code::CoordinatorLoadInProgress
        | Code::CoordinatorNotAvailable
        | Code::NotCoordinator
        | Code::NotEnoughReplicas
        | Code::NotEnoughReplicasAfterAppend
        | Code::RebalanceInProgress
        | Code::NotController
        | Code::ConcurrentTransactions
        | Code::KafkaStorageError
        | Code::FencedLeaderEpoch
        | Code::UnknownLeaderEpoch
        | Code::StaleBrokerEpoch
        | Code::OffsetNotAvailable
        | Code::PreferredLeaderNotAvailable
        | Code::EligibleLeadersNotAvailable
        | Code::FetchSessionIdNotFound
        | Code::InvalidFetchSessionEpoch
        | Code::UnstableOffsetCommit
        | Code::ThrottlingQuotaExceeded
        | Code::PollExceeded
        | Code::RebootstrapRequired => Class::Retry,
        // The transaction cannot be completed, the next one can.
        Code::PurgeQueue
        | Code::PurgeInflight
        | Code::UnknownProducerId
        | Code::InvalidProducerIdMapping
        | Code::OutOfOrderSequenceNumber
        | Code::GaplessGuarantee
        | Code::Inconsistent => Class::Abort,
        Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::InvalidMessageSize => Class::Refused,
        Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch => Class::Fenced,
        _ => Class::Fatal,
    }
}

/// What to do with a transaction of which a record, or a call, failed with this class.
pub(super) fn of_transaction(class: Class) -> Class {
    match class {
        Class::Retry => Class::Abort,
        class => class,
    }
}

/// The words of `error`, without the name of its Rust type.
pub(super) fn reason(error: &KafkaError) -> String {
    match error {
        KafkaError::Transaction(error) => error.string(),
        _ => match error.rdkafka_error_code() {
            Some(code) => code.to_string(),
            None => error.to_string(),
        },
    }
}

/// A value or batch that a topic does not take: what to change.
pub(super) fn too_large(topic: &str, batch_bytes: usize) -> String {
    format!(
        "topic {topic} does not take batches of up to {batch_bytes} bytes: raise its max.message.bytes to that, or \
         lower the log's max-record-bytes"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_that_restarts_is_no_persons_business() {
        for code in [Code::BrokerTransportFailure, Code::NotLeaderForPartition, Code::NotCoordinator] {
            assert_eq!(class_of(code), Class::Retry, "{code:?}");
            assert_eq!(of_transaction(class_of(code)), Class::Abort, "{code:?}");
        }
    }

    #[test]
    fn a_record_that_a_topic_may_take_one_day_is_refused() {
        for code in [Code::MessageSizeTooLarge, Code::MessageBatchTooLarge] {
            assert_eq!(of_transaction(class_of(code)), Class::Refused, "{code:?}");
        }
    }

    #[test]
    fn unusable_records_and_logins_need_a_person() {
        for code in [
            Code::InvalidTimestamp,
            Code::TopicAuthorizationFailed,
            Code::SaslAuthenticationFailed,
            Code::Authentication,
            Code::InvalidTransactionTimeout,
        ] {
            assert_eq!(of_transaction(class_of(code)), Class::Fatal, "{code:?}");
        }
    }

    #[test]
    fn a_newer_epoch_is_a_fence() {
        for code in [Code::Fenced, Code::ProducerFenced, Code::InvalidProducerEpoch] {
            assert_eq!(of_transaction(class_of(code)), Class::Fenced, "{code:?}");
        }
    }
}
