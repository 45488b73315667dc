//! The source's notices, collected on a thread of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};
use sluice_sources::{Notice, Source};

/// Notices that wait for the publisher. Beyond them the source's own bound works, and what it drops it tells of.
const PENDING_NOTICES: usize = 1 << 16;
/// Notices handled before the publisher looks at anything else.
const NOTICES_AT_ONCE: usize = 4096;
/// How long the thread waits before it looks whether it should end.
const TICK: Duration = Duration::from_millis(100);
/// Wait after the feed failed.
const RETRY: Duration = Duration::from_millis(500);

/// What the thread hands over.
pub(crate) enum Heard {
    Notice(Notice),
    /// The feed was opened again after a failure: anything may have been missed.
    Reopened,
}

/// The thread that listens.
pub(crate) struct Notices {
    heard: Option<Receiver<Heard>>,
    listening: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Notices {
    pub(crate) fn start(source: Arc<dyn Source>) -> Self {
        let (sender, heard) = bounded(PENDING_NOTICES);
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = stop.clone();
        let listening = Arc::new(AtomicBool::new(false));
        let listens = listening.clone();
        let listen = move || {
            let mut feed = None;
            let mut failed = false;
            while !stopping.load(Ordering::SeqCst) {
                let heard = match &mut feed {
                    None => source.feed().map(|opened| {
                        feed = Some(opened);
                        if std::mem::take(&mut failed) { vec![Heard::Reopened] } else { vec![] }
                    }),
                    Some(open) => {
                        open.wait(TICK).map(|notices| notices.into_iter().map(Heard::Notice).collect())
                    }
                };
                match heard {
                    Ok(heard) => {
                        listens.store(true, Ordering::SeqCst);
                        for one in heard {
                            if sender.send(one).is_err() {
                                return;
                            }
                        }
                    }
                    Err(error) => {
                        if !failed {
                            tracing::warn!(%error, source = source.id(), "the feed failed, opening it again");
                        }
                        feed = None;
                        failed = true;
                        listens.store(true, Ordering::SeqCst);
                        std::thread::sleep(RETRY);
                    }
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("notices".into())
            .spawn(listen)
            .expect("the system can start a thread");
        Self { heard: Some(heard), listening, stop, thread: Some(thread) }
    }

    /// Whether the feed has been opened, or has failed to. What is asked of the source from then on is no older than what
    /// the feed tells.
    pub(crate) fn is_listening(&self) -> bool {
        self.listening.load(Ordering::SeqCst)
    }

    /// Waits at most `wait` for the first, and takes what is there, up to a bound.
    pub(crate) fn take(&self, wait: Duration) -> Vec<Heard> {
        let heard = self.heard.as_ref().expect("present until drop");
        let mut taken = match heard.recv_timeout(wait) {
            Ok(first) => vec![first],
            Err(RecvTimeoutError::Timeout) => return vec![],
            Err(RecvTimeoutError::Disconnected) => {
                // The thread has panicked; without it the publisher still polls and reconciles.
                std::thread::sleep(wait);
                return vec![];
            }
        };
        taken.extend(heard.try_iter().take(NOTICES_AT_ONCE));
        taken
    }
}

impl Drop for Notices {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        self.heard = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
