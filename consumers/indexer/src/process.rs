//! The indexer process: consumer, projector and server put together.
//!
//! Used by `sluice-indexer`, which is this stage alone for its own container, and by `sluice up`.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use sluice_consumer::{Batch, Consumer, Monitor};
use sluice_runtime::process::{Process, Worker};
use tokio::net::TcpListener;

use crate::api::{self, Node};
use crate::options::IndexerOptions;
use crate::{Index, Projector, events, pages, server};

/// The name of the group, where none is given.
pub const GROUP: &str = "indexer";

/// How much is applied between two commits while catching up. Memory is bounded by the buffer, not by this.
const BATCH: Batch = Batch { changes: 100_000, bytes: 1 << 30, time: Duration::from_secs(20) };

/// An indexer at work.
pub struct Running {
    /// What it is doing.
    pub monitor: Arc<Monitor>,
    /// The index, to be asked.
    pub index: Index,
    /// Where page and API are served.
    pub address: SocketAddr,
    worker: Worker<sluice_consumer::Error>,
}

/// Opens the index in `directory`, serves it, and starts to bring it forward. Transactions that users send go to `node`,
/// where there is one. The process's shutdown ends it; it is requested too when the indexer ends by itself.
///
/// # Errors
/// What is wrong with index or address, in one line.
pub fn start(
    consumer: Consumer,
    options: &IndexerOptions,
    directory: &Path,
    node: Option<Node>,
    process: &Process,
) -> anyhow::Result<Running> {
    // First the address: an index that cannot be asked is not worth building.
    let listener = listen(options.listen, process)?;
    let address = listener.local_addr()?;
    std::fs::create_dir_all(directory)
        .with_context(|| format!("--index: failed to create {}", directory.display()))?;
    let mut projector = Projector::open(consumer.log().clone(), directory, options.settings())?;
    let index = projector.index().clone();
    serve(listener, &index, node, options, process);
    let consumer = consumer.batch(BATCH);
    let monitor = consumer.monitor();
    let shutdown = process.shutdown.clone();
    let project = move || consumer.project(&mut projector, &shutdown);
    let worker = Worker::start("indexer", &process.shutdown, project)?;
    Ok(Running { monitor, index, address, worker })
}

fn listen(address: SocketAddr, process: &Process) -> anyhow::Result<TcpListener> {
    process.tasks().block_on(TcpListener::bind(address)).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            anyhow!(
                "--listen: {address} is in use by another process; name another address, or port 0 for any"
            )
        }
        _ => anyhow!(error).context(format!("--listen: failed to listen on {address}")),
    })
}

fn serve(
    listener: TcpListener,
    index: &Index,
    node: Option<Node>,
    options: &IndexerOptions,
    process: &Process,
) {
    let router = api::router(index.clone(), node, options.limits())
        .merge(events::router(index.clone(), process.shutdown.clone(), options.event_clients as usize))
        .merge(pages::router(index.clone()));
    process.tasks().spawn(server::serve(listener, router, options.patience(), process.shutdown.clone()));
}

impl Running {
    /// Waits for the end.
    ///
    /// # Errors
    /// What stopped the indexer, where nobody asked it to.
    pub fn wait(self) -> anyhow::Result<()> {
        self.worker.wait()?.context("the indexer has stopped")
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.worker.has_ended()
    }
}
