//! What a long-running process starts with: metrics, a place for tasks, and a way to be stopped.

use std::net::SocketAddr;
use std::sync::Arc;

use metrics_exporter_prometheus::PrometheusHandle;
use tokio::runtime::{Builder, Runtime};

use crate::health::{self, Health};
use crate::metrics;
use crate::shutdown::Shutdown;

/// A process that runs until it is told to stop.
pub struct Process {
    /// Requested by SIGTERM and SIGINT, and by whatever ends by itself.
    pub shutdown: Shutdown,
    tasks: Runtime,
    recorder: PrometheusHandle,
}

impl Process {
    /// Installs metrics and signal handlers, and starts `workers` threads for tasks.
    ///
    /// # Errors
    /// Threads cannot be started or handlers not be installed; or this is called twice.
    pub fn start(workers: usize) -> anyhow::Result<Self> {
        let recorder = metrics::install()?;
        let tasks = Builder::new_multi_thread().worker_threads(workers).enable_all().build()?;
        let shutdown = Shutdown::default();
        let entered = tasks.enter();
        shutdown.on_signals()?;
        drop(entered);
        Ok(Self { shutdown, tasks, recorder })
    }

    /// Where tasks run.
    pub fn tasks(&self) -> &Runtime {
        &self.tasks
    }

    /// Serves `/livez`, `/readyz` and `/metrics` until the process stops, where an address is given.
    ///
    /// # Errors
    /// The address cannot be bound; the error names it.
    pub fn serve_health(&self, address: Option<SocketAddr>, health: Arc<dyn Health>) -> anyhow::Result<()> {
        let Some(address) = address else { return Ok(()) };
        let server = health::serve(address, health, self.recorder.clone(), self.shutdown.clone());
        let (bound, server) = self.tasks.block_on(server)?;
        tracing::info!(%bound, "serving /livez, /readyz and /metrics");
        self.tasks.spawn(server);
        Ok(())
    }
}
