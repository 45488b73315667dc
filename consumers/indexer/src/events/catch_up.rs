//! What a client missed, read from the log slice by slice.

use std::collections::HashMap;

use bitcoin::Txid;
use sluice_consumer::{Cursor, MempoolPosition, Position};
use sluice_log::chain::{ChainLog, Located, MempoolScanner, TransactionReader};
use sluice_schemas::{ChainEvent, MempoolEvent, MempoolKind, RemovalReason, Transaction};

use super::filter::Filter;
use super::message::{BlockNews, Matched, Message};
use crate::{Index, Result, View};

/// Bytes of messages in a slice, about: what a client that is behind takes of memory.
const SLICE_BYTES: usize = 64 * 1024;
/// Events of the log, and transactions of blocks, that a slice reads, about: how long others wait for their turn.
const SLICE_EVENTS: usize = 20_000;

/// A part of what a client missed.
pub(super) struct Slice {
    /// What to send, each with the place after it.
    pub(super) messages: Vec<(Cursor, Message)>,
    /// The client's place after the slice.
    pub(super) place: Option<Cursor>,
    /// Whether the client has been told all that the index has applied.
    pub(super) is_complete: bool,
}

/// Reads on from a client's place, at most to where the index is.
pub(super) fn slice(index: &Index, filter: &Filter, place: Option<Cursor>) -> Result<Slice> {
    let view = index.view()?;
    let Some(until) = view.position() else {
        return Ok(Slice { messages: Vec::new(), place, is_complete: true });
    };
    Reading::open(index.chain(), &view, filter, place, until)?.read()
}

/// The log between a client's place and the index's.
struct Reading<'a> {
    chain: &'a ChainLog,
    view: &'a View,
    filter: &'a Filter,
    until: Position,
    blocks: Box<dyn Iterator<Item = sluice_log::Result<Located<ChainEvent>>> + 'a>,
    transactions: Option<TransactionReader>,
    mempool: Option<MempoolScanner>,
    /// Whether the log has begun an epoch that the index has not: what is left of the one before cannot be read any more,
    /// and counts for nothing once the index has begun it too.
    awaits_epoch: bool,
    /// Whether a transaction touches what the client wants, of those that came in while the slice was read.
    known: HashMap<Txid, bool>,
    place: Option<Cursor>,
    messages: Vec<(Cursor, Message)>,
    bytes: usize,
    events: usize,
}

impl<'a> Reading<'a> {
    fn open(
        chain: &'a ChainLog,
        view: &'a View,
        filter: &'a Filter,
        place: Option<Cursor>,
        until: Position,
    ) -> Result<Self> {
        let mut reading = Self {
            chain,
            view,
            filter,
            until,
            blocks: Box::new(std::iter::empty()),
            transactions: None,
            mempool: None,
            awaits_epoch: false,
            known: HashMap::new(),
            place,
            messages: Vec::new(),
            bytes: 0,
            events: 0,
        };
        if reading.next_sequence() <= until.sequence
            && let Some(first) = chain.event_at_sequence(reading.next_sequence())?
        {
            reading.blocks = Box::new(chain.events(&chain.topics.blocks, 0, first.offset)?);
        }
        let told = place.and_then(|place| place.mempool);
        if !filter.only_blocks && told < until.mempool {
            let scanner = reading.open_mempool(told)?;
            reading.awaits_epoch = scanner.newest_epoch() > until.mempool.map(|mempool| mempool.epoch);
            reading.mempool = Some(scanner);
        }
        Ok(reading)
    }

    fn next_sequence(&self) -> i64 {
        self.place.map_or(0, |place| place.sequence.saturating_add(1))
    }

    /// The mempool's events after those that the client was told; all of the newest epoch where the log does not have
    /// them any more.
    fn open_mempool(&mut self, told: Option<MempoolPosition>) -> Result<MempoolScanner> {
        let open = |after: Option<MempoolPosition>| -> Result<MempoolScanner> {
            let mut scanner = self.chain.scan_mempool(after.map(|after| (after.epoch, after.sequence)))?;
            scanner.extend()?;
            Ok(scanner)
        };
        let scanner = open(told)?;
        let follows = |next: &MempoolEvent| {
            next.sequence == 0
                || told.is_some_and(|told| told.epoch == next.epoch && told.sequence + 1 == next.sequence)
        };
        match scanner.peek() {
            Some(next) if !follows(&next.event) => {
                let scanner = match told {
                    Some(_) => open(None)?,
                    None => scanner,
                };
                self.begin_truncated(&scanner);
                Ok(scanner)
            }
            _ => Ok(scanner),
        }
    }

    /// Tells that the view begins again, where the event that said so is no longer kept.
    fn begin_truncated(&mut self, scanner: &MempoolScanner) {
        let Some(first) =
            scanner.peek().map(|first| &first.event).filter(|first| first.kind != MempoolKind::Reset)
        else {
            return;
        };
        let before = MempoolPosition { epoch: first.epoch, sequence: first.sequence - 1 };
        if Some(before) > self.until.mempool {
            return;
        }
        self.tell_mempool(before, Message::reset);
    }

