//! Blocks of our own making, with regtest's proof of work.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash as _;
use bitcoin::script::Builder;
use bitcoin::{
    Amount, Block, BlockHash, CompactTarget, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxMerkleNode,
    TxOut, Witness, transaction,
};

use crate::node::Parent;
use crate::wallet::Lock;

/// Regtest's easiest target, on both networks.
const BITS: u32 = 0x207f_ffff;
/// Blocks between two halvings of regtest's subsidy.
const HALVING: u32 = 150;
/// Start of the script of a coinbase's commitment to witnesses (BIP-141).
const WITNESS_COMMITMENT: [u8; 6] = [0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];

/// What makes two coinbases of one height differ.
#[derive(Clone, Copy, Debug)]
pub struct Salt(pub u64);

impl Salt {
    /// One that was not used before by this process.
    pub fn fresh() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed) << 32 | u64::from(std::process::id()))
    }
}

/// A block on `parent` with `transactions`; its coinbase shares the subsidy equally among `outputs` outputs that anyone
/// can spend.
pub fn block_on(parent: &Parent, transactions: Vec<Transaction>, outputs: usize, salt: Salt) -> Block {
    let height = parent.height + 1;
    let subsidy = (50 * 100_000_000u64) >> (height as u32 / HALVING);
    let share = Amount::from_sat(subsidy / outputs as u64);
    let coinbase = Transaction {
        version: transaction::Version::ONE,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::null(),
            script_sig: Builder::new()
                .push_int(i64::from(height))
                .push_slice(salt.0.to_le_bytes())
                .into_script(),
            sequence: Sequence::MAX,
            witness: Witness::new(),
        }],
        output: vec![TxOut { value: share, script_pubkey: Lock::Anyone.script_pubkey() }; outputs],
    };
    let header = Header {
        version: Version::from_consensus(0x2000_0000),
        prev_blockhash: parent.hash,
        merkle_root: TxMerkleNode::all_zeros(),
        time: parent.next_time(),
        bits: CompactTarget::from_consensus(BITS),
        nonce: 0,
    };
    let mut block = Block { header, txdata: [vec![coinbase], transactions].concat() };
    if block.txdata[1..].iter().any(|tx| tx.input.iter().any(|input| !input.witness.is_empty())) {
        commit_to_witnesses(&mut block);
    }
    block.header.merkle_root = block.compute_merkle_root().expect("it has a coinbase");
    while block.header.validate_pow(block.header.target()).is_err() {
        block.header.nonce += 1;
    }
    block
}

fn commit_to_witnesses(block: &mut Block) {
    let reserved = [0; 32];
    block.txdata[0].input[0].witness = Witness::from_slice(&[reserved]);
    let root = block.witness_root().expect("it has a coinbase");
    let commitment = Block::compute_witness_commitment(&root, &reserved);
    let script = [&WITNESS_COMMITMENT[..], commitment.as_byte_array()].concat();
    block.txdata[0].output.push(TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::from_bytes(script) });
}

/// Blocks that follow one another.
#[derive(Debug)]
pub struct Branch {
    /// In ascending order.
    pub blocks: Vec<Block>,
    /// The last of them, to go on from.
    pub tip: Parent,
}

impl Branch {
    /// `length` blocks on `from`, the first with `transactions`, the others empty.
    pub fn grow(from: &Parent, length: usize, mut transactions: Vec<Transaction>) -> Self {
        let mut tip = from.clone();
        let mut blocks = Vec::with_capacity(length);
        for _ in 0..length {
            let block = block_on(&tip, std::mem::take(&mut transactions), 1, Salt::fresh());
            tip = tip.child(&block);
            blocks.push(block);
        }
        Self { blocks, tip }
    }

    /// Hash of its last block.
    pub fn tip_hash(&self) -> BlockHash {
        self.tip.hash
    }
}

impl Parent {
    /// The time of a block on this one: now, or just above the median of the last eleven.
    pub(crate) fn next_time(&self) -> u32 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() as u32;
        let mut times = self.times.clone();
        times.sort_unstable();
        let median = times.get(times.len() / 2).copied().unwrap_or(0);
        now.max(median + 1)
    }

    /// A block on this one as the parent of the next.
    pub fn child(&self, block: &Block) -> Self {
        let mut times = self.times.clone();
        times.push(block.header.time);
        if times.len() > 11 {
            times.remove(0);
        }
        Self { hash: block.block_hash(), height: self.height + 1, times }
    }
}
