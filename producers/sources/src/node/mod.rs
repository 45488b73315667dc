//! A node, Bitcoin Core or Bitcoin SV: RPC and REST for the truth, ZMQ as doorbell.
//!
//! ```text
//!   rpc ──── tip, locator, mempool, raw transactions     (JSON-RPC in batches)
//!   http ─┬─ headers    /rest/headers/N/HASH.bin
//!         ├─ body       /rest/block/HASH.bin             (streamed, a broken download goes on)
//!         └─ spent      /rest/spenttxouts/HASH.bin       (Bitcoin Core 30 and later)
//!   zmq ──── feed: its own thread, numbers checked, nothing believed that the truth does not confirm
//! ```

mod auth;
mod body;
mod chain;
mod endpoints;
mod feed;
mod http;
mod identity;
mod inbox;
mod message;
mod rpc;
mod subscriber;
mod tcp;
mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bitcoin::{BlockHash, Txid};
use bytes::Bytes;
use serde_json::json;
use sluice_schemas::{Flavour, Network};
use tracing::{info, warn};
use url::Url;

pub use endpoints::Zmq;
pub use message::fuzz;
pub use sluice_runtime::node::Credentials;

use crate::{Body, Error, Feed, Headers, Result, Snapshot, Source, Tip};
use http::Http;
use rpc::Rpc;
use wire::{DisplayHash, HexBytes};

/// How to reach a node.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Where RPC and REST listen: `http://127.0.0.1:8332`. Holds no credentials.
    pub url: Url,
    /// Credentials for RPC.
    pub credentials: Credentials,
    /// Where ZMQ messages come from.
    pub zmq: Zmq,
    /// The network the node must be of; `None` takes the one it says.
    pub network: Option<Network>,
    /// How often the feed asks for the best block where ZMQ is connected. Nodes send no ZMQ block messages during their
    /// initial download.
    pub slow_poll: Duration,
    /// How often it asks where ZMQ is not.
    pub fast_poll: Duration,
    /// Largest answer taken to a batch of transactions, which come as hex; a larger one is asked for in parts.
    pub max_batch_bytes: u64,
}

impl NodeConfig {
    /// ZMQ as the node says, network as the node says, best block asked for every 10 s (1 s without ZMQ).
    pub fn new(url: Url, credentials: Credentials) -> Self {
        Self {
            url,
            credentials,
            zmq: Zmq::Discover,
            network: None,
            slow_poll: Duration::from_secs(10),
            fast_poll: Duration::from_secs(1),
            max_batch_bytes: 64 << 20,
        }
    }
}

/// A node as source.
pub struct NodeSource {
    node: Arc<Node>,
}

/// What the parts of this module share.
struct Node {
    config: NodeConfig,
    id: String,
    network: Network,
    rpc: Rpc,
    http: Http,
    /// Whether the node was started with `-rest`.
    rest: bool,
    /// Whether it has `/rest/spenttxouts`; falls when it turns out that it has not.
    spent: AtomicBool,
}

/// Transactions asked for in one batch.
const TRANSACTIONS_PER_BATCH: usize = 250;
/// Largest transaction taken from the mempool, in bytes.
const MAX_TX_BYTES: u64 = 1 << 30;
/// Size of the answer to `getrawmempool`: some fifteen million transactions.
const MAX_MEMPOOL_BYTES: u64 = 1 << 30;

impl NodeSource {
    /// Asks the node who it is.
    ///
    /// # Errors
    /// `Error::Refused` where it is of another network than expected, of none that is known, or does not accept the
    /// credentials; `Error::Unreachable` while it does not answer or is warming up.
    pub fn connect(config: NodeConfig) -> Result<Self> {
        let id = format!(
            "node:{}:{}",
            config.url.host_str().unwrap_or_default(),
            config.url.port_or_known_default().unwrap_or_default()
        );
        let http = Http::new(&config.url, &id)?;
        let rpc = Rpc::new(http.clone(), config.credentials.clone());
        let identity = identity::ask(&rpc, &id, config.network)?;
        let rest = http.get("/rest/chaininfo.json", None)?.status != 404;
        if !rest {
            warn!(
                source = id,
                "node has no REST; start it with -rest, bodies over 32 MiB cannot be had without"
            );
        }
        info!(source = id, network = %identity.network, agent = identity.agent, "connected to node");
        let spent = AtomicBool::new(rest && identity.network.flavour() == Flavour::Btc);
        Ok(Self { node: Arc::new(Node { config, id, network: identity.network, rpc, http, rest, spent }) })
    }
}

