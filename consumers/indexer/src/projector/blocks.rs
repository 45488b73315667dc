//! Blocks that come and go, transaction by transaction.

use bitcoin::hashes::Hash;
use sluice_consumer::{BlockChange, BlockRef, Position};
use sluice_log::chain::Location;
use sluice_schemas::{Action, ChainEvent, Codec, Flavour, Network, TransactionEvent};

use super::Projector;
use crate::announce::{Change, MAX_LISTED, Touched, TouchedTransaction};
use crate::query::Place;
use crate::rows::key::{Key, MAX_HEIGHT};
use crate::rows::{self, Context, Effect, Placed};
use crate::store::{Table, meta};
use crate::{Error, Result, chronicle, reorgs};

/// Where a transaction is, and what happens to its block.
#[derive(Clone, Copy)]
struct At<'a> {
    event: &'a ChainEvent,
    place: Place,
    location: Location,
    flavour: Flavour,
}

impl Projector {
    pub(super) fn apply_block(&mut self, change: &mut BlockChange<'_>) -> Result<()> {
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
}
