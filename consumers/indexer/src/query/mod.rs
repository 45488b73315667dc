//! What the index answers.
//!
//! Calls block on disk, and some on the log: from a task they belong on `spawn_blocking`.

mod journey;
mod stats;
mod types;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use bitcoin::{BlockHash, OutPoint, Txid};
use sluice_consumer::{BlockRef, Position};
use sluice_log::Result as LogResult;
use sluice_log::chain::{ChainLog, TransactionStore};
use sluice_schemas::{Codec, Input, Network, Prevout, Transaction, TransactionEvent};

use crate::announce::{Announcer, Listener};
use crate::funding::Prevouts;
use crate::overlay::Overlay;
use crate::reorgs;
use crate::rows::key::Key;
use crate::store::lookup::damaged;
use crate::store::{Rows, Store, Table};
use crate::{Error, Result, ScriptHash};

pub use types::{
    Activity, Block, Confirmation, Confirmed, HistoryEntry, Journey, MAX_REORG_BLOCKS, Place, Reorg, Spender,
    Stats, Step, StepKind, Unspent,
};

/// A row as it is in the store: table, key, value.
pub type Row = (&'static str, Vec<u8>, Vec<u8>);

/// Bytes of transactions that are read for the prevouts of one.
const MAX_FUNDING_BYTES: i64 = 64 << 20;
/// Blocks that a view keeps to tell of what is in them.
const MAX_CONFIRMING: usize = 8192;

/// The index, to be asked by any number of threads while it goes on.
#[derive(Clone)]
pub struct Index {
    shared: Arc<Shared>,
}

struct Shared {
    chain: ChainLog,
    store: Store,
    /// Transactions on the log.
    transactions: TransactionStore,
    announcer: Announcer,
    summaries: stats::Summaries,
    /// `None` while rows of a large block may be there in part.
    published: RwLock<Option<Published>>,
    network: RwLock<Option<Network>>,
}

/// What a view sees.
#[derive(Clone)]
struct Published {
    rows: Rows,
    position: Option<Position>,
    overlay: Arc<Overlay>,
}

impl Index {
    pub(crate) fn new(chain: ChainLog, store: Store, log_readers: usize) -> Self {
        let transactions = chain.transaction_store(log_readers);
        let shared = Shared {
            chain,
            store,
            transactions,
            announcer: Announcer::default(),
            summaries: stats::Summaries::default(),
            published: RwLock::default(),
            network: RwLock::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Everything the index knows at this moment, consistent in itself. Cheap. Not to be kept: the store cannot let go of
    /// what a view still sees.
    ///
    /// # Errors
    /// `Error::Unfinished` for a while after a crash in the middle of a large write.
    pub fn view(&self) -> Result<View> {
        let published = self.shared.published.read().unwrap_or_else(PoisonError::into_inner).clone();
        let seen = published.ok_or(Error::Unfinished)?;
        Ok(View { index: self.clone(), seen, confirming: Arc::default() })
    }

    /// The network, once the first block is indexed.
    pub fn network(&self) -> Option<Network> {
        *self.shared.network.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hears what is applied from now on.
    pub fn listen(&self) -> Listener {
        self.shared.announcer.listen()
    }

    /// The log that is indexed.
    pub fn chain(&self) -> &ChainLog {
        &self.shared.chain
    }

    /// Bytes that the store takes on disk.
    ///
    /// # Errors
    /// What the store said.
    pub fn disk_bytes(&self) -> Result<u64> {
        self.shared.store.disk_bytes()
    }

    /// Every row of the tables that say what is on the best chain, as `(table, key, row)`: two indexes of the same log
    /// agree on them, whatever either went through. For tests.
    ///
    /// # Errors
    /// What the store said.
    pub fn dump(&self) -> Result<Vec<Row>> {
        let mut dump = Vec::new();
        // Where prevouts are told, coins are what is left of the time before that was known.
        let has_coins = Prevouts::read(&self.shared.store)? != Prevouts::Told;
        for table in Table::STATE.into_iter().filter(|table| has_coins || *table != Table::Coins) {
            for item in self.shared.store.prefix(table, &[]) {
                let (key, row) = item?;
                dump.push((table.name(), key.to_vec(), row.to_vec()));
            }
        }
        Ok(dump)
    }

    pub(crate) fn store(&self) -> &Store {
        &self.shared.store
    }

    pub(crate) fn announcer(&self) -> &Announcer {
        &self.shared.announcer
    }

    pub(crate) fn set_network(&self, network: Network) {
        *self.shared.network.write().unwrap_or_else(PoisonError::into_inner) = Some(network);
    }

    /// From now on views see this.
    pub(crate) fn publish(&self, position: Option<Position>, overlay: Overlay) {
        let published =
            Published { rows: self.shared.store.snapshot(), position, overlay: Arc::new(overlay) };
        *self.shared.published.write().unwrap_or_else(PoisonError::into_inner) = Some(published);
    }

    /// Reads a confirmed transaction that `rows` know.
    pub(crate) fn read(&self, rows: &Rows, confirmed: &Confirmed) -> Result<Transaction> {
        let stored = rows.get(Table::Transactions, &Key::place(confirmed.place))?;
        let event: TransactionEvent = match stored {
            Some(row) => Codec::single_object().decode(&row).map_err(|_| damaged(Table::Transactions))?,
            None => self.shared.transactions.transaction_at(confirmed.location)?,
        };
        match event.transaction.txid == confirmed.txid {
            true => Ok(event.transaction),
            false => Err(damaged(Table::Places)),
        }
    }
}

/// The index at one moment: chain and mempool.
#[derive(Clone)]
pub struct View {
    index: Index,
    seen: Published,
    /// Blocks by height that something was found in, at position 0: much of one answer is in the same few.
    confirming: Arc<Mutex<HashMap<u32, Confirmation>>>,
}

impl View {
    /// Where on the log this is, with the mempool position; `None` while nothing is indexed.
    pub fn position(&self) -> Option<Position> {
        self.seen.position
    }

    /// The tip.
    pub fn tip(&self) -> Option<BlockRef> {
        Some(self.position()?.tip)
    }

    /// The mempool.
    pub fn mempool(&self) -> &Arc<Overlay> {
        &self.seen.overlay
    }

    /// A block that is or once was on the best chain.
    ///
    /// # Errors
    /// What the store said, as for every call here.
    pub fn block(&self, hash: &BlockHash) -> Result<Option<Block>> {
        let Some(event) = self.rows().block(hash)? else { return Ok(None) };
        let in_best_chain = match height(event.height) {
            Some(height) => self.rows().hash_at(height)? == Some(*hash),
            None => false,
        };
        Ok(Some(Block { event, in_best_chain }))
    }

    /// The block of the best chain at a height.
    pub fn block_at(&self, height: i32) -> Result<Option<Block>> {
        let Some(height) = self::height(height) else { return Ok(None) };
        match self.rows().hash_at(height)? {
            Some(hash) => self.best_block(&hash).map(Some),
            None => Ok(None),
        }
    }

    /// Blocks of the best chain from `height` (or the tip, where that is lower) downwards.
    pub fn blocks_from(&self, height: i32, limit: usize) -> Result<Vec<Block>> {
        let Some(height) = self::height(height) else { return Ok(Vec::new()) };
        self.rows().hashes_down(height).take(limit).map(|hash| self.best_block(&hash?)).collect()
    }

    /// The ids of a block's transactions in block order from position `start`. Of a block that has left the best chain,
    /// they are read from the log.
    pub fn txids(&self, block: &Block, start: i64, limit: usize) -> Result<Vec<Txid>> {
        let (Some(height), Ok(position)) = (height(block.event.height), u32::try_from(start)) else {
            return Ok(Vec::new());
        };
        if block.in_best_chain {
            let found = self.rows().confirmed_from(Place { height, position });
            return found.take(limit).map(|found| Ok(found?.txid)).collect();
        }
        let transactions = self.block_transactions(block)?.skip(position as usize);
        Ok(transactions.take(limit).map(|found| Ok(found?.transaction.txid)).collect::<LogResult<_>>()?)
    }

    /// A block's transactions in block order, streamed from the log. Also of one that has left the best chain.
    ///
    /// # Errors
    /// What the log said; an item that is an error is the last.
    pub fn block_transactions(
        &self,
        block: &Block,
    ) -> Result<Box<dyn Iterator<Item = LogResult<TransactionEvent>> + Send>> {
        Ok(self.index.shared.chain.transactions(&block.event)?)
    }

    /// Where on the best chain a transaction is.
    pub fn locate(&self, txid: &Txid) -> Result<Option<Confirmed>> {
        Ok(self.rows().places_of(txid)?.into_iter().find(|found| found.txid == *txid))
    }

    /// The transaction at a place of the best chain.
    pub fn confirmed_at(&self, place: Place) -> Result<Option<Confirmed>> {
        self.rows().confirmed_at(place)
    }

    /// What is told of a confirmed transaction beside itself.
    pub fn confirmation(&self, place: Place) -> Result<Option<Confirmation>> {
        let at = |block: Confirmation| Confirmation { position: place.position, ..block };
        if let Some(known) = self.confirming().get(&place.height) {
            return Ok(Some(at(*known)));
        }
        let Ok(height) = i32::try_from(place.height) else { return Ok(None) };
        let Some(Block { event, .. }) = self.block_at(height)? else { return Ok(None) };
        let block_time = u32::try_from(event.time / 1000).unwrap_or(0);
        let block = Confirmation { height, block_hash: event.hash, block_time, position: 0 };
        let mut confirming = self.confirming();
        if confirming.len() < MAX_CONFIRMING {
            confirming.insert(place.height, block);
        }
        Ok(Some(at(block)))
    }

    /// A transaction of the best chain or, failing that, of the mempool. Prevouts that the node did not tell are `None`;
    /// see `fill_prevouts`.
    ///
    /// # Errors
    /// What the store or the log said.
    pub fn transaction(&self, txid: &Txid) -> Result<Option<(Transaction, Option<Confirmation>)>> {
        if let Some(confirmed) = self.locate(txid)? {
            return Ok(Some((self.read(&confirmed)?, self.confirmation(confirmed.place)?)));
        }
        Ok(self.mempool().get(txid).map(|entry| (entry.transaction.clone(), None)))
    }

    /// Reads a confirmed transaction, from the log or from the index's own copy.
    pub fn read(&self, confirmed: &Confirmed) -> Result<Transaction> {
        self.index.read(self.rows(), confirmed)
    }

    /// Fills in prevouts (and then the fee) that the node did not tell, by reading the transactions they are of: `limit`
    /// of them at most. What is not found stays `None`.
    pub fn fill_prevouts(&self, transaction: &mut Transaction, limit: usize) -> Result<()> {
        let Transaction { inputs, outputs, fee, coinbase, .. } = transaction;
        if *coinbase {
            return Ok(());
        }
        self.fill_inputs(inputs, limit)?;
        if fee.is_none() {
            let spent: Option<i64> = inputs.iter().map(|input| Some(input.prevout.as_ref()?.value)).sum();
            *fee = spent.map(|spent| spent - outputs.iter().map(|output| output.value).sum::<i64>());
        }
        Ok(())
    }

    /// As `fill_prevouts`, for some inputs of a transaction that is no coinbase.
    ///
    /// # Errors
    /// What the store or the log said.
    pub fn fill_inputs(&self, inputs: &mut [Input], limit: usize) -> Result<()> {
        let mut last: Option<(Transaction, Option<i32>)> = None;
        let (mut reads, mut bytes) = (0, 0);
        for input in inputs.iter_mut().filter(|input| input.prevout.is_none()) {
            if last.as_ref().is_none_or(|(last, _)| last.txid != input.prev_txid) {
                if reads == limit || bytes >= MAX_FUNDING_BYTES {
                    return Ok(());
                }
                reads += 1;
                let found = self.transaction(&input.prev_txid)?;
                bytes += found.as_ref().map_or(0, |(found, _)| found.size);
                last = found.map(|(found, confirmation)| (found, confirmation.map(|at| at.height)));
            }
            let Some((funding, height)) = &last else { continue };
            let output = usize::try_from(input.prev_vout).ok().and_then(|vout| funding.outputs.get(vout));
            input.prevout = output.map(|output| Prevout {
                value: output.value,
                script_pubkey: output.script_pubkey.clone(),
                address: output.address.clone(),
                height: *height,
            });
        }
        Ok(())
    }

    /// What spends an output: on the chain, else in the mempool. `None` where nothing does, or there is no such output.
    pub fn outspend(&self, outpoint: &OutPoint) -> Result<Option<Spender>> {
        if let Some(spend) = self.rows().spend(outpoint)? {
            let by = self.rows().confirmed_at(spend.place)?.ok_or_else(|| damaged(Table::Spends))?;
            let confirmation = self.confirmation(spend.place)?;
            return Ok(Some(Spender { txid: by.txid, vin: spend.vin, confirmation }));
        }
        let spender = self.mempool().spender(outpoint);
        Ok(spender.map(|(txid, vin)| Spender { txid, vin, confirmation: None }))
    }

    /// The confirmed transactions that pay or spend a script, newest first, beginning with the one before `after`. The
    /// unconfirmed ones are `mempool().of_script()`.
    pub fn history(
        &self,
        script: &ScriptHash,
        after: Option<Place>,
        limit: usize,
    ) -> Result<Vec<HistoryEntry>> {
        let rows = self.rows();
        let end = after.unwrap_or(Place::END);
        let newest_first = rows.history(script, Place::START, end).rev().take(limit);
        let entry = |(place, activity)| {
            let transaction = rows.confirmed_at(place)?.ok_or_else(|| damaged(Table::History))?;
            Ok(HistoryEntry { transaction, activity })
        };
        newest_first.map(|item| item.and_then(entry)).collect()
    }

    /// The outputs to a script that neither chain nor mempool spends, confirmed ones first; `limit` at most.
    pub fn utxos(&self, script: &ScriptHash, limit: usize) -> Result<Vec<Unspent>> {
        let mut found = Vec::new();
        let mut last = None;
        for row in self.rows().unspent(script) {
            if found.len() == limit {
                return Ok(found);
            }
            let row = row?;
            let of = match last {
                // Rows come by transaction.
                Some((half_txid, of)) if half_txid == row.half_txid => of,
                // Of several places (BIP-30) the last one counts, as in the node's own set.
                _ => {
                    let places = self.rows().places_of_half(&row.half_txid)?;
                    places.last().copied().ok_or_else(|| damaged(Table::Unspent))?
                }
            };
            last = Some((row.half_txid, of));
            let outpoint = OutPoint { txid: of.txid, vout: row.vout };
            if self.mempool().spender(&outpoint).is_none() {
                let confirmation = self.confirmation(of.place)?;
                found.push(Unspent { outpoint, value: row.value, confirmation });
            }
        }
        found.extend(self.mempool().unspent(script).take(limit - found.len()));
        Ok(found)
    }

    /// What happened to a script in sum.
    pub fn stats(&self, script: &ScriptHash) -> Result<Stats> {
        let chain = self.index.shared.summaries.activity(self.rows(), self.tip(), script)?;
        Ok(Stats { chain, mempool: self.mempool().activity(script) })
    }

    /// Addresses seen on the chain that begin with `prefix`, in byte order; `limit` at most.
    pub fn address_prefix(&self, prefix: &str, limit: usize) -> Result<Vec<String>> {
        let address = |item: Result<(fjall::Slice, fjall::Slice)>| {
            String::from_utf8(item?.0.to_vec()).map_err(|_| damaged(Table::Addresses))
        };
        self.rows().prefix(Table::Addresses, prefix.as_bytes()).take(limit).map(address).collect()
    }

    /// The latest reorgs, newest first.
    pub fn reorgs(&self, limit: usize) -> Result<Vec<Reorg>> {
        let newest_first = self.rows().prefix(Table::Reorgs, &[]).rev().take(limit);
        newest_first
            .map(|item| {
                let (key, row) = item?;
                reorgs::read(&key, &row).ok_or_else(|| damaged(Table::Reorgs))
            })
            .collect()
    }

    /// What is known to have happened to a transaction, oldest first; empty where nothing is.
    pub fn journey(&self, txid: &Txid) -> Result<Journey> {
        journey::journey(self, txid)
    }

    fn rows(&self) -> &Rows {
        &self.seen.rows
    }

    fn confirming(&self) -> MutexGuard<'_, HashMap<u32, Confirmation>> {
        self.confirming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn best_block(&self, hash: &BlockHash) -> Result<Block> {
        let event = self.rows().block(hash)?.ok_or_else(|| damaged(Table::Heights))?;
        Ok(Block { event, in_best_chain: true })
    }
}

fn height(height: i32) -> Option<u32> {
    u32::try_from(height).ok()
}
