//! The one writer: a transactional producer that foretells where its records will be.

mod delivery;
mod flush;
mod trouble;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use tracing::{debug, warn};

use self::delivery::{Deliveries, REPORTS_PAUSE, take_in};
use self::flush::{BATCH_BYTES, Flush, Unreported};
use super::cluster::Cluster;
use super::fault;
use super::ledger::{End, Ledger, Slot};
use super::listener::lock;
use super::markers::{MARKER_PAUSE, Sight, look, wait_until_visible};
use super::options::Options;
use crate::{AppendedRange, Class, Ending, Error, NewRecord, Result, StartAt, Writer, chunk, headers};

/// Bytes of records that may wait for the brokers; `send` blocks beyond.
const SEND_QUEUE_KIBIBYTES: usize = 64 * 1024;
/// Records that may wait for the brokers: each costs some 200 bytes beside its own.
const SEND_QUEUE_RECORDS: usize = 200_000;
/// A batch that has not become full is sent when a quarter of `delivery-timeout` has gone by, or a flush comes first.
const LINGERS: u32 = 4;
/// Delivery reports are taken in after this many records at the latest.
const POLL_EVERY_RECORDS: u32 = 64;
/// What a wait for deliveries is given beyond the time after which librdkafka gives a record up.
const FLUSH_GRACE: Duration = Duration::from_secs(5);
/// How long taking over may last; the previous writer's transaction is completed first.
const TAKE_OVER_WAIT: Duration = Duration::from_secs(60);
/// One try within such a wait: a refused login is noticed between two of them.
const CALL_SLICE: Duration = Duration::from_secs(2);
/// How long dropping a writer with an open transaction may take to abort it.
const DROP_WAIT: Duration = Duration::from_secs(3);

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

/// A record for librdkafka, with its packed ticket.
type Message<'a> = BaseRecord<'a, [u8], [u8], usize>;

