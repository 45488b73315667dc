//! What a projection is given.

use sluice_log::Result;
use sluice_log::chain::{BlockTransactions, Location};
use sluice_schemas::{ChainEvent, MempoolEvent, TransactionEvent};

use crate::position::{MempoolPosition, Position};

/// One chain event with its transactions.
pub struct BlockChange<'a> {
    /// The block, and whether it was connected or disconnected.
    pub event: &'a ChainEvent,
    /// The position that the state must have before; `None` for the first change ever.
    pub before: Option<Position>,
    /// The position to store with the rows that come of this change.
    pub after: Position,
    transactions: BlockTransactions<'a>,
}

impl<'a> BlockChange<'a> {
    /// Puts a change together, for whoever feeds a projection.
    pub fn new(event: &'a ChainEvent, before: Option<Position>, transactions: BlockTransactions<'a>) -> Self {
        let after = Position::after(event, before.and_then(|before| before.mempool));
        Self { event, before, after, transactions }
    }

    /// The block's transactions in block order, read from the log as the iterator goes, in bounded memory. A block that
    /// does not add up is an error, which is the last item; a projection hands it back and stores nothing.
    pub fn transactions(&mut self) -> impl Iterator<Item = Result<TransactionEvent>> {
        self.transactions.by_ref()
    }

    /// As `transactions`, with where on the log each is.
    pub fn located_transactions(&mut self) -> impl Iterator<Item = Result<(Location, TransactionEvent)>> {
        std::iter::from_fn(|| self.transactions.next_located())
    }
}

/// One change of the mempool view.
#[derive(Clone, Copy, Debug)]
pub struct MempoolChange<'a> {
    /// What happened. `Reset` comes once per epoch: from here on the view is empty.
    pub event: &'a MempoolEvent,
    /// The position of this change.
    pub after: MempoolPosition,
}
