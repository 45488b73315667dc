//! Where events are handled.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use sluice_log::Record;
use sluice_log::chain::ChainLog;
use tokio::runtime::{Builder, Handle, Runtime, RuntimeFlavor};
use tokio::task::AbortHandle;

use super::retry::RetryPolicy;
use super::task::{self, Kind, Verdict};
use super::{Error, Handler};

/// The end of one event, told to the member.
pub(crate) struct Report {
    /// Number of the lane.
    pub(crate) lane: u64,
    /// Number of the job in the lane.
    pub(crate) job: u64,
    /// How it ended.
    pub(crate) verdict: Verdict,
}

/// Handles events, each in a task of its own.
pub(crate) struct Workers<H> {
    pub(crate) handler: Arc<H>,
    pub(crate) chain: ChainLog,
    pub(crate) retry: RetryPolicy,
    pub(crate) reports: SyncSender<Report>,
    pub(crate) tasks: Handle,
}

impl<H: Handler> Workers<H> {
    /// Begins to handle an event. The handle ends that at its next `await`.
    pub(crate) fn start(&self, lane: u64, job: u64, kind: Kind, record: Record) -> AbortHandle {
        let (handler, chain, retry) = (Arc::clone(&self.handler), self.chain.clone(), self.retry);
        let reports = self.reports.clone();
        let task = self.tasks.spawn(async move {
            let verdict = task::run(&*handler, &chain, kind, &record, &retry).await;
            // There is room for every event that can be at work. The member is gone where nobody listens.
            let _ = reports.send(Report { lane, job, verdict });
        });
        task.abort_handle()
    }
}

/// Threads for handlers.
pub(crate) enum Threads {
    /// The caller's.
    Lent(Handle),
    /// Of this member alone.
    Own(Runtime),
}

impl Threads {
    /// The caller's runtime where there is one that goes on while the caller is blocked; else a new one.
    pub(crate) fn find() -> Result<Self, Error> {
        match Handle::try_current() {
            Ok(handle) if handle.runtime_flavor() == RuntimeFlavor::MultiThread => Ok(Self::Lent(handle)),
            _ => Builder::new_multi_thread()
                .enable_all()
                .thread_name("handler")
                .build()
                .map(Self::Own)
                .map_err(Error::Threads),
        }
    }

    pub(crate) fn handle(&self) -> Handle {
        match self {
            Self::Lent(handle) => handle.clone(),
            Self::Own(runtime) => runtime.handle().clone(),
        }
    }

    /// Ends the threads without waiting for what is left on them, which may be done from anywhere.
    pub(crate) fn end(self) {
        if let Self::Own(runtime) = self {
            runtime.shutdown_background();
        }
    }
}
