//! Liveness by progress of the main loop, readiness by leading or standing by.

use std::sync::Arc;
use std::time::Duration;

use sluice_publisher::{Monitor, State};
use sluice_runtime::health::Health;

/// A main loop that has not gone round for this long is stuck: longer than any wait for a node or broker.
const STUCK_AFTER: Duration = Duration::from_secs(180);

/// The health of a producer.
pub struct ProducerHealth(pub Arc<Monitor>);

impl Health for ProducerHealth {
    fn live(&self) -> Result<(), String> {
        let idle = self.0.last_progress().elapsed();
        if idle > STUCK_AFTER { Err(format!("no progress for {} s", idle.as_secs())) } else { Ok(()) }
    }

    fn ready(&self) -> Result<(), String> {
        let status = self.0.status();
        match (status.state, status.trouble) {
            (State::Live | State::StandingBy, None) => Ok(()),
            (_, Some(trouble)) => Err(trouble),
            (state, None) => Err(format!(
                "{state:?} at height {} of {}",
                status.tip.map_or(-1, |(height, _)| height),
                status.source_height.unwrap_or(-1)
            )),
        }
    }
}
