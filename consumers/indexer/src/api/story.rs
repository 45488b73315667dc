//! `/reorgs` and `/tx/:txid/journey`: what happened, which Esplora does not tell.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use bitcoin::{BlockHash, Txid};
use serde::Serialize;
use sluice_consumer::BlockRef;
use sluice_schemas::RemovalReason;

use super::error::Error;
use super::json::Shown;
use super::out::{Freshness, Out};
use super::serve::{self, Ask};
use super::{Api, params};
use crate::query::{Reorg, Step, StepKind};

/// Reorgs in one list, unless asked for otherwise with `?limit=`.
const REORGS: usize = 25;
/// Most of them.
const MAX_REORGS: usize = 250;

#[derive(Serialize)]
struct BlockJson {
    height: i32,
    hash: Shown<BlockHash>,
}

impl From<BlockRef> for BlockJson {
    fn from(block: BlockRef) -> Self {
        Self { height: block.height, hash: Shown(block.hash) }
    }
}

#[derive(Serialize)]
struct ReorgJson {
    sequence: i64,
    /// Milliseconds since the Unix epoch.
    observed_at: i64,
    depth: usize,
    fork: BlockJson,
    disconnected: Vec<BlockJson>,
    connected: Vec<BlockJson>,
}

impl From<Reorg> for ReorgJson {
    fn from(reorg: Reorg) -> Self {
        Self {
            sequence: reorg.sequence,
            observed_at: reorg.observed_at,
            depth: reorg.disconnected.len(),
            fork: reorg.fork.into(),
            disconnected: reorg.disconnected.into_iter().map(BlockJson::from).collect(),
            connected: reorg.connected.into_iter().map(BlockJson::from).collect(),
        }
    }
}

/// The latest reorgs, newest first; `?limit=N` of them.
pub(super) async fn reorgs(
    State(api): State<Arc<Api>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    serve::answer(api, headers, move |ask, out| {
        let limit = match query.as_deref().and_then(|query| query.strip_prefix("limit=")) {
            Some(limit) => params::number::<usize>(limit)?.min(MAX_REORGS),
            None => REORGS,
        };
        let reorgs = ask.view.reorgs(limit)?;
        out.json_array(Freshness::Changing, reorgs.into_iter().map(|reorg| Ok(ReorgJson::from(reorg))))
    })
    .await
}

#[derive(Serialize)]
struct JourneyJson {
    txid: Shown<Txid>,
    steps: Vec<StepJson>,
}

#[derive(Serialize)]
struct StepJson {
    /// Milliseconds since the Unix epoch.
    observed_at: i64,
    /// Sequence of the chain event that did it, or of the last before it.
    chain_sequence: i64,
    #[serde(flatten)]
    kind: KindJson,
}

#[derive(Serialize)]
#[serde(tag = "step", rename_all = "snake_case")]
enum KindJson {
    Seen { source: String, first_seen: i64 },
    Left { source: String, reason: RemovalReason, replaced_by: Option<Shown<Txid>> },
    Mined { block: BlockJson, position: u32 },
    Reverted { block: BlockJson },
}

impl From<Step> for StepJson {
    fn from(step: Step) -> Self {
        let kind = match step.kind {
            StepKind::Seen { source, first_seen } => KindJson::Seen { source, first_seen },
            StepKind::Left { source, reason, replaced_by } => {
                KindJson::Left { source, reason, replaced_by: replaced_by.map(Shown) }
            }
            StepKind::Mined { block, position } => KindJson::Mined { block: block.into(), position },
            StepKind::Reverted { block } => KindJson::Reverted { block: block.into() },
        };
        Self { observed_at: step.observed_at, chain_sequence: step.chain_sequence, kind }
    }
}

/// What is known to have happened to a transaction, oldest first.
pub(super) fn journey(ask: &Ask, out: &mut Out, txid: &str) -> Result<(), Error> {
    let txid = params::txid(txid)?;
    let steps = ask.view.journey(&txid)?.steps;
    if steps.is_empty() {
        return Err(Error::NotFound("Transaction not found"));
    }
    let steps = steps.into_iter().map(StepJson::from).collect();
    out.json(Freshness::Changing, &JourneyJson { txid: Shown(txid), steps })
}
