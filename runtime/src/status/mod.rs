//! Where the parts of a pipeline stand, as the log tells.

pub mod gaps;
pub mod groups;

use sluice_log::Result;
use sluice_log::chain::{ChainLog, Located};
use sluice_schemas::StatusEvent;

/// Offsets of the status topic that the newest events are of: a day and more of heartbeats.
const WINDOW: i64 = 20_000;

/// What producers told, from an offset of the status topic on, or the newest of it. Nothing where there is no such topic.
///
/// # Errors
/// What the log said. An item is an error where a record is not such an event.
pub fn events(
    chain: &ChainLog,
    from: Option<i64>,
) -> Result<impl Iterator<Item = Result<Located<StatusEvent>>> + use<>> {
    let topic = &chain.topics.status;
    let events = match chain.log.topic(topic)? {
        None => None,
        Some(_) => {
            let from = match from {
                Some(from) => from,
                None => chain.log.bounds(topic, 0)?.end.saturating_sub(WINDOW),
            };
            Some(chain.events(topic, 0, from)?)
        }
    };
    Ok(events.into_iter().flatten())
}