impl Source for NodeSource {
    fn id(&self) -> &str {
        &self.node.id
    }

    fn network(&self) -> Network {
        self.node.network
    }

    fn tip(&self) -> Result<Tip> {
        #[derive(serde::Deserialize)]
        struct Info {
            bestblockhash: DisplayHash<BlockHash>,
            blocks: i32,
        }
        let info: Info = self.node.rpc.call("getblockchaininfo", json!([]))?;
        Ok(Tip { hash: info.bestblockhash.0, height: info.blocks })
    }

    fn headers(&self, locator: &[BlockHash], max: usize) -> Result<Headers> {
        chain::headers(&self.node, locator, max)
    }

    fn body(&self, hash: &BlockHash) -> Result<Body> {
        body::open(&self.node, hash)
    }

    fn feed(&self) -> Result<Box<dyn Feed>> {
        Ok(Box::new(feed::NodeFeed::open(Arc::clone(&self.node))?))
    }

    fn mempool(&self) -> Result<Snapshot> {
        let rpc = &self.node.rpc;
        if self.node.network.flavour() == Flavour::Bsv {
            let txids: Vec<DisplayHash<Txid>> =
                rpc.call_sized("getrawmempool", json!([false]), MAX_MEMPOOL_BYTES)?;
            return Ok(Snapshot { txids: txids.into_iter().map(|txid| txid.0).collect(), sequence: None });
        }
        #[derive(serde::Deserialize)]
        struct Numbered {
            txids: Vec<DisplayHash<Txid>>,
            /// The number that the next change will have.
            mempool_sequence: u64,
        }
        let mempool: Numbered = rpc.call_sized("getrawmempool", json!([false, true]), MAX_MEMPOOL_BYTES)?;
        Ok(Snapshot {
            txids: mempool.txids.into_iter().map(|txid| txid.0).collect(),
            sequence: Some(mempool.mempool_sequence.saturating_sub(1)),
        })
    }

    fn transactions(&self, txids: &[Txid]) -> Result<Vec<Option<Bytes>>> {
        let mut raw = Vec::with_capacity(txids.len());
        for batch in txids.chunks(TRANSACTIONS_PER_BATCH) {
            self.node.transactions(batch, &mut raw)?;
        }
        Ok(raw)
    }
}

impl Node {
    fn transactions(&self, txids: &[Txid], raw: &mut Vec<Option<Bytes>>) -> Result<()> {
        let params = txids.iter().map(|txid| json!([txid.to_string(), 0]));
        match self.rpc.batch::<HexBytes>("getrawtransaction", params, self.config.max_batch_bytes)? {
            Some(answers) => {
                for answer in answers {
                    raw.push(match answer {
                        Ok(hex) => Some(hex.0),
                        Err(error) if error.code == rpc::NO_SUCH_THING => None,
                        Err(error) => return Err(self.rpc.failed("getrawtransaction", &error)),
                    });
                }
            }
            None => match txids {
                [] => {}
                [txid] => raw.push(self.large_transaction(txid)?),
                _ => {
                    let (first, second) = txids.split_at(txids.len() / 2);
                    self.transactions(first, raw)?;
                    self.transactions(second, raw)?;
                }
            },
        }
        Ok(())
    }

    /// One that is too large to come as hex within an answer.
    fn large_transaction(&self, txid: &Txid) -> Result<Option<Bytes>> {
        let attempt = format!("fetch transaction {txid}");
        let response = self.http.get(&format!("/rest/tx/{txid}.bin"), None)?;
        match response.status {
            200 => Ok(Some(response.bytes(&attempt, MAX_TX_BYTES)?.into())),
            404 => Ok(None),
            _ => Err(response.unexpected(&attempt)),
        }
    }

    fn spent_is_known_to_be_missing(&self) {
        if self.spent.swap(false, Ordering::Relaxed) {
            info!(source = self.id, "node cannot tell what a block spends (Bitcoin Core 30 and later can)");
        }
    }

    fn unusable(&self, attempt: impl Into<String>, reason: impl Into<String>) -> Error {
        Error::Unusable { attempt: attempt.into(), source_id: self.id.clone(), reason: reason.into() }
    }
}
