//! One partition: what comes in, what is at work, what is done.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use bitcoin::Txid;
use bitcoin::hashes::Hash;
use bytes::Bytes;
use sluice_log::Record;
use sluice_log::chain::ChainLog;
use sluice_log::chunk::Joiner;
use sluice_schemas::{MempoolEvent, TransactionEvent};
use tokio::task::AbortHandle;

use super::gate::KeyGate;
use super::rerun::Fate;
use super::settings::{HandlerSettings, KeyOrder};
use super::side::Side;
use super::task::{Kind, Verdict};
use super::tracker::{Ticket, Tracker};
use super::workers::Workers;
use super::{Error, Handler};
use crate::beside::Follow;
use crate::dlq::{Note, Source};

/// Events of one partition between the first one that is not done and the last one taken up. Bounds what comes again after
/// a kill.
const MAX_AHEAD: usize = 4096;

/// One partition of this member.
pub(crate) struct Lane {
    /// Tells its jobs from those of an earlier lane of the partition.
    pub(crate) number: u64,
    pub(crate) topic: Arc<str>,
    pub(crate) partition: i32,
    pub(crate) kind: Kind,
    order: KeyOrder,
    concurrency: usize,
    joiner: Joiner,
    /// The offset after the last record that came.
    next: i64,
    backlog: VecDeque<Record>,
    backlog_bytes: usize,
    pub(crate) tracker: Tracker,
    gate: KeyGate<Item>,
    jobs: HashMap<u64, Job>,
    next_job: u64,
    /// Offsets of letters that are at work.
    redriven: BTreeSet<i64>,
    /// To be written on the dead letter topic. Their keys are busy until that is done.
    outbox: Vec<Outgoing>,
    pub(crate) side: Side,
    is_closing: bool,
}

/// An event and what it comes of.
struct Item {
    txid: Txid,
    origin: Origin,
    record: Record,
}

/// What an event comes of.
#[derive(Clone, Copy, Debug)]
enum Origin {
    Live(Ticket),
    /// A dead letter; the offset of its event, and how often it was tried before.
    Letter {
        offset: i64,
        attempts: u32,
    },
    Rerun {
        number: u64,
        ticket: Ticket,
        height: i32,
    },
}

/// An event at work.
struct Job {
    item: Item,
    abort: AbortHandle,
}

/// A record for the dead letter topic, and what goes on once it is there.
pub(crate) struct Outgoing {
    pub(crate) txid: Txid,
    pub(crate) note: Note,
    pub(crate) value: Bytes,
    origin: Origin,
}

/// What to do with an event whose turn it is.
enum Turn {
    Run,
    Park,
    Skip(Fate),
}

/// Records of the partition do not go on where they were.
pub(crate) struct Rewound(pub(crate) Record);

impl Lane {
    pub(crate) fn new(
        number: u64,
        topic: &str,
        partition: i32,
        kind: Kind,
        settings: &HandlerSettings,
        side: Side,
    ) -> Self {
        Self {
            number,
            topic: topic.into(),
            partition,
            kind,
            order: settings.order,
            concurrency: settings.concurrency,
            joiner: Joiner::default(),
            next: 0,
            backlog: VecDeque::new(),
            backlog_bytes: 0,
            tracker: Tracker::default(),
            gate: KeyGate::default(),
            jobs: HashMap::new(),
            next_job: 0,
            redriven: BTreeSet::new(),
            outbox: Vec::new(),
            side,
            is_closing: false,
        }
    }

    /// Takes a record in. Where it was there before, the partition was another member's in between, and the lane is of no
    /// more use.
    pub(crate) fn take(&mut self, record: Record) -> Result<Result<(), Rewound>, Error> {
        if record.offset < self.next {
            return Ok(Err(Rewound(record)));
        }
        self.next = record.offset + 1;
        if let Some(whole) = self.joiner.push(record)? {
            self.backlog_bytes += whole.value.len();
            self.backlog.push_back(whole);
        }
        Ok(Ok(()))
    }

