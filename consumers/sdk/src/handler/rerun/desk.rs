//! Where people ask for a range of blocks to be sent again.

use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};
use std::time::{Duration, Instant};

use sluice_log::chain::ChainLog;
use sluice_log::{Committed, GroupInfo};
use sluice_schemas::{ChainEvent, TransactionEvent};

use super::entry::{Entry, MAX_RUNS, Note, Request};
use super::{Open, Requests, spec, topic};
use crate::beside::{Follow, Parcel, Post};

/// How long a group may take to commit what it has just handled.
const COMMIT_PATIENCE: Duration = Duration::from_secs(5);
/// Pause between two looks at its offsets.
const COMMIT_PAUSE: Duration = Duration::from_millis(250);

/// Why a range is not sent again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The log failed.
    #[error(transparent)]
    Log(#[from] sluice_log::Error),
    /// There is no such group.
    #[error("there is no group {group}")]
    NoGroup {
        /// Its name.
        group: String,
    },
    /// The group does not read transactions.
    #[error("group {group} does not read {topic}: it is no handler's group")]
    NoHandler {
        /// Its name.
        group: String,
        /// The topic.
        topic: String,
    },
    /// The log has not come that high.
    #[error("there is no block {height} yet: the log has come to height {tip} only")]
    TooHigh {
        /// What was asked for.
        height: i32,
        /// Height of the tip.
        tip: i32,
    },
    /// The log begins above.
    #[error("the log begins with block {first}, above block {height}")]
    TooLow {
        /// What was asked for.
        height: i32,
        /// The first one.
        first: i32,
    },
    /// The group will get to them by itself.
    #[error(
        "group {group} has not come to the end of blocks {first} to {last} yet: it gets what is left of them by itself"
    )]
    NotReached {
        /// Its name.
        group: String,
        /// First height asked for.
        first: i32,
        /// Last height asked for.
        last: i32,
    },
    /// There are too many reorgs in the range.
    #[error("there are too many reorgs between blocks {first} and {last}: ask for parts of the range")]
    TooManyRuns {
        /// First height asked for.
        first: i32,
        /// Last height asked for.
        last: i32,
    },
}

/// Asks on behalf of one group.
pub struct Desk {
    chain: ChainLog,
    group: String,
    topic: String,
}

impl Desk {
    /// A desk for a group.
    pub fn new(chain: &ChainLog, group: &str) -> Self {
        let topic = topic(&chain.topics, group);
        Self { chain: chain.clone(), group: group.to_owned(), topic }
    }

    /// Has the transactions of the best chain's blocks of these heights handled again, beside the live ones. Gives the number
    /// of blocks.
    ///
    /// # Errors
    /// Why that is not done.
    pub fn request(&self, heights: RangeInclusive<i32>, id: &str, now: i64) -> Result<u64, Refusal> {
        let (plan, blocks) = self.plan(heights.clone())?;
        self.wait_for_commits(&plan, &heights)?;
        let partitions =
            self.chain.log.topic(&self.chain.topics.transactions)?.map_or(0, |info| info.partitions);
        self.chain.log.ensure_topics(&[spec(&self.chain.topics, &self.group, partitions)])?;
        let parcels: Vec<_> = plan
            .into_iter()
            .map(|(partition, request)| {
                Entry { at: now, id: id.to_owned(), note: Note::Request(request) }.parcel(partition)
            })
            .collect();
        self.post(&parcels)?;
        Ok(blocks)
    }

    /// The requests that are not done, by partition.
    ///
    /// # Errors
    /// What the log said.
    pub fn open(&self) -> sluice_log::Result<Vec<(i32, Open)>> {
        let Some(info) = self.chain.log.topic(&self.topic)? else { return Ok(Vec::new()) };
        let mut all = Vec::new();
        let from: Vec<_> = (0..info.partitions).map(|partition| (partition, None)).collect();
        for (partition, mut follow) in (0..).zip(Follow::open(&*self.chain.log, &self.topic, &from)?) {
            let mut requests = Requests::default();
            follow.read_to_end(|_, record| {
                let entry = Entry::read(&record).map_err(|reason| Follow::corrupt(&record, reason))?;
                requests.apply(entry);
                Ok(())
            })?;
            all.extend(requests.iter().map(|open| (partition, open.clone())));
        }
        Ok(all)
    }

    /// Takes requests back, where they are not done yet.
    ///
    /// # Errors
    /// What the log said.
    pub fn cancel(&self, open: &[(i32, Open)], now: i64) -> Result<(), Refusal> {
        let parcels: Vec<_> = open
            .iter()
            .map(|(partition, open)| {
                Entry { at: now, id: open.id.clone(), note: Note::Cancelled }.parcel(*partition)
            })
            .collect();
        self.post(&parcels)
    }

    fn post(&self, parcels: &[Parcel]) -> Result<(), Refusal> {
        if parcels.is_empty() {
            return Ok(());
        }
        let mut post = Post::new(self.chain.log.clone(), format!("{}.desk", self.topic));
        post.send(&self.topic, parcels)?;
        Ok(())
    }

