//! Esplora's HTTP API over the index, and what goes beyond it.
//!
//! ```text
//!   request ─► around (limits, CORS) ─► route ─► answer: a turn ─► blocking thread: handler(view, out)
//!                                                                         │ up to 256 KiB: whole, with ETag
//!                                                                         └ more: part by part, at flat memory
//! ```
//!
//! Answers and errors are those of Blockstream's `esplora` (`API.md`). Reads never run on the async threads, a bounded
//! number at once; what does not fit is answered with 503 and `Retry-After`.

mod blocks;
mod broadcast;
mod error;
mod fees;
mod gate;
mod json;
mod mempool;
mod node;
mod openapi;
mod out;
mod params;
mod proofs;
mod script;
mod scripts;
mod serve;
mod story;
mod transactions;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::middleware::from_fn;
use axum::response::IntoResponse;
use axum::routing::{MethodRouter, get, post};
use serde::de::DeserializeOwned;

pub use node::Node;
pub use openapi::{Operation, operations};

use crate::Index;
use error::Error;
use gate::Gate;
use out::Out;
use serve::Ask;

/// What may be asked at once and in one request.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Reads at once.
    pub reads: usize,
    /// Requests that may wait for one of them.
    pub waiting: usize,
    /// Large answers on their way at once.
    pub streams: usize,
    /// Transactions on their way to the node at once. Each takes up to twice `post_bytes` of memory.
    pub posts: usize,
    /// Largest body of a `POST`: a transaction in hexadecimal digits.
    pub post_bytes: usize,
    /// Most unspent outputs that are listed.
    pub utxos: usize,
    /// How long an answer may take to be found.
    pub time: Duration,
    /// How long a client may take to send a body, or to take a part of an answer.
    pub client: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            reads: 32,
            waiting: 1024,
            streams: 16,
            posts: 4,
            post_bytes: 32 << 20,
            utxos: 50_000,
            time: Duration::from_secs(30),
            client: Duration::from_secs(30),
        }
    }
}

/// All that requests share.
struct Api {
    index: Index,
    node: Option<Node>,
    limits: Limits,
    reads: Gate,
    streams: Gate,
    posts: Gate,
}

