//! The feed of a node: what ZMQ says, and what asking for the best block now and then finds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bitcoin::BlockHash;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use serde_json::{Value, json};
use sluice_body::RawTx;
use sluice_schemas::Flavour;
use tracing::warn;

use super::inbox::Inbox;
use super::subscriber::{Outlets, Subscriber};
use super::wire::DisplayHash;
use super::{Node, endpoints, rpc};
use crate::{Error, Feed, Notice, Result};

/// Transactions that wait to be asked about; others are believed meanwhile, and a reconcile sets it right.
const MAX_UNSETTLED: usize = 1000;
/// Of those, asked about at once.
const UNSETTLED_PER_BATCH: usize = 250;
const MAX_BATCH_BYTES: u64 = 16 << 20;

/// The notices of one node.
pub(super) struct NodeFeed {
    inbox: Arc<Inbox>,
    /// Dropped first: it holds one of the two senders whose end ends the other thread.
    _subscriber: Option<Arc<Subscriber>>,
    /// The other thread ends with its next call when this is dropped; it is not waited for.
    _unsettled: Sender<RawTx>,
}

impl NodeFeed {
    /// Connects to ZMQ, then starts to watch the best block. What is read by other calls afterwards is no older than the
    /// first notice.
    pub(super) fn open(node: Arc<Node>) -> Result<Self> {
        let inbox = Arc::new(Inbox::default());
        let (unsettled, questions) = bounded(MAX_UNSETTLED);
        let flavour = node.network.flavour();
        let lanes = endpoints::lanes(&node.rpc, &node.config.zmq, &node.config.url, flavour)?;
        let subscriber = if lanes.is_empty() {
            warn!(source = node.id, "no ZMQ: the mempool is followed only by comparing it now and then");
            None
        } else {
            let ask = (flavour == Flavour::Bsv).then(|| unsettled.clone());
            let outlets = Outlets { inbox: Arc::clone(&inbox), unsettled: ask };
            let endpoints: Vec<_> = lanes.iter().map(|lane| lane.endpoint.clone()).collect();
            let subscriber = Subscriber::open(lanes, &node.id, outlets).map_err(|error| Error::Refused {
                source_id: node.id.clone(),
                reason: format!("ZMQ endpoints {endpoints:?} cannot be used: {error}"),
            })?;
            if !subscriber.is_connected() {
                warn!(source = node.id, ?endpoints, "ZMQ does not answer; still trying");
            }
            Some(Arc::new(subscriber))
        };
        let mut watch = Watch {
            best: best_block(&node)?,
            node,
            inbox: Arc::clone(&inbox),
            questions,
            subscriber: subscriber.as_ref().map(Arc::downgrade),
        };
        let id = watch.node.id.clone();
        let spawned = std::thread::Builder::new().name("node-watch".into()).spawn(move || watch.run());
        spawned.map_err(|error| Error::Refused {
            source_id: id,
            reason: format!("no thread to watch it: {error}"),
        })?;
        Ok(Self { inbox, _subscriber: subscriber, _unsettled: unsettled })
    }
}

impl Feed for NodeFeed {
    fn wait(&mut self, wait: Duration) -> Result<Vec<Notice>> {
        self.inbox.take(wait)
    }
}

/// Asks the node, on a thread of its own: an answer may take long, and nobody else shall wait for it.
struct Watch {
    node: Arc<Node>,
    inbox: Arc<Inbox>,
    best: BlockHash,
    questions: Receiver<RawTx>,
    subscriber: Option<std::sync::Weak<Subscriber>>,
}

impl Watch {
    fn run(&mut self) {
        let mut next = Instant::now() + self.interval();
        loop {
            match self.questions.recv_deadline(next) {
                Ok(first) => self.settle(first),
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    self.look();
                    next = Instant::now() + self.interval();
                }
            }
        }
    }

    fn interval(&self) -> Duration {
        let subscriber = self.subscriber.as_ref().and_then(std::sync::Weak::upgrade);
        match subscriber {
            Some(subscriber) if subscriber.is_connected() => self.node.config.slow_poll,
            _ => self.node.config.fast_poll,
        }
    }

    fn look(&mut self) {
        match best_block(&self.node) {
            Ok(best) if best == self.best => {}
            Ok(best) => {
                self.best = best;
                self.inbox.finding(Notice::TipChanged);
            }
            Err(error) => self.inbox.failed(error),
        }
    }

    /// Bitcoin SV announces transactions of its pool of non-final ones like those of its mempool. Asks which they are.
    fn settle(&self, first: RawTx) {
        let mut txs = vec![first];
        txs.extend(self.questions.try_iter().take(UNSETTLED_PER_BATCH - 1));
        let params = txs.iter().map(|tx| json!([tx.txid.to_string()]));
        let answers = match self.node.rpc.batch::<Value>("getmempoolentry", params, MAX_BATCH_BYTES) {
            Ok(answers) => answers.unwrap_or_default(),
            Err(error) => return self.inbox.failed(error),
        };
        for (tx, answer) in txs.into_iter().zip(answers) {
            if !matches!(answer, Err(error) if error.code == rpc::NO_SUCH_THING) {
                self.inbox.finding(Notice::Added { txid: tx.txid, sequence: None, raw: Some(tx.raw) });
            }
        }
    }
}

fn best_block(node: &Node) -> Result<BlockHash> {
    Ok(node.rpc.call::<DisplayHash<BlockHash>>("getbestblockhash", json!([]))?.0)
}
