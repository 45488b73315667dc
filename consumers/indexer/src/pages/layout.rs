//! What every page has.

use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use maud::{DOCTYPE, Markup, html};
use sluice_schemas::Network;

use super::Moment;
use super::assets;
use super::text::count;

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
}

impl Page {
    pub(super) fn into_response(self, moment: &Moment) -> Response {
        match self {
            Self::Shown { title, place, body } => {
                let building = moment.progress.is_building().then(|| banner(moment));
                let body = html! { @if let Some(banner) = building { (banner) } (body) };
                respond(StatusCode::OK, &title, place, moment.network, &body)
            }
            Self::Elsewhere(url) => Redirect::to(&url).into_response(),
        }
    }
}

/// That the index has not come to the end of the log.
fn banner(moment: &Moment) -> Markup {
    let progress = moment.progress;
    html! {
        p.banner role="status" {
            strong { "The index is being built. " }
            (count(progress.indexed)) " of " (count(progress.total)) " chain events are in it ("
            (progress.percent()) " %). What is shown is the chain as of then. "
            progress max=(progress.total) value=(progress.indexed) {}
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
        (axum::http::header::CONTENT_TYPE, "text/html; charset=utf-8"),
    ];
    (status, headers, page).into_response()
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
                                spellcheck="false" required placeholder="Height, hash, transaction, address";
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
