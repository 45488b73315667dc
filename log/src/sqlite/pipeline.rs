//! One commit on its way while the next transaction is filled.

use std::thread::JoinHandle;

use super::committer::{Committer, Whole};
use super::fault::fatal;
use super::slot::Addition;
use crate::{Class, Error, Result};

/// The committer, where it is, and how its last work has ended. At most one commit is on its way.
pub(super) struct Pipeline {
    place: Place,
    /// The failure of a commit that `settle` has not told yet.
    failed: Option<Error>,
}

enum Place {
    Here(Box<Committer>),
    /// Committing on a thread of its own.
    Away(JoinHandle<(Box<Committer>, Result<()>)>),
    /// The thread has panicked.
    Lost,
}

impl Pipeline {
    pub(super) fn new(committer: Committer) -> Self {
        Self { place: Place::Here(Box::new(committer)), failed: None }
    }

    pub(super) fn is_committing(&self) -> bool {
        matches!(self.place, Place::Away(_))
    }

    /// The committer, once a commit on its way has ended. Where that has failed there is nothing to go on from, and
    /// `settle` says why.
    pub(super) fn committer(&mut self) -> Result<&mut Committer> {
        self.wait();
        if self.failed.is_some() {
            return Err(Error::Store {
                attempt: "go on after the transaction submitted before".into(),
                reason: "it has failed".into(),
                class: Class::Abort,
            });
        }
        self.idle()
    }

    /// The committer whatever its last work has come to: to clean up.
    pub(super) fn idle(&mut self) -> Result<&mut Committer> {
        self.wait();
        match &mut self.place {
            Place::Here(committer) => Ok(committer),
            Place::Away(_) | Place::Lost => Err(lost()),
        }
    }

    /// Commits on a thread of its own.
    pub(super) fn start(&mut self, whole: Whole<Vec<Addition>>) -> Result<()> {
        self.settle()?;
        let Place::Here(mut committer) = std::mem::replace(&mut self.place, Place::Lost) else {
            return Err(lost());
        };
        let work = move || {
            let Whole { additions, held_bytes, has_staged } = whole;
            let result = committer.commit(Whole { additions: additions.iter(), held_bytes, has_staged });
            if result.is_err() && has_staged {
                committer.leave_staged();
            }
            (committer, result)
        };
        let thread = std::thread::Builder::new().name("commit".into()).spawn(work);
        self.place =
            Place::Away(thread.map_err(|error| fatal("start a thread that commits", error.to_string()))?);
        Ok(())
    }

    /// Waits until nothing is on its way, and tells once how the last commit has ended.
    pub(super) fn settle(&mut self) -> Result<()> {
        self.idle()?;
        self.failed.take().map_or(Ok(()), Err)
    }

    fn wait(&mut self) {
        match std::mem::replace(&mut self.place, Place::Lost) {
            Place::Away(thread) => {
                if let Ok((committer, result)) = thread.join() {
                    self.place = Place::Here(committer);
                    self.failed = result.err();
                }
            }
            place => self.place = place,
        }
    }
}

impl Drop for Pipeline {
    /// A commit never outlives its writer.
    fn drop(&mut self) {
        self.wait();
    }
}

fn lost() -> Error {
    fatal("commit", "the thread that commits has panicked")
}
