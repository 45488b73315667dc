//! What happened to a script in sum, without reading a long history each time.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use bitcoin::BlockHash;
use sluice_consumer::BlockRef;

use super::types::{Activity, Place};
use crate::store::Rows;
use crate::{Result, ScriptHash};

/// Histories shorter than this are read each time.
const WORTH_KEEPING: i64 = 500;
/// Summaries that are kept at most; at the bound all are forgotten.
const MAX_SUMMARIES: usize = 50_000;
/// A summary ends this many blocks below the tip, where a reorg seldom reaches.
const SETTLED_DEPTH: u32 = 6;

/// Sums of long histories, kept in memory up to a block. One whose block has left the best chain is of no use any more.
#[derive(Default)]
pub(super) struct Summaries(Mutex<HashMap<ScriptHash, Summary>>);

#[derive(Clone, Copy)]
struct Summary {
    /// Everything up to and with this block is in the sum.
    height: u32,
    block: BlockHash,
    sum: Activity,
}

impl Summaries {
    /// The sum of a script's history on the best chain that `rows` see.
    pub(super) fn activity(
        &self,
        rows: &Rows,
        tip: Option<BlockRef>,
        script: &ScriptHash,
    ) -> Result<Activity> {
        let Some(tip) = tip.and_then(|tip| u32::try_from(tip.height).ok()) else {
            return Ok(Activity::default());
        };
        let known = self.get(rows, script)?;
        let (mut settled, from) = match known {
            Some(known) => (known.sum, Place { height: known.height + 1, position: 0 }),
            None => (Activity::default(), Place::START),
        };
        let settled_height = tip.saturating_sub(SETTLED_DEPTH);
        let mut unsettled = Activity::default();
        for item in rows.history(script, from, Place::END) {
            let (place, activity) = item?;
            match place.height <= settled_height {
                true => settled.add(&activity),
                false => unsettled.add(&activity),
            }
        }
        let counted_anew = settled.tx_count - known.map_or(0, |known| known.sum.tx_count);
        if counted_anew >= WORTH_KEEPING
            && let Some(block) = rows.hash_at(settled_height)?
        {
            self.keep(*script, Summary { height: settled_height, block, sum: settled });
        }
        settled.add(&unsettled);
        Ok(settled)
    }

    fn get(&self, rows: &Rows, script: &ScriptHash) -> Result<Option<Summary>> {
        let summary = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(script).copied();
        match summary {
            Some(summary) if rows.hash_at(summary.height)? == Some(summary.block) => Ok(Some(summary)),
            _ => Ok(None),
        }
    }

    fn keep(&self, script: ScriptHash, summary: Summary) {
        let mut summaries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if summaries.len() >= MAX_SUMMARIES {
            summaries.clear();
        }
        summaries.insert(script, summary);
    }
}
