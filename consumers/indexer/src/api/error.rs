//! Why a request is refused, as Esplora says it: a status and one line of plain text.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// Seconds after which a client that was refused for load may ask again.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The request cannot be understood; the text is Esplora's.
    #[error("{0}")]
    Invalid(&'static str),
    /// There is no such thing; the text is Esplora's.
    #[error("{0}")]
    NotFound(&'static str),
    /// No page has this path.
    #[error("There is no such path; /openapi.json lists them")]
    NoSuchPath,
    /// The path takes other methods.
    #[error("Method not allowed")]
    Method,
    /// The address of the request is too long.
    #[error("URL too long")]
    UrlTooLong,
    /// The body of the request is too long.
    #[error("Request body too large: {limit_bytes} bytes at most")]
    BodyTooLarge {
        /// What is taken.
        limit_bytes: usize,
    },
    /// The body of the request took too long, or broke off.
    #[error("Request body did not arrive")]
    Body,
    /// There is more than one answer may hold.
    #[error("Too many unspent outputs (over {limit})")]
    TooMany {
        /// What may be asked for.
        limit: usize,
    },
    /// Too much is being asked at once.
    #[error("Too many requests at once, try again")]
    Busy,
    /// The answer took too long to find.
    #[error("The answer takes too long")]
    TimedOut,
    /// Nothing is indexed yet.
    #[error("The index is empty, its first block is still to come")]
    Empty,
    /// The index is being mended.
    #[error("The index is not ready, try again")]
    Unready,
    /// There is no node to send to.
    #[error("No node is attached that transactions could be sent to")]
    NoNode,
    /// The node refused; the text is Esplora's, with the node's error in it.
    #[error("{method} RPC error: {error}")]
    Refused {
        /// What it was asked.
        method: &'static str,
        /// Its answer: `{"code":-26,"message":"…"}`.
        error: String,
    },
    /// The node does not answer, or is not ready.
    #[error("The node does not answer")]
    NodeSilent,
    /// The client has gone, or takes nothing any more.
    #[error("the client has gone")]
    Gone,
    /// Something that only the operator can mend. The client is not told what.
    #[error("Internal error")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Invalid(_) | Self::TooMany { .. } | Self::Refused { .. } => StatusCode::BAD_REQUEST,
            Self::NotFound(_) | Self::NoSuchPath => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::UrlTooLong => StatusCode::URI_TOO_LONG,
            Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Body => StatusCode::REQUEST_TIMEOUT,
            Self::NoNode => StatusCode::NOT_IMPLEMENTED,
            Self::NodeSilent => StatusCode::BAD_GATEWAY,
            Self::Busy | Self::TimedOut | Self::Empty | Self::Unready => StatusCode::SERVICE_UNAVAILABLE,
            Self::Gone | Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let status = self.status();
        if let Self::Internal(source) = &self {
            tracing::error!(error = &**source, "a request could not be answered");
        }
        let mut response = (status, self.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        response
    }
}

impl From<crate::Error> for Error {
    fn from(error: crate::Error) -> Self {
        match error {
            crate::Error::Unfinished => Self::Unready,
            error => Self::Internal(error.into()),
        }
    }
}

impl From<sluice_log::Error> for Error {
    fn from(error: sluice_log::Error) -> Self {
        Self::Internal(error.into())
    }
}

impl From<crate::merkle::Error> for Error {
    fn from(error: crate::merkle::Error) -> Self {
        Self::Internal(error.into())
    }
}

/// Writing an answer fails only where nobody takes it.
impl From<std::io::Error> for Error {
    fn from(_: std::io::Error) -> Self {
        Self::Gone
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        if error.is_io() { Self::Gone } else { Self::Internal(error.into()) }
    }
}
