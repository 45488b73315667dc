//! An index served in this process, over any log.

use std::net::SocketAddr;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use sluice_consumer::{Consumer, Shutdown};
use sluice_indexer::server::{self, Patience};
use sluice_indexer::{Index, Projector, Settings, events, pages};
use sluice_log::chain::ChainLog;
use sluice_test_support::soon;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// Longer than any test.
const FOREVER: Duration = Duration::from_secs(3600);

/// An index that follows its log, and its pages and events on a port of this machine.
pub(crate) struct Served {
    /// Where.
    pub(crate) address: SocketAddr,
    index: Index,
    shutdown: Shutdown,
    tasks: Option<Runtime>,
    projection: Option<JoinHandle<()>>,
}

impl Served {
    /// Serves the index of a log, which is kept in a directory. With `send_buffer`, the system takes no more bytes than
    /// about this from the server while a client reads none.
    pub(crate) fn start(chain: &ChainLog, directory: &Path, send_buffer: Option<usize>) -> Self {
        Self::bounded(chain, directory, send_buffer, 4096, Patience { client: FOREVER, connections: 8192 })
    }

    /// As `start`, for so many clients of `/events` at once.
    pub(crate) fn bounded(
        chain: &ChainLog,
        directory: &Path,
        send_buffer: Option<usize>,
        clients: usize,
        patience: Patience,
    ) -> Self {
        let settings = Settings { buffer_bytes: 8 << 20, cache_bytes: 8 << 20, ..Settings::default() };
        let mut projector = Projector::open(chain.clone(), directory, settings).unwrap();
        let (index, shutdown) = (projector.index().clone(), Shutdown::default());
        let projection = std::thread::spawn({
            let (consumer, stop) = (Consumer::new(chain.clone(), "indexer"), shutdown.clone());
            move || consumer.project(&mut projector, &stop).unwrap()
        });
        let tasks =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let listener = tasks.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        if let Some(bytes) = send_buffer {
            // Its connections have it from the listener.
            socket2::SockRef::from(&listener).set_send_buffer_size(bytes).unwrap();
        }
        let router =
            pages::router(index.clone()).merge(events::router(index.clone(), shutdown.clone(), clients));
        tasks.spawn(server::serve(listener, router, patience, shutdown.clone()));
        Self { address, index, shutdown, tasks: Some(tasks), projection: Some(projection) }
    }

    /// Waits until everything that is on the log is in the index.
    pub(crate) fn reaches(&self, chain: &ChainLog) {
        let newest = || {
            let mut scanner = chain.scan_mempool(None).unwrap();
            scanner.extend().unwrap();
            std::iter::from_fn(move || scanner.next_event().unwrap()).last().map(|last| last.event.sequence)
        };
        let wanted = (chain.tail().unwrap().map(|tail| tail.sequence), newest());
        soon("the index to have everything", || {
            let position = self.index.view().ok().and_then(|view| view.position());
            let has = (
                position.map(|position| position.sequence),
                position.and_then(|position| position.mempool).map(|mempool| mempool.sequence),
            );
            if has == wanted { Ok(()) } else { Err((has, wanted)) }
        });
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.shutdown.request();
        let projected = self.projection.take().map(JoinHandle::join);
        // Blocking work that nobody waits for any more is left behind.
        if let Some(tasks) = self.tasks.take() {
            tasks.shutdown_background();
        }
        if !std::thread::panicking() {
            projected.unwrap().unwrap();
        }
    }
}
