//! The producer process: options, source, log and publisher put together.
//!
//! Used by `sluice-producer`, which is this stage alone for its own container, and by `sluice up`.

pub mod health;
pub mod options;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use sluice_log::chain::ChainLog;
use sluice_publisher::{Config, Monitor, Publisher};
use sluice_runtime::options::LogOptions;
use sluice_runtime::process::Worker;
use sluice_runtime::shutdown::Shutdown;
use sluice_sources::Source;
use tracing::{info, warn};

use crate::options::{ProducerOptions, SourceOptions};

/// Time from one try to open a source to the next.
const SOURCE_RETRY: Duration = Duration::from_secs(1);

/// A producer at work.
pub struct Running {
    /// What it is doing.
    pub monitor: Arc<Monitor>,
    /// Where its events come from, for people.
    pub source: String,
    /// Where its events go, for people, without secrets.
    pub log: String,
    /// The log itself, for who reads it in the same process.
    pub chain: ChainLog,
    worker: Worker<sluice_publisher::Error>,
}

/// Opens source and log and starts to publish; `monitor` shows what it is at, from the wait for the source on.
/// `shutdown` ends it; it is requested too when the producer ends by itself. `None` where that was asked for before the
/// source was there.
///
/// # Errors
/// What is wrong with options, source or log, in one line.
pub fn start(
    log: &LogOptions,
    source: &SourceOptions,
    producer: &ProducerOptions,
    monitor: Arc<Monitor>,
    shutdown: &Shutdown,
) -> anyhow::Result<Option<Running>> {
    let Some(source) = open_source(log, source, &monitor, shutdown)? else { return Ok(None) };
    let chain_log = log.open_for(source.network())?;
    let config = Config {
        partitions: producer.partitions,
        mempool: !producer.no_mempool,
        reconcile_interval: producer.reconcile_interval,
        heartbeat_interval: producer.heartbeat_interval,
        ..Config::default()
    };
    let (source_id, log_url) = (source.id().to_owned(), chain_log.log.url().to_owned());
    let publisher = Publisher::new(config, chain_log.clone(), source, monitor.clone(), shutdown.flag());
    let worker = Worker::start("publisher", shutdown, move || publisher.run())?;
    Ok(Some(Running { monitor, source: source_id, log: log_url, chain: chain_log, worker }))
}

/// Opens the source, and waits for one that is not there yet: a node that still starts, a simulator that another
/// process runs. `None` where it is told to stop meanwhile.
fn open_source(
    log: &LogOptions,
    source: &SourceOptions,
    monitor: &Monitor,
    shutdown: &Shutdown,
) -> anyhow::Result<Option<Arc<dyn Source>>> {
    loop {
        let error = match source.open(log.network, log.data_dir()?) {
            Ok(source) => return Ok(Some(source)),
            Err(error) => error,
        };
        let passes =
            error.downcast_ref::<sluice_sources::Error>().is_some_and(sluice_sources::Error::is_transient);
        if !passes {
            return Err(error);
        }
        let error = format!("{error:#}");
        warn!(error, "source is not there yet, trying again");
        monitor.awaits_source(error);
        if !shutdown.sleep(SOURCE_RETRY) {
            info!("stopped before the source was there; nothing was published");
            return Ok(None);
        }
    }
}

impl Running {
    /// Waits for the end.
    ///
    /// # Errors
    /// What stopped the producer, where nobody asked it to.
    pub fn wait(self) -> anyhow::Result<()> {
        self.worker.wait()?.with_context(|| format!("failed to publish {} on {}", self.source, self.log))
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.worker.has_ended()
    }
}
