//! Where on the log to begin.

use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use sluice_log::StartAt;
use sluice_log::chain::{ChainLog, Located};
use sluice_schemas::{Action, ChainEvent, EventKind, MempoolEvent, StatusEvent, TransactionEvent};

/// A place on the log, as people name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The first record that is kept.
    Genesis,
    /// After the last record.
    Tip,
    /// Where the block of this height was connected.
    Height(i32),
    /// The first record of this time or later.
    Time(Timestamp),
}

/// Why a place was not found.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log has not come to that height.
    #[error("there is no block {height} yet: the log has come to height {tip} only")]
    TooHigh {
        /// What was asked for.
        height: i32,
        /// Height of the tip.
        tip: i32,
    },
    /// The log has no block at all.
    #[error("there is no block {height} yet: the log is empty")]
    Empty {
        /// What was asked for.
        height: i32,
    },
    /// The log lacks a topic.
    #[error("{url} has no topic {topic}")]
    NoTopic {
        /// The log.
        url: String,
        /// The topic.
        topic: String,
    },
    /// The log could not be read.
    #[error(transparent)]
    Log(#[from] sluice_log::Error),
}

impl FromStr for Start {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "genesis" => return Ok(Self::Genesis),
            "tip" => return Ok(Self::Tip),
            _ => {}
        }
        if let Ok(height) = text.parse::<u32>() {
            return i32::try_from(height).map(Self::Height).map_err(|_| "heights go up to 2147483647");
        }
        let date = || text.parse::<Date>().ok()?.to_zoned(TimeZone::UTC).ok().map(|day| day.timestamp());
        match text.parse::<Timestamp>().ok().or_else(date) {
            Some(time) => Ok(Self::Time(time)),
            None => Err("takes genesis, tip, a height, or a time such as 2026-01-31 or 2026-01-31T12:00:00Z"),
        }
    }
}

impl Start {
    /// The sequence of the first chain event to read. Of a height or time, it is one that connects a block.
    ///
    /// # Errors
    /// The log is not that high, or could not be read.
    pub fn sequence(self, chain: &ChainLog) -> Result<i64, Error> {
        let after_the_last = || Ok(chain.tail()?.map_or(0, |tail| tail.sequence.saturating_add(1)));
        match self {
            Self::Genesis => Ok(0),
            Self::Tip => after_the_last(),
            Self::Height(height) => Ok(connected_at(chain, height)?.event.sequence),
            Self::Time(time) => {
                let topic = &chain.topics.blocks;
                let Some(offset) = chain.log.offset_at(topic, 0, time.as_millisecond())? else {
                    return after_the_last();
                };
                for located in chain.events::<ChainEvent>(topic, 0, offset)? {
                    let event = located?.event;
                    if event.action == Action::Connected {
                        return Ok(event.sequence);
                    }
                }
                after_the_last()
            }
        }
    }

    /// The offsets to read a topic from, one per partition.
    ///
    /// # Errors
    /// The log lacks the topic, is not that high, or could not be read.
    pub fn locate(self, chain: &ChainLog, kind: EventKind) -> Result<Vec<StartAt>, Error> {
        let topic = chain.topics.name(kind);
        let Some(info) = chain.log.topic(topic)? else {
            return Err(Error::NoTopic { url: chain.log.url().to_owned(), topic: topic.to_owned() });
        };
        let block = match self {
            Self::Height(height) => Some(connected_at(chain, height)?),
            _ => None,
        };
        let mut starts = Vec::new();
        for partition in 0..info.partitions {
            let bounds = chain.log.bounds(topic, partition)?;
            let found = match self {
                Self::Genesis => Some(bounds.start),
                Self::Tip => None,
                Self::Time(time) => chain.log.offset_at(topic, partition, time.as_millisecond())?,
                Self::Height(_) => match &block {
                    Some(block) => offset_of(chain, kind, partition, block)?,
                    None => None,
                },
            };
            let offset = found.unwrap_or(bounds.end);
            starts.push(StartAt { topic: topic.to_owned(), partition, offset });
        }
        Ok(starts)
    }
}

/// The chain event that connected the block of a height.
///
/// # Errors
/// The log is not that high, or could not be read.
pub fn connected_at(chain: &ChainLog, height: i32) -> Result<Located<ChainEvent>, Error> {
    match chain.event_at_height(height)? {
        Some(located) => Ok(located),
        None => Err(match chain.tail()? {
            Some(tail) => Error::TooHigh { height, tip: tail.height },
            None => Error::Empty { height },
        }),
    }
}

/// The first record of a partition that belongs to a block or comes after it.
fn offset_of(
    chain: &ChainLog,
    kind: EventKind,
    partition: i32,
    block: &Located<ChainEvent>,
) -> sluice_log::Result<Option<i64>> {
    let (topic, sequence) = (chain.topics.name(kind), block.event.sequence);
    Ok(match kind {
        EventKind::Chain => Some(block.offset),
        EventKind::Transaction => chain
            .first_event(topic, partition, |event: &TransactionEvent| event.sequence < sequence)?
            .map(|located| located.offset),
        EventKind::Mempool => chain
            .first_event(topic, partition, |event: &MempoolEvent| event.chain_sequence < sequence)?
            .map(|located| located.offset),
        EventKind::Status => chain
            .first_event(topic, partition, |event: &StatusEvent| event.chain_sequence < sequence)?
            .map(|located| located.offset),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_word_a_height_or_a_time() {
        let time = |text: &str| Start::Time(text.parse().unwrap());
        assert_eq!("genesis".parse(), Ok(Start::Genesis));
        assert_eq!("tip".parse(), Ok(Start::Tip));
        assert_eq!("840000".parse(), Ok(Start::Height(840_000)));
        assert_eq!("2026-01-31".parse(), Ok(time("2026-01-31T00:00:00Z")));
        assert_eq!("2026-01-31T12:00:00+02:00".parse(), Ok(time("2026-01-31T10:00:00Z")));
        for wrong in ["", "-1", "4294967295", "yesterday", "2026-02-30"] {
            assert!(wrong.parse::<Start>().is_err(), "{wrong}");
        }
    }
}
