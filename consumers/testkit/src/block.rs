//! Blocks with proof of work.

use bitcoin::block::{Header, Version};
use bitcoin::consensus::serialize;
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, CompactTarget, Transaction, TxMerkleNode, Work};
use sluice_log::chain::{MerkleRoot, MerkleTree};
use sluice_schemas::{Action, ChainEvent, Flavour, Network, Phase, Transaction as TransactionFields};

use crate::coins::{Coin, Coins, fields, made_by};
use crate::transaction::script_of;

/// Target of every regtest block.
const REGTEST_BITS: u32 = 0x207f_ffff;
/// Time of block 0 of a made chain, and between two blocks, in seconds.
const START_TIME: u32 = 1_700_000_000;
const INTERVAL: u32 = 600;
/// Blocks that the median time past is over (BIP-113).
const MEDIAN_OVER: i32 = 11;
/// Whom the coins of a crowd belong to.
const CROWD: &str = "crowd";

/// The transactions of a block.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    /// All of them.
    Listed(Vec<TransactionFields>),
    /// A coinbase, and so many of which each spends the first output of the one before. Made anew whenever asked for.
    Crowd { coinbase: Transaction, coins: Coins, height: i32, count: u64 },
}

/// A block on a log.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    pub(crate) event: ChainEvent,
    pub(crate) body: Body,
    /// What was unspent before it.
    pub(crate) coins_before: Vec<Coin>,
}

impl Body {
    /// A block of small transactions that are not held.
    pub(crate) fn crowd(coins: &Coins, number: u64, height: i32, count: u64) -> Self {
        let script = script_of(CROWD, coins.flavour());
        let coinbase = crate::coins::coinbase(height, number, subsidy(height), script);
        let coins = Coins { list: Vec::new(), ..coins.clone() };
        Self::Crowd { coinbase, coins, height, count }
    }

    pub(crate) fn transactions(&self) -> Box<dyn Iterator<Item = TransactionFields> + '_> {
        match self {
            Self::Listed(transactions) => Box::new(transactions.iter().cloned()),
            Self::Crowd { coinbase, coins, height, count } => {
                let mut last: Option<Coin> = None;
                Box::new((0..=*count).map(move |_| {
                    let (transaction, fields) = match &last {
                        None => (coinbase.clone(), fields(coinbase, coins.network, None)),
                        Some(coin) => {
                            let next = coins.spend(&[coin], coinbase.output.clone());
                            let spent = [coin];
                            let fields = fields(&next, coins.network, coins.prevouts.then_some(&spent));
                            (next, fields)
                        }
                    };
                    last = made_by(&transaction, fields.txid, *height).next();
                    fields
                }))
            }
        }
    }
}

impl Block {
    /// A block on `parent` with proof of work.
    pub(crate) fn mine(parent: &Block, network: Network, body: Body, coins_before: Vec<Coin>) -> Self {
        let merkle_root = merkle_root(&body);
        let height = parent.event.height + 1;
        let mut header = Header {
            version: Version::from_consensus(0x2000_0000),
            prev_blockhash: parent.event.hash,
            merkle_root,
            time: time(height),
            bits: CompactTarget::from_consensus(REGTEST_BITS),
            nonce: 0,
        };
        while !header.target().is_met_by(header.block_hash()) {
            header.nonce += 1;
        }
        Self::of(&header, height, network, body, coins_before, Some(&parent.event))
    }

    /// The block with which the chain starts.
    pub(crate) fn genesis(network: Network) -> Self {
        let genesis = bitcoin::blockdata::constants::genesis_block(network.bitcoin());
        let body = Body::Listed(vec![fields(&genesis.txdata[0], network, None)]);
        Self::of(&genesis.header, 0, network, body, Vec::new(), None)
    }

    fn of(
        header: &Header,
        height: i32,
        network: Network,
        body: Body,
        coins_before: Vec<Coin>,
        parent: Option<&ChainEvent>,
    ) -> Self {
        let (mut count, mut size, mut weight) = (0, 0, 0);
        for transaction in body.transactions() {
            count += 1;
            size += transaction.size;
            weight += transaction.weight.unwrap_or(0);
        }
        let overhead = 80 + serialize(&bitcoin::VarInt(count as u64)).len() as i64;
        let parents = parent.map_or([0; 32], |parent| parent.chain_work);
        let event = ChainEvent {
            network: network.name().to_owned(),
            sequence: -1,
            action: Action::Connected,
            hash: header.block_hash(),
            prev_hash: header.prev_blockhash,
            height,
            header: serialize(header).try_into().expect("a header has 80 bytes"),
            chain_work: (Work::from_be_bytes(parents) + header.work()).to_be_bytes(),
            time: i64::from(header.time) * 1000,
            median_time: median_time(height) * 1000,
            tx_count: count,
            size: size + overhead,
            weight: (network.flavour() == Flavour::Btc).then_some(weight + 4 * overhead),
            transactions: Vec::new(),
            phase: Phase::Live,
            observed_at: i64::from(header.time) * 1000,
            epoch: 0,
        };
        Self { event, body, coins_before }
    }

    /// Gives it another merkle root than its transactions have, and a hash that fits.
    pub(crate) fn forge(&mut self) {
        let mut header: Header =
            bitcoin::consensus::deserialize(&self.event.header).expect("it was made here");
        header.merkle_root = TxMerkleNode::hash(b"another");
        while !header.target().is_met_by(header.block_hash()) {
            header.nonce += 1;
        }
        self.event.hash = header.block_hash();
        self.event.header = serialize(&header).try_into().expect("a header has 80 bytes");
    }

    /// Gives it another parent than the tip.
    pub(crate) fn orphan(&mut self) {
        self.event.prev_hash = BlockHash::hash(b"another");
    }
}

/// Block reward without fees, satoshis.
pub(crate) fn subsidy(height: i32) -> u64 {
    /// Blocks between two halvings on regtest.
    const HALVING: u32 = 150;
    (50 * 100_000_000u64).checked_shr(height.unsigned_abs() / HALVING).unwrap_or(0)
}

fn merkle_root(body: &Body) -> TxMerkleNode {
    let mut tree = MerkleTree::default();
    body.transactions().for_each(|transaction| tree.push(&transaction.txid));
    match tree.root() {
        Some(MerkleRoot::Unique(root)) => root,
        other => unreachable!("a block of different transactions has a root, not {other:?}"),
    }
}

fn time(height: i32) -> u32 {
    START_TIME + height.unsigned_abs() * INTERVAL
}

/// Times ascend with heights: the median is the middle one.
fn median_time(height: i32) -> i64 {
    i64::from(time(height - height.min(MEDIAN_OVER - 1) / 2))
}