    fn read(mut self) -> Result<Slice> {
        while self.bytes < SLICE_BYTES && self.events < SLICE_EVENTS {
            let is_block_left = self.next_sequence() <= self.until.sequence;
            if self.is_mempool_next(is_block_left) {
                self.mempool_event()?;
            } else if is_block_left {
                match self.blocks.next().transpose()? {
                    Some(located) => self.block(&located.event)?,
                    // The log has shown it to the index, and will show it here.
                    None => return Ok(self.ended(false)),
                }
            } else {
                let is_complete = !self.awaits_epoch;
                return Ok(self.ended(is_complete));
            }
        }
        Ok(self.ended(false))
    }

    fn ended(mut self, is_complete: bool) -> Slice {
        if is_complete && !self.filter.only_blocks {
            let reached = self.until.mempool;
            self.place = self.place.map(|place| Cursor { mempool: place.mempool.max(reached), ..place });
        }
        Slice { messages: self.messages, place: self.place, is_complete }
    }

    /// Whether a mempool event comes before the next block: those that were published before it do.
    fn is_mempool_next(&self, is_block_left: bool) -> bool {
        let Some(next) = self.mempool.as_ref().and_then(MempoolScanner::peek) else { return false };
        let at = MempoolPosition { epoch: next.event.epoch, sequence: next.event.sequence };
        let is_applied = Some(at) <= self.until.mempool;
        // A place needs a block.
        is_applied
            && self.place.is_some()
            && (!is_block_left || next.event.chain_sequence < self.next_sequence())
    }

    fn mempool_event(&mut self) -> Result<()> {
        let Some(scanner) = &mut self.mempool else { return Ok(()) };
        let Some(placed) = scanner.next_event()? else { return Ok(()) };
        let event = placed.event;
        self.events += 1;
        let at = MempoolPosition { epoch: event.epoch, sequence: event.sequence };
        let txid = event.txid;
        match event.kind {
            // One comes in every partition.
            MempoolKind::Reset if event.sequence == 0 => self.tell_mempool(at, Message::reset),
            MempoolKind::Reset => self.pass_mempool(at),
            MempoolKind::Added => {
                let matches = match event.transaction {
                    Some(transaction) => self.matches(transaction)?,
                    None => self.filter.names(&txid),
                };
                if self.filter.has_scripts() {
                    self.known.insert(txid, matches);
                }
                match matches {
                    true => self.tell_mempool(at, |cursor| Message::added(cursor, txid)),
                    false => self.pass_mempool(at),
                }
            }
            MempoolKind::Removed => {
                let reason = event.reason.unwrap_or(RemovalReason::Unknown);
                match self.may_match(txid)? {
                    true => self
                        .tell_mempool(at, |cursor| Message::removed(cursor, txid, reason, event.replaced_by)),
                    false => self.pass_mempool(at),
                }
            }
        }
        Ok(())
    }

    /// Whether a transaction of which only the id is told touches what the client wants; also where nobody knows any more.
    fn may_match(&mut self, txid: Txid) -> Result<bool> {
        if self.filter.names(&txid) {
            return Ok(true);
        }
        if !self.filter.has_scripts() {
            return Ok(false);
        }
        if let Some(known) = self.known.remove(&txid) {
            return Ok(known);
        }
        match self.view.transaction(&txid)? {
            Some((transaction, _)) => self.matches(transaction),
            None => Ok(true),
        }
    }

    fn matches(&self, mut transaction: Transaction) -> Result<bool> {
        if self.filter.matches(&transaction) {
            return Ok(true);
        }
        let lacks_prevouts = transaction.inputs.iter().any(|input| input.prevout.is_none());
        if !self.filter.has_scripts() || transaction.coinbase || !lacks_prevouts {
            return Ok(false);
        }
        let all = transaction.inputs.len();
        self.view.fill_prevouts(&mut transaction, all)?;
        Ok(self.filter.matches(&transaction))
    }

    fn block(&mut self, event: &ChainEvent) -> Result<()> {
        self.events += 1;
        let mempool = self.place.and_then(|place| place.mempool);
        let after = Position::after(event, mempool).cursor();
        let ChainEvent { action, height, hash, prev_hash, tx_count, .. } = *event;
        let news = BlockNews { action, height, hash, prev_hash, tx_count };
        if !self.filter.is_named() {
            self.tell(after, Message::block(after, news, None));
            return Ok(());
        }
        let matched = self.matched(event)?;
        match matched.is_empty() {
            true => self.place = Some(after),
            false => self.tell(after, Message::block(after, news, Some(&matched))),
        }
        Ok(())
    }

    fn matched(&mut self, event: &ChainEvent) -> Result<Matched> {
        let mut reader = match self.transactions.take() {
            Some(reader) => reader,
            None => self.chain.transaction_reader()?,
        };
        let mut matched = Matched::default();
        for item in reader.transactions(event)? {
            let transaction = item?.transaction;
            let txid = transaction.txid;
            self.events += 1;
            if self.matches(transaction)? {
                matched.add(txid);
            }
        }
        self.transactions = Some(reader);
        Ok(matched)
    }

    fn pass_mempool(&mut self, at: MempoolPosition) {
        self.place = self.place.map(|place| Cursor { mempool: Some(at), ..place });
    }

    fn tell_mempool(&mut self, at: MempoolPosition, message: impl FnOnce(Cursor) -> Message) {
        self.pass_mempool(at);
        if let Some(place) = self.place {
            self.tell(place, message(place));
        }
    }

    fn tell(&mut self, after: Cursor, message: Message) {
        self.place = Some(after);
        self.bytes += message.size_bytes;
        self.messages.push((after, message));
    }
}
