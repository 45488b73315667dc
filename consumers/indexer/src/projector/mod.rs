//! The fold over the log that keeps the index.

mod blocks;
mod mempool;
mod writing;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use bitcoin::Txid;
use sluice_consumer::{BlockChange, BoxError, MempoolChange, MempoolInterest, Position, Projection};
use sluice_log::chain::ChainLog;
use sluice_schemas::{Action, Network};
use tracing::warn;

use crate::announce::{Announcement, Change};
use crate::funding::Funding;
use crate::overlay::{Entry, Overlay};
use crate::query::Index;
use crate::reorgs::{self, Reorgs};
use crate::store::{Batch, Store, Table, Writer, meta};
use crate::{Error, Result};

/// How the index is kept.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Own copies of all transactions, for a log that does not keep its own for ever.
    pub store_transactions: bool,
    /// Memory that rows may take before they are written, in bytes. A block with more is written in parts.
    pub buffer_bytes: usize,
    /// Memory for what was read of the store, in bytes.
    pub cache_bytes: u64,
    /// Transactions that may be read from the log at the same time.
    pub log_readers: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { store_transactions: false, buffer_bytes: 128 << 20, cache_bytes: 256 << 20, log_readers: 8 }
    }
}

/// Keeps an index.
///
/// Rows are held back until `commit`, or until there are so many that they are written in parts. Before the first part,
/// `meta` is told up to which event rows may be there; from then on, until all is written with the position, views go on
/// to see what was before. Where it is cut off in between, the same events come again, and put and delete the same rows
/// again: applying an event to what a part of it has left makes the same as applying it once.
pub struct Projector {
    index: Index,
    settings: Settings,
    network: Option<Network>,
    position: Option<Position>,
    batch: Batch,
    writer: Writer,
    /// Sequence up to which rows may be in the store.
    unfinished: Option<i64>,
    /// Whether anything of the batch is of the chain.
    has_chain_rows: bool,
    /// Whether that is the undo of a block.
    holds_undo: bool,
    funding: Funding,
    reorgs: Reorgs,
    overlay: Overlay,
    announcements: Vec<Announcement>,
    /// What the last two connected blocks took out of the mempool, the last one's first: the mempool's own events say so
    /// later.
    mined: [HashMap<Txid, Arc<Entry>>; 2],
    /// The day up to which old sightings are deleted.
    pruned_to: u16,
    /// A change was refused in the middle, so that the batch must not be written.
    broken: bool,
    scratch: Vec<u8>,
}

impl Projector {
    /// Opens the index of a log in a directory, and creates it where there is none.
    ///
    /// # Errors
    /// The store cannot be opened, or was begun in another way.
    pub fn open(chain: ChainLog, directory: &Path, settings: Settings) -> Result<Self> {
        let store = Store::open(directory, settings.cache_bytes)?;
        let projector = Self::resume(Index::new(chain, store, settings.log_readers), settings)?;
        if projector.unfinished.is_none() {
            projector.publish();
        }
        Ok(projector)
    }

    /// Goes on from what is stored.
    fn resume(index: Index, settings: Settings) -> Result<Self> {
        let store = index.store();
        let position = store.position()?;
        let network = match store.meta(meta::NETWORK)? {
            Some(name) => std::str::from_utf8(&name).ok().and_then(|name| name.parse().ok()),
            None => None,
        };
        if let Some(network) = network {
            index.set_network(network);
        }
        if position.is_some() {
            let stored = store.meta(meta::TRANSACTIONS)?.is_some();
            if stored != settings.store_transactions {
                return Err(Error::OtherStorage { stored });
            }
        }
        let unfinished = match store.meta(meta::UNFINISHED)? {
            Some(row) => {
                let bytes = (*row).try_into().map_err(|_| Error::Damaged { table: Table::Meta.name() })?;
                Some(i64::from_be_bytes(bytes))
            }
            None => None,
        };
        let last_reorg = match store.snapshot().prefix(Table::Reorgs, &[]).next_back() {
            Some(item) => {
                let (key, row) = item?;
                reorgs::read(&key, &row)
            }
            None => None,
        };
        Ok(Self {
            funding: Funding::open(&index)?,
            settings,
            network,
            position,
            batch: Batch::default(),
            writer: Writer::start(store.clone())?,
            unfinished,
            has_chain_rows: false,
            holds_undo: false,
            reorgs: Reorgs::resume(last_reorg),
            overlay: Overlay::default(),
            announcements: Vec::new(),
            mined: Default::default(),
            pruned_to: 0,
            broken: false,
            scratch: Vec::new(),
            index,
        })
    }

    /// The index that is kept.
    pub fn index(&self) -> &Index {
        &self.index
    }

    fn announce(&mut self, change: Change) {
        // Whether or not anybody listens: somebody may before this is published, and would never hear of it.
        if let Some(position) = self.position {
            self.announcements.push(Announcement { cursor: position.cursor(), change });
        }
    }

    /// Nothing more is written after an error: a later commit must not take a part for the whole.
    fn guard<T>(&mut self, result: Result<T>) -> Result<T, BoxError> {
        result.map_err(|error| {
            self.broken = true;
            error.into()
        })
    }
}

/// A change was refused before, so that nothing more is taken.
#[derive(Debug, thiserror::Error)]
#[error("the index has stopped at an earlier error")]
struct Stopped;

impl Projection for Projector {
    fn position(&self) -> Result<Option<Position>, BoxError> {
        Ok(self.index.store().position()?)
    }

    fn apply(&mut self, change: &mut BlockChange<'_>) -> Result<(), BoxError> {
        if self.broken {
            return Err(Stopped.into());
        }
        let action = change.event.action;
        let applied = self.apply_block(change);
        self.guard(applied)?;
        if action == Action::Disconnected {
            self.commit()?;
        }
        Ok(())
    }

    fn mempool(&self) -> MempoolInterest {
        MempoolInterest::Rebuilt
    }

    fn apply_mempool(&mut self, change: &MempoolChange<'_>) -> Result<(), BoxError> {
        if self.broken {
            return Err(Stopped.into());
        }
        if let Some(position) = &mut self.position {
            position.mempool = Some(change.after);
        }
        let taken = self.take_mempool_event(change.event);
        self.guard(taken)
    }

    fn commit(&mut self) -> Result<(), BoxError> {
        if self.broken {
            return Err(Stopped.into());
        }
        let written = self.write_all();
        self.guard(written)?;
        for announcement in self.announcements.drain(..) {
            self.index.announcer().announce(Arc::new(announcement));
        }
        Ok(())
    }

    /// Views go on to see what was committed. The mempool's view is read again from its start, as after a start.
    fn rollback(&mut self) -> bool {
        // What is on its way must not come after what is read now. Should it have failed: it will be written again.
        if let Err(error) = self.writer.settle() {
            warn!(%error, "rows of a block that was given up were not written");
        }
        match Self::resume(self.index.clone(), self.settings) {
            Ok(resumed) => {
                *self = resumed;
                true
            }
            Err(error) => {
                warn!(%error, "cannot go back to the last commit");
                false
            }
        }
    }
}
