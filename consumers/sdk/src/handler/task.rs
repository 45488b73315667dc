//! One event handled, as often as it takes.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

use sluice_log::Record;
use sluice_log::chain::ChainLog;

use super::retry::{Exhausted, RetryPolicy};
use super::{Handler, HandlerError};

/// Which events a topic holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Transactions,
    Mempool,
}

/// How an event ended.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It was handled.
    Done,
    /// It becomes a dead letter.
    Rejected { error: String, attempts: u32 },
    /// The member must stop.
    GaveUp { error: String, attempts: u32 },
    /// The member must stop.
    Unreadable(sluice_log::Error),
}

/// Handles an event until it is done, refused, or tried too often.
pub(crate) async fn run<H: Handler>(
    handler: &H,
    chain: &ChainLog,
    kind: Kind,
    record: &Record,
    retry: &RetryPolicy,
) -> Verdict {
    let mut attempts = 0;
    loop {
        attempts += 1;
        // Read anew for each attempt: most events need one, and a handler owns what it is given.
        let tried = match kind {
            Kind::Transactions => match chain.decode(record) {
                Ok(event) => attempt(|| handler.handle(event)).await,
                Err(error) => return Verdict::Unreadable(error),
            },
            Kind::Mempool => match chain.decode(record) {
                Ok(event) => attempt(|| handler.handle_mempool(event)).await,
                Err(error) => return Verdict::Unreadable(error),
            },
        };
        let error = match tried {
            Ok(()) => return Verdict::Done,
            Err(Failure::Rejected(error)) => return Verdict::Rejected { error, attempts },
            Err(Failure::Passing(error)) => error,
        };
        match (retry.pause(attempts, rand::random()), retry.exhausted) {
            (Some(pause), _) => {
                tracing::debug!(
                    topic = &*record.topic,
                    partition = record.partition,
                    offset = record.offset,
                    attempts,
                    error,
                    "event failed, trying again"
                );
                tokio::time::sleep(pause).await;
            }
            (None, Exhausted::DeadLetter) => return Verdict::Rejected { error, attempts },
            (None, Exhausted::Stop) => return Verdict::GaveUp { error, attempts },
        }
    }
}

enum Failure {
    Passing(String),
    Rejected(String),
}

/// One attempt. A panic is a failure like another, and takes nothing with it.
async fn attempt<F>(handle: impl FnOnce() -> F) -> Result<(), Failure>
where
    F: Future<Output = Result<(), HandlerError>>,
{
    // What a panic leaves half done is the handler's, as it is when the process is killed.
    let future = catch_unwind(AssertUnwindSafe(handle)).map_err(panicked)?;
    let mut future = pin!(future);
    let caught = poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(result)) => Poll::Ready(Ok(result)),
        Err(panic) => Poll::Ready(Err(panicked(panic))),
    });
    match caught.await? {
        Ok(()) => Ok(()),
        Err(HandlerError::Retry(error)) => Err(Failure::Passing(described(&*error))),
        Err(HandlerError::Reject(error)) => Err(Failure::Rejected(described(&*error))),
    }
}

fn panicked(panic: Box<dyn Any + Send>) -> Failure {
    let text =
        panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Failure::Passing(format!("the handler panicked: {}", text.unwrap_or("without a message")))
}

/// An error with its causes, on one line.
fn described(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