/// A writer on Kafka.
pub(super) struct KafkaWriter {
    cluster: Arc<Cluster>,
    transactional_id: String,
    producer: BaseProducer<Deliveries>,
    ledger: Ledger,
    unreported: Unreported,
    state: State,
    unpolled: u32,
    /// What is committed, but was not seen to be.
    unseen: Vec<End>,
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
            unreported: Unreported::default(),
            state: State::Idle,
            unpolled: 0,
            unseen: Vec::new(),
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
        let mut message = self.message(slot, record).payload(record.value);
        message.headers = owned(record.headers);
        self.hand_over(slot, record, message)
    }

    /// Hands over a record without a value, which readers pass over.
    fn produce_filler(&mut self, slot: Slot, topic: &str, partition: i32) -> Result<()> {
        let record = NewRecord { topic, partition, timestamp: 0, key: b"", value: b"", headers: &[] };
        self.hand_over(slot, &record, self.message(slot, &record))
    }

    fn message<'a>(&self, slot: Slot, record: &NewRecord<'a>) -> Message<'a> {
        BaseRecord::with_opaque_to(record.topic, self.ledger.ticket(slot).pack())
            .partition(record.partition)
            // librdkafka takes 0 for now, and brokers refuse times before 1970.
            .timestamp(record.timestamp.max(1))
            .key(record.key)
    }

    fn hand_over(&mut self, slot: Slot, record: &NewRecord<'_>, message: Message<'_>) -> Result<()> {
        if let Err((error, message)) = self.producer.send(message) {
            self.hand_over_late(record, error, message)?;
        }
        self.ledger.record(slot);
        self.unreported.add(slot, record.key.len() + record.value.len());
        self.unpolled += 1;
        if self.unpolled >= POLL_EVERY_RECORDS {
            self.unpolled = 0;
            self.producer.poll(Duration::ZERO);
        }
        Ok(())
    }

    /// Hands over a record that librdkafka has refused, once there is room.
    fn hand_over_late(
        &mut self,
        record: &NewRecord<'_>,
        mut error: KafkaError,
        mut message: Message<'_>,
    ) -> Result<()> {
        // Records that wait are given up by librdkafka after delivery-timeout, so that there is room again.
        let deadline = Instant::now() + self.cluster.options().delivery_timeout + FLUSH_GRACE;
        let mut flush = Flush::late();
        while error.rdkafka_error_code() == Some(Code::QueueFull) && Instant::now() < deadline {
            flush.step(&self.producer);
            match self.producer.send(message) {
                Ok(()) => return Ok(()),
                Err(again) => (error, message) = again,
            }
        }
        self.check_deliveries()?;
        Err(self.send_error(record, &error))
    }

    /// Waits until every record has been stored, or one has failed.
    fn flush(&mut self) -> Result<()> {
        let deadline = Instant::now() + self.cluster.options().delivery_timeout + FLUSH_GRACE;
        let mut flush = self.unreported.flush();
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
            flush.step(&self.producer);
        }
        self.unreported.clear();
        self.check_deliveries()
    }

    fn open(&mut self) -> Result<()> {
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

    /// Has what was committed seen, before a next transaction could end it otherwise.
    fn have_seen(&mut self) -> Result<()> {
        let deadline = Instant::now() + self.cluster.options().delivery_timeout;
        loop {
            let (mut waiting, mut silent) = (Vec::new(), None);
            for ((topic, partition, _), sight) in
                self.unseen.iter().zip(look(self.cluster.client(), &self.unseen))
            {
                match sight {
                    Sight::Ended => {}
                    Sight::Waits(offset) => {
                        waiting.push(StartAt { topic: topic.to_string(), partition: *partition, offset });
                    }
                    Sight::Silent => silent = Some(format!("{topic}/{partition}")),
                }
            }
            if silent.is_none() && waiting.is_empty() {
                self.unseen.clear();
                return Ok(());
            }
            if Instant::now() >= deadline {
                let of = silent.or(waiting.pop().map(|at| format!("{}/{}", at.topic, at.partition)));
                return Err(Error::Store {
                    attempt: format!("find the end of a commit in {}", of.unwrap_or_default()),
                    reason: "the brokers have not written it".into(),
                    class: Class::Retry,
                });
            }
            if silent.is_none() {
                warn!(partitions = ?waiting, "brokers have left out the end of a commit: it gets one");
                self.finish(&waiting, Ending::Commit)?;
            } else {
                std::thread::sleep(MARKER_PAUSE.1);
            }
        }
    }

    fn abort_within(&mut self, wait: Duration) -> Result<()> {
        let deadline = Instant::now() + wait;
        let (producer, done) = (&self.producer, AtomicBool::new(false));
        // The abort waits for the reports of the records it throws away, and does not take them in itself.
        let result = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Acquire) {
                    if !take_in(producer) {
                        std::thread::sleep(REPORTS_PAUSE);
                    }
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
        if self.state == State::Idle && !self.unseen.is_empty() {
            self.have_seen()?;
        }
        self.open()
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
        self.unseen = wait_until_visible(self.cluster.client(), self.ledger.committed());
        if !self.unseen.is_empty() {
            let partitions = self.unseen.iter().map(|(topic, partition, _)| format!("{topic}/{partition}"));
            let partitions = partitions.collect::<Vec<_>>().join(", ");
            warn!(partitions, "a commit is durable, but not visible yet");
            self.ledger.unseen(&self.unseen);
        }
        Ok(())
    }

    fn finish(&mut self, unfinished: &[StartAt], ending: Ending) -> Result<()> {
        self.open()?;
        for StartAt { topic, partition, .. } in unfinished {
            let slot = self.slot(topic, *partition)?;
            self.produce_filler(slot, topic, *partition)?;
        }
        match ending {
            Ending::Commit => self.commit(),
            Ending::Abort => self.abort(),
        }
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
        self.unreported.clear();
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

fn config(options: &Options, transactional_id: &str) -> rdkafka::ClientConfig {
    let mut config = options.client();
    config
        .set("transactional.id", transactional_id)
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("compression.type", options.compression())
        .set("linger.ms", (options.delivery_timeout / LINGERS).as_millis().to_string())
        .set("batch.size", BATCH_BYTES.to_string())
        .set("message.max.bytes", options.batch_bytes().to_string())
        .set("batch.num.messages", "100000")
        .set("queue.buffering.max.kbytes", SEND_QUEUE_KIBIBYTES.to_string())
        .set("queue.buffering.max.messages", SEND_QUEUE_RECORDS.to_string())
        .set("transaction.timeout.ms", options.transaction_timeout.as_millis().to_string())
        .set("message.timeout.ms", options.delivery_timeout.as_millis().to_string());
    config
}
