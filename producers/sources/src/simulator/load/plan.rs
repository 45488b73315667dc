//! What a generated block is made of, before any of it is made.
//!
//! ```text
//!  coinbase of the block before ─► root ─┬─► spread 0 ─┬─► leaf 0
//!                                        │             └─► leaf 1 …
//!                                        └─► spread 1 ───► …
//! ```
//! So every input spends an output that is there, and still each leaf can be made without making those before it.

use bitcoin::consensus::serialize;
use bitcoin::hashes::Hash;
use bitcoin::script::{Builder, PushBytesBuf};
use bitcoin::{
    Amount, OutPoint, PubkeyHash, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness, absolute,
    transaction,
};

use super::LoadConfig;
use crate::simulator::block::coinbase;

/// Outputs of a transaction that spreads money over leaves.
const SPREAD: u64 = 1_000;
/// Bytes of a leaf without data.
pub(super) const LEAF_BYTES: u64 = 192;
/// Satoshis that come with every block, forever.
const SUBSIDY: u64 = 50 * 100_000_000;
/// Satoshis that a leaf leaves to the miner.
const LEAF_FEE: u64 = 1;
/// Addresses that the leaves pay to.
const ADDRESSES: u64 = 10_000;

/// A block that is to be made.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) height: i32,
    seed: u64,
    /// What the root spends.
    funds: OutPoint,
    funds_value: u64,
    spreads: u64,
    leaves: u64,
    /// What every output of a spread is worth.
    unit: u64,
    /// Data in the first leaf, bytes.
    pub(super) first_data: u64,
    /// Data in each other leaf, bytes.
    pub(super) other_data: u64,
}

impl Plan {
    /// The block at `height`, which spends `funds` of the block before; without funds it is only a coinbase.
    pub(super) fn new(config: &LoadConfig, height: i32, funds: Option<(OutPoint, u64)>) -> Self {
        let huge = config.huge.filter(|huge| huge.height == height);
        let transactions = match huge {
            None => config.transactions,
            Some(huge) => {
                let each = LEAF_BYTES + overhead(huge.filler_bytes) + huge.filler_bytes;
                let rest = huge.body_bytes.saturating_sub(huge.transaction_bytes);
                let leaves = 1 + rest.div_ceil(each);
                2 + leaves + leaves.div_ceil(SPREAD)
            }
        };
        let funds = funds.filter(|_| transactions > 1);
        let rest = if funds.is_some() { transactions.saturating_sub(2) } else { 0 };
        let spreads = rest.div_ceil(SPREAD + 1);
        let (first_data, other_data) = match huge {
            None => (config.data_bytes, config.data_bytes),
            Some(huge) => (huge.transaction_bytes, huge.filler_bytes),
        };
        let (funds, funds_value) = funds.unwrap_or((OutPoint::null(), 0));
        let (seed, leaves) = (config.seed, rest - spreads);
        let mut plan =
            Self { height, seed, funds, funds_value, spreads, leaves, unit: 0, first_data, other_data };
        let outputs: u64 = (0..spreads).map(|spread| plan.spread_outputs(spread)).sum();
        plan.unit = funds_value / outputs.max(1);
        plan
    }

    fn has_root(&self) -> bool {
        self.funds != OutPoint::null()
    }

    /// Transactions in the block.
    pub(super) fn count(&self) -> u64 {
        1 + u64::from(self.has_root()) + self.spreads + self.leaves
    }

    fn spread_outputs(&self, spread: u64) -> u64 {
        // a spread without leaves keeps its money itself
        self.leaves.saturating_sub(spread * SPREAD).clamp(1, SPREAD)
    }

    /// What the coinbase is worth: subsidy, and what nobody else gets.
    pub(super) fn reward(&self) -> u64 {
        let empty = (0..self.spreads).filter(|spread| spread * SPREAD >= self.leaves).count() as u64;
        let kept = match self.spreads {
            0 => self.funds_value,
            _ => self.leaves * self.unit.saturating_sub(LEAF_FEE) + empty * self.unit,
        };
        SUBSIDY + self.funds_value - kept
    }

    pub(super) fn coinbase(&self) -> Transaction {
        let script_pubkey = self.address(u64::MAX);
        coinbase(
            self.height,
            self.seed,
            vec![TxOut { value: Amount::from_sat(self.reward()), script_pubkey }],
        )
    }

    fn root(&self) -> Transaction {
        let mut outputs: Vec<u64> =
            (0..self.spreads).map(|spread| self.unit * self.spread_outputs(spread)).collect();
        if outputs.is_empty() {
            outputs.push(self.funds_value);
        }
        self.transaction(self.funds, outputs.into_iter())
    }

    fn spread(&self, root: Txid, spread: u64) -> Transaction {
        let outputs = (0..self.spread_outputs(spread)).map(|_| self.unit);
        self.transaction(OutPoint { txid: root, vout: spread as u32 }, outputs)
    }

    fn transaction(&self, spends: OutPoint, outputs: impl Iterator<Item = u64>) -> Transaction {
        let output = outputs
            .map(Amount::from_sat)
            .map(|value| TxOut { value, script_pubkey: self.address(u64::MAX) })
            .collect();
        Transaction {
            version: transaction::Version::TWO,
            lock_time: absolute::LockTime::ZERO,
            input: vec![TxIn {
                previous_output: spends,
                script_sig: unlocking(),
                sequence: Sequence::MAX,
                witness: Witness::new(),
            }],
            output,
        }
    }

