//! What a lane has beside its partition: dead letters, and requests to send events again.

use std::time::{Duration, Instant};

use sluice_log::Record;
use sluice_log::chain::ChainLog;

use super::Error;
use super::lane::Outgoing;
use super::rerun::{self as replay, Requests, Rerun};
use super::task::Kind;
use crate::beside::{Follow, Parcel, Post};
use crate::dlq::{self, Entry, Letters, Shelf};

/// Most dead letters of one partition. More tell of a broken handler, not of broken events; and each takes some memory in
/// the member that has the partition.
pub(crate) const MAX_LETTERS: usize = 10_000;
/// How often the progress of a rerun is written down.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// What a lane has beside its partition.
pub(crate) struct Side {
    chain: ChainLog,
    own: Own,
    dlq: Option<Follow>,
    /// Reads letters where they are.
    shelf: Option<Shelf>,
    pub(crate) letters: Letters,
    replay: Option<Follow>,
    requests: Requests,
    pub(crate) rerun: Option<Rerun>,
    reruns: u64,
    progress_due: Option<Instant>,
    post: Post,
}

/// Which partition a side belongs to.
#[derive(Clone, Debug)]
pub(crate) struct Own {
    pub(crate) group: String,
    pub(crate) topic: String,
    pub(crate) kind: Kind,
    pub(crate) partition: i32,
    /// Of the topic, to create those beside it alike.
    pub(crate) partitions: i32,
}

impl Own {
    /// Takes in a record of the dead letter topic, which other topics of the group share.
    fn take_letter(&self, letters: &mut Letters, place: i64, record: &Record) -> sluice_log::Result<()> {
        let entry = Entry::read(record).map_err(|reason| Follow::corrupt(record, reason))?;
        let is_other =
            |source: &dlq::Source| *source.topic != *self.topic || source.partition != self.partition;
        if !entry.note.source().is_some_and(is_other) {
            letters.apply(place, entry.at, entry.txid, &entry.note);
        }
        Ok(())
    }
}

impl Side {
    pub(crate) fn new(chain: &ChainLog, own: Own) -> Self {
        let name = match own.kind {
            Kind::Transactions => "transactions",
            Kind::Mempool => "mempool",
        };
        let dlq = dlq::topic(&chain.topics, &own.group);
        // One writer per partition, whoever has it: taking over ends what the one before has left open.
        let post = Post::new(chain.log.clone(), format!("{dlq}.{name}.{}", own.partition));
        Self {
            chain: chain.clone(),
            own,
            dlq: None,
            shelf: None,
            letters: Letters::default(),
            replay: None,
            requests: Requests::default(),
            rerun: None,
            reruns: 0,
            progress_due: None,
            post,
        }
    }

    /// Whether the dead letter topic is read.
    pub(crate) fn has_dlq(&self) -> bool {
        self.dlq.is_some()
    }

    /// Whether the replay topic is read.
    pub(crate) fn has_replay(&self) -> bool {
        self.replay.is_some()
    }

    /// The dead letter topic is there: reads it.
    pub(crate) fn open_dlq(&mut self, mut follow: Follow) -> Result<(), Error> {
        let bounds =
            self.chain.log.bounds(&dlq::topic(&self.chain.topics, &self.own.group), self.own.partition)?;
        if bounds.start < bounds.end {
            // What a killed member has left open would hide what comes after it.
            self.post.take_over()?;
        }
        let mut letters = Letters::default();
        follow.read_to_end(|place, record| self.own.take_letter(&mut letters, place, &record))?;
        (self.letters, self.dlq) = (letters, Some(follow));
        Ok(())
    }

    /// The replay topic is there: reads it.
    pub(crate) fn open_replay(&mut self, mut follow: Follow) -> Result<(), Error> {
        follow.read_to_end(|_, record| take_request(&mut self.requests, &record))?;
        self.replay = Some(follow);
        Ok(())
    }

    /// Reads what has come on both topics.
    pub(crate) fn follow(&mut self) -> Result<(), Error> {
        if let Some(dlq) = &mut self.dlq {
            for (place, record) in dlq.read(Duration::ZERO)? {
                self.own.take_letter(&mut self.letters, place, &record)?;
            }
        }
        if let Some(replay) = &mut self.replay {
            for (_, record) in replay.read(Duration::ZERO)? {
                take_request(&mut self.requests, &record)?;
            }
        }
        Ok(())
    }

