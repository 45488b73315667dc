//! How a handler is run.

use super::retry::{LONGEST_RETRY, RetryPolicy};

/// Most events of one partition that may be handled at once.
pub const MAX_CONCURRENCY: usize = 1024;

/// How a handler is run. `..Default::default()` is a good start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandlerSettings {
    /// What becomes of later events of a transaction that has a dead letter.
    pub order: KeyOrder,
    /// Whether the handler is given mempool events as well.
    pub mempool: MempoolEvents,
    /// How many events of one partition are handled at once.
    pub concurrency: usize,
    /// How often a transient failure is tried again.
    pub retry: RetryPolicy,
}

impl Default for HandlerSettings {
    fn default() -> Self {
        Self {
            order: KeyOrder::Independent,
            mempool: MempoolEvents::Left,
            concurrency: 16,
            retry: RetryPolicy::default(),
        }
    }
}

/// What becomes of later events of a transaction that has a dead letter. Its events are never handled at the same time, and
/// in the order of the log, with both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyOrder {
    /// They are parked behind it, and handled once it is resolved: a `DISCONNECTED` is never handled before the
    /// `CONNECTED` that it takes back.
    OrderedByKey,
    /// They go on.
    Independent,
}

/// Whether a handler is given mempool events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MempoolEvents {
    /// It is, by `Handler::handle_mempool`. They come independently of the transaction events: a transaction may be
    /// confirmed before it is seen to come into the mempool.
    Handled,
    /// It is not.
    Left,
}

impl HandlerSettings {
    /// Says what cannot be.
    pub(crate) fn check(&self) -> Result<(), String> {
        if !(1..=MAX_CONCURRENCY).contains(&self.concurrency) {
            return Err(format!("concurrency takes 1 to {MAX_CONCURRENCY}, it is {}", self.concurrency));
        }
        if self.retry.attempts == 0 {
            return Err("retry.attempts takes 1 or more".to_owned());
        }
        let total = self.retry.total();
        if total > LONGEST_RETRY {
            return Err(format!(
                "the pauses of retry may add up to {} s, they add up to {} s",
                LONGEST_RETRY.as_secs(),
                total.as_secs()
            ));
        }
        Ok(())
    }
}
