//! Logs as large as a test wants them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sluice_log::chain::ChainLog;
use sluice_publisher::{Config, Monitor, Publisher};
use sluice_sources::simulator::{LoadConfig, LoadSource};

/// Publishes a generated chain to its tip.
pub(crate) fn publish(chain: &ChainLog, config: Config, load: LoadConfig) {
    let tip = i32::try_from(load.blocks).unwrap();
    let source = Arc::new(LoadSource::new(load).unwrap());
    let (monitor, stop) = (Arc::new(Monitor::default()), Arc::new(AtomicBool::new(false)));
    let publisher = Publisher::new(config, chain.clone(), source, monitor.clone(), stop.clone());
    std::thread::scope(|scope| {
        let running = scope.spawn(|| publisher.run());
        while !running.is_finished() && monitor.status().tip.is_none_or(|(height, _)| height < tip) {
            std::thread::sleep(Duration::from_millis(20));
        }
        stop.store(true, Ordering::SeqCst);
        running.join().unwrap().unwrap();
    });
}