    /// The event of a letter.
    pub(crate) fn letter(&mut self, place: i64) -> Result<Record, Error> {
        let shelf = match &mut self.shelf {
            Some(shelf) => shelf,
            none => {
                let topic = dlq::topic(&self.chain.topics, &self.own.group);
                none.insert(Shelf::open(&*self.chain.log, topic)?)
            }
        };
        Ok(shelf.record_at(self.own.partition, place)?)
    }

    /// Appends to the dead letter topic, and reads it back: the topic alone is the state.
    pub(crate) fn post_letters(&mut self, outbox: &[Outgoing], now: i64) -> Result<(), Error> {
        let more = outbox.iter().filter(|outgoing| !matches!(outgoing.note, dlq::Note::Done(_))).count();
        if self.letters.len() + more > MAX_LETTERS && more > 0 {
            return Err(Error::TooManyLetters {
                group: self.own.group.clone(),
                topic: self.own.topic.clone(),
                partition: self.own.partition,
                letters: self.letters.len(),
            });
        }
        if self.dlq.is_none() {
            let spec = dlq::spec(&self.chain.topics, &self.own.group, self.own.partitions);
            self.chain.log.ensure_topics(std::slice::from_ref(&spec))?;
            let opened = Follow::open(&*self.chain.log, &spec.name, &[(self.own.partition, None)])?;
            for follow in opened {
                self.open_dlq(follow)?;
            }
        }
        let parcels: Vec<_> = outbox
            .iter()
            .map(|Outgoing { txid, note, value, .. }| {
                let entry = Entry { at: now, txid: *txid, note: note.clone() };
                entry.parcel(&self.own.group, self.own.partition, value.clone())
            })
            .collect();
        let topic = dlq::topic(&self.chain.topics, &self.own.group);
        let last = self.send(&topic, &parcels)?;
        if let Some(dlq) = &mut self.dlq {
            dlq.read_through(last, |place, record| self.own.take_letter(&mut self.letters, place, &record))?;
        }
        Ok(())
    }

    /// Appends, and says at which offset the last record is.
    fn send(&mut self, topic: &str, parcels: &[Parcel]) -> Result<i64, Error> {
        let ranges = self.post.send(topic, parcels)?;
        Ok(ranges.iter().map(|range| range.first_offset + range.records - 1).max().unwrap_or(-1))
    }

    /// Begins the request whose turn it is, and drops one that was taken back.
    pub(crate) fn choose_rerun(&mut self, chain: &ChainLog) -> Result<(), Error> {
        let first = self.requests.first();
        if self.rerun.as_ref().map(Rerun::id) == first.map(|open| open.id.as_str()) {
            return Ok(());
        }
        self.rerun = match first {
            None => None,
            Some(open) => {
                self.reruns += 1;
                tracing::info!(
                    group = self.own.group,
                    partition = self.own.partition,
                    id = open.id,
                    "sending events again"
                );
                Some(Rerun::begin(chain, self.own.partition, open, self.reruns)?)
            }
        };
        Ok(())
    }

    /// Writes down how far the rerun has come, where it is time to or it is over.
    pub(crate) fn post_progress(&mut self, now: i64, at: Instant, is_last_chance: bool) -> Result<(), Error> {
        let Some(rerun) = &mut self.rerun else { return Ok(()) };
        let finished = rerun.finished();
        let is_due = *self.progress_due.get_or_insert(at + PROGRESS_INTERVAL) <= at;
        if finished.is_none() && !is_due && !is_last_chance {
            return Ok(());
        }
        self.progress_due = None;
        let note = match (finished, rerun.progress()) {
            (Some(tally), _) => replay::Note::Done(tally),
            (None, Some((next, tally))) => replay::Note::Progress { next, tally },
            (None, None) => return Ok(()),
        };
        if let replay::Note::Done(replay::Tally { sent, superseded }) = note {
            tracing::info!(
                group = self.own.group,
                partition = self.own.partition,
                id = rerun.id(),
                sent,
                superseded,
                "events sent again"
            );
        }
        let entry = replay::Entry { at: now, id: rerun.id().to_owned(), note };
        let topic = replay::topic(&self.chain.topics, &self.own.group);
        let last = self.send(&topic, &[entry.parcel(self.own.partition)])?;
        if let Some(replay) = &mut self.replay {
            replay.read_through(last, |_, record| take_request(&mut self.requests, &record))?;
        }
        Ok(())
    }
}

fn take_request(requests: &mut Requests, record: &Record) -> sluice_log::Result<()> {
    let entry = replay::Entry::read(record).map_err(|reason| Follow::corrupt(record, reason))?;
    requests.apply(entry);
    Ok(())
}
