//! What every process needs: options, logs, metrics and health, start and stop.

pub mod health;
pub mod logging;
pub mod metrics;
pub mod node;
pub mod options;
pub mod process;
pub mod shutdown;
pub mod start;
pub mod status;
pub mod terminal;