    /// What the transaction at `position` spends; nothing for the coinbase.
    pub(super) fn spends(&self, position: u64) -> Option<TxOut> {
        let value = match position {
            0 => return None,
            1 => self.funds_value,
            spread if spread - 2 < self.spreads => self.unit * self.spread_outputs(spread - 2),
            _ => self.unit,
        };
        Some(TxOut { value: Amount::from_sat(value), script_pubkey: self.address(u64::MAX) })
    }

    /// The P2PKH script that a leaf pays to.
    fn address(&self, leaf: u64) -> ScriptBuf {
        ScriptBuf::new_p2pkh(&PubkeyHash::from_byte_array(address_hash(self.seed, self.height, leaf)))
    }
}

fn address_hash(seed: u64, height: i32, leaf: u64) -> [u8; 20] {
    let person =
        if leaf == u64::MAX { leaf } else { (u64::from(height.unsigned_abs()) * 7_919 + leaf) % ADDRESSES };
    let mut hash = [0x5a; 20];
    // splitmix64
    let mut mixed = seed.wrapping_add(person.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash[..8].copy_from_slice(&(mixed ^ (mixed >> 31)).to_le_bytes());
    hash
}

/// Of the length of a signature and a key, and looks like them, but is neither.
fn unlocking() -> ScriptBuf {
    let part = |bytes: Vec<u8>| PushBytesBuf::try_from(bytes).expect("shorter than 2^32 bytes");
    let mut signature = vec![0x30; 72];
    signature[71] = 1;
    Builder::new().push_slice(part(signature)).push_slice(part(vec![2; 33])).into_script()
}

/// Bytes of an output with so much data, without the data.
pub(super) fn overhead(data: u64) -> u64 {
    if data == 0 { 0 } else { data_output(data).len() as u64 }
}

/// Value and script of an output with data, up to where the data begins: `OP_FALSE OP_RETURN OP_PUSHDATA4`.
fn data_output(data: u64) -> Vec<u8> {
    let mut bytes = vec![0; 8];
    bytes.extend(serialize(&bitcoin::VarInt(7 + data)));
    bytes.extend([0x00, 0x6a, 0x4e]);
    bytes.extend((data as u32).to_le_bytes());
    bytes
}

/// A transaction as it is sent: what comes before its data, how much data, what comes after.
pub(super) struct Piece<'a> {
    pub(super) before: &'a [u8],
    pub(super) data: u64,
    pub(super) after: &'a [u8],
}

/// Makes the transactions of a block one by one.
pub(super) struct Transactions {
    plan: Plan,
    next: u64,
    root: Option<Txid>,
    /// Ids of all spreads; a few bytes for each thousand transactions.
    spreads: Vec<Txid>,
    buffer: Vec<u8>,
    leaf: Leaf,
}

/// A leaf with holes for what differs.
struct Leaf {
    bytes: Vec<u8>,
    address_at: usize,
    /// The size of the data that `bytes` was made for.
    data: u64,
}

impl Transactions {
    pub(super) fn new(plan: Plan) -> Self {
        let leaf = Leaf::new(&plan, plan.first_data);
        Self { plan, next: 0, root: None, spreads: Vec::new(), buffer: Vec::new(), leaf }
    }

    /// The next transaction.
    pub(super) fn next(&mut self) -> Option<Piece<'_>> {
        let position = self.next;
        if position >= self.plan.count() {
            return None;
        }
        self.next += 1;
        let small = match position {
            0 => Some(self.plan.coinbase()),
            1 => {
                let root = self.plan.root();
                self.root = Some(root.compute_txid());
                Some(root)
            }
            _ if position - 2 < self.plan.spreads => {
                let spread = self.plan.spread(self.root?, position - 2);
                self.spreads.push(spread.compute_txid());
                Some(spread)
            }
            _ => None,
        };
        if let Some(transaction) = small {
            self.buffer = serialize(&transaction);
            return Some(Piece { before: &self.buffer, data: 0, after: &[] });
        }
        self.leaf(position - 2 - self.plan.spreads)
    }

    fn leaf(&mut self, number: u64) -> Option<Piece<'_>> {
        let data = if number == 0 { self.plan.first_data } else { self.plan.other_data };
        if self.leaf.data != data {
            self.leaf = Leaf::new(&self.plan, data);
        }
        let parent = self.spreads.get((number / SPREAD) as usize)?;
        let leaf = &mut self.leaf;
        leaf.bytes[5..37].copy_from_slice(parent.as_byte_array());
        leaf.bytes[37..41].copy_from_slice(&((number % SPREAD) as u32).to_le_bytes());
        let hash = address_hash(self.plan.seed, self.plan.height, number);
        leaf.bytes[leaf.address_at..leaf.address_at + 20].copy_from_slice(&hash);
        // the lock time is the end
        let (before, after) = leaf.bytes.split_at(leaf.bytes.len() - 4);
        Some(Piece { before, data, after })
    }
}

impl Leaf {
    fn new(plan: &Plan, data: u64) -> Self {
        let value = plan.unit.saturating_sub(LEAF_FEE);
        let mut bytes = serialize(&plan.transaction(OutPoint::null(), [value].into_iter()));
        let address_at = bytes.len() - 4 - 2 - 20;
        if data > 0 {
            // one output more
            bytes[address_at - 3 - 1 - 8 - 1] = 2;
            let lock_time = bytes.split_off(bytes.len() - 4);
            bytes.extend(data_output(data));
            bytes.extend(lock_time);
        }
        Self { bytes, address_at, data }
    }
}
