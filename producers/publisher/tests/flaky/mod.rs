//! A log and a source that fail now and then, by a seeded chance, around real ones.

use std::io::Read;
use std::sync::{Arc, Mutex};

use bitcoin::{BlockHash, Txid};
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sluice_log::{
    AppendedRange, Bounds, Candidate, Class, Committed, GroupInfo, GroupReader, Log, NewRecord,
    PartitionReader, PointReader, Reader, StartAt, TopicInfo, TopicOutcome, Writer,
};
use sluice_schemas::{Network, TopicSpec};
use sluice_sources::{Body, Feed, Headers, Snapshot, Source, Tip};

type LogResult<T> = sluice_log::Result<T>;
type SourceResult<T> = sluice_sources::Result<T>;

/// When to fail.
#[derive(Clone)]
pub(crate) struct Chance(Arc<Mutex<(StdRng, f64, usize)>>);

impl Chance {
    pub(crate) fn new(seed: u64, probability: f64) -> Self {
        Self(Arc::new(Mutex::new((StdRng::seed_from_u64(seed), probability, 0))))
    }

    /// How often it has struck.
    pub(crate) fn failures(&self) -> usize {
        self.0.lock().unwrap().2
    }

    /// `Some` with a number to choose the kind of failure by.
    fn strikes(&self, share: f64) -> Option<u32> {
        let (rng, probability, failures) = &mut *self.0.lock().unwrap();
        let struck = rng.random_bool(*probability * share);
        *failures += usize::from(struck);
        struck.then(|| rng.random())
    }
}

/// A log whose writer fails before a call, or after a commit that has succeeded.
pub(crate) struct FlakyLog {
    log: Arc<dyn Log>,
    chance: Chance,
}

impl FlakyLog {
    pub(crate) fn new(log: Arc<dyn Log>, chance: Chance) -> Self {
        Self { log, chance }
    }
}

impl Log for FlakyLog {
    fn url(&self) -> &str {
        self.log.url()
    }
    fn ensure_topics(&self, specs: &[TopicSpec]) -> LogResult<Vec<TopicOutcome>> {
        self.log.ensure_topics(specs)
    }
    fn topic(&self, name: &str) -> LogResult<Option<TopicInfo>> {
        self.log.topic(name)
    }
    fn campaign(&self, role: &str) -> LogResult<Box<dyn Candidate>> {
        self.log.campaign(role)
    }
    fn writer(&self, transactional_id: &str) -> LogResult<Box<dyn Writer>> {
        let writer = self.log.writer(transactional_id)?;
        Ok(Box::new(FlakyWriter { writer, chance: self.chance.clone(), is_submitted: false }))
    }
    fn reader(&self, from: &[StartAt]) -> LogResult<Box<dyn Reader>> {
        self.log.reader(from)
    }
    fn partition_readers(&self, from: &[StartAt]) -> LogResult<Vec<Box<dyn PartitionReader>>> {
        self.log.partition_readers(from)
    }
    fn point_reader(&self, topic: &str) -> LogResult<Box<dyn PointReader>> {
        self.log.point_reader(topic)
    }
    fn group(&self, group: &str, topics: &[&str]) -> LogResult<Box<dyn GroupReader>> {
        self.log.group(group, topics)
    }
    fn bounds(&self, topic: &str, partition: i32) -> LogResult<Bounds> {
        self.log.bounds(topic, partition)
    }
    fn offset_at(&self, topic: &str, partition: i32, timestamp: i64) -> LogResult<Option<i64>> {
        self.log.offset_at(topic, partition, timestamp)
    }
    fn groups(&self) -> LogResult<Vec<GroupInfo>> {
        self.log.groups()
    }
    fn reset_group(&self, group: &str, offsets: &[Committed]) -> LogResult<()> {
        self.log.reset_group(group, offsets)
    }
}

struct FlakyWriter {
    writer: Box<dyn Writer>,
    chance: Chance,
    is_submitted: bool,
}

fn log_failure(kind: u32) -> sluice_log::Error {
    let class = [Class::Retry, Class::Abort, Class::Refused][kind as usize % 3];
    sluice_log::Error::Store { attempt: "write".into(), reason: "the test wants it to fail".into(), class }
}

