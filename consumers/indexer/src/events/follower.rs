//! One client: behind, and read for from the log; or live, and told what the index announces.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::response::sse::Event;
use sluice_consumer::{Cursor, MempoolPosition};
use sluice_schemas::Action;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::error::RecvError;
use tracing::error;

use super::Shared;
use super::catch_up::{self, Slice};
use super::filter::Filter;
use super::message::{BlockNews, Matched, Message};
use crate::announce::{Announcement, Change, Listener, Touched};

/// Rest after a slice that brought nothing though the index is ahead: what it has read will soon be shown to others too.
const REST: Duration = Duration::from_millis(100);

/// A client.
pub(super) struct Follower {
    shared: Arc<Shared>,
    filter: Arc<Filter>,
    /// The last that the client was told, or need not be told.
    place: Option<Cursor>,
    phase: Phase,
    /// At most a slice of messages, or those of one announcement.
    pending: VecDeque<Message>,
    /// Given back when the client is gone.
    _seat: OwnedSemaphorePermit,
}

enum Phase {
    /// Something before what will be announced is not told yet.
    Behind,
    Live(Listener),
    Ended,
}

/// What to do with an announcement.
enum Step {
    /// The client has had it.
    Skip,
    /// It is not what comes next, or does not tell enough.
    FallBack,
    /// It comes next: the client's place after it, and what to send.
    Take(Cursor, Option<Message>),
}

impl Follower {
    pub(super) fn new(
        shared: Arc<Shared>,
        filter: Filter,
        place: Option<Cursor>,
        seat: OwnedSemaphorePermit,
    ) -> Self {
        // The client has a cursor from the first moment on.
        let pending = place.map(Message::cursor).into_iter().collect();
        Self { shared, filter: Arc::new(filter), place, phase: Phase::Behind, pending, _seat: seat }
    }

    /// The next event; `None` ends the stream. Called only when the one before has gone into the socket.
    pub(super) async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(message) = self.pending.pop_front() {
                return Some(message.event);
            }
            match &mut self.phase {
                Phase::Ended => return None,
                Phase::Behind => self.catch_up().await,
                Phase::Live(listener) => {
                    // Both are cancel-safe: an announcement that is not taken stays in the listener.
                    let heard = tokio::select! {
                        heard = listener.recv() => heard,
                        () = self.shared.shutdown.requested() => Err(RecvError::Closed),
                    };
                    match heard {
                        Ok(announcement) => self.hear(&announcement),
                        Err(RecvError::Lagged(_)) => self.end("too slow"),
                        Err(RecvError::Closed) => self.end("the server stops"),
                    }
                }
            }
        }
    }

    fn end(&mut self, reason: &str) {
        self.pending.push_back(Message::dropped(self.place, reason));
        self.phase = Phase::Ended;
    }

    /// Reads a slice of the log. The turn is given back before anything is sent, so that a slow client keeps nobody waiting.
    async fn catch_up(&mut self) {
        let turn = tokio::select! {
            turn = self.shared.catching_up.clone().acquire_owned() => turn,
            () = self.shared.shutdown.requested() => return self.end("the server stops"),
        };
        // Heard from before the index is looked at: what is applied after the look is announced to this listener.
        let listener = self.shared.index.listen();
        let (index, filter, place) = (self.shared.index.clone(), Arc::clone(&self.filter), self.place);
        let read = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            catch_up::slice(&index, &filter, place)
        });
        match read.await {
            Ok(Ok(Slice { messages, place, is_complete })) => {
                let stands = place == self.place;
                // What was passed over at the end counts as told.
                let passed =
                    place.filter(|_| !stands && messages.last().is_none_or(|last| Some(last.0) != place));
                self.pending.extend(messages.into_iter().map(|(_, message)| message));
                self.pending.extend(passed.map(Message::cursor));
                self.place = place;
                if is_complete {
                    self.phase = Phase::Live(listener);
                } else if stands {
                    tokio::time::sleep(REST).await;
                }
            }
            Ok(Err(failure)) => {
                error!(error = &failure as &dyn std::error::Error, "failed to read the log for a client");
                self.end("the log could not be read");
            }
            Err(_) => self.end("the log could not be read"),
        }
    }

    fn hear(&mut self, announcement: &Announcement) {
        match step(&self.filter, self.place, announcement) {
            Step::Skip => {}
            Step::FallBack => self.phase = Phase::Behind,
            Step::Take(place, message) => {
                self.place = Some(place);
                self.pending.extend(message);
            }
        }
    }
}

/// Where an announcement leads a client that is at `place`.
fn step(filter: &Filter, place: Option<Cursor>, announcement: &Announcement) -> Step {
    let (action, block, prev_hash, touched) = match &announcement.change {
        Change::Connected { block, prev_hash, touched } => (Action::Connected, block, prev_hash, touched),
        Change::Disconnected { block, prev_hash, touched } => {
            (Action::Disconnected, block, prev_hash, touched)
        }
        change => return mempool_step(filter, place, announcement.cursor.mempool, change),
    };
    let cursor = announcement.cursor;
    let next = place.map_or(0, |place| place.sequence.saturating_add(1));
    if cursor.sequence < next {
        return Step::Skip;
    }
    if cursor.sequence > next {
        return Step::FallBack;
    }
    let after = Cursor { mempool: place.and_then(|place| place.mempool), ..cursor };
    let mut matched = Matched::default();
    let tx_count = match touched {
        Touched::Listed(listed) => {
            listed.iter().filter(|one| filter.touches(one)).for_each(|one| matched.add(one.txid));
            listed.len() as i64
        }
        // The log tells which of its transactions touch what the client wants.
        Touched::Unlisted { .. } if filter.is_named() => return Step::FallBack,
        Touched::Unlisted { tx_count } => *tx_count,
    };
    let news = BlockNews { action, height: block.height, hash: block.hash, prev_hash: *prev_hash, tx_count };
    let message = match filter.is_named() {
        false => Message::block(after, news, None),
        true if matched.is_empty() => Message::cursor(after),
        true => Message::block(after, news, Some(&matched)),
    };
    Step::Take(after, Some(message))
}

fn mempool_step(
    filter: &Filter,
    place: Option<Cursor>,
    at: Option<MempoolPosition>,
    change: &Change,
) -> Step {
    let Some(at) = at.filter(|_| !filter.only_blocks) else { return Step::Skip };
    // A mempool change comes after some block.
    let Some(place) = place else { return Step::FallBack };
    if place.mempool >= Some(at) {
        return Step::Skip;
    }
    let follows = place
        .mempool
        .is_some_and(|last| last.epoch == at.epoch && last.sequence.checked_add(1) == Some(at.sequence));
    let after = Cursor { mempool: Some(at), ..place };
    match change {
        Change::MempoolReset => Step::Take(after, Some(Message::reset(after))),
        _ if !follows => Step::FallBack,
        Change::Added { transaction } => {
            Step::Take(after, filter.touches(transaction).then(|| Message::added(after, transaction.txid)))
        }
        Change::Removed { transaction, reason, replaced_by } => {
            let message = || Message::removed(after, transaction.txid, *reason, *replaced_by);
            Step::Take(after, filter.touches(transaction).then(message))
        }
        Change::Connected { .. } | Change::Disconnected { .. } => Step::FallBack,
    }
}
