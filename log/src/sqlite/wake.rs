//! Waking readers, in this process and in others, when something was committed.

use std::fs::{File, OpenOptions};
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};

/// At the latest a waiting reader looks again after this time, should the operating system not tell of a commit.
const TICK: Duration = Duration::from_secs(1);

/// Rings after each commit.
///
/// A file beside the database is written to after each commit, and watched by other processes. The database's own files
/// will not do: they are written before the commit is visible, and not after.
pub(super) struct Bell {
    rings: Arc<Rings>,
    path: PathBuf,
    file: File,
    watcher: OnceLock<Option<RecommendedWatcher>>,
}

#[derive(Default)]
struct Rings {
    count: Mutex<u64>,
    rang: Condvar,
}

impl Rings {
    fn lock(&self) -> MutexGuard<'_, u64> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self) {
        *self.lock() += 1;
        self.rang.notify_all();
    }
}

impl Bell {
    pub(super) fn open(path: &Path) -> std::io::Result<Self> {
        let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        // One byte on the disk from the start, so that writing it again needs no space.
        file.write_all(b"\n")?;
        Ok(Self { rings: Arc::default(), path: path.to_owned(), file, watcher: OnceLock::new() })
    }

    /// Wakes everyone who waits.
    pub(super) fn ring(&self) {
        self.rings.ring();
        let mut file = &self.file;
        if let Err(error) = file.rewind().and_then(|()| file.write_all(b"\n")) {
            tracing::warn!(path = %self.path.display(), %error, "readers in other processes are not woken at once");
        }
    }

    /// How often the bell has rung. To be asked before looking whether there is anything to read: a ring between that
    /// look and `wait` then ends the wait at once.
    pub(super) fn count(&self) -> u64 {
        self.watcher.get_or_init(|| self.watch());
        *self.rings.lock()
    }

    /// Waits until the bell has rung more than `seen` times, at most until `until`, and never longer than a tick.
    pub(super) fn wait(&self, seen: u64, until: Option<Instant>) {
        let timeout = until.map_or(TICK, |until| until.saturating_duration_since(Instant::now()).min(TICK));
        let count = self.rings.lock();
        drop(self.rings.rang.wait_timeout_while(count, timeout, |count| *count == seen));
    }

    fn watch(&self) -> Option<RecommendedWatcher> {
        let rings = self.rings.clone();
        let watching = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Errors (an overflowed queue) wake, too: better one look too many.
            if event.map_or(true, |event| event.need_rescan() || event.kind.is_modify()) {
                rings.ring();
            }
        })
        .and_then(|mut watcher| {
            watcher.watch(&self.path, RecursiveMode::NonRecursive)?;
            Ok(watcher)
        });
        watching
            .inspect_err(|error| {
                tracing::warn!(path = %self.path.display(), %error, "commits of other processes are looked for every second");
            })
            .ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits for the operating system to pass it on, up to a minute.
    fn hears(bell: &Bell, seen: u64) -> bool {
        (0..60).any(|_| {
            bell.wait(seen, None);
            bell.count() > seen
        })
    }

    #[test]
    fn a_ring_is_heard_by_the_bells_of_other_processes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wake");
        let (ours, theirs) = (Bell::open(&path).unwrap(), Bell::open(&path).unwrap());
        for _ in 0..3 {
            let seen = ours.count();
            theirs.ring();
            assert!(hears(&ours, seen));
        }
    }

    #[test]
    fn a_ring_between_the_look_and_the_wait_is_heard() {
        let folder = tempfile::tempdir().unwrap();
        let bell = Bell::open(&folder.path().join("wake")).unwrap();
        let seen = bell.count();
        bell.ring();
        bell.wait(seen, None);
        assert!(bell.count() > seen);
    }
}
