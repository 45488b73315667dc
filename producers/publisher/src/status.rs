//! Status events: heartbeats, takeovers, sources up and down, reorgs, gaps.

use bitcoin::BlockHash;
use sluice_schemas::{StatusEvent, StatusKind};

/// What a status event tells beyond its kind.
#[derive(Clone, Debug, Default)]
pub(crate) struct News {
    pub(crate) feed: Option<String>,
    pub(crate) from: Option<i64>,
    pub(crate) to: Option<i64>,
    pub(crate) recovered: Option<i64>,
    pub(crate) detail: String,
}

impl News {
    pub(crate) fn detail(text: impl Into<String>) -> Self {
        Self { detail: text.into(), ..Self::default() }
    }
}

/// Where the producer stands when it tells.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    pub(crate) epoch: i64,
    pub(crate) tip: Option<(i32, BlockHash)>,
    pub(crate) chain_sequence: i64,
    pub(crate) source_height: Option<i32>,
    pub(crate) now_ms: i64,
}

pub(crate) fn event(kind: StatusKind, source: &str, standing: Standing, news: News) -> StatusEvent {
    StatusEvent {
        kind,
        source: source.to_owned(),
        epoch: standing.epoch,
        tip_hash: standing.tip.map(|(_, hash)| hash),
        tip_height: standing.tip.map(|(height, _)| height),
        chain_sequence: standing.chain_sequence,
        source_height: standing.source_height,
        feed: news.feed,
        from: news.from,
        to: news.to,
        recovered: news.recovered,
        detail: news.detail,
        observed_at: standing.now_ms,
    }
}
