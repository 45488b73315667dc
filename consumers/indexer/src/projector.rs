//! The fold over the log that keeps the index.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use bitcoin::Txid;
use bitcoin::hashes::Hash;
use sluice_consumer::{
    BlockChange, BlockRef, BoxError, MempoolChange, MempoolInterest, Position, Projection,
};
use sluice_log::chain::{ChainLog, Location};
use sluice_schemas::{
    Action, ChainEvent, Codec, Flavour, MempoolEvent, MempoolKind, Network, RemovalReason, TransactionEvent,
};

use crate::announce::{Announcement, Change, MAX_LISTED, Touched, TouchedTransaction};
use crate::funding::Funding;
use crate::overlay::{Entry, Overlay};
use crate::query::{Index, Place};
use crate::reorgs::{self, Reorgs};
use crate::rows::key::{Key, MAX_HEIGHT};
use crate::rows::{self, Context, Effect, Placed};
use crate::store::{Batch, Durability, Store, Table, Writer, meta};
use crate::{Error, Result, chronicle};

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

/// Batches from this size on are written past the journal.
const APART_BYTES: usize = 8 << 20;

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
        let index = Index::new(chain, store, settings.log_readers);
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
        let rows = store.snapshot();
        let last_reorg = match rows.prefix(Table::Reorgs, &[]).next_back() {
            Some(item) => {
                let (key, row) = item?;
                reorgs::read(&key, &row)
            }
            None => None,
        };
        let projector = Self {
            funding: Funding::open(&index)?,
            settings,
            network,
            position,
            batch: Batch::default(),
            writer: Writer::start(index.store().clone())?,
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
        };
        if projector.unfinished.is_none() {
            projector.publish();
        }
        Ok(projector)
    }

    /// The index that is kept.
    pub fn index(&self) -> &Index {
        &self.index
    }

    fn apply_block(&mut self, change: &mut BlockChange<'_>) -> Result<()> {
        let event = change.event;
        let network = self.check_network(event)?;
        let height = u32::try_from(event.height).ok().filter(|height| *height < MAX_HEIGHT);
        let too_large =
            || Error::TooLarge { hash: event.hash, height: event.height, tx_count: event.tx_count };
        let height = height.ok_or_else(too_large)?;
        if u32::try_from(event.tx_count).is_err() {
            return Err(too_large());
        }
        if event.action == Action::Connected {
            self.mined.swap(0, 1);
            self.mined[0].clear();
        }
        if event.action == Action::Disconnected {
            // What its undo asks for must be in the store.
            self.write_all()?;
            self.holds_undo = true;
        }
        let connected = match event.action {
            Action::Connected => None,
            Action::Disconnected => self.index.store().snapshot().block(&event.hash)?,
        };
        let is_heard = self.index.announcer().is_heard() && event.tx_count <= MAX_LISTED as i64;
        let mut listed = Vec::new();
        for item in change.located_transactions() {
            let (location, transaction) = item?;
            let position = transaction.position as u32;
            let at = At { event, place: Place { height, position }, location, flavour: network.flavour() };
            let context = self.apply_transaction(at, &transaction, connected.as_ref())?;
            if is_heard {
                let scripts = rows::touched(&transaction.transaction, &context.spent, at.flavour);
                let scripts = scripts.into_iter().map(|(script, _)| script).collect();
                listed.push(TouchedTransaction { txid: transaction.transaction.txid, scripts });
            }
            if self.batch.bytes() >= self.part_bytes(event.action) {
                self.write_part(event)?;
            }
        }
        self.apply_header(event, height);
        let touched = match is_heard {
            true => Touched::Listed(listed.into()),
            false => Touched::Unlisted { tx_count: event.tx_count },
        };
        self.position = Some(Position { mempool: self.position.and_then(|at| at.mempool), ..change.after });
        let (block, prev_hash) = (BlockRef { height: event.height, hash: event.hash }, event.prev_hash);
        self.announce(match event.action {
            Action::Connected => Change::Connected { block, prev_hash, touched },
            Action::Disconnected => Change::Disconnected { block, prev_hash, touched },
        });
        Ok(())
    }

    fn apply_transaction(
        &mut self,
        at: At<'_>,
        event: &TransactionEvent,
        connected: Option<&ChainEvent>,
    ) -> Result<Context> {
        let transaction = &event.transaction;
        let placed = Placed { place: at.place, location: at.location, transaction, flavour: at.flavour };
        let context = match at.event.action {
            Action::Connected => {
                if self.funding.begins_to_keep(transaction) {
                    // From here on coins are looked for: those that are not kept, on the log, by rows in the store.
                    self.write_part(at.event)?;
                    self.writer.settle()?;
                }
                self.funding.connecting(&placed)?
            }
            Action::Disconnected => self.funding.disconnecting(&placed)?,
        };
        let batch = &mut self.batch;
        let action = at.event.action;
        let mut write = |table, effect, key: &[u8], row: &[u8]| match (action, effect) {
            (Action::Connected, Effect::Made) | (Action::Disconnected, Effect::Taken) => {
                batch.put(table, key, row)
            }
            (Action::Connected, Effect::Taken) | (Action::Disconnected, Effect::Made) => {
                batch.delete(table, key)
            }
        };
        rows::rows(&placed, &context, &mut write);
        if self.settings.store_transactions {
            self.scratch.clear();
            Codec::single_object().encode(event, &mut self.scratch);
            write(Table::Transactions, Effect::Made, &Key::place(at.place), &self.scratch);
        }
        match action {
            Action::Connected => {
                if let Some(entry) = self.overlay.remove(&transaction.txid) {
                    self.mined[0].insert(transaction.txid, entry);
                }
            }
            Action::Disconnected => {
                chronicle::revert(&mut self.scratch, at.event, connected, at.place.position);
                let key = Key::revert(&transaction.txid, at.event.sequence);
                self.batch.put(Table::Reverts, &key, &self.scratch);
            }
        }
        self.has_chain_rows = true;
        Ok(context)
    }

    fn apply_header(&mut self, event: &ChainEvent, height: u32) {
        let key = Key::height(height);
        match event.action {
            Action::Connected => {
                self.scratch.clear();
                Codec::single_object().encode(event, &mut self.scratch);
                self.batch.put(Table::Blocks, event.hash.as_byte_array(), &self.scratch);
                self.batch.put(Table::Heights, &key, event.hash.as_byte_array());
            }
            Action::Disconnected => self.batch.delete(Table::Heights, &key),
        }
        if let Some(reorg) = self.reorgs.follow(event) {
            self.batch.put(Table::Reorgs, &reorgs::key(reorg.sequence), &reorgs::write(reorg));
        }
        self.has_chain_rows = true;
    }

    /// The network of an event, which is the index's.
    fn check_network(&mut self, event: &ChainEvent) -> Result<Network> {
        if let Some(network) = self.network {
            return match event.network == network.name() {
                true => Ok(network),
                false => {
                    let (indexed, found) = (network.name().to_owned(), event.network.clone());
                    Err(Error::OtherNetwork { indexed, found })
                }
            };
        }
        let network: Network = event
            .network
            .parse()
            .map_err(|source| Error::UnknownNetwork { sequence: event.sequence, source })?;
        self.network = Some(network);
        self.index.set_network(network);
        self.batch.put(Table::Meta, meta::NETWORK.as_bytes(), network.name().as_bytes());
        if self.settings.store_transactions {
            self.batch.put(Table::Meta, meta::TRANSACTIONS.as_bytes(), &[]);
        }
        if network.flavour() == Flavour::Bsv {
            self.funding.expect_untold();
        }
        Ok(network)
    }

    /// Size at which rows are written before their event is applied whole.
    fn part_bytes(&self, action: Action) -> usize {
        match action {
            // While one half is filled, the other one is written.
            Action::Connected => self.settings.buffer_bytes / 2,
            Action::Disconnected => self.settings.buffer_bytes.min(APART_BYTES),
        }
    }

    /// Writes what there is of an event that is not applied whole.
    fn write_part(&mut self, event: &ChainEvent) -> Result<()> {
        self.mark_unfinished(event.sequence)?;
        match event.action {
            Action::Connected => {
                self.writer.write_apart(&mut self.batch)?;
                self.funding.handed_over();
            }
            // Whole transactions or nothing: one that has lost its row in `spends` cannot be undone again.
            Action::Disconnected => self.index.store().write(&mut self.batch, Durability::Process)?,
        }
        Ok(())
    }

    fn mark_unfinished(&mut self, sequence: i64) -> Result<()> {
        if self.unfinished < Some(sequence) {
            let mut mark = Batch::default();
            mark.put(Table::Meta, meta::UNFINISHED.as_bytes(), &sequence.to_be_bytes());
            self.index.store().write(&mut mark, Durability::Power)?;
            self.unfinished = Some(sequence);
        }
        Ok(())
    }

    /// Writes everything, with the position, and shows it.
    fn write_all(&mut self) -> Result<()> {
        self.write_rows()?;
        self.has_chain_rows = false;
        self.holds_undo = false;
        if self.unfinished.is_none() {
            self.publish();
        }
        Ok(())
    }

    fn write_rows(&mut self) -> Result<()> {
        if let Some(position) = self.position.filter(|_| self.has_chain_rows) {
            if self.batch.bytes() >= APART_BYTES && !self.holds_undo {
                self.mark_unfinished(position.sequence)?;
                self.writer.write_apart(&mut self.batch)?;
            }
            // Not earlier: what is applied again after a crash must find what it found the first time.
            self.batch.put(Table::Meta, meta::PREVOUTS.as_bytes(), self.funding.prevouts().row());
            let stored = Position { mempool: None, ..position };
            self.batch.put(Table::Meta, meta::POSITION.as_bytes(), &stored.to_bytes());
            if self.unfinished.is_some_and(|unfinished| unfinished <= position.sequence) {
                self.batch.delete(Table::Meta, meta::UNFINISHED.as_bytes());
                self.unfinished = None;
            }
        }
        let durability = if self.has_chain_rows { Durability::Power } else { Durability::Process };
        if !self.batch.is_empty() {
            // The position only when all before it is on disk.
            self.writer.settle()?;
            self.index.store().write(&mut self.batch, durability)?;
            self.funding.written();
        }
        Ok(())
    }

    fn publish(&self) {
        self.index.publish(self.position, self.overlay.clone());
    }

    fn announce(&mut self, change: Change) {
        // Whether or not anybody listens: somebody may before this is published, and would never hear of it.
        if let Some(position) = self.position {
            self.announcements.push(Announcement { cursor: position.cursor(), change });
        }
    }

    fn take_mempool_event(&mut self, event: &MempoolEvent) -> Result<()> {
        match event.kind {
            MempoolKind::Reset => {
                self.overlay = Overlay::default();
                self.announce(Change::MempoolReset);
            }
            MempoolKind::Added => self.take_in(event)?,
            MempoolKind::Removed => {
                let mined = || self.mined.iter_mut().find_map(|mined| mined.remove(&event.txid));
                if let Some(entry) = self.overlay.remove(&event.txid).or_else(mined) {
                    self.announce(Change::Removed {
                        transaction: touched(&entry),
                        reason: event.reason.unwrap_or(RemovalReason::Unknown),
                        replaced_by: event.replaced_by,
                    });
                }
            }
        }
        if let Some(row) = chronicle::sighting(&mut self.scratch, event) {
            self.batch.put(Table::Sightings, &chronicle::sighting_key(event), row);
            self.prune(event.observed_at)?;
        }
        Ok(())
    }

    fn take_in(&mut self, event: &MempoolEvent) -> Result<()> {
        let (Some(transaction), Some(network)) = (&event.transaction, self.network) else { return Ok(()) };
        // What it spends, or itself, may be in a block whose rows are still held back.
        if self.has_chain_rows {
            self.write_all()?;
        }
        // While the view is rebuilt it passes times at which transactions were waiting that are confirmed by now.
        if !self.index.store().snapshot().places_of(&event.txid)?.is_empty() {
            return Ok(());
        }
        let flavour = network.flavour();
        let spent = self.funding.waiting(transaction, &self.overlay, flavour)?;
        let fee = transaction.fee.or_else(|| rows::fee(transaction, &spent));
        let scripts = rows::touched(transaction, &spent, flavour).into();
        let first_seen = event.first_seen.unwrap_or(event.observed_at);
        self.overlay.add(transaction.clone(), fee, first_seen, scripts);
        if let Some(entry) = self.overlay.get(&event.txid) {
            let transaction = touched(entry);
            self.announce(Change::Added { transaction });
        }
        Ok(())
    }

    /// Deletes some of the sightings that are too old, once a day until there are none.
    fn prune(&mut self, now: i64) -> Result<()> {
        let first_kept = chronicle::first_kept(chronicle::day(now));
        if first_kept <= self.pruned_to {
            return Ok(());
        }
        let rows = self.index.store().snapshot();
        let old = rows.range(Table::Sightings, &[0, 0], &first_kept.to_be_bytes());
        let mut deleted = 0;
        for item in old.take(chronicle::PRUNED_AT_ONCE) {
            self.batch.delete(Table::Sightings, &item?.0);
            deleted += 1;
        }
        if deleted < chronicle::PRUNED_AT_ONCE {
            self.pruned_to = first_kept;
        }
        Ok(())
    }

    /// Nothing more is written after an error: a later commit must not take a part for the whole.
    fn guard<T>(&mut self, result: Result<T>) -> Result<T, BoxError> {
        result.map_err(|error| {
            self.broken = true;
            error.into()
        })
    }
}

/// Where a transaction is, and what happens to its block.
#[derive(Clone, Copy)]
struct At<'a> {
    event: &'a ChainEvent,
    place: Place,
    location: Location,
    flavour: Flavour,
}

fn touched(entry: &Entry) -> TouchedTransaction {
    let scripts = entry.scripts.iter().map(|(script, _)| *script).collect();
    TouchedTransaction { txid: entry.transaction.txid, scripts }
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
}
