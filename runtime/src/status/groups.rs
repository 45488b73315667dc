//! Where the groups of consumers stand.

use std::time::Duration;

use sluice_log::chain::ChainLog;
use sluice_log::{Committed, GroupInfo, Result};
use sluice_schemas::{ChainEvent, Event, MempoolEvent, StatusEvent, TransactionEvent};

/// How a group does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It has read everything.
    Current,
    /// It has members, and reads.
    Behind,
    /// It has members, and does not get on.
    Stuck,
    /// It has no members.
    Stopped,
}

impl State {
    /// For people and programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Behind => "behind",
            Self::Stuck => "stuck",
            Self::Stopped => "stopped",
        }
    }
}

/// Where one group stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Name.
    pub name: String,
    /// Members alive now.
    pub members: usize,
    /// Height of the tip as of what the group has read; `None` before the first block, or where it does not read the
    /// chain.
    pub height: Option<i32>,
    /// Chain events that it has not read to the end; `None` where it does not read the chain.
    pub blocks_behind: Option<i64>,
    /// How long its oldest unread event has been there.
    pub behind: Duration,
    /// How it does.
    pub state: State,
}

/// Where a group is, before it is known whether it moves.
struct Position {
    /// The first chain event not read to the end; one after the last where there is none.
    next_sequence: Option<i64>,
    /// When the oldest unread event was seen, in milliseconds.
    waiting_since: Option<i64>,
}

/// Looks at all groups that read the log's topics. One whose next event has waited for `stuck_after` is watched for `watch`
/// before it is called stuck.
///
/// # Errors
/// What the log said.
pub fn look(
    chain: &ChainLog,
    tail: Option<&ChainEvent>,
    stuck_after: Duration,
    watch: Duration,
    now: impl Fn() -> i64,
) -> Result<Vec<Group>> {
    let reads_chain = |group: &GroupInfo| group.committed.iter().any(|c| kind(chain, &c.topic).is_some());
    let infos: Vec<_> = chain.log.groups()?.into_iter().filter(reads_chain).collect();
    let mut groups = Vec::new();
    for info in &infos {
        let position = Position::of(chain, info, tail)?;
        let behind = position.waiting_since.map_or(0, |since| now().saturating_sub(since));
        let behind = Duration::from_millis(u64::try_from(behind).unwrap_or(0));
        groups.push(Group {
            name: info.name.clone(),
            members: info.members,
            height: position.height(chain)?,
            blocks_behind: position.next_sequence.map(|next| {
                tail.map_or(0, |tail| (tail.sequence.saturating_add(1)).saturating_sub(next).max(0))
            }),
            behind,
            state: match (position.waiting_since, info.members) {
                (_, 0) => State::Stopped,
                (None, _) => State::Current,
                (Some(_), _) => State::Behind,
            },
        });
    }
    if groups.iter().any(|group| group.state == State::Behind && group.behind >= stuck_after) {
        std::thread::sleep(watch);
        let later = chain.log.groups()?;
        for (group, info) in groups.iter_mut().zip(&infos) {
            let moved =
                later.iter().any(|later| later.name == info.name && later.committed != info.committed);
            if group.state == State::Behind && group.behind >= stuck_after && !moved {
                group.state = State::Stuck;
            }
        }
    }
    Ok(groups)
}

/// A topic of the contract.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Blocks,
    Transactions,
    Mempool,
    Status,
}

fn kind(chain: &ChainLog, topic: &str) -> Option<Kind> {
    let topics = &chain.topics;
    let known = [
        (&topics.blocks, Kind::Blocks),
        (&topics.transactions, Kind::Transactions),
        (&topics.mempool, Kind::Mempool),
        (&topics.status, Kind::Status),
    ];
    known.into_iter().find(|(name, _)| *name == topic).map(|(_, kind)| kind)
}

impl Position {
    fn of(chain: &ChainLog, info: &GroupInfo, tail: Option<&ChainEvent>) -> Result<Self> {
        let mut position = Self { next_sequence: None, waiting_since: None };
        let end = tail.map_or(0, |tail| tail.sequence.saturating_add(1));
        for (topic, partition, offset) in cursors(chain, info)? {
            match kind(chain, &topic) {
                Some(Kind::Blocks) => {
                    let unread = first::<ChainEvent>(chain, &topic, partition, offset)?;
                    position.chain(unread.as_ref().map_or(end, |event| event.sequence));
                    position.waits(unread.map(|event| event.observed_at));
                }
                Some(Kind::Transactions) => {
                    let unread = first::<TransactionEvent>(chain, &topic, partition, offset)?;
                    position.chain(unread.map_or(end, |event| event.sequence));
                }
                Some(Kind::Mempool) => {
                    let unread = first::<MempoolEvent>(chain, &topic, partition, offset)?;
                    position.waits(unread.map(|event| event.observed_at));
                }
                Some(Kind::Status) => {
                    let unread = first::<StatusEvent>(chain, &topic, partition, offset)?;
                    position.waits(unread.map(|event| event.observed_at));
                }
                None => {}
            }
        }
        // A transaction does not say when it was seen, but its block does.
        if let Some(next) = position.next_sequence.filter(|next| *next < end) {
            let unread = chain.event_at_sequence(next)?;
            position.waits(unread.map(|located| located.event.observed_at));
        }
        Ok(position)
    }

    fn chain(&mut self, sequence: i64) {
        self.next_sequence = Some(self.next_sequence.map_or(sequence, |next| next.min(sequence)));
    }

    fn waits(&mut self, since: Option<i64>) {
        self.waiting_since = match (self.waiting_since, since) {
            (Some(known), Some(since)) => Some(known.min(since)),
            (known, since) => known.or(since),
        };
    }

    /// Height of the tip after the last event that was read.
    fn height(&self, chain: &ChainLog) -> Result<Option<i32>> {
        let Some(last) = self.next_sequence.and_then(|next| next.checked_sub(1)).filter(|last| *last >= 0)
        else {
            return Ok(None);
        };
        Ok(chain.event_at_sequence(last)?.map(|located| located.event.tip().0))
    }
}

/// Next offsets of all partitions of the topics that a group reads; where it has committed none, it starts at the first.
fn cursors(chain: &ChainLog, info: &GroupInfo) -> Result<Vec<(String, i32, i64)>> {
    let mut topics: Vec<&str> = info.committed.iter().map(|committed| &*committed.topic).collect();
    topics.sort_unstable();
    topics.dedup();
    let mut cursors = Vec::new();
    for topic in topics {
        let partitions = chain.log.topic(topic)?.map_or(0, |info| info.partitions);
        for partition in 0..partitions {
            let committed =
                |c: &&Committed| c.topic == topic && c.partition == partition && kind(chain, topic).is_some();
            let offset = info.committed.iter().find(committed).map_or(0, |committed| committed.offset);
            cursors.push((topic.to_owned(), partition, offset));
        }
    }
    Ok(cursors)
}

/// The first event of a partition that starts at an offset or later.
fn first<E: Event>(chain: &ChainLog, topic: &str, partition: i32, offset: i64) -> Result<Option<E>> {
    if offset >= chain.log.bounds(topic, partition)?.end {
        return Ok(None);
    }
    Ok(chain.events::<E>(topic, partition, offset)?.next().transpose()?.map(|located| located.event))
}
