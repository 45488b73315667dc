//! An independent check of blocks: the rules that need no script engine, written against the bytes.

use std::collections::HashMap;

use bitcoin::blockdata::constants::genesis_block;
use bitcoin::consensus::encode::{VarInt, deserialize, deserialize_partial};
use bitcoin::script::Builder;
use bitcoin::{Block, BlockHash, OutPoint, TxOut};
use sluice_schemas::{Flavour, Network};

struct Held {
    out: TxOut,
    /// Height of the coinbase that made it.
    coinbase: Option<i32>,
}

struct Connected {
    hash: BlockHash,
    time: u32,
    made: Vec<OutPoint>,
    spent: Vec<(OutPoint, Held)>,
}

/// Follows a chain and holds its unspent outputs.
pub(crate) struct Ledger {
    flavour: Flavour,
    blocks: HashMap<BlockHash, (Vec<u8>, Vec<u8>)>,
    chain: Vec<Connected>,
    unspent: HashMap<OutPoint, Held>,
    /// Transactions seen, without coinbases.
    pub(crate) payments: usize,
}

impl Ledger {
    pub(crate) fn new(network: Network) -> Self {
        let genesis = genesis_block(network.bitcoin());
        let first =
            Connected { hash: genesis.block_hash(), time: genesis.header.time, made: vec![], spent: vec![] };
        let (blocks, unspent) = (HashMap::new(), HashMap::new());
        Self { flavour: network.flavour(), blocks, chain: vec![first], unspent, payments: 0 }
    }

    pub(crate) fn height(&self) -> i32 {
        self.chain.len() as i32 - 1
    }

    pub(crate) fn tip(&self) -> BlockHash {
        self.chain.last().unwrap().hash
    }

    /// Number and value of all unspent outputs, as a node's `gettxoutsetinfo` counts them.
    pub(crate) fn unspent(&self) -> (usize, u64) {
        (self.unspent.len(), self.unspent.values().map(|held| held.out.value.to_sat()).sum())
    }

    pub(crate) fn learn(&mut self, hash: BlockHash, body: Vec<u8>, spent: Vec<u8>) {
        self.blocks.insert(hash, (body, spent));
    }

    /// Goes to a block that was learnt, over the fork point if need be; every block on the way is checked.
    pub(crate) fn go_to(&mut self, tip: BlockHash) {
        let mut branch = vec![];
        let mut hash = tip;
        while !self.chain.iter().rev().take(200).any(|connected| connected.hash == hash) {
            branch.push(hash);
            hash = deserialize::<Block>(&self.blocks[&hash].0).unwrap().header.prev_blockhash;
        }
        while self.tip() != hash {
            let gone = self.chain.pop().unwrap();
            gone.made.iter().for_each(|outpoint| {
                self.unspent.remove(outpoint);
            });
            self.unspent.extend(gone.spent);
        }
        for hash in branch.into_iter().rev() {
            let (body, spent) = self.blocks[&hash].clone();
            self.connect(&body, &spent);
        }
    }

    fn connect(&mut self, body: &[u8], spent: &[u8]) {
        let height = self.height() + 1;
        let block: Block = deserialize(body).expect("a block and nothing behind it");
        assert_eq!(block.header.prev_blockhash, self.tip());
        assert_eq!(block.header.bits.to_consensus(), 0x207f_ffff);
        block.header.validate_pow(block.header.target()).expect("proof of work");
        assert!(block.check_merkle_root());
        let mut times: Vec<u32> = self.chain.iter().rev().take(11).map(|connected| connected.time).collect();
        times.sort_unstable();
        assert!(block.header.time > times[times.len() / 2], "above the median of 11");
        match self.flavour {
            Flavour::Btc => {
                assert!(block.check_witness_commitment());
                assert!(block.weight().to_wu() <= 4_000_000);
                let script_sig = block.txdata[0].input[0].script_sig.as_bytes();
                let pushed = Builder::new().push_int(height.into()).into_script();
                assert!(script_sig.starts_with(pushed.as_bytes()), "BIP-34");
            }
            Flavour::Bsv => {
                assert!(block.txdata.iter().all(|t| t.input.iter().all(|i| i.witness.is_empty())))
            }
        }
        let spent = vectors(spent);
        assert_eq!(spent.len(), block.txdata.len());
        let mut connected =
            Connected { hash: block.block_hash(), time: block.header.time, made: vec![], spent: vec![] };
        let mut fees = 0;
        for (position, (transaction, spent)) in block.txdata.iter().zip(spent).enumerate() {
            assert_eq!(transaction.is_coinbase(), position == 0);
            let mut taken = vec![];
            for input in transaction.input.iter().filter(|_| position > 0) {
                let held = self.unspent.remove(&input.previous_output).expect("the output is unspent");
                assert!(held.coinbase.is_none_or(|made| height - made >= 100), "a coinbase is mature");
                taken.push(held.out.clone());
                connected.spent.push((input.previous_output, held));
            }
            assert_eq!(taken, spent, "what the source says is spent");
            let (came, went) = (sum(&taken), sum(&transaction.output));
            if position > 0 {
                assert!(came > went, "every payment pays a fee");
                fees += came - went;
                self.payments += 1;
            }
            for (out, vout) in transaction.output.iter().zip(0..) {
                if !out.script_pubkey.is_op_return() && !out.script_pubkey.as_bytes().starts_with(&[0, 0x6a])
                {
                    let outpoint = OutPoint { txid: transaction.compute_txid(), vout };
                    let coinbase = (position == 0).then_some(height);
                    assert!(self.unspent.insert(outpoint, Held { out: out.clone(), coinbase }).is_none());
                    connected.made.push(outpoint);
                }
            }
        }
        // what a block made and spent itself must not come back when it is disconnected
        let made = &connected.made;
        connected.spent.retain(|(outpoint, _)| !made.contains(outpoint));
        let subsidy = 5_000_000_000u64.checked_shr(height as u32 / 150).unwrap_or(0);
        assert_eq!(sum(&block.txdata[0].output), subsidy + fees);
        self.chain.push(connected);
    }
}

fn sum(outputs: &[TxOut]) -> u64 {
    outputs.iter().map(|out| out.value.to_sat()).sum()
}

/// Bitcoin Core's `spenttxouts`: a vector of vectors of outputs.
fn vectors(mut bytes: &[u8]) -> Vec<Vec<TxOut>> {
    let (count, read) = deserialize_partial::<VarInt>(bytes).unwrap();
    bytes = &bytes[read..];
    let vectors = (0..count.0)
        .map(|_| {
            let (outputs, read) = deserialize_partial::<Vec<TxOut>>(bytes).unwrap();
            bytes = &bytes[read..];
            outputs
        })
        .collect();
    assert!(bytes.is_empty());
    vectors
}
