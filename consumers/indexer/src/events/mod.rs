//! `GET /events`: what happens on the chain and in the mempool, as server-sent events.
//!
//! ```text
//!   Last-Event-ID ─► checked ─► Behind ── slices of the log, a few clients at a time ──► Live ── what the index announces
//!                                 ▲                                                        │
//!                                 └──── an announcement that does not follow the last ─────┘
//! ```
//!
//! Every event's `id` is a `Cursor`: a client that comes back with it is given what it missed, the undo of a block that was
//! disconnected since included and first. An event with an id and nothing else only brings the client's cursor forward.
//!
//! | event | data |
//! |---|---|
//! | `connected`, `disconnected` | `height`, `hash`, `prev_hash`, `tx_count`; with a filter `matched` and `transactions` |
//! | `added` | `txid` |
//! | `removed` | `txid`, `reason`, `replaced_by` |
//! | `reset` | none: the mempool view begins again, empty |
//! | `dropped` | `reason`: the stream ends, come back with this id |
//!
//! `only=blocks` leaves the mempool out. `address`, `scripthash` and `txid`, each as often as wanted, keep what touches any
//! of them: a block that does not is passed over. With them, a `removed` may come for a transaction that the client was
//! never told of, where nobody can tell any more what it touched; such a client ignores ids that it does not know.

mod catch_up;
mod check;
mod filter;
mod follower;
mod message;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::sse::{KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::stream;
use sluice_consumer::{Cursor, Shutdown};
use tokio::sync::Semaphore;

use crate::Index;
use check::Refusal;
use filter::Filter;
use follower::Follower;

pub(crate) use filter::script_of_address;

/// Where they are served.
pub(crate) const PATH: &str = "/events";
/// Clients that are read for from the log at once; the others wait.
const CATCHING_UP: usize = 4;
/// Time between two comments on a stream where nothing happens, so that what lies between does not take it for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The events of an index for so many clients at once, to be merged into its server. Streams end when a stop is asked for.
pub fn router(index: Index, shutdown: Shutdown, clients: usize) -> Router {
    let shared = Shared {
        index,
        shutdown,
        seats: Arc::new(Semaphore::new(clients)),
        clients,
        catching_up: Arc::new(Semaphore::new(CATCHING_UP)),
    };
    Router::new().route(PATH, get(events)).with_state(Arc::new(shared))
}

/// What all clients share.
struct Shared {
    index: Index,
    shutdown: Shutdown,
    seats: Arc<Semaphore>,
    /// How many seats there are.
    clients: usize,
    catching_up: Arc<Semaphore>,
}

async fn events(
    State(shared): State<Arc<Shared>>,
    Query(asked): Query<Vec<(String, String)>>,
    headers: HeaderMap,
) -> Response {
    match connect(shared, asked, &headers).await {
        Ok(follower) => {
            let events = stream::unfold(follower, |mut follower| async move {
                let event = follower.next().await?;
                Some((Ok::<_, Infallible>(event), follower))
            });
            let headers = [
                (CACHE_CONTROL, "no-store"),
                (ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
                // For proxies that would otherwise collect the answer before they pass it on.
                (HeaderName::from_static("x-accel-buffering"), "no"),
            ];
            (headers, Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))).into_response()
        }
        Err(refusal) => ([(ACCESS_CONTROL_ALLOW_ORIGIN, "*")], refusal).into_response(),
    }
}

async fn connect(
    shared: Arc<Shared>,
    asked: Vec<(String, String)>,
    headers: &HeaderMap,
) -> Result<Box<Follower>, Refusal> {
    let seat = shared.seats.clone().try_acquire_owned().map_err(|_| {
        Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("{} clients are connected: come back later", shared.clients),
        )
    })?;
    let filter = Filter::parse(&asked, shared.index.network())?;
    let cursor = cursor(&asked, headers)?;
    // Waits for its turn where many come back at once.
    let turn = shared.catching_up.clone().acquire_owned().await;
    let index = shared.index.clone();
    let only_blocks = filter.only_blocks;
    let place = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        match cursor {
            Some(cursor) => check::known(&index, cursor).map(Some),
            None => check::now(&index),
        }
    });
    let place = place.await.map_err(|_| Refusal::failed())??;
    // Who is not told of the mempool has no place in it.
    let place = place.map(|place| if only_blocks { Cursor { mempool: None, ..place } } else { place });
    Ok(Box::new(Follower::new(shared, filter, place, seat)))
}

/// Where the client left off. A browser that comes back sends the header beside the address that it was first given.
fn cursor(asked: &[(String, String)], headers: &HeaderMap) -> Result<Option<Cursor>, Refusal> {
    let header = headers.get("last-event-id").map(|value| value.to_str().unwrap_or("?"));
    let parameter = asked.iter().find(|(name, _)| name == "cursor").map(|(_, value)| value.as_str());
    match header.filter(|text| !text.is_empty()).or(parameter) {
        Some(text) => match text.parse() {
            Ok(cursor) => Ok(Some(cursor)),
            Err(error) => Err(Refusal::new(StatusCode::BAD_REQUEST, format!("{error}"))),
        },
        None => Ok(None),
    }
}
