//! Membership of the group that follows a log: one member is active, the others stand by.
//!
//! The group shares the one partition of `<prefix>.blocks`: whoever has it is the active member. What it says of that
//! partition is only ever for others to see how far the group is: the position that counts is in the projection's store.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sluice_log::chain::ChainLog;
use sluice_log::{Class, Committed, Error as LogError, GroupReader, Result as LogResult};
use tracing::{debug, warn};

use crate::error::Error;

/// How often the group is asked who is active. Joining takes a few times as long.
const TURN: Duration = Duration::from_millis(100);
/// Time from one commit of the group's offset to the next.
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);

/// A member, kept by a thread of its own until dropped, whatever the projection is busy with.
pub(crate) struct Member {
    group: String,
    shared: Arc<Shared>,
    end: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    /// Whether this member is the active one.
    leads: Arc<AtomicBool>,
    /// The next offset to read, to be committed.
    offset: Mutex<Option<i64>>,
    /// Why the membership ended.
    error: Mutex<Option<LogError>>,
}

impl Member {
    pub(crate) fn join(chain: &ChainLog, group: &str) -> Result<Self, Error> {
        let reader = chain.log.group(group, &[&chain.topics.blocks])?;
        let shared = Arc::new(Shared::default());
        let (end, ended) = mpsc::channel();
        let mut keeper = Keeper {
            reader,
            group: group.to_owned(),
            topic: chain.topics.blocks.clone(),
            shared: shared.clone(),
            committed: None,
            last_commit: None,
        };
        // An embedded log knows at once.
        keeper.turn()?;
        let thread = std::thread::Builder::new()
            .name("group-member".into())
            .spawn(move || keeper.run(&ended))
            .map_err(|error| LogError::Store {
                attempt: format!("join group {group}"),
                reason: error.to_string(),
                class: Class::Fatal,
            })?;
        Ok(Self { group: group.to_owned(), shared, end: Some(end), thread: Some(thread) })
    }

    /// Whether this member is the active one.
    pub(crate) fn leads(&self) -> Result<bool, Error> {
        match self.shared.error.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => Err(error.into()),
            None => Ok(self.shared.leads.load(Ordering::Acquire)),
        }
    }

    /// Fails where another member may be the active one by now.
    pub(crate) fn still_leads(&self) -> Result<(), Error> {
        match self.leads()? {
            true => Ok(()),
            false => Err(self.superseded()),
        }
    }

    pub(crate) fn superseded(&self) -> Error {
        Error::Superseded { group: self.group.clone() }
    }

    /// Whether this member is the active one, for loops that cannot ask it.
    pub(crate) fn lead(&self) -> Arc<AtomicBool> {
        self.shared.leads.clone()
    }

    /// Lets the group's offset be committed, about once a second and when the membership ends.
    pub(crate) fn commit(&self, next_offset: i64) {
        *self.shared.offset.lock().unwrap_or_else(PoisonError::into_inner) = Some(next_offset);
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.end = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!(group = self.group, "the keeper of a membership panicked");
        }
    }
}

/// Keeps the membership.
struct Keeper {
    reader: Box<dyn GroupReader>,
    group: String,
    topic: String,
    shared: Arc<Shared>,
    committed: Option<i64>,
    last_commit: Option<Instant>,
}

impl Keeper {
    fn run(mut self, ended: &mpsc::Receiver<()>) {
        loop {
            if let Err(error) = self.turn() {
                self.shared.leads.store(false, Ordering::Release);
                *self.shared.error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                return;
            }
            // Disconnected with the sender: the membership ends.
            if ended.recv_timeout(TURN) == Err(RecvTimeoutError::Disconnected) {
                break;
            }
        }
        self.last_commit = None;
        if let Err(error) = self.commit() {
            warn!(group = self.group, %error, "the group's last offset was not committed");
        }
        self.shared.leads.store(false, Ordering::Release);
    }

    fn turn(&mut self) -> LogResult<()> {
        match self.reader.poll(Duration::ZERO) {
            // The records are not wanted: the projection's own position says which come next.
            Ok(_) => {}
            // Nor does it matter where the group's offset was, say on a log that was since replaced.
            Err(error @ LogError::OutOfRange { .. }) => {
                debug!(%error, "the group's offset is not on the log")
            }
            Err(error) if error.class() == Class::Retry => {
                warn!(group = self.group, %error, "failed to keep the membership, trying again");
            }
            Err(error) => return Err(error),
        }
        let leads = self
            .reader
            .assignment()?
            .iter()
            .any(|(topic, partition)| *topic == self.topic && *partition == 0);
        self.shared.leads.store(leads, Ordering::Release);
        if leads {
            match self.commit() {
                // The next turn finds out who has it.
                Err(LogError::NotAssigned { .. }) | Ok(()) => {}
                Err(error) if error.class() == Class::Retry => {
                    warn!(group = self.group, %error, "the group's offset was not committed, trying again");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn commit(&mut self) -> LogResult<()> {
        let offset = *self.shared.offset.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(offset) = offset.filter(|offset| self.committed != Some(*offset)) else { return Ok(()) };
        if self.last_commit.is_some_and(|last| last.elapsed() < COMMIT_INTERVAL) {
            return Ok(());
        }
        self.last_commit = Some(Instant::now());
        self.reader.commit(&[Committed { topic: self.topic.clone(), partition: 0, offset }])?;
        self.committed = Some(offset);
        Ok(())
    }
}
