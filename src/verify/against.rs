//! A node as second opinion: the same blocks, the same transactions in the same order, the same mempool.

use std::collections::HashSet;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bitcoin::hashes::{Hash, HashEngine, sha256};
use bitcoin::{BlockHash, Txid};
use sluice_body::{BlockReader, Limits};
use sluice_log::chain::ChainLog;
use sluice_log::chain::verify::MempoolView;
use sluice_producer::options::node_config;
use sluice_runtime::node::NodeOptions;
use sluice_schemas::{Action, ChainEvent, Network};
use sluice_sources::Source;
use sluice_sources::node::{NodeConfig, NodeSource};

/// Headers asked for at a time.
const HEADERS: usize = 2000;
/// How often mempools are compared before they count as different: both move.
const MEMPOOL_LOOKS: u32 = 10;
/// Pause between two looks.
const MEMPOOL_PAUSE: Duration = Duration::from_secs(1);
/// Transactions that an error names.
const NAMED: usize = 3;

/// The best chain that an audit has read.
#[derive(Default)]
pub(super) struct Published {
    blocks: Vec<Block>,
    txids: Digest,
}

struct Block {
    height: i32,
    hash: BlockHash,
    prev_hash: BlockHash,
    txids: sha256::Hash,
}

/// A hash over the txids of a block in order: 32 bytes stand for any number of them.
#[derive(Default)]
struct Digest(sha256::HashEngine);

impl Digest {
    fn push(&mut self, txid: &Txid) {
        self.0.input(txid.as_byte_array());
    }

    fn take(&mut self) -> sha256::Hash {
        sha256::Hash::from_engine(std::mem::take(&mut self.0))
    }
}

impl Published {
    pub(super) fn transaction(&mut self, txid: &Txid) {
        self.txids.push(txid);
    }

    pub(super) fn event(&mut self, event: &ChainEvent) {
        let txids = self.txids.take();
        match event.action {
            Action::Connected => {
                let ChainEvent { height, hash, prev_hash, .. } = *event;
                self.blocks.push(Block { height, hash, prev_hash, txids });
            }
            Action::Disconnected => drop(self.blocks.pop()),
        }
    }
}

/// Connects where a node was named; `network` is the one that it must be of.
pub(super) fn connect(node: &NodeOptions, network: Option<Network>) -> anyhow::Result<Option<Connected>> {
    let Some(config) = node_config(node)? else { return Ok(None) };
    Ok(Some(Connected { source: NodeSource::connect(NodeConfig { network, ..config })? }))
}

/// A node that answers.
pub(super) struct Connected {
    source: NodeSource,
}

impl Connected {
    /// # Errors
    /// The first difference, with what both have.
    pub(super) fn compare(
        &self,
        chain: &ChainLog,
        published: &Published,
        mempool: Option<&MempoolView>,
    ) -> anyhow::Result<()> {
        self.compare_blocks(&published.blocks)?;
        match mempool {
            Some(view) if !view.truncated => self.compare_mempool(chain, view),
            _ => Ok(()),
        }
    }

    fn compare_blocks(&self, blocks: &[Block]) -> anyhow::Result<()> {
        let mut rest = blocks;
        while let [first, ..] = rest {
            let locator = if first.height == 0 { vec![] } else { vec![first.prev_hash] };
            let run = self.source.headers(&locator, HEADERS)?;
            let parent = (first.height > 0).then_some(first.prev_hash);
            if run.after != parent || run.headers.is_empty() {
                bail!(
                    "the log has block {} at height {}, which is not on the best chain of {}",
                    first.hash,
                    first.height,
                    self.source.id()
                );
            }
            let compared = run.headers.len().min(rest.len());
            for (block, header) in rest.iter().zip(&run.headers) {
                self.compare_block(block, header.block_hash())?;
            }
            rest = &rest[compared..];
        }
        Ok(())
    }

    fn compare_block(&self, block: &Block, hash: BlockHash) -> anyhow::Result<()> {
        let Block { height, hash: published, .. } = block;
        if hash != *published {
            bail!("at height {height} the log has block {published}, {} has {hash}", self.source.id());
        }
        let attempt = || format!("failed to compare block {hash} at height {height}");
        let body = self.source.body(&hash).with_context(attempt)?;
        let limits = Limits::of(self.source.network().flavour());
        let mut reader = BlockReader::new(body.bytes, hash, limits).with_context(attempt)?;
        let mut txids = Digest::default();
        while let Some(transaction) = reader.next_tx().with_context(attempt)? {
            txids.push(&transaction.txid);
        }
        reader.finish().with_context(attempt)?;
        if txids.take() != block.txids {
            bail!("block {hash} at height {height} has other transactions at {}", self.source.id());
        }
        Ok(())
    }

    fn compare_mempool(&self, chain: &ChainLog, view: &MempoolView) -> anyhow::Result<()> {
        let mut replayed;
        let mut view = view;
        for look in 1.. {
            let at_node: HashSet<Txid> = self.source.mempool()?.txids.into_iter().collect();
            let missing: Vec<_> = at_node.difference(&view.txids).take(NAMED).collect();
            let surplus: Vec<_> = view.txids.difference(&at_node).take(NAMED).collect();
            if missing.is_empty() && surplus.is_empty() {
                break;
            }
            if look == MEMPOOL_LOOKS {
                bail!(
                    "the mempool view has {} transactions, {} has {}; missing are {missing:?} …, surplus are {surplus:?} …",
                    view.txids.len(),
                    self.source.id(),
                    at_node.len()
                );
            }
            sleep(MEMPOOL_PAUSE);
            replayed = chain.mempool_view()?.context("the mempool events are gone")?;
            view = &replayed;
        }
        Ok(())
    }
}
