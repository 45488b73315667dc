//! What every page has.

use axum::http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use bytes::Bytes;
use maud::{DOCTYPE, Markup, html};
use sluice_schemas::Network;

use super::Moment;
use super::assets;
use super::banner::banners;

/// The browser may load style, script and pictures from this server, talk to it, and nothing else.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// What a page is called, and where in the site it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Blocks,
    Pipeline,
    Elsewhere,
}

/// What a request is answered with.
pub(super) enum Page {
    Shown {
        title: String,
        place: Place,
        body: Markup,
    },
    /// The page is another one.
    Elsewhere(String),
    /// No page: bytes to be kept in a file.
    Bytes {
        name: String,
        bytes: Bytes,
    },
}

impl Page {
    pub(super) fn into_response(self, moment: &Moment) -> Response {
        match self {
            Self::Shown { title, place, body } => {
                // Where a page is renewed anyway.
                let live = (place != Place::Elsewhere).then_some("timer");
                let body = html! { div id="banners" data-live=[live] { (banners(moment)) } (body) };
                respond(StatusCode::OK, &title, place, moment.network, &body)
            }
            Self::Bytes { name, bytes } => download(&name, bytes),
            Self::Elsewhere(url) => Redirect::to(&url).into_response(),
        }
    }
}

/// A whole answer.
pub(super) fn respond(
    status: StatusCode,
    title: &str,
    place: Place,
    network: Option<Network>,
    body: &Markup,
) -> Response {
    let page = document(title, place, network, body).into_string();
    let headers: [(HeaderName, &str); 5] = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-store"),
        (CONTENT_TYPE, "text/html; charset=utf-8"),
    ];
    (status, headers, page).into_response()
}

/// Bytes that anybody may have put on the chain: the browser is to keep them and not to look into them.
fn download(name: &str, bytes: Bytes) -> Response {
    let headers: [(HeaderName, String); 4] = [
        (CONTENT_TYPE, "application/octet-stream".to_owned()),
        (CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")),
        (CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox".to_owned()),
        (X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
    ];
    (headers, bytes).into_response()
}

fn document(title: &str, place: Place, network: Option<Network>, body: &Markup) -> Markup {
    let current = |here: Place| (here == place).then_some("page");
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · Chainsluice" }
                link rel="icon" type="image/svg+xml" href=(assets::url("icon.svg"));
                link rel="stylesheet" href=(assets::url("style.css"));
                script src=(assets::url("live.js")) defer {}
            }
            body {
                a.skip href="#main" { "To the content" }
                header.top {
                    div.bar {
                        a.brand href="/" {
                            img src=(assets::url("icon.svg")) alt="" width="28" height="28";
                            span { "Chainsluice" }
                        }
                        @if let Some(network) = network { span.network { (network.name()) } }
                        nav aria-label="Main" {
                            a href="/" aria-current=[current(Place::Blocks)] { "Blocks" }
                            a href="/pipeline" aria-current=[current(Place::Pipeline)] { "Pipeline" }
                        }
                        form.search role="search" action="/explorer/search" method="get" {
                            label.hidden for="q" { "Search" }
                            input id="q" name="q" type="search" maxlength="128" autocomplete="off" autocapitalize="none"
                                spellcheck="false" required placeholder="Height, hash, txid, address";
                            button type="submit" { "Search" }
                        }
                    }
                }
                main id="main" tabindex="-1" { (body) }
                footer {
                    p {
                        "Served by your own Chainsluice from its own log. "
                        a href="/blocks/tip/height" { "Esplora API" } " · " a href="/events" { "Event stream" }
                    }
                }
                div id="news" role="status" aria-live="polite" {}
            }
        }
    }
}
