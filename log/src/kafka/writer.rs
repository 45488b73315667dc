//! The one writer: a transactional producer that foretells where its records will be.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use tracing::{debug, warn};

use super::cluster::Cluster;
use super::fault;
use super::ledger::{Gap, Learnt, Ledger, Slot, Ticket};
use super::listener::{Listener, lock};
use super::options::Options;
use crate::{AppendedRange, Class, Error, NewRecord, Result, Writer, chunk, headers};

/// Bytes of records that may wait for the brokers; `send` blocks beyond.
const SEND_QUEUE_KIBIBYTES: usize = 64 * 1024;
/// Records that may wait for the brokers: each costs some 200 bytes beside its own.
const SEND_QUEUE_RECORDS: usize = 200_000;
/// How long a partition's batch may wait for more records.
const LINGER: Duration = Duration::from_millis(5);
/// Delivery reports are taken in after this many records at the latest.
const POLL_EVERY_RECORDS: u32 = 64;
/// Rest of a wait that finds no reports to take in.
const REPORTS_PAUSE: Duration = Duration::from_micros(500);
/// What a wait for deliveries is given beyond the time after which librdkafka gives a record up.
const FLUSH_GRACE: Duration = Duration::from_secs(5);
/// How long taking over may last; the previous writer's transaction is completed first.
const TAKE_OVER_WAIT: Duration = Duration::from_secs(60);
/// One try within such a wait: a refused login is noticed between two of them.
const CALL_SLICE: Duration = Duration::from_secs(2);
/// How long dropping a writer with an open transaction may take to abort it.
const DROP_WAIT: Duration = Duration::from_secs(3);

/// What went wrong with a record after `send` had taken it.
#[derive(Clone, Debug)]
enum Failure {
    /// It was not stored.
    Lost { topic: String, partition: i32, code: Code },
    /// It was stored elsewhere than foretold.
    Elsewhere { topic: String, partition: i32, foretold: i64, found: i64 },
}

/// Takes in delivery reports.
#[derive(Default)]
struct Deliveries {
    listener: Listener,
    failed: AtomicBool,
    failure: Mutex<Option<Failure>>,
    learnt: Mutex<Learnt>,
}

impl Deliveries {
    fn fail(&self, failure: Failure) {
        // The first failure is the cause of those that follow.
        lock(&self.failure).get_or_insert(failure);
        self.failed.store(true, Ordering::Release);
    }

    fn failure(&self) -> Option<Failure> {
        if self.failed.load(Ordering::Acquire) { lock(&self.failure).clone() } else { None }
    }

    fn clear(&self) {
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

/// Where the writer is between two calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No transaction is open.
    Idle,
    /// One is open.
    Open,
    /// One is open and can only be aborted.
    Failed,
    /// A commit has begun, and whether it succeeded is not known.
    InDoubt,
    /// The producer is of no more use.
    Dead,
}

/// A writer on Kafka.
pub(super) struct KafkaWriter {
    cluster: Arc<Cluster>,
    transactional_id: String,
    producer: BaseProducer<Deliveries>,
    ledger: Ledger,
    state: State,
    unpolled: u32,
}

impl KafkaWriter {
    /// Takes over as the writer of `transactional_id`.
    pub(super) fn new(cluster: Arc<Cluster>, transactional_id: &str) -> Result<Self> {
        let attempt = || format!("take over as writer {transactional_id}");
        let producer: BaseProducer<Deliveries> = config(cluster.options(), transactional_id)
            .create_with_context(Deliveries::default())
            .map_err(|e| fault::failed(attempt(), &e))?;
        let mut writer = Self {
            cluster,
            transactional_id: transactional_id.to_owned(),
            producer,
            ledger: Ledger::default(),
            state: State::Idle,
            unpolled: 0,
        };
        let deadline = Instant::now() + TAKE_OVER_WAIT;
        loop {
            let Err(error) = writer.producer.init_transactions(CALL_SLICE) else { return Ok(writer) };
            writer.producer.poll(Duration::ZERO);
            if let Some(reason) = writer.producer.context().listener.refusal() {
                return Err(Error::Store { attempt: attempt(), reason, class: Class::Fatal });
            }
            if error.rdkafka_error_code() == Some(Code::InvalidTransactionTimeout) {
                let reason = format!(
                    "the brokers take no transaction-timeout of {}: lower it, or raise their transaction.max.timeout.ms",
                    humantime::format_duration(writer.cluster.options().transaction_timeout)
                );
                return Err(Error::Store { attempt: attempt(), reason, class: Class::Fatal });
            }
            if fault::class(&error) != Class::Retry || Instant::now() >= deadline {
                return Err(writer.call_error(attempt(), &error));
            }
        }
    }

