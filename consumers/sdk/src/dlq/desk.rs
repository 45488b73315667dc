//! Where people look at dead letters and decide.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bitcoin::Txid;
use bitcoin::hashes::Hash;
use sluice_log::chain::ChainLog;
use sluice_log::{Record, Result};

use super::{Entry, Letter, Letters, Note, Shelf, Source, check_group, topic};
use crate::beside::{Follow, Parcel, Post};

/// A letter with what a person wants to know of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The event.
    pub source: Source,
    /// Partition of the dead letter topic; its offset there is in `letter`.
    pub partition: i32,
    /// How it stands.
    pub letter: Letter,
    /// What the handler said last; empty on a parked one.
    pub error: String,
}

/// The dead letters of a group as they were when they were read.
pub struct Desk {
    chain: ChainLog,
    group: String,
    topic: String,
    /// By topic and partition of the events.
    letters: BTreeMap<(Arc<str>, i32), Letters>,
    errors: HashMap<Source, String>,
}

impl Desk {
    /// Reads a group's dead letters; `None` where it never had any.
    ///
    /// # Errors
    /// What the log said; `Error::Corrupt` where a record of the topic cannot be understood.
    pub fn open(chain: &ChainLog, group: &str) -> Result<Option<Self>> {
        let topic = topic(&chain.topics, group);
        if check_group(&chain.topics, group).is_err() {
            return Ok(None);
        }
        let Some(info) = chain.log.topic(&topic)? else { return Ok(None) };
        let (letters, errors) = (BTreeMap::new(), HashMap::new());
        let mut desk = Self { chain: chain.clone(), group: group.to_owned(), topic, letters, errors };
        let from: Vec<_> = (0..info.partitions).map(|partition| (partition, None)).collect();
        for mut partition in Follow::open(&*chain.log, &desk.topic, &from)? {
            partition.read_to_end(|place, record| desk.take(place, &record))?;
        }
        Ok(Some(desk))
    }

    fn take(&mut self, place: i64, record: &Record) -> Result<()> {
        let entry = Entry::read(record).map_err(|reason| Follow::corrupt(record, reason))?;
        let Some(source) = entry.note.source().cloned() else {
            for letters in self.letters.values_mut() {
                letters.apply(place, entry.at, entry.txid, &entry.note);
            }
            return Ok(());
        };
        let letters = self.letters.entry((source.topic.clone(), source.partition)).or_default();
        letters.apply(place, entry.at, entry.txid, &entry.note);
        match entry.note {
            Note::Rejected { source, error, .. } => drop(self.errors.insert(source, error)),
            Note::Done(source) | Note::Dropped(source) => drop(self.errors.remove(&source)),
            Note::Parked(_) | Note::Retry => {}
        }
        Ok(())
    }

    /// The letters that are not resolved: by topic and partition of their events, in the order of the log.
    pub fn letters(&self) -> impl Iterator<Item = DeadLetter> {
        self.letters.iter().flat_map(|((topic, partition), letters)| {
            letters.iter().map(|(offset, letter)| {
                let source = Source { topic: topic.clone(), partition: *partition, offset };
                let error = self.errors.get(&source).cloned().unwrap_or_default();
                DeadLetter { source, partition: *partition, letter: *letter, error }
            })
        })
    }

    /// The record that holds a letter's event.
    ///
    /// # Errors
    /// What the log said.
    pub fn record(&self, letter: &DeadLetter) -> Result<Record> {
        Shelf::open(&*self.chain.log, self.topic.clone())?.record_at(letter.partition, letter.letter.place)
    }

    /// Has all letters of these transactions handled again, in order, by the group's members, now or when there are some.
    ///
    /// # Errors
    /// What the log said.
    pub fn retry(&self, txids: &BTreeSet<Txid>, now: i64) -> Result<()> {
        let partitions: BTreeSet<_> = self
            .letters()
            .filter(|dead| txids.contains(&dead.letter.txid))
            .map(|dead| (dead.partition, dead.letter.txid))
            .collect();
        let notes = partitions
            .into_iter()
            .map(|(partition, txid)| (partition, Entry { at: now, txid, note: Note::Retry }));
        self.append(notes)
    }

    /// Gives letters up. What was parked behind them is handled.
    ///
    /// # Errors
    /// What the log said.
    pub fn forget<'a>(&self, letters: impl IntoIterator<Item = &'a DeadLetter>, now: i64) -> Result<()> {
        let notes = letters.into_iter().map(|dead| {
            let note = Note::Dropped(dead.source.clone());
            (dead.partition, Entry { at: now, txid: dead.letter.txid, note })
        });
        self.append(notes)
    }

    fn append(&self, notes: impl Iterator<Item = (i32, Entry)>) -> Result<()> {
        let parcels: Vec<_> = notes
            .map(|(partition, entry)| entry.parcel(&self.group, partition, bytes::Bytes::new()))
            .collect();
        if parcels.is_empty() {
            return Ok(());
        }
        let mut post = Post::new(self.chain.log.clone(), format!("{}.desk", self.topic));
        post.send(&self.topic, &parcels).map(drop)
    }
}

impl Entry {
    /// The record to append.
    pub(crate) fn parcel(&self, group: &str, partition: i32, value: bytes::Bytes) -> Parcel {
        Parcel {
            partition,
            timestamp: self.at,
            key: self.txid.to_byte_array().to_vec(),
            value,
            headers: self.headers(group),
        }
    }
}
