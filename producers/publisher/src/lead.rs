//! The lead, kept on a thread of its own: reading a log, a slow node or a large block may take longer than a lead lasts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use sluice_log::Candidate;
use tracing::warn;

use crate::monitor::Monitor;

/// How often the lead is kept.
const KEPT_EVERY: Duration = Duration::from_millis(250);
/// A publisher that has made no progress for this long is stuck: another one should lead.
const STUCK_AFTER: Duration = Duration::from_secs(120);

/// A lead that is kept until dropped.
pub(crate) struct Lead {
    lost: Arc<AtomicBool>,
    ended: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Lead {
    /// Keeps the lead of a candidate that has it.
    pub(crate) fn keep(mut candidate: Box<dyn Candidate>, monitor: Arc<Monitor>) -> std::io::Result<Self> {
        let lost = Arc::new(AtomicBool::new(false));
        let (ended, is_ended) = mpsc::channel::<()>();
        let told = lost.clone();
        let keep = move || {
            loop {
                let keeps = match candidate.leads(Duration::ZERO) {
                    Ok(leads) => leads,
                    Err(error) => {
                        warn!(%error, "failed to keep the lead");
                        false
                    }
                };
                if !keeps || monitor.last_progress().elapsed() > STUCK_AFTER {
                    break told.store(true, Ordering::SeqCst);
                }
                // Disconnected with the sender: the lead is given up.
                if is_ended.recv_timeout(KEPT_EVERY) == Err(RecvTimeoutError::Disconnected) {
                    break;
                }
            }
        };
        let thread = std::thread::Builder::new().name("lead".into()).spawn(keep)?;
        Ok(Self { lost, ended: Some(ended), thread: Some(thread) })
    }

    /// Whether another publisher may lead by now.
    pub(crate) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::SeqCst)
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        self.ended = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// Leads as long as a flag says.
    struct Flagged(Arc<AtomicBool>);

    impl Candidate for Flagged {
        fn leads(&mut self, _: Duration) -> sluice_log::Result<bool> {
            Ok(self.0.load(Ordering::SeqCst))
        }
    }

    #[test]
    fn a_lead_is_kept_until_it_is_taken() {
        let leads = Arc::new(AtomicBool::new(true));
        let lead = Lead::keep(Box::new(Flagged(leads.clone())), Arc::default()).unwrap();
        assert!(!lead.is_lost());
        leads.store(false, Ordering::SeqCst);
        let deadline = Instant::now() + Duration::from_secs(30);
        while !lead.is_lost() {
            assert!(Instant::now() < deadline, "the loss was never noticed");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