    /// What to send again in each partition that holds any of it.
    fn plan(&self, heights: RangeInclusive<i32>) -> Result<(BTreeMap<i32, Request>, u64), Refusal> {
        let topic = &self.chain.topics.transactions;
        let partitions = self.chain.log.topic(topic)?.map_or(0, |info| info.partitions);
        // Before the tail is looked at: what is there by now and belongs to a later event, is found below.
        let ends = (0..partitions)
            .map(|p| Ok(self.chain.log.bounds(topic, p)?.end))
            .collect::<sluice_log::Result<Vec<_>>>()?;
        let Some(tail) = self.chain.tail()? else {
            return Err(Refusal::TooHigh { height: *heights.end(), tip: -1 });
        };
        let runs = self.runs(&heights, tail.sequence)?;
        let blocks = runs.blocks;
        let mut plan = BTreeMap::new();
        for (partition, runs) in runs.ascending() {
            let later = self
                .chain
                .first_event(topic, partition, |event: &TransactionEvent| event.sequence <= tail.sequence)?;
            let end = usize::try_from(partition).ok().and_then(|p| ends.get(p)).copied().unwrap_or(0);
            let watermark = later.map_or(end, |located| located.offset.min(end));
            let request = Request { heights: heights.clone(), sequence: tail.sequence, watermark, runs };
            plan.insert(partition, request);
        }
        Ok((plan, blocks))
    }

    /// The offsets of the best chain's blocks of these heights. Blocks after `sequence` are live ones.
    fn runs(&self, heights: &RangeInclusive<i32>, sequence: i64) -> Result<Runs, Refusal> {
        let (first, last) = (*heights.start(), *heights.end());
        let mut runs = Runs::default();
        let mut lowest = None;
        for event in self.chain.best_chain()? {
            let event = event?;
            if lowest.is_none() && event.height < last {
                return Err(Refusal::TooHigh { height: last, tip: event.height });
            }
            lowest = Some(event.height);
            if heights.contains(&event.height) && event.sequence <= sequence && !runs.add(&event) {
                return Err(Refusal::TooManyRuns { first, last });
            }
            if event.height <= first {
                break;
            }
        }
        match lowest {
            None => Err(Refusal::TooHigh { height: last, tip: -1 }),
            Some(lowest) if lowest > first => Err(Refusal::TooLow { height: first, first: lowest }),
            Some(_) => Ok(runs),
        }
    }

    /// The group must have handled all of it: an event that is sent again before its time would come before older ones.
    fn wait_for_commits(
        &self,
        plan: &BTreeMap<i32, Request>,
        heights: &RangeInclusive<i32>,
    ) -> Result<(), Refusal> {
        let deadline = Instant::now() + COMMIT_PATIENCE;
        loop {
            let info = self.group()?;
            let has_come_to = |partition: i32, end: i64| {
                let topic = &self.chain.topics.transactions;
                let is_it = |c: &&Committed| c.topic == *topic && c.partition == partition;
                info.committed.iter().find(is_it).is_some_and(|committed| committed.offset >= end)
            };
            let end = |request: &Request| request.runs.last().map_or(0, |run| run.end);
            if plan.iter().all(|(partition, request)| has_come_to(*partition, end(request))) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let (group, first, last) = (self.group.clone(), *heights.start(), *heights.end());
                return Err(Refusal::NotReached { group, first, last });
            }
            std::thread::sleep(COMMIT_PAUSE);
        }
    }

    fn group(&self) -> Result<GroupInfo, Refusal> {
        let topic = &self.chain.topics.transactions;
        let found = self.chain.log.groups()?.into_iter().find(|info| info.name == self.group);
        let info = found.ok_or_else(|| Refusal::NoGroup { group: self.group.clone() })?;
        let reads = |name: &str| info.committed.iter().any(|committed| committed.topic == name);
        if !info.committed.is_empty() && !reads(topic) {
            return Err(Refusal::NoHandler { group: self.group.clone(), topic: topic.clone() });
        }
        Ok(info)
    }
}

/// Runs of offsets, collected tip first.
#[derive(Default)]
struct Runs {
    /// Last run first.
    runs: BTreeMap<i32, Vec<Range<i64>>>,
    /// By partition, in which section, an unbroken stretch of sequences, the run added to last is.
    section: BTreeMap<i32, u64>,
    sections: u64,
    last_sequence: Option<i64>,
    blocks: u64,
}

impl Runs {
    /// Adds the block before the one added last. Says whether there was room.
    fn add(&mut self, event: &ChainEvent) -> bool {
        // Between two sequences that follow each other, a partition holds nothing else.
        if self.last_sequence.replace(event.sequence) != Some(event.sequence + 1) {
            self.sections += 1;
        }
        self.blocks += 1;
        for range in &event.transactions {
            let runs = self.runs.entry(range.partition).or_default();
            let end = range.first_offset.saturating_add(range.records);
            let goes_on = self.section.insert(range.partition, self.sections) == Some(self.sections);
            let is_full = runs.len() == MAX_RUNS;
            match runs.last_mut().filter(|_| goes_on) {
                Some(run) => run.start = range.first_offset,
                None if is_full => return false,
                None => runs.push(range.first_offset..end),
            }
        }
        true
    }

    fn ascending(mut self) -> BTreeMap<i32, Vec<Range<i64>>> {
        self.runs.values_mut().for_each(|runs| runs.reverse());
        self.runs
    }
}