    /// The error of a producer call; the state follows it.
    fn call_error(&mut self, attempt: String, error: &KafkaError) -> Error {
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
    fn check_deliveries(&mut self) -> Result<()> {
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
    fn transaction_error(&self) -> Option<KafkaError> {
        let refusal = self.producer.begin_transaction().err()?;
        matches!(&refusal, KafkaError::Transaction(error) if error.txn_requires_abort() || error.is_fatal())
            .then_some(refusal)
    }

    fn gap(&mut self, gap: Gap) -> Error {
        self.state = State::Failed;
        self.ledger.doubt(&gap.topic, gap.partition);
        let found = gap.found.map_or("nowhere".into(), |(first, last)| format!("from {first} to {last}"));
        Error::Store {
            attempt: format!("append {} records to {}/{}", gap.sent, gap.topic, gap.partition),
            reason: format!("they were found {found}; something else writes to this partition"),
            class: Class::Abort,
        }
    }

    fn slot(&mut self, topic: &str, partition: i32) -> Result<Slot> {
        if let Some(slot) = self.ledger.slot(topic, partition) {
            return Ok(slot);
        }
        if !self.ledger.has_topic(topic)
            && let Some(partitions) = self.cluster.partitions(topic)?
        {
            self.ledger.add_topic(topic, partitions);
        }
        self.ledger
            .slot(topic, partition)
            .ok_or_else(|| Error::NoSuchPartition { topic: topic.to_owned(), partition })
    }

    /// Hands one record to librdkafka, waiting for room.
    fn produce(&mut self, slot: Slot, record: &NewRecord<'_>) -> Result<()> {
        let mut message = BaseRecord::with_opaque_to(record.topic, self.ledger.ticket(slot).pack())
            .partition(record.partition)
            // librdkafka takes 0 for now, and brokers refuse times before 1970.
            .timestamp(record.timestamp.max(1))
            .key(record.key)
            .payload(record.value);
        message.headers = owned(record.headers);
        // Records that wait are given up by librdkafka after delivery-timeout, so that there is room again.
        let deadline = Instant::now() + self.cluster.options().delivery_timeout + FLUSH_GRACE;
        while let Err((error, back)) = self.producer.send(message) {
            if error.rdkafka_error_code() != Some(Code::QueueFull) || Instant::now() >= deadline {
                self.check_deliveries()?;
                return Err(self.send_error(record, &error));
            }
            message = back;
            take_in(&self.producer);
        }
        self.ledger.record(slot);
        self.unpolled += 1;
        if self.unpolled >= POLL_EVERY_RECORDS {
            self.unpolled = 0;
            self.producer.poll(Duration::ZERO);
        }
        Ok(())
    }

    fn send_error(&mut self, record: &NewRecord<'_>, error: &KafkaError) -> Error {
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

    /// Waits until every record has been stored, or one has failed.
    fn flush(&mut self) -> Result<()> {
        let deadline = Instant::now() + self.cluster.options().delivery_timeout + FLUSH_GRACE;
        while self.producer.in_flight_count() > 0 {
            self.check_deliveries()?;
            if Instant::now() >= deadline {
                self.state = State::Failed;
                return Err(Error::Store {
                    attempt: format!("store {} records", self.producer.in_flight_count()),
                    reason: "the brokers did not confirm them in time".into(),
                    class: Class::Abort,
                });
            }
            take_in(&self.producer);
        }
        self.check_deliveries()
    }

    fn expect_open(&mut self, call: &str) -> Result<()> {
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

    fn misused(&self, call: &str, reason: &str, class: Class) -> Error {
        Error::Store {
            attempt: format!("{call} as writer {}", self.transactional_id),
            reason: reason.into(),
            class,
        }
    }

    fn dead(&self, call: &str) -> Error {
        match self.producer.client().fatal_error() {
            Some((code, _)) if fault::class_of(code) == Class::Fenced => {
                Error::Fenced { transactional_id: self.transactional_id.clone() }
            }
            Some((_, reason)) => self.misused(call, &reason, Class::Fatal),
            None => self.misused(call, "this writer has failed for good", Class::Fatal),
        }
    }

    fn abort_within(&mut self, wait: Duration) -> Result<()> {
        let deadline = Instant::now() + wait;
        let (producer, done) = (&self.producer, AtomicBool::new(false));
        // The abort waits for the reports of the records it throws away, and does not take them in itself.
        let result = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Acquire) {
                    take_in(producer);
                }
            });
            let result = loop {
                let left = deadline.saturating_duration_since(Instant::now());
                match producer.abort_transaction(left) {
                    Err(error) if fault::class(&error) == Class::Retry && !left.is_zero() => {}
                    result => break result,
                }
            };
            done.store(true, Ordering::Release);
            result
        });
        result.map_err(|e| {
            self.call_error(format!("abort a transaction of writer {}", self.transactional_id), &e)
        })
    }
}

impl Writer for KafkaWriter {
    fn begin(&mut self) -> Result<()> {
        match self.state {
            State::Idle => {}
            State::Dead => return Err(self.dead("begin")),
            _ => return Err(self.misused("begin", "a transaction is open", Class::Fatal)),
        }
        self.producer.context().clear();
        let attempt = || format!("begin a transaction of writer {}", self.transactional_id);
        if let Err(error) = self.producer.begin_transaction() {
            let attempt = attempt();
            return Err(self.call_error(attempt, &error));
        }
        self.state = State::Open;
        Ok(())
    }

