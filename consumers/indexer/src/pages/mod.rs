//! The explorer: pages made on the server, which work without JavaScript; with it, what changes is shown at once.
//!
//! ```text
//!   /                          newest blocks, mempool, reorgs        /pipeline    every stage's lag, gaps, rates
//!   /explorer/block/HASH       /explorer/tx/TXID                     /explorer/search?q=…
//!   /explorer/address/ADDRESS  /explorer/scripthash/HASH             /explorer/assets/…
//! ```
//!
//! No request leaves the machine: the policy that every answer carries allows the browser nothing but this server.

mod address;
mod assets;
mod block;
mod chart;
mod flow;
mod home;
mod layout;
mod notice;
mod pipeline;
mod progress;
mod search;
mod text;
mod transaction;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use axum::routing::get;
use serde::Deserialize;
use sluice_schemas::{Flavour, Network};
use tokio::sync::Semaphore;

use crate::{Index, View};
use layout::Page;
use notice::Notice;
use progress::{Progress, Tail};

/// Pages made at once; further requests wait.
const PAGES_AT_ONCE: usize = 8;

/// The pages of an index, to be merged into its server.
pub fn router(index: Index) -> Router {
    let pages = Pages {
        index,
        tail: Arc::default(),
        rates: Arc::default(),
        news: Arc::default(),
        turns: Arc::new(Semaphore::new(PAGES_AT_ONCE)),
    };
    Router::new()
        .route("/", get(home))
        .route("/pipeline", get(pipeline))
        .route("/explorer/search", get(search))
        .route("/explorer/block/{hash}", get(block))
        .route("/explorer/tx/{txid}", get(transaction))
        .route("/explorer/address/{address}", get(address))
        .route("/explorer/scripthash/{hash}", get(script_hash))
        .route("/explorer/assets/{name}", get(assets::serve))
        .with_state(pages)
}

/// What pages are made from.
#[derive(Clone)]
struct Pages {
    index: Index,
    tail: Arc<Tail>,
    rates: Arc<pipeline::Rates>,
    news: Arc<pipeline::News>,
    turns: Arc<Semaphore>,
}

/// What a page is made from: one moment of the index.
struct Moment {
    view: View,
    network: Option<Network>,
    progress: Progress,
    /// Milliseconds since the Unix epoch.
    now: i64,
}

impl Moment {
    /// The currency's sign.
    fn unit(&self) -> &'static str {
        match self.network.map(Network::flavour) {
            Some(Flavour::Bsv) => "BSV",
            Some(Flavour::Btc) | None => "BTC",
        }
    }

    /// Blocks on top of the one at a height, with that one.
    fn confirmations(&self, height: i32) -> i64 {
        self.view.tip().map_or(0, |tip| i64::from(tip.height) - i64::from(height) + 1)
    }
}

impl Pages {
    /// Makes a page on a thread where the store may block.
    async fn answer<F>(self, make: F) -> Response
    where
        F: FnOnce(&Self, &Moment) -> Result<Page, Notice> + Send + 'static,
    {
        let turn = self.turns.clone().acquire_owned().await;
        let made = tokio::task::spawn_blocking(move || {
            // Held until the work is done, not only until the client is gone.
            let _turn = turn;
            let moment = match self.moment() {
                Ok(moment) => moment,
                Err(notice) => return notice.into_response(self.index.network()),
            };
            match make(&self, &moment) {
                Ok(page) => page.into_response(&moment),
                Err(notice) => notice.into_response(moment.network),
            }
        });
        match made.await {
            Ok(response) => response,
            Err(_) => Notice::Failed.into_response(None),
        }
    }

    fn moment(&self) -> Result<Moment, Notice> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
        let view = self.index.view()?;
        let progress = Progress::of(self.tail.get(self.index.chain())?.as_ref(), view.position());
        let network = self.index.network();
        match view.position() {
            Some(_) => Ok(Moment { view, network, progress, now }),
            None if progress.total == 0 => Err(Notice::Empty),
            None => Err(Notice::Building(progress)),
        }
    }
}

async fn home(State(pages): State<Pages>, Query(query): Query<home::Asked>) -> Response {
    pages.answer(move |_, moment| home::page(moment, &query)).await
}

async fn block(
    State(pages): State<Pages>,
    Path(hash): Path<String>,
    Query(query): Query<block::Asked>,
) -> Response {
    pages.answer(move |_, moment| block::page(moment, &hash, &query)).await
}

async fn transaction(
    State(pages): State<Pages>,
    Path(txid): Path<String>,
    Query(query): Query<transaction::Asked>,
) -> Response {
    pages.answer(move |_, moment| transaction::page(moment, &txid, &query)).await
}

async fn address(
    State(pages): State<Pages>,
    Path(address): Path<String>,
    Query(query): Query<address::Asked>,
) -> Response {
    pages.answer(move |_, moment| address::page(moment, &address::Subject::Address(address), &query)).await
}

async fn script_hash(
    State(pages): State<Pages>,
    Path(hash): Path<String>,
    Query(query): Query<address::Asked>,
) -> Response {
    pages.answer(move |_, moment| address::page(moment, &address::Subject::ScriptHash(hash), &query)).await
}

#[derive(Deserialize)]
struct Searched {
    #[serde(default)]
    q: String,
}

async fn search(State(pages): State<Pages>, Query(Searched { q }): Query<Searched>) -> Response {
    pages.answer(move |_, moment| search::page(moment, &q)).await
}

async fn pipeline(State(pages): State<Pages>) -> Response {
    pages.answer(pipeline::page).await
}
