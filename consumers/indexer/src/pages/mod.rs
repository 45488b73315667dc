//! The explorer: pages made on the server, which work without JavaScript; with it, what changes is shown at once.
//!
//! ```text
//!   /                          newest blocks, mempool, reorgs        /pipeline    every stage's lag, gaps, rates
//!   /explorer/block/HASH       /explorer/tx/TXID                     /explorer/search?q=…
//!   /explorer/address/ADDRESS  /explorer/scripthash/HASH             /explorer/tx/TXID/script/VOUT   its bytes
//!   /explorer/assets/…
//! ```
//!
//! No request leaves the machine: the policy that every answer carries allows the browser nothing but this server.

mod address;
mod assets;
mod banner;
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
mod watch;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use axum::routing::{MethodRouter, get};
use maud::Markup;
use serde::Deserialize;
use sluice_schemas::{Flavour, Network};
use tokio::sync::Semaphore;

use crate::{Index, View};
use banner::banners;
use layout::Page;
use notice::Notice;
use progress::Progress;
use watch::{Seen, Watch};

/// Pages made at once; further requests wait.
const PAGES_AT_ONCE: usize = 8;

/// The pages of an index, to be merged into its server.
pub fn router(index: Index) -> Router {
    let router =
        routes().into_iter().fold(Router::new(), |router, (path, method)| router.route(path, method));
    router.with_state(Pages::of(index))
}

/// Every path that has a page: `/explorer/block/{hash}`.
pub fn paths() -> impl Iterator<Item = &'static str> {
    routes().into_iter().map(|(path, _)| path)
}

/// Every path, and what makes its page.
fn routes() -> [(&'static str, MethodRouter<Pages>); 9] {
    [
        ("/", get(home)),
        ("/pipeline", get(pipeline)),
        ("/explorer/search", get(search)),
        ("/explorer/block/{hash}", get(block)),
        ("/explorer/tx/{txid}", get(transaction)),
        ("/explorer/tx/{txid}/script/{vout}", get(script)),
        ("/explorer/address/{address}", get(address)),
        ("/explorer/scripthash/{hash}", get(script_hash)),
        ("/explorer/assets/{name}", get(assets::serve)),
    ]
}

/// What pages are made from.
#[derive(Clone)]
struct Pages {
    index: Index,
    watch: Arc<Watch>,
    rates: Arc<pipeline::Rates>,
    groups: Arc<pipeline::Groups>,
    turns: Arc<Semaphore>,
}

/// What a page is made from: one moment of the index.
struct Moment {
    view: View,
    network: Option<Network>,
    seen: Arc<Seen>,
    /// Of the index.
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
    fn of(index: Index) -> Self {
        Self {
            index,
            watch: Arc::default(),
            rates: Arc::default(),
            groups: Arc::default(),
            turns: Arc::new(Semaphore::new(PAGES_AT_ONCE)),
        }
    }

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
                Err(notice) => return notice.into_response(self.index.network(), &Markup::default()),
            };
            match make(&self, &moment) {
                Ok(page) => page.into_response(&moment),
                Err(notice) => notice.into_response(moment.network, &banners(&moment)),
            }
        });
        match made.await {
            Ok(response) => response,
            Err(_) => Notice::Failed.into_response(None, &Markup::default()),
        }
    }

    fn moment(&self) -> Result<Moment, Notice> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
        let view = self.index.view()?;
        let seen = self.watch.get(self.index.chain(), now);
        let progress = Progress::of_index(seen.tail.as_ref(), view.position());
        let network = self.index.network();
        match view.position() {
            Some(_) => Ok(Moment { view, network, seen, progress, now }),
            None if seen.lost_since.is_some() => Err(Notice::Failed),
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

async fn script(State(pages): State<Pages>, Path((txid, vout)): Path<(String, String)>) -> Response {
    pages.answer(move |_, moment| transaction::script(moment, &txid, &vout)).await
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

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use axum::http::StatusCode;
    use sluice_consumer_testkit::{TestLog, chain, project};

    use super::*;
    use crate::{Projector, Settings};

    /// An index that goes on when it is told to: with a process, nobody could look while it is being built.
    struct Built {
        log: TestLog,
        projector: Projector,
        _directory: tempfile::TempDir,
    }

    impl Built {
        fn over(log: TestLog) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let settings = Settings { cache_bytes: 8 << 20, ..Settings::default() };
            let projector = Projector::open(log.chain.clone(), directory.path(), settings).unwrap();
            Self { log, projector, _directory: directory }
        }

        /// The first page, as whoever comes first gets it.
        fn first_page(&self) -> (StatusCode, String) {
            let pages = Pages::of(self.projector.index().clone());
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let response = home(State(pages), Query(home::Asked::default())).await;
                let (status, body) = (response.status(), to_bytes(response.into_body(), 1 << 20));
                (status, String::from_utf8(body.await.unwrap().to_vec()).unwrap())
            })
        }
    }

    #[test]
    fn while_the_index_is_being_built_pages_say_how_far_it_is() {
        let mut built = Built::over(chain().blocks(19).build());
        let (status, page) = built.first_page();
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(page.contains("The log holds 20 chain events; none is in the index yet."), "{page}");

        project(&built.log.chain, &mut built.projector).unwrap();
        built.log.play(&chain().blocks(60));
        let (status, page) = built.first_page();
        assert_eq!(status, StatusCode::OK);
        assert!(page.contains("20 of 80 chain events are in it (25 %)"), "{page}");
        assert!(page.contains(r#"<progress max="80" value="20""#), "{page}");

        project(&built.log.chain, &mut built.projector).unwrap();
        let (_, page) = built.first_page();
        assert!(!page.contains("The index is being built"), "{page}");
    }
}
