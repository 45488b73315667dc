//! What the index answers.
//!
//! Calls block on disk, and some on the log: from a task they belong on `spawn_blocking`.

mod types;

use std::sync::Arc;

use bitcoin::{BlockHash, OutPoint, Txid};
use sluice_consumer::{BlockRef, Position};
use sluice_log::Result as LogResult;
use sluice_log::chain::ChainLog;
use sluice_schemas::{Network, Transaction, TransactionEvent};

use crate::announce::{Announcer, Listener};
use crate::overlay::Overlay;
use crate::{Result, ScriptHash};

pub use types::{
    Activity, Block, Confirmation, Confirmed, HistoryEntry, Journey, Place, Reorg, Spender, Stats, Step, StepKind, Unspent,
};

/// The index, to be asked by any number of threads while it goes on.
#[derive(Clone)]
pub struct Index {
    shared: Arc<Shared>,
}

struct Shared {
    chain: ChainLog,
    announcer: Announcer,
}

impl Index {
    /// Everything the index knows at this moment, consistent in itself. Cheap. Not to be kept: the store cannot let go of
    /// what a view still sees.
    ///
    /// # Errors
    /// `Error::Unfinished` for a while after a crash in the middle of a large block.
    pub fn view(&self) -> Result<View> {
        Ok(View { index: self.clone(), overlay: Arc::default() })
    }

    /// The network, once the first block is indexed.
    pub fn network(&self) -> Option<Network> {
        None
    }

    /// Hears what is applied from now on.
    pub fn listen(&self) -> Listener {
        self.shared.announcer.listen()
    }

    /// The log that is indexed.
    pub fn chain(&self) -> &ChainLog {
        &self.shared.chain
    }
}

/// The index at one moment: chain and mempool.
#[derive(Clone)]
pub struct View {
    index: Index,
    overlay: Arc<Overlay>,
}

impl View {
    /// Where on the log this is, with the mempool position; `None` while nothing is indexed.
    pub fn position(&self) -> Option<Position> {
        None
    }

    /// The tip.
    pub fn tip(&self) -> Option<BlockRef> {
        Some(self.position()?.tip)
    }

    /// The mempool.
    pub fn mempool(&self) -> &Arc<Overlay> {
        &self.overlay
    }

    /// A block that is or once was on the best chain.
    ///
    /// # Errors
    /// What the store said, as for every call here.
    pub fn block(&self, hash: &BlockHash) -> Result<Option<Block>> {
        let _ = hash;
        Ok(None)
    }

    /// The block of the best chain at a height.
    pub fn block_at(&self, height: i32) -> Result<Option<Block>> {
        let _ = height;
        Ok(None)
    }

    /// Blocks of the best chain from `height` (or the tip, where that is lower) downwards.
    pub fn blocks_from(&self, height: i32, limit: usize) -> Result<Vec<Block>> {
        let _ = (height, limit);
        Ok(Vec::new())
    }

    /// The ids of a block's transactions in block order from position `start`. Of a block that has left the best chain,
    /// they are read from the log.
    pub fn txids(&self, block: &Block, start: i64, limit: usize) -> Result<Vec<Txid>> {
        let _ = (block, start, limit);
        Ok(Vec::new())
    }

    /// A block's transactions in block order, streamed from the log. Also of one that has left the best chain.
    ///
    /// # Errors
    /// What the log said; an item that is an error is the last.
    pub fn block_transactions(&self, block: &Block) -> Result<Box<dyn Iterator<Item = LogResult<TransactionEvent>> + Send>> {
        Ok(self.index.shared.chain.transactions(&block.event)?)
    }

    /// Where on the best chain a transaction is.
    pub fn locate(&self, txid: &Txid) -> Result<Option<Confirmed>> {
        let _ = txid;
        Ok(None)
    }

    /// The transaction at a place of the best chain.
    pub fn confirmed_at(&self, place: Place) -> Result<Option<Confirmed>> {
        let _ = place;
        Ok(None)
    }

    /// What is told of a confirmed transaction beside itself.
    pub fn confirmation(&self, place: Place) -> Result<Option<Confirmation>> {
        let _ = place;
        Ok(None)
    }

    /// A transaction of the best chain or, failing that, of the mempool. Prevouts that the node did not tell are `None`;
    /// see `fill_prevouts`.
    ///
    /// # Errors
    /// What the store or the log said.
    pub fn transaction(&self, txid: &Txid) -> Result<Option<(Transaction, Option<Confirmation>)>> {
        let _ = txid;
        Ok(None)
    }

    /// Reads a confirmed transaction, from the log or from the index's own copy.
    pub fn read(&self, confirmed: &Confirmed) -> Result<Transaction> {
        let _ = confirmed;
        Err(crate::Error::Damaged { table: "places" })
    }

    /// Fills in prevouts (and then the fee) that the node did not tell, by reading the transactions they are of: `limit`
    /// of them at most. What is not found stays `None`.
    pub fn fill_prevouts(&self, transaction: &mut Transaction, limit: usize) -> Result<()> {
        let _ = (transaction, limit);
        Ok(())
    }

    /// What spends an output: on the chain, else in the mempool. `None` where nothing does, or there is no such output.
    pub fn outspend(&self, outpoint: &OutPoint) -> Result<Option<Spender>> {
        let _ = outpoint;
        Ok(None)
    }

    /// The confirmed transactions that pay or spend a script, newest first, beginning with the one before `after`. The
    /// unconfirmed ones are `mempool().of_script()`.
    pub fn history(&self, script: &ScriptHash, after: Option<Place>, limit: usize) -> Result<Vec<HistoryEntry>> {
        let _ = (script, after, limit);
        Ok(Vec::new())
    }

    /// The outputs to a script that neither chain nor mempool spends, confirmed ones first; `limit` at most.
    pub fn utxos(&self, script: &ScriptHash, limit: usize) -> Result<Vec<Unspent>> {
        let _ = (script, limit);
        Ok(Vec::new())
    }

    /// What happened to a script in sum.
    pub fn stats(&self, script: &ScriptHash) -> Result<Stats> {
        let _ = script;
        Ok(Stats::default())
    }

    /// Addresses seen on the chain that begin with `prefix`, in byte order; `limit` at most.
    pub fn address_prefix(&self, prefix: &str, limit: usize) -> Result<Vec<String>> {
        let _ = (prefix, limit);
        Ok(Vec::new())
    }

    /// The latest reorgs, newest first.
    pub fn reorgs(&self, limit: usize) -> Result<Vec<Reorg>> {
        let _ = limit;
        Ok(Vec::new())
    }

    /// What is known to have happened to a transaction, oldest first; empty where nothing is.
    pub fn journey(&self, txid: &Txid) -> Result<Journey> {
        let _ = txid;
        Ok(Journey::default())
    }
}
