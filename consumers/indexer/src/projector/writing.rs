//! Rows on their way to the store: whole events, and parts of one that is too large to be held.

use sluice_consumer::Position;
use sluice_schemas::{Action, ChainEvent};

use super::Projector;
use crate::Result;
use crate::store::{Batch, Durability, Table, meta};

/// Batches from this size on are written past the journal.
const APART_BYTES: usize = 8 << 20;

impl Projector {
    /// Size at which rows are written before their event is applied whole.
    pub(super) fn part_bytes(&self, action: Action) -> usize {
        match action {
            // While one half is filled, the other one is written.
            Action::Connected => self.settings.buffer_bytes / 2,
            Action::Disconnected => self.settings.buffer_bytes.min(APART_BYTES),
        }
    }

    /// Writes what there is of an event that is not applied whole.
    pub(super) fn write_part(&mut self, event: &ChainEvent) -> Result<()> {
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
    pub(super) fn write_all(&mut self) -> Result<()> {
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

    pub(super) fn publish(&self) {
        self.index.publish(self.position, self.overlay.clone());
    }
}
