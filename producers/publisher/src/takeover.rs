//! Taking the log over: its position is its last record, so that is where a producer learns all it must know.

use std::time::{Duration, Instant};

use sluice_chain::{Block, ChainTracker, DifficultyRule, Settings};
use sluice_log::chain::ChainLog;
use sluice_log::{Class, Record, StartAt};
use sluice_schemas::{ChainEvent, Event, EventKind, MempoolEvent, Network, StatusEvent};

use crate::error::{Error, Result};

/// Published blocks read at once when more history is needed.
const HISTORY_PAGE: usize = 4096;

/// How long one read may wait.
const READ_WAIT: Duration = Duration::from_millis(50);
/// How long the log may be silent short of its end.
const SILENCE: Duration = Duration::from_secs(30);
fn silent(topic: &str, partition: i32) -> Error {
    Error::Log(sluice_log::Error::Store {
        attempt: format!("read {topic}/{partition}"),
        reason: format!("the log has been silent for {} s", SILENCE.as_secs()),
        class: Class::Retry,
    })
}

/// What the log says about itself.
pub(crate) struct Position {
    pub(crate) tracker: ChainTracker,
    pub(crate) next_sequence: i64,
    /// This producer's term: one more than any before.
    pub(crate) epoch: i64,
}

/// Reads where the log ends.
pub(crate) fn position(chain_log: &ChainLog, network: Network) -> Result<Position> {
    let settings = Settings::new(network, DifficultyRule::Trust);
    let tail = chain_log.tail()?;
    if let Some(event) = tail.as_ref().filter(|event| event.network != network.name()) {
        return Err(Error::WrongNetwork { log: event.network.clone(), found: network });
    }
    let tracker = match &tail {
        None => ChainTracker::from_genesis(settings),
        Some(_) => {
            let keep = settings.keep;
            let newest_first: Vec<Block> =
                chain_log.best_chain()?.take(keep).map(|event| block(&event?)).collect::<Result<_>>()?;
            ChainTracker::from_published(settings, &newest_first)
                .map_err(|error| Error::Inconsistent(error.to_string()))?
        }
    };
    let last_epoch = tail.as_ref().map_or(0, |event| event.epoch).max(last_epoch(chain_log)?);
    Ok(Position { tracker, next_sequence: tail.map_or(0, |event| event.sequence + 1), epoch: last_epoch + 1 })
}

/// Adds published blocks below the oldest one held. Says whether there were any.
pub(crate) fn extend_back(chain_log: &ChainLog, tracker: &mut ChainTracker) -> Result<bool> {
    let oldest = tracker.oldest().height;
    let older: Vec<Block> = chain_log
        .best_chain()?
        .skip_while(|event| event.as_ref().is_ok_and(|event| event.height >= oldest))
        .take(HISTORY_PAGE)
        .map(|event| block(&event?))
        .collect::<Result<_>>()?;
    tracker.extend_back(&older).map_err(|error| Error::Inconsistent(error.to_string()))?;
    Ok(!older.is_empty())
}

/// A published block as the tracker takes it.
fn block(event: &ChainEvent) -> Result<Block> {
    let header = bitcoin::consensus::deserialize(&event.header)
        .map_err(|error| Error::Inconsistent(format!("header of {} is unreadable: {error}", event.hash)))?;
    let median_time = u32::try_from(event.median_time / 1000)
        .map_err(|_| Error::Inconsistent(format!("median time of {} is out of range", event.hash)))?;
    Ok(Block { header, height: event.height, chain_work: event.chain_work, median_time })
}

/// The highest epoch on the mempool and status topics. Where all of that is past its retention no reader can mistake
/// an epoch that is used again.
fn last_epoch(chain_log: &ChainLog) -> Result<i64> {
    let mut epoch = 0;
    if let Some(status) = last_event::<StatusEvent>(chain_log, 0)? {
        epoch = epoch.max(status.epoch);
    }
    let mempool = chain_log.topics.name(EventKind::Mempool);
    let partitions = chain_log.log.topic(mempool)?.map_or(0, |topic| topic.partitions);
    for partition in 0..partitions {
        if let Some(event) = last_event::<MempoolEvent>(chain_log, partition)? {
            epoch = epoch.max(event.epoch);
        }
    }
    Ok(epoch)
}

/// The newest event of a partition.
fn last_event<E: Event>(chain_log: &ChainLog, partition: i32) -> Result<Option<E>> {
    let topic = chain_log.topics.name(E::KIND);
    let bounds = chain_log.log.bounds(topic, partition)?;
    // Not every offset holds a record, so the window grows until one is found.
    let mut window = 4;
    loop {
        let start = (bounds.end - window).max(bounds.start);
        if start >= bounds.end {
            return Ok(None);
        }
        let from = StartAt { topic: topic.to_owned(), partition, offset: start };
        let mut readers = chain_log.log.partition_readers(&[from])?;
        let reader = &mut readers[0];
        let mut last = None;
        let mut next = start;
        let opened = Instant::now();
        while next < bounds.end {
            let records = reader.read(1 << 20, READ_WAIT)?;
            let Some(newest) = records.last() else {
                // The last offsets may hold no record, as Kafka's transaction markers. Silence short of the end proves
                // nothing: an epoch taken from it would be used twice.
                if reader.is_at_end() {
                    break;
                }
                if opened.elapsed() > SILENCE {
                    return Err(silent(topic, partition));
                }
                continue;
            };
            next = newest.offset + 1;
            // A chunked event is passed over: those before it in its epoch are not, its epoch's first is a RESET.
            let whole = |record: &Record| record.offset < bounds.end && record.headers.is_empty();
            last = records.into_iter().rfind(whole).or(last);
        }
        match last {
            Some(record) => return Ok(Some(chain_log.codec.decode(&record.value)?)),
            _ if start == bounds.start => return Ok(None),
            _ => window *= 16,
        }
    }
}
