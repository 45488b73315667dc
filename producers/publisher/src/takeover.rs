//! Taking the log over: its position is its last record, so that is where a producer learns all it must know.

use sluice_chain::{Block, ChainTracker, DifficultyRule, Settings};
use sluice_log::chain::ChainLog;
use sluice_schemas::{ChainEvent, Network, StatusEvent};

use crate::error::{Error, Result};

/// Published blocks read at once when more history is needed.
const HISTORY_PAGE: usize = 4096;

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
    let status = chain_log.last_event::<StatusEvent>(&chain_log.topics.status, 0)?;
    let mempool = chain_log.newest_mempool_epoch()?;
    Ok(status.map(|status| status.event.epoch).max(mempool).unwrap_or(0))
}
