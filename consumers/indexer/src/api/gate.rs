//! How much is done at once. Reads block on disk, so they run off the async threads; what does not fit is refused at once
//! or after a short wait, never queued without bound.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::Error;

/// How long a request waits for its turn before it is refused.
const PATIENCE: Duration = Duration::from_secs(5);

/// A bounded number of places, and a bounded number of those who wait for one.
#[derive(Clone)]
pub(super) struct Gate {
    places: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

impl Gate {
    pub(super) fn new(places: usize, waiting: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(places)), waiting: Arc::new(Semaphore::new(waiting)) }
    }

    /// Takes a place, waiting a little where there is none; it is given back on drop.
    ///
    /// # Errors
    /// `Error::Busy`.
    pub(super) async fn enter(&self) -> Result<OwnedSemaphorePermit, Error> {
        if let Ok(place) = self.try_enter() {
            return Ok(place);
        }
        let _waiting = self.waiting.try_acquire().map_err(|_| Error::Busy)?;
        match tokio::time::timeout(PATIENCE, Arc::clone(&self.places).acquire_owned()).await {
            Ok(Ok(place)) => Ok(place),
            _ => Err(Error::Busy),
        }
    }

    /// Takes a place if there is one.
    ///
    /// # Errors
    /// `Error::Busy`.
    pub(super) fn try_enter(&self) -> Result<OwnedSemaphorePermit, Error> {
        Arc::clone(&self.places).try_acquire_owned().map_err(|_| Error::Busy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_finds_no_place_waits_and_who_finds_no_room_to_wait_is_refused() {
        let gate = Gate::new(1, 1);
        let place = gate.enter().await.unwrap();
        let waits = tokio::spawn({
            let gate = gate.clone();
            async move { gate.enter().await }
        });
        tokio::task::yield_now().await;
        assert!(matches!(gate.enter().await, Err(Error::Busy)));
        drop(place);
        let place = waits.await.unwrap().unwrap();
        // Patience ends.
        assert!(matches!(gate.enter().await, Err(Error::Busy)));
        drop(place);
        assert!(gate.try_enter().is_ok());
    }
}
