//! The bodies asked for, one batch at a time.

use std::collections::VecDeque;

use bitcoin::Txid;

use crate::{FETCH_BATCH, REQUEST_TIMEOUT_MS};

/// The queue of transactions whose bodies are wanted. As long as there are transactions known, no longer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fetch {
    queue: VecDeque<Txid>,
    /// The batch asked for, and when.
    asked: Option<(i64, Vec<Txid>)>,
}

impl Fetch {
    pub(crate) fn push(&mut self, txid: Txid) {
        self.queue.push_back(txid);
    }

    /// The next batch of those still wanted, unless one is under way.
    pub(crate) fn next(&mut self, now: i64, is_wanted: impl Fn(&Txid) -> bool) -> Option<Vec<Txid>> {
        if let Some((since, batch)) = &mut self.asked {
            if now < *since + REQUEST_TIMEOUT_MS {
                return None;
            }
            self.queue.extend(batch.drain(..));
            self.asked = None;
        }
        let mut batch = Vec::new();
        while batch.len() < FETCH_BATCH {
            match self.queue.pop_front() {
                Some(txid) if is_wanted(&txid) && !batch.contains(&txid) => batch.push(txid),
                Some(_) => {}
                None => break,
            }
        }
        if batch.is_empty() {
            return None;
        }
        self.asked = Some((now, batch.clone()));
        Some(batch)
    }

    /// Ends the batch under way; what the answer left out is wanted still.
    pub(crate) fn answered(&mut self, is_wanted: impl Fn(&Txid) -> bool) {
        if let Some((_, batch)) = self.asked.take() {
            self.queue.extend(batch.into_iter().filter(is_wanted));
        }
    }
}
