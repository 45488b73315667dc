//! What a client is sent.

use axum::response::sse::Event;
use bitcoin::{BlockHash, Txid};
use serde_json::{Value, json};
use sluice_consumer::Cursor;
use sluice_schemas::{Action, RemovalReason};

/// Transactions of a block that are named in an event. `matched` tells how many there are.
pub(super) const MAX_TRANSACTIONS: usize = 1000;

/// A block, as far as an event tells of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct BlockNews {
    pub(super) action: Action,
    pub(super) height: i32,
    pub(super) hash: BlockHash,
    pub(super) prev_hash: BlockHash,
    pub(super) tx_count: i64,
}

/// The transactions of a block that a filter lets through.
#[derive(Clone, Debug, Default)]
pub(super) struct Matched {
    count: usize,
    txids: Vec<Txid>,
}

impl Matched {
    pub(super) fn add(&mut self, txid: Txid) {
        self.count += 1;
        if self.txids.len() < MAX_TRANSACTIONS {
            self.txids.push(txid);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// An event, and how large it is.
pub(super) struct Message {
    pub(super) event: Event,
    pub(super) size_bytes: usize,
}

impl Message {
    fn new(cursor: Cursor, name: &str, data: &Value) -> Self {
        let data = data.to_string();
        // The id, names and line ends come to less than this.
        let size_bytes = data.len() + 160;
        Self { event: Event::default().id(cursor.to_string()).event(name).data(data), size_bytes }
    }

    /// A block was connected or disconnected. `matched` where the client filters.
    pub(super) fn block(cursor: Cursor, news: BlockNews, matched: Option<&Matched>) -> Self {
        let name = match news.action {
            Action::Connected => "connected",
            Action::Disconnected => "disconnected",
        };
        let mut data = json!({
            "height": news.height,
            "hash": news.hash.to_string(),
            "prev_hash": news.prev_hash.to_string(),
            "tx_count": news.tx_count,
        });
        if let Some(matched) = matched {
            data["matched"] = matched.count.into();
            data["transactions"] = matched.txids.iter().map(Txid::to_string).collect();
        }
        Self::new(cursor, name, &data)
    }

    pub(super) fn reset(cursor: Cursor) -> Self {
        Self::new(cursor, "reset", &json!({}))
    }

    pub(super) fn added(cursor: Cursor, txid: Txid) -> Self {
        Self::new(cursor, "added", &json!({"txid": txid.to_string()}))
    }

    pub(super) fn removed(
        cursor: Cursor,
        txid: Txid,
        reason: RemovalReason,
        replaced_by: Option<Txid>,
    ) -> Self {
        let replaced_by = replaced_by.map(|txid| txid.to_string());
        let data = json!({"txid": txid.to_string(), "reason": reason, "replaced_by": replaced_by});
        Self::new(cursor, "removed", &data)
    }

    /// The last of a stream.
    pub(super) fn dropped(cursor: Option<Cursor>, reason: &str) -> Self {
        let data = json!({"reason": reason}).to_string();
        let event = Event::default().event("dropped").data(data);
        let event = match cursor {
            Some(cursor) => event.id(cursor.to_string()),
            None => event,
        };
        Self { event, size_bytes: 0 }
    }

    /// Nothing but a cursor: browsers take it as the last id and tell the page nothing.
    pub(super) fn cursor(cursor: Cursor) -> Self {
        Self { event: Event::default().id(cursor.to_string()), size_bytes: 100 }
    }
}
