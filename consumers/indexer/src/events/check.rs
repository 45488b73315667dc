//! Whether a cursor is of this log's history.

use std::cmp::Ordering;

use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use sluice_consumer::{Cursor, Error, Feed, MempoolPosition};
use tracing::error;

use crate::Index;

/// Seconds after which a client that is refused for the moment should ask again.
const RETRY_SECONDS: u16 = 3;

/// Why a client is not served, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    status: StatusCode,
    reason: String,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, reason: impl Into<String>) -> Self {
        Self { status, reason: reason.into() }
    }

    pub(super) fn failed() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "the index or its log could not be read")
    }
}

impl From<crate::Error> for Refusal {
    fn from(failure: crate::Error) -> Self {
        match failure {
            crate::Error::Unfinished => Self::new(StatusCode::SERVICE_UNAVAILABLE, failure.to_string()),
            failure => {
                error!(error = &failure as &dyn std::error::Error, "failed to look up a cursor");
                Self::failed()
            }
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.reason + "\n").into_response();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, RETRY_SECONDS.into());
        }
        response
    }
}

/// Where the index is now; `None` while it is empty.
pub(super) fn now(index: &Index) -> Result<Option<Cursor>, Refusal> {
    Ok(index.view()?.position().map(|position| position.cursor()))
}

/// A cursor that was given out for this log: that its events are there and come next. The index itself may be behind it.
pub(super) fn known(index: &Index, cursor: Cursor) -> Result<Cursor, Refusal> {
    let gone = |reason: String| Refusal::new(StatusCode::GONE, reason);
    match Feed::resume(index.chain(), cursor) {
        Ok(_) => {}
        Err(error @ Error::LogEndsEarlier { .. }) => {
            return Err(Refusal::new(StatusCode::BAD_REQUEST, format!("a cursor of the future: {error}")));
        }
        Err(error @ (Error::LogBeginsLater { .. } | Error::LogReplaced { .. })) => {
            return Err(gone(error.to_string()));
        }
        Err(Error::Log(error)) => return Err(crate::Error::from(error).into()),
        Err(_) => return Err(Refusal::failed()),
    }
    let applied = index.view()?.position().and_then(|position| position.mempool);
    if let Some(mempool) = cursor.mempool
        && Some(mempool) > applied
        && !is_on_log(index, mempool).map_err(crate::Error::from)?
    {
        return Err(gone(format!(
            "no mempool event {} of epoch {} is on the log: the cursor is of another log",
            mempool.sequence, mempool.epoch
        )));
    }
    Ok(cursor)
}

fn is_on_log(index: &Index, mempool: MempoolPosition) -> sluice_log::Result<bool> {
    let chain = index.chain();
    match Some(mempool.epoch).cmp(&chain.newest_mempool_epoch()?) {
        // What came after it is void: the newest epoch begins with a reset.
        Ordering::Less => return Ok(true),
        Ordering::Equal => {}
        Ordering::Greater => return Ok(false),
    }
    let mut scanner = chain.scan_mempool(Some((mempool.epoch, mempool.sequence.saturating_sub(1))))?;
    scanner.extend()?;
    Ok(scanner.peek().is_some_and(|next| next.event.sequence == mempool.sequence))
}
