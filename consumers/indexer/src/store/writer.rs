//! A thread that writes large batches while the next one is filled.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use super::{Batch, Store};
use crate::{Error, Result, StoreError};

/// Writes batches one after the other, one at a time: whoever hands over the next one waits for the one before.
pub(crate) struct Writer {
    /// `None` once it is told to end.
    to: Option<SyncSender<Batch>>,
    /// Each batch, empty again.
    from: Receiver<Result<Batch>>,
    is_writing: bool,
    spare: Batch,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(crate) fn start(store: Store) -> Result<Self> {
        let (to, batches) = sync_channel::<Batch>(1);
        let (results, from) = sync_channel(1);
        let work = move || {
            for mut batch in batches {
                let result = store.write_apart(&mut batch).map(|()| batch);
                if results.send(result).is_err() {
                    break;
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("index-writer".into())
            .spawn(work)
            .map_err(|source| Error::Store { attempt: "start to write", source: StoreError::Io(source) })?;
        Ok(Self { to: Some(to), from, is_writing: false, spare: Batch::default(), thread: Some(thread) })
    }

    /// Begins to write a batch past the journal, see `Store::write_apart`. The batch is empty after.
    ///
    /// # Errors
    /// What the batch before ended with.
    pub(crate) fn write_apart(&mut self, batch: &mut Batch) -> Result<()> {
        self.settle()?;
        let full = std::mem::replace(batch, std::mem::take(&mut self.spare));
        self.to.as_ref().and_then(|to| to.send(full).ok()).ok_or_else(ended)?;
        self.is_writing = true;
        Ok(())
    }

    /// Waits until everything handed over is written.
    ///
    /// # Errors
    /// What it ended with.
    pub(crate) fn settle(&mut self) -> Result<()> {
        if std::mem::take(&mut self.is_writing) {
            self.spare = self.from.recv().map_err(|_| ended())??;
        }
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.to = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has been told already, and an error concerns nobody any more.
            let _ = thread.join();
        }
    }
}

/// The thread has panicked.
fn ended() -> Error {
    Error::Store { attempt: "write", source: StoreError::Poisoned }
}
