//! An ordered fold over the log.

use crate::BoxError;
use crate::change::{BlockChange, MempoolChange};
use crate::position::Position;

/// An ordered fold over the log: state of your own that every change brings forward, with its position stored in it.
///
/// One member of a group is active, the others stand by. Changes come one by one, in the order of the log, none left out
/// and none twice: each says the position before it and after it. An error stops the consumer, it never skips; what was
/// applied since the last commit must not be committed then.
///
/// Where members on several machines share a store, let its transaction compare the stored position with `before`, too: a
/// member that was paused for long learns late that another one has taken over.
pub trait Projection: Send {
    /// The position stored with the state; `None` where it is empty. Asked when this member becomes the active one: until
    /// then another one may have gone on with the same store.
    ///
    /// # Errors
    /// What the store said.
    fn position(&self) -> Result<Option<Position>, BoxError>;

    /// Applies a connected block, or undoes a disconnected one, and takes `change.after` as the position. May hold the
    /// rows back until `commit`.
    ///
    /// # Errors
    /// What stops this consumer.
    fn apply(&mut self, change: &mut BlockChange<'_>) -> Result<(), BoxError>;

    /// Which mempool changes to bring.
    fn mempool(&self) -> MempoolInterest {
        MempoolInterest::None
    }

    /// Applies a change of the mempool view. It never comes before the chain event that it was published after.
    ///
    /// # Errors
    /// What stops this consumer.
    fn apply_mempool(&mut self, change: &MempoolChange<'_>) -> Result<(), BoxError> {
        let _ = change;
        Ok(())
    }

    /// Makes everything applied so far durable, rows and position in one atomic write. Called after every change at the
    /// tip, and after several while behind. Does nothing where `apply` has done it already.
    ///
    /// # Errors
    /// What the store said.
    fn commit(&mut self) -> Result<(), BoxError> {
        Ok(())
    }

    /// Forgets everything applied since the last commit, as if the process were started anew: `position` is the stored
    /// one. Says whether it has.
    ///
    /// Called where a block was interrupted: the log could not be read on, or the lead of the group was lost. With `true`
    /// the consumer goes on from the last commit once it can; with `false`, which is the default, it ends.
    fn rollback(&mut self) -> bool {
        false
    }
}

/// Which mempool changes a projection wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MempoolInterest {
    /// None.
    None,
    /// The newest epoch from its start, at each start of the process: for views kept in memory.
    Rebuilt,
    /// Those after the stored position; the newest epoch from its start where that is another one.
    Resumed,
}