type Routes = Vec<(&'static str, MethodRouter<Arc<Api>>)>;

/// The API over an index. Transactions are sent to `node`, where there is one.
pub fn router(index: Index, node: Option<Node>, limits: Limits) -> Router {
    let api = Api {
        index,
        node,
        limits,
        reads: Gate::new(limits.reads, limits.waiting),
        streams: Gate::new(limits.streams, 0),
        posts: Gate::new(limits.posts, limits.waiting),
    };
    let router =
        routes().into_iter().fold(Router::new(), |router, (path, method)| router.route(path, method));
    let router = router
        .fallback(|| async { Error::NoSuchPath })
        .method_not_allowed_fallback(|| async { Error::Method })
        .with_state(Arc::new(api));
    guarded(router)
}

/// Limits what may be asked of a router, and lets pages of other origins ask (CORS). `router` has it already.
pub fn guarded(router: Router) -> Router {
    router.layer(from_fn(serve::around))
}

/// Every path, and what answers it.
fn routes() -> Routes {
    vec![
        ("/blocks", on(|ask, out, ()| blocks::list(ask, out, None))),
        ("/blocks/{start}", on(|ask, out, start: String| blocks::list(ask, out, Some(&start)))),
        ("/blocks/tip/hash", on(|ask, out, ()| blocks::tip_hash(ask, out))),
        ("/blocks/tip/height", on(|ask, out, ()| blocks::tip_height(ask, out))),
        ("/block-height/{height}", on(|ask, out, height: String| blocks::hash_at(ask, out, &height))),
        ("/block/{hash}", on(|ask, out, hash: String| blocks::block(ask, out, &hash))),
        ("/block/{hash}/header", on(|ask, out, hash: String| blocks::header(ask, out, &hash))),
        ("/block/{hash}/status", on(|ask, out, hash: String| blocks::status(ask, out, &hash))),
        ("/block/{hash}/raw", on(|ask, out, hash: String| blocks::raw(ask, out, &hash))),
        ("/block/{hash}/txids", on(|ask, out, hash: String| blocks::txids(ask, out, &hash))),
        (
            "/block/{hash}/txid/{index}",
            on(|ask, out, (hash, index): Two| blocks::txid(ask, out, &hash, &index)),
        ),
        ("/block/{hash}/txs", on(|ask, out, hash: String| blocks::txs(ask, out, &hash, None))),
        (
            "/block/{hash}/txs/{start}",
            on(|ask, out, (hash, at): Two| blocks::txs(ask, out, &hash, Some(&at))),
        ),
        ("/tx", post(broadcast::transaction)),
        ("/txs/package", post(broadcast::package)),
        ("/tx/{txid}", on(|ask, out, txid: String| transactions::transaction(ask, out, &txid))),
        ("/tx/{txid}/status", on(|ask, out, txid: String| transactions::status(ask, out, &txid))),
        ("/tx/{txid}/hex", on(|ask, out, txid: String| transactions::hex(ask, out, &txid))),
        ("/tx/{txid}/raw", on(|ask, out, txid: String| transactions::raw(ask, out, &txid))),
        (
            "/tx/{txid}/outspend/{vout}",
            on(|ask, out, (txid, vout): Two| transactions::outspend(ask, out, &txid, &vout)),
        ),
        ("/tx/{txid}/outspends", on(|ask, out, txid: String| transactions::outspends(ask, out, &txid))),
        ("/tx/{txid}/merkle-proof", on(|ask, out, txid: String| proofs::electrum(ask, out, &txid))),
        ("/tx/{txid}/merkleblock-proof", on(|ask, out, txid: String| proofs::merkle_block(ask, out, &txid))),
        ("/tx/{txid}/bump-proof", on(|ask, out, txid: String| proofs::bump(ask, out, &txid))),
        ("/tx/{txid}/journey", on(|ask, out, txid: String| story::journey(ask, out, &txid))),
        ("/address/{address}", on(|ask, out, text: String| scripts::address(ask, &text)?.stats(ask, out))),
        ("/address/{address}/txs", on(|ask, out, text: String| scripts::address(ask, &text)?.txs(ask, out))),
        (
            "/address/{address}/txs/chain",
            on(|ask, out, text: String| scripts::address(ask, &text)?.chain(ask, out, None)),
        ),
        (
            "/address/{address}/txs/chain/{last}",
            on(|ask, out, (text, last): Two| scripts::address(ask, &text)?.chain(ask, out, Some(&last))),
        ),
        (
            "/address/{address}/txs/mempool",
            on(|ask, out, text: String| scripts::address(ask, &text)?.mempool(ask, out)),
        ),
        (
            "/address/{address}/utxo",
            on(|ask, out, text: String| scripts::address(ask, &text)?.utxo(ask, out)),
        ),
        ("/scripthash/{hash}", on(|ask, out, text: String| scripts::script_hash(&text)?.stats(ask, out))),
        ("/scripthash/{hash}/txs", on(|ask, out, text: String| scripts::script_hash(&text)?.txs(ask, out))),
        (
            "/scripthash/{hash}/txs/chain",
            on(|ask, out, text: String| scripts::script_hash(&text)?.chain(ask, out, None)),
        ),
        (
            "/scripthash/{hash}/txs/chain/{last}",
            on(|ask, out, (text, last): Two| scripts::script_hash(&text)?.chain(ask, out, Some(&last))),
        ),
        (
            "/scripthash/{hash}/txs/mempool",
            on(|ask, out, text: String| scripts::script_hash(&text)?.mempool(ask, out)),
        ),
        ("/scripthash/{hash}/utxo", on(|ask, out, text: String| scripts::script_hash(&text)?.utxo(ask, out))),
        ("/address-prefix/{prefix}", on(|ask, out, prefix: String| scripts::with_prefix(ask, out, &prefix))),
        ("/mempool", on(|ask, out, ()| mempool::summary(ask, out))),
        ("/mempool/txids", on(|ask, out, ()| mempool::txids(ask, out))),
        ("/mempool/recent", on(|ask, out, ()| mempool::recent(ask, out))),
        ("/fee-estimates", on(|ask, out, ()| mempool::fee_estimates(ask, out))),
        ("/reorgs", get(story::reorgs)),
        ("/openapi.json", get(openapi::document)),
    ]
}

/// Two parts of a path.
type Two = (String, String);

/// A route to a handler that blocks, for `GET` and `HEAD`.
fn on<P>(handler: fn(&Ask, &mut Out, P) -> Result<(), Error>) -> MethodRouter<Arc<Api>>
where
    P: DeserializeOwned + Send + 'static,
{
    get(
        move |State(api): State<Arc<Api>>, parts: Result<Path<P>, PathRejection>, headers: HeaderMap| async move {
            match parts {
                Ok(Path(parts)) => {
                    serve::answer(api, headers, move |ask, out| handler(ask, out, parts)).await
                }
                // A part of it is no text.
                Err(_) => Error::Invalid("Invalid path").into_response(),
            }
        },
    )
}