impl FlakyWriter {
    fn may_fail(&self, share: f64) -> LogResult<()> {
        self.chance.strikes(share).map_or(Ok(()), |kind| Err(log_failure(kind)))
    }
}

impl Writer for FlakyWriter {
    fn begin(&mut self) -> LogResult<()> {
        self.may_fail(1.0)?;
        self.writer.begin()
    }
    fn send(&mut self, record: &NewRecord<'_>) -> LogResult<()> {
        self.may_fail(0.1)?;
        self.writer.send(record)
    }
    fn mark(&mut self) -> LogResult<Vec<AppendedRange>> {
        self.may_fail(1.0)?;
        self.writer.mark()
    }
    fn commit(&mut self) -> LogResult<()> {
        self.may_fail(1.0)?;
        self.writer.commit()?;
        // Committed, but the writer never learns of it.
        self.may_fail(1.0)
    }
    fn submit(&mut self) -> LogResult<()> {
        self.may_fail(1.0)?;
        self.writer.submit()?;
        self.is_submitted = true;
        Ok(())
    }
    fn settle(&mut self) -> LogResult<()> {
        self.writer.settle()?;
        // Committed, but the writer never learns of it.
        if std::mem::take(&mut self.is_submitted) { self.may_fail(1.0) } else { Ok(()) }
    }
    fn abort(&mut self) -> LogResult<()> {
        self.writer.abort()
    }
}

/// A source that does not answer, breaks off, or sends what is not true.
pub(crate) struct FlakySource {
    source: Arc<dyn Source>,
    chance: Chance,
}

impl FlakySource {
    pub(crate) fn new(source: Arc<dyn Source>, chance: Chance) -> Self {
        Self { source, chance }
    }

    fn may_fail(&self, attempt: &str) -> SourceResult<()> {
        match self.chance.strikes(1.0) {
            None => Ok(()),
            Some(_) => Err(sluice_sources::Error::Unreachable {
                attempt: attempt.into(),
                source_id: self.source.id().into(),
                reason: "the test wants it to fail".into(),
            }),
        }
    }
}

impl Source for FlakySource {
    fn id(&self) -> &str {
        self.source.id()
    }
    fn network(&self) -> Network {
        self.source.network()
    }
    fn tip(&self) -> SourceResult<Tip> {
        self.may_fail("ask for the tip")?;
        self.source.tip()
    }
    fn headers(&self, locator: &[BlockHash], max: usize) -> SourceResult<Headers> {
        self.may_fail("ask for headers")?;
        self.source.headers(locator, max)
    }
    fn body(&self, hash: &BlockHash) -> SourceResult<Body> {
        self.may_fail("ask for a body")?;
        let mut body = self.source.body(hash)?;
        let Some(kind) = self.chance.strikes(1.0) else { return Ok(body) };
        let mut bytes = Vec::new();
        body.bytes.read_to_end(&mut bytes).unwrap();
        let at = kind as usize / 4 % bytes.len();
        match kind % 4 {
            0 => bytes.truncate(at),
            1 => bytes.push(0),
            2 => {
                // The body of the genesis block instead.
                let other = self.source.body(&self.network().genesis())?;
                body.spent = other.spent;
                bytes.clear();
                { other.bytes }.read_to_end(&mut bytes).unwrap();
                if *hash == self.network().genesis() {
                    bytes.truncate(100);
                }
            }
            _ => bytes[at] ^= 1,
        }
        body.bytes = Box::new(std::io::Cursor::new(bytes));
        Ok(body)
    }
    fn feed(&self) -> SourceResult<Box<dyn Feed>> {
        self.may_fail("open the feed")?;
        self.source.feed()
    }
    fn mempool(&self) -> SourceResult<Snapshot> {
        self.may_fail("ask for the mempool")?;
        self.source.mempool()
    }
    fn transactions(&self, txids: &[Txid]) -> SourceResult<Vec<Option<Bytes>>> {
        self.may_fail("ask for transactions")?;
        self.source.transactions(txids)
    }
}
