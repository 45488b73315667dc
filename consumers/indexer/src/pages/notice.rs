//! What is shown where there is no page.

use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::Response;
use maud::{Markup, html};
use sluice_schemas::Network;
use tracing::error;

use super::banner::bar;
use super::layout::{Place, respond};
use super::progress::Progress;
use super::text::count;

/// Seconds after which a browser should ask again while the index has nothing to show.
const RETRY_SECONDS: u16 = 3;

/// Why there is no page.
#[derive(Debug)]
pub(super) enum Notice {
    /// The log has no block yet.
    Empty,
    /// The log has blocks, the index has none.
    Building(Progress),
    /// A large block is being finished after a crash.
    Unfinished,
    /// There is no such thing here.
    NotFound { what: &'static str, asked: String },
    /// What was asked for cannot be.
    Malformed { what: &'static str, asked: String, takes: &'static str },
    /// Index or log could not be read.
    Failed,
}

impl From<crate::Error> for Notice {
    fn from(failure: crate::Error) -> Self {
        match failure {
            crate::Error::Unfinished => Self::Unfinished,
            failure => {
                error!(error = &failure as &dyn std::error::Error, "failed to make a page");
                Self::Failed
            }
        }
    }
}

impl From<sluice_log::Error> for Notice {
    fn from(failure: sluice_log::Error) -> Self {
        crate::Error::from(failure).into()
    }
}

impl Notice {
    pub(super) fn not_found(what: &'static str, asked: &str) -> Self {
        Self::NotFound { what, asked: shortened(asked) }
    }

    pub(super) fn malformed(what: &'static str, asked: &str, takes: &'static str) -> Self {
        Self::Malformed { what, asked: shortened(asked), takes }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Empty | Self::Building(_) | Self::Unfinished => StatusCode::SERVICE_UNAVAILABLE,
            Self::NotFound { .. } => StatusCode::NOT_FOUND,
            Self::Malformed { .. } => StatusCode::BAD_REQUEST,
            Self::Failed => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// As a page, below the `banners` that there are.
    pub(super) fn into_response(self, network: Option<Network>, banners: &Markup) -> Response {
        let (title, body) = self.words();
        let waits = self.status() == StatusCode::SERVICE_UNAVAILABLE;
        let body = html! {
            (banners)
            // The script asks again by itself.
            section.notice id="notice" data-live=[waits.then_some("timer")] { h1 { (title) } (body) }
        };
        let mut response = respond(self.status(), title, Place::Elsewhere, network, &body);
        if waits {
            response.headers_mut().insert(RETRY_AFTER, RETRY_SECONDS.into());
        }
        response
    }

    fn words(&self) -> (&'static str, Markup) {
        match self {
            Self::Empty => (
                "No blocks yet",
                html! {
                    p { "The event log is empty: its producer has not published a block. As soon as it does, the chain appears here." }
                    p { "Is the producer running? " code { "sluice status" } " tells." }
                },
            ),
            Self::Building(progress) => (
                "The index is being built",
                html! {
                    p { "The log holds " (count(progress.total)) " chain events; none is in the index yet." }
                    (bar(*progress, "Chain events in the index"))
                },
            ),
            Self::Unfinished => {
                ("One moment", html! { p { "The index is finishing a large block that it was stopped in." } })
            }
            Self::NotFound { what, asked } => (
                "Not found",
                html! {
                    p { "There is no " (what) " " q.asked { (asked) } " on this chain or in its mempool." }
                    p { "The search takes a height, a block's hash, a transaction's id, an address, or the hash of a script." }
                },
            ),
            Self::Malformed { what, asked, takes } => (
                "That cannot be right",
                html! { p { q.asked { (asked) } " is no " (what) ": " (takes) "." } },
            ),
            Self::Failed => (
                "Something went wrong",
                html! { p { "The index or its log could not be read. The process's own log says what happened." } },
            ),
        }
    }
}

/// What somebody typed, as far as it is worth repeating.
fn shortened(asked: &str) -> String {
    const SHOWN_CHARACTERS: usize = 100;
    match asked.char_indices().nth(SHOWN_CHARACTERS) {
        Some((end, _)) => format!("{}…", &asked[..end]),
        None => asked.to_owned(),
    }
}
