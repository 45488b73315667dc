//! What waits: a view in memory, and what is written down of what it saw.

use sluice_schemas::{MempoolEvent, MempoolKind, RemovalReason};

use super::Projector;
use crate::announce::{Change, TouchedTransaction};
use crate::overlay::{Entry, Overlay};
use crate::store::Table;
use crate::{Result, chronicle, rows};

impl Projector {
    pub(super) fn take_mempool_event(&mut self, event: &MempoolEvent) -> Result<()> {
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
}

fn touched(entry: &Entry) -> TouchedTransaction {
    let scripts = entry.scripts.iter().map(|(script, _)| *script).collect();
    TouchedTransaction { txid: entry.transaction.txid, scripts }
}