    /// Records and bytes that wait to be taken up.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        (self.backlog.len(), self.backlog_bytes)
    }

    /// Whether a handler is at work.
    pub(crate) fn is_busy(&self) -> bool {
        !self.jobs.is_empty()
    }

    /// Takes up as much as may be at work: live events first, then letters and a rerun.
    pub(crate) fn pump<H: Handler>(&mut self, workers: &Workers<H>) -> Result<(), Error> {
        while self.jobs.len() < self.concurrency && self.tracker.len() < MAX_AHEAD {
            let Some(record) = self.backlog.pop_front() else { break };
            self.backlog_bytes -= record.value.len();
            let txid = txid(&workers.chain, self.kind, &record)?;
            if let Some(rerun) = &mut self.side.rerun {
                // Which only lanes of transactions have.
                let event: TransactionEvent = workers.chain.decode(&record)?;
                rerun.saw(&event);
            }
            let origin = Origin::Live(self.tracker.begin(record.offset + 1));
            self.enter(Item { txid, origin, record }, workers);
        }
        self.pump_letters(workers)?;
        self.pump_rerun(workers)
    }

    /// Letters and reruns leave half of the room to live events.
    fn has_room_beside(&self) -> bool {
        self.jobs.len() < self.concurrency.div_ceil(2)
    }

    fn pump_letters<H: Handler>(&mut self, workers: &Workers<H>) -> Result<(), Error> {
        for (offset, letter) in self.side.letters.due(self.order) {
            if !self.has_room_beside() {
                break;
            }
            if self.gate.is_busy(&letter.txid) || self.redriven.contains(&offset) {
                continue;
            }
            let mut record = self.side.letter(letter.place)?;
            self.redriven.insert(offset);
            // As the handler and the errors of the codec know it.
            (record.topic, record.partition, record.offset) = (self.topic.clone(), self.partition, offset);
            let origin = Origin::Letter { offset, attempts: letter.attempts };
            self.enter(Item { txid: letter.txid, origin, record }, workers);
        }
        Ok(())
    }

    fn pump_rerun<H: Handler>(&mut self, workers: &Workers<H>) -> Result<(), Error> {
        if self.kind == Kind::Mempool {
            return Ok(());
        }
        self.side.choose_rerun(&workers.chain)?;
        if let Some(rerun) = &mut self.side.rerun {
            rerun.read_on()?;
        }
        while self.has_room_beside() {
            let Some(rerun) = self.side.rerun.as_mut().filter(|rerun| rerun.len() < MAX_AHEAD) else { break };
            let number = rerun.number;
            let Some((ticket, height, record)) = rerun.next()? else { break };
            let origin = Origin::Rerun { number, ticket, height };
            let txid = txid(&workers.chain, self.kind, &record)?;
            self.enter(Item { txid, origin, record }, workers);
        }
        Ok(())
    }

    fn enter<H: Handler>(&mut self, item: Item, workers: &Workers<H>) {
        if let Some(item) = self.gate.enter(item.txid, item) {
            self.begin(item, workers);
        }
    }

    /// It is the turn of an event, whose key is busy with it.
    fn begin<H: Handler>(&mut self, mut item: Item, workers: &Workers<H>) {
        // What waits when the lane closes comes again.
        while !self.is_closing {
            match self.turn(&item) {
                Turn::Run => return self.start(item, workers),
                Turn::Park => {
                    let Item { txid, origin, record } = item;
                    let note = Note::Parked(self.source(record.offset));
                    return self.outbox.push(Outgoing { txid, note, value: record.value, origin });
                }
                Turn::Skip(fate) => self.settle(item.origin, fate),
            }
            let Some(next) = self.gate.leave(&item.txid) else { return };
            item = next;
        }
    }

    fn turn(&self, item: &Item) -> Turn {
        match item.origin {
            Origin::Letter { .. } => return Turn::Run,
            Origin::Live(_) => {}
            Origin::Rerun { number, height, .. } => {
                let rerun = self.side.rerun.as_ref().filter(|rerun| rerun.number == number);
                if rerun.is_none_or(|rerun| rerun.is_superseded(height)) {
                    return Turn::Skip(Fate::Superseded);
                }
            }
        }
        let letters = &self.side.letters;
        if letters.is_open(item.record.offset) {
            return Turn::Skip(Fate::Superseded);
        }
        match self.order {
            KeyOrder::OrderedByKey if letters.holds_back(&item.txid, item.record.offset) => Turn::Park,
            KeyOrder::OrderedByKey | KeyOrder::Independent => Turn::Run,
        }
    }

    fn start<H: Handler>(&mut self, item: Item, workers: &Workers<H>) {
        let job = self.next_job;
        self.next_job += 1;
        let abort = workers.start(self.number, job, self.kind, item.record.clone());
        self.jobs.insert(job, Job { item, abort });
    }

    /// A job has ended.
    pub(crate) fn ended<H: Handler>(
        &mut self,
        job: u64,
        verdict: Verdict,
        workers: &Workers<H>,
    ) -> Result<(), Error> {
        let Some(Job { item: Item { txid, origin, record }, .. }) = self.jobs.remove(&job) else {
            return Ok(());
        };
        let source = self.source(record.offset);
        let before = match origin {
            Origin::Letter { attempts, .. } => attempts,
            Origin::Live(_) | Origin::Rerun { .. } => 0,
        };
        let outcome = match verdict {
            Verdict::Done => "handled",
            Verdict::Rejected { .. } => "rejected",
            Verdict::GaveUp { .. } => "given_up",
            Verdict::Unreadable(_) => "unreadable",
        };
        metrics::counter!("sluice_handler_events_total", "outcome" => outcome).increment(1);
        match verdict {
            Verdict::Done => match origin {
                Origin::Letter { .. } => {
                    self.outbox.push(Outgoing {
                        txid,
                        note: Note::Done(source),
                        value: Bytes::new(),
                        origin,
                    });
                }
                Origin::Live(_) | Origin::Rerun { .. } => self.move_on(txid, origin, workers),
            },
            Verdict::Rejected { error, attempts } => {
                let attempts = attempts.saturating_add(before);
                tracing::warn!(topic = &*self.topic, partition = self.partition, offset = record.offset, %txid, attempts, error, "event becomes a dead letter");
                let note = Note::Rejected { source, error, attempts };
                self.outbox.push(Outgoing { txid, note, value: record.value, origin });
            }
            Verdict::GaveUp { error, attempts } => {
                let (topic, partition, offset) = (self.topic.to_string(), self.partition, record.offset);
                return Err(Error::GaveUp { topic, partition, offset, attempts, error });
            }
            Verdict::Unreadable(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// An event is done with: the next one of its transaction has its turn.
    fn move_on<H: Handler>(&mut self, txid: Txid, origin: Origin, workers: &Workers<H>) {
        self.settle(origin, Fate::Sent);
        if let Some(next) = self.gate.leave(&txid) {
            self.begin(next, workers);
        }
    }

    fn settle(&mut self, origin: Origin, fate: Fate) {
        match origin {
            Origin::Live(ticket) => self.tracker.done(ticket),
            Origin::Letter { offset, .. } => drop(self.redriven.remove(&offset)),
            Origin::Rerun { number, ticket, .. } => {
                if let Some(rerun) = self.side.rerun.as_mut().filter(|rerun| rerun.number == number) {
                    rerun.done(ticket, fate);
                }
            }
        }
    }

    /// Writes what is to be written on the dead letter topic, reads it back, and goes on with what waited for it.
    pub(crate) fn flush<H: Handler>(&mut self, workers: &Workers<H>, now: i64) -> Result<(), Error> {
        while !self.outbox.is_empty() {
            // Stays as it is where this fails, and is written again.
            self.side.post_letters(&self.outbox, now)?;
            for Outgoing { txid, origin, .. } in std::mem::take(&mut self.outbox) {
                self.move_on(txid, origin, workers);
            }
        }
        Ok(())
    }

    fn source(&self, offset: i64) -> Source {
        Source { topic: self.topic.clone(), partition: self.partition, offset }
    }

    /// Takes up nothing more.
    pub(crate) fn close(&mut self) {
        self.is_closing = true;
    }
}

impl Drop for Lane {
    /// What is at work is another member's by now, or comes again.
    fn drop(&mut self) {
        self.jobs.values().for_each(|job| job.abort.abort());
    }
}

/// The key, by which a transaction's events are told apart without reading them.
fn txid(chain: &ChainLog, kind: Kind, record: &Record) -> Result<Txid, Error> {
    if let Ok(txid) = Txid::from_slice(&record.key) {
        return Ok(txid);
    }
    // Whatever is wrong with the event tells more than its key.
    match kind {
        Kind::Transactions => drop(chain.decode::<TransactionEvent>(record)?),
        Kind::Mempool => drop(chain.decode::<MempoolEvent>(record)?),
    }
    Err(Follow::corrupt(record, "its key is no txid".to_owned()).into())
}
