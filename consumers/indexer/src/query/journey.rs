//! What happened to a transaction, put together from where it is and from what was written down when it moved.

use bitcoin::Txid;
use sluice_consumer::BlockRef;

use super::View;
use super::types::{Journey, Step, StepKind};
use crate::chronicle::{Revert, Sighting};
use crate::rows::key::Key;
use crate::store::Table;
use crate::store::lookup::damaged;
use crate::{Result, chronicle};

/// Most steps of a journey; the earliest are told.
const MAX_STEPS: usize = 1_000;

pub(super) fn journey(view: &View, txid: &Txid) -> Result<Journey> {
    let rows = view.rows();
    let mut steps = Vec::new();
    for confirmed in rows.places_of(txid)?.iter().filter(|found| found.txid == *txid) {
        let Some(hash) = rows.hash_at(confirmed.place.height)? else { continue };
        let Some(event) = rows.block(&hash)? else { continue };
        let block = BlockRef { height: event.height, hash };
        let kind = StepKind::Mined { block, position: confirmed.place.position };
        steps.push(Step { observed_at: event.observed_at, chain_sequence: event.sequence, kind });
    }
    for item in rows.prefix(Table::Reverts, &Key::half_txid(txid)).take(MAX_STEPS) {
        let (key, row) = item?;
        let Revert { sequence, observed_at, block, position, connected_sequence, connected_at } =
            chronicle::read_revert(&key, &row).ok_or_else(|| damaged(Table::Reverts))?;
        let mined = StepKind::Mined { block, position };
        steps.push(Step { observed_at: connected_at, chain_sequence: connected_sequence, kind: mined });
        steps.push(Step { observed_at, chain_sequence: sequence, kind: StepKind::Reverted { block } });
    }
    for day in chronicle::days(rows)? {
        for item in rows.prefix(Table::Sightings, &chronicle::sightings_of(day, txid)).take(MAX_STEPS) {
            let Sighting { observed_at, chain_sequence, kind } =
                chronicle::read_sighting(&item?.1).ok_or_else(|| damaged(Table::Sightings))?;
            steps.push(Step { observed_at, chain_sequence, kind });
        }
    }
    // What the mempool shows after a chain event was published after it.
    steps.sort_by_key(|step| (step.chain_sequence, !step.kind.is_of_the_chain(), step.observed_at));
    steps.truncate(MAX_STEPS);
    Ok(Journey { steps })
}

impl StepKind {
    fn is_of_the_chain(&self) -> bool {
        matches!(self, Self::Mined { .. } | Self::Reverted { .. })
    }
}
