//! Stop on SIGTERM or SIGINT: first asked for, then, on a second signal, at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// Signals this soon after the first are the same wish to stop: shells and `timeout` send one to the process and one to
/// its group.
const SAME_SIGNAL: Duration = Duration::from_millis(500);

/// Whether the process was asked to stop. Cheap to clone, shared by threads and tasks.
#[derive(Clone, Debug)]
pub struct Shutdown {
    flag: Arc<AtomicBool>,
    tasks: watch::Sender<bool>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { flag: Arc::default(), tasks: watch::Sender::new(false) }
    }
}

impl Shutdown {
    /// Asks every holder to stop.
    pub fn request(&self) {
        self.flag.store(true, Ordering::SeqCst);
        self.tasks.send_replace(true);
    }

    /// Whether a stop was asked for. For loops on threads.
    pub fn is_requested(&self) -> bool {
        self.flag.load(Ordering::SeqCst)
    }

    /// The flag itself, for pure parts that know nothing of this crate.
    pub fn flag(&self) -> Arc<AtomicBool> {
        self.flag.clone()
    }

    /// Waits until a stop is asked for. For tasks.
    pub async fn requested(&self) {
        let mut tasks = self.tasks.subscribe();
        // The sender lives in `self`, so this ends only by the value.
        let _ = tasks.wait_for(|stop| *stop).await;
    }

    /// Sleeps for `time`, or less where a stop is asked for. Says whether to go on.
    pub fn sleep(&self, time: Duration) -> bool {
        let end = Instant::now() + time;
        while !self.is_requested() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            std::thread::sleep(left.min(Duration::from_millis(50)));
        }
        false
    }

    /// Requests a stop at the first SIGTERM or SIGINT and ends the process at the second.
    ///
    /// # Errors
    /// The handlers cannot be installed.
    pub fn on_signals(&self) -> anyhow::Result<()> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let shutdown = self.clone();
        tokio::spawn(async move {
            let mut first: Option<Instant> = None;
            loop {
                // Both receives are cancel-safe: a signal not taken here stays pending.
                let code = tokio::select! {
                    _ = terminate.recv() => 143,
                    _ = interrupt.recv() => 130,
                };
                match first {
                    None => {
                        tracing::info!("signal received, stopping");
                        first = Some(Instant::now());
                        shutdown.request();
                    }
                    Some(at) if at.elapsed() < SAME_SIGNAL => {}
                    Some(_) => {
                        tracing::warn!("second signal, stopping at once");
                        std::process::exit(code);
                    }
                }
            }
        });
        Ok(())
    }
}
