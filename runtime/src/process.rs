//! What a long-running process starts with: metrics, a place for tasks, and a way to be stopped.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{Builder as ThreadBuilder, JoinHandle};

use anyhow::anyhow;
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

/// A part of the process that works on a thread of its own.
pub struct Worker<E> {
    name: &'static str,
    thread: JoinHandle<Result<(), E>>,
}

impl<E: Send + 'static> Worker<E> {
    /// Starts to work. When it ends, whatever the reason, the process is asked to stop.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(
        name: &'static str,
        shutdown: &Shutdown,
        work: impl FnOnce() -> Result<(), E> + Send + 'static,
    ) -> std::io::Result<Self> {
        let ended = shutdown.clone();
        let thread = ThreadBuilder::new().name(name.into()).spawn(move || {
            let result = work();
            ended.request();
            result
        })?;
        Ok(Self { name, thread })
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for the end, and gives what the work gave.
    ///
    /// # Errors
    /// It panicked.
    pub fn wait(self) -> anyhow::Result<Result<(), E>> {
        let Self { name, thread } = self;
        thread.join().map_err(|_| anyhow!("the {name} panicked; this is a defect, please report it"))
    }
}
