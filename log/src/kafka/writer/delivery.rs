//! Delivery reports: which records were stored, and where.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, Producer, ProducerContext};

use crate::kafka::ledger::{Learnt, Ticket};
use crate::kafka::listener::{Listener, lock};

/// Rest of a wait that finds no reports to take in.
pub(super) const REPORTS_PAUSE: Duration = Duration::from_micros(500);

/// What went wrong with a record after `send` had taken it.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    /// It was not stored.
    Lost { topic: String, partition: i32, code: Code },
    /// It was stored elsewhere than foretold.
    Elsewhere { topic: String, partition: i32, foretold: i64, found: i64 },
}

/// Takes in delivery reports.
#[derive(Default)]
pub(super) struct Deliveries {
    pub(super) listener: Listener,
    failed: AtomicBool,
    failure: Mutex<Option<Failure>>,
    pub(super) learnt: Mutex<Learnt>,
}

impl Deliveries {
    fn fail(&self, failure: Failure) {
        // The first failure is the cause of those that follow.
        lock(&self.failure).get_or_insert(failure);
        self.failed.store(true, Ordering::Release);
    }

    /// What went wrong first, if anything did since the last `clear`.
    pub(super) fn failure(&self) -> Option<Failure> {
        if self.failed.load(Ordering::Acquire) { lock(&self.failure).clone() } else { None }
    }

    /// Forgets the transaction before.
    pub(super) fn clear(&self) {
        self.failed.store(false, Ordering::Release);
        lock(&self.failure).take();
        lock(&self.learnt).clear();
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.listener.log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.listener.error(error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: usize) {
        match (result, Ticket::unpack(ticket)) {
            (Ok(message), Ticket::Foretold(foretold)) if message.offset() == foretold => {}
            (Ok(message), Ticket::Foretold(foretold)) => self.fail(Failure::Elsewhere {
                topic: message.topic().to_owned(),
                partition: message.partition(),
                foretold,
                found: message.offset(),
            }),
            (Ok(message), Ticket::Unknown(slot)) => lock(&self.learnt).record(slot, message.offset()),
            (Err((error, message)), _) => self.fail(Failure::Lost {
                topic: message.topic().to_owned(),
                partition: message.partition(),
                code: error.rdkafka_error_code().unwrap_or(Code::Unknown),
            }),
        }
    }
}

/// Takes in the reports that are there; says whether there were any. Not by a poll that waits: rdkafka's goes on until its
/// time is over, and below a millisecond it spins, which took a core from the thread that sends.
pub(super) fn take_in(producer: &BaseProducer<Deliveries>) -> bool {
    let before = producer.in_flight_count();
    let mut left = before;
    loop {
        producer.poll(Duration::ZERO);
        let now = producer.in_flight_count();
        if now >= left {
            return left != before;
        }
        left = now;
    }
}