    fn send(&mut self, record: &NewRecord<'_>) -> Result<()> {
        self.expect_open("send")?;
        headers::check(record)?;
        let slot = self.slot(record.topic, record.partition)?;
        match chunk::split(record.value, self.cluster.options().max_record_bytes) {
            None => self.produce(slot, record)?,
            Some(chunks) => {
                for chunk in chunks {
                    let of_chunk = chunk.headers();
                    let headers = chunk::after(record.headers, &of_chunk);
                    self.produce(slot, &NewRecord { value: chunk.value, headers: &headers, ..*record })?;
                }
            }
        }
        self.ledger.sent(slot);
        Ok(())
    }

    fn mark(&mut self) -> Result<Vec<AppendedRange>> {
        self.expect_open("mark")?;
        if self.ledger.needs_reports() {
            self.flush()?;
        }
        let marked = self.ledger.mark(&mut lock(&self.producer.context().learnt));
        marked.map_err(|gap| self.gap(gap))
    }

    fn commit(&mut self) -> Result<()> {
        if self.state != State::InDoubt {
            self.expect_open("commit")?;
            self.flush()?;
            // Records after the last mark settle where their partitions are, too.
            let marked = self.ledger.mark(&mut lock(&self.producer.context().learnt));
            marked.map_err(|gap| self.gap(gap))?;
        }
        self.state = State::InDoubt;
        let deadline = Instant::now() + self.cluster.options().delivery_timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.producer.commit_transaction(left) {
                Ok(()) => break,
                Err(error) if fault::class(&error) == Class::Retry && !left.is_zero() => {}
                Err(error) => {
                    let attempt = format!("commit a transaction of writer {}", self.transactional_id);
                    return Err(self.call_error(attempt, &error));
                }
            }
        }
        self.state = State::Idle;
        self.cluster.wait_until_visible(self.ledger.committed());
        Ok(())
    }

    fn abort(&mut self) -> Result<()> {
        match self.state {
            State::Idle => return Ok(()),
            State::Open | State::Failed => {}
            State::InDoubt => {
                let reason = "a commit is in doubt; repeat it, or read the log and take over again";
                return Err(self.misused("abort", reason, Class::Fatal));
            }
            State::Dead => return Err(self.dead("abort")),
        }
        if self.state == State::Open {
            // Records thrown away while they wait leave a gap in the sequence numbers that brokers check, which fails
            // the next transaction once. So what waits (SEND_QUEUE_KIBIBYTES at most) is stored first, and then aborted
            // with the rest. After a failure there is a gap already: the next transaction may have to be aborted, too.
            if let Err(error) = self.flush() {
                debug!(%error, "records of an aborted transaction were not stored");
            }
        }
        if self.state == State::Dead {
            return Err(self.dead("abort"));
        }
        self.abort_within(self.cluster.options().delivery_timeout)?;
        self.state = State::Idle;
        self.ledger.aborted();
        self.producer.context().clear();
        Ok(())
    }
}

impl Drop for KafkaWriter {
    /// Readers need not wait for transaction-timeout because of a writer that ends in good order.
    fn drop(&mut self) {
        if matches!(self.state, State::Open | State::Failed)
            && let Err(error) = self.abort_within(DROP_WAIT)
        {
            warn!(writer = self.transactional_id, %error, "a transaction was left open");
        }
    }
}

/// Headers as librdkafka takes them over.
fn owned(headers: &[(&str, &[u8])]) -> Option<OwnedHeaders> {
    let add =
        |all: OwnedHeaders, (key, value): &(&str, &[u8])| all.insert(Header { key, value: Some(*value) });
    (!headers.is_empty()).then(|| headers.iter().fold(OwnedHeaders::new_with_capacity(headers.len()), add))
}

/// Takes in the reports that are there, and rests where there are none. Not by a poll that waits: rdkafka's goes on until
/// its time is over, and below a millisecond it spins, which took a core from the thread that sends.
fn take_in(producer: &BaseProducer<Deliveries>) {
    let before = producer.in_flight_count();
    producer.poll(Duration::ZERO);
    if producer.in_flight_count() == before {
        std::thread::sleep(REPORTS_PAUSE);
    }
}

fn config(options: &Options, transactional_id: &str) -> rdkafka::ClientConfig {
    let mut config = options.client();
    let batch_bytes = options.batch_bytes().to_string();
    config
        .set("transactional.id", transactional_id)
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("compression.type", options.compression())
        .set("linger.ms", LINGER.as_millis().to_string())
        .set("batch.size", &batch_bytes)
        .set("message.max.bytes", &batch_bytes)
        .set("batch.num.messages", "100000")
        .set("queue.buffering.max.kbytes", SEND_QUEUE_KIBIBYTES.to_string())
        .set("queue.buffering.max.messages", SEND_QUEUE_RECORDS.to_string())
        .set("transaction.timeout.ms", options.transaction_timeout.as_millis().to_string())
        .set("message.timeout.ms", options.delivery_timeout.as_millis().to_string());
    config
}
