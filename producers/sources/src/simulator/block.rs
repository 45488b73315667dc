//! Blocks: coinbase, merkle root, witness commitment, proof of work.

use std::io;
use std::sync::Arc;

use bitcoin::block::{Header, Version};
use bitcoin::consensus::{Decodable, Encodable, encode};
use bitcoin::hashes::{Hash, sha256d};
use bitcoin::merkle_tree::calculate_root;
use bitcoin::opcodes::all::{OP_PUSHBYTES_36, OP_RETURN};
use bitcoin::{
    Amount, Block, BlockHash, CompactTarget, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxMerkleNode,
    TxOut, VarInt, Witness, WitnessMerkleNode, absolute, script, transaction,
};
use sluice_schemas::Flavour;

use super::transaction::SimTransaction;

/// The target of every regtest block: half of all hashes meet it.
pub(super) const REGTEST_BITS: u32 = 0x207f_ffff;
/// Blocks between two halvings on regtest, for both flavours.
const HALVING_INTERVAL: i32 = 150;
const FIRST_SUBSIDY: u64 = 50 * 100_000_000;
/// The coinbase's witness: the reserved value of BIP-141.
const WITNESS_RESERVED: [u8; 32] = [0; 32];
const COMMITMENT_TAG: [u8; 4] = [0xaa, 0x21, 0xa9, 0xed];

/// A block of the simulated world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimBlock {
    /// Its hash.
    pub hash: BlockHash,
    /// Its height.
    pub height: i32,
    /// Its header.
    pub header: Header,
    /// Its transactions, the coinbase first.
    pub transactions: Vec<Arc<SimTransaction>>,
}

/// What a new block is made of.
pub(super) struct Draft<'a> {
    pub(super) flavour: Flavour,
    pub(super) parent: BlockHash,
    pub(super) height: i32,
    pub(super) time: u32,
    /// Whom subsidy and fees go to.
    pub(super) reward: &'a ScriptBuf,
    /// Makes the coinbase differ from all others of the same height.
    pub(super) number: u64,
    pub(super) transactions: Vec<Arc<SimTransaction>>,
}

impl Draft<'_> {
    /// Makes the block, proof of work and all.
    pub(super) fn mine(self) -> SimBlock {
        let mut transactions = Vec::with_capacity(1 + self.transactions.len());
        transactions.push(Arc::new(SimTransaction::new(self.coinbase(), Vec::new())));
        transactions.extend(self.transactions);
        let root = calculate_root(transactions.iter().map(|transaction| transaction.txid.to_raw_hash()));
        let mut header = Header {
            version: Version::from_consensus(0x2000_0000),
            prev_blockhash: self.parent,
            merkle_root: TxMerkleNode::from_raw_hash(root.expect("there is a coinbase")),
            time: self.time,
            bits: CompactTarget::from_consensus(REGTEST_BITS),
            nonce: 0,
        };
        let hash = grind(&mut header);
        SimBlock { hash, height: self.height, header, transactions }
    }

    fn coinbase(&self) -> Transaction {
        let fees: u64 = self.transactions.iter().map(|transaction| transaction.fee()).sum();
        let reward = TxOut {
            value: Amount::from_sat(subsidy(self.height) + fees),
            script_pubkey: self.reward.clone(),
        };
        let mut coinbase = coinbase(self.height, self.number, vec![reward]);
        if self.flavour == Flavour::Btc {
            coinbase.input[0].witness = Witness::from_slice(&[WITNESS_RESERVED]);
            coinbase.output.push(TxOut { value: Amount::ZERO, script_pubkey: self.commitment() });
        }
        coinbase
    }

    fn commitment(&self) -> ScriptBuf {
        let coinbase = std::iter::once(sha256d::Hash::all_zeros());
        let others = self.transactions.iter().map(|transaction| transaction.wtxid.to_raw_hash());
        let root = calculate_root(coinbase.chain(others)).expect("there is a coinbase");
        let commitment =
            Block::compute_witness_commitment(&WitnessMerkleNode::from_raw_hash(root), &WITNESS_RESERVED);
        let mut script = vec![OP_RETURN.to_u8(), OP_PUSHBYTES_36.to_u8()];
        script.extend(COMMITMENT_TAG);
        script.extend(commitment.to_byte_array());
        ScriptBuf::from_bytes(script)
    }
}

/// A coinbase with the height as in BIP-34 and a number that makes it unique.
pub(super) fn coinbase(height: i32, number: u64, output: Vec<TxOut>) -> Transaction {
    let script_sig = script::Builder::new()
        .push_int(height.into())
        .push_slice(number.to_le_bytes())
        .push_slice(b"/sluice simulator/")
        .into_script();
    Transaction {
        version: transaction::Version::TWO,
        lock_time: absolute::LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::null(),
            script_sig,
            sequence: Sequence::MAX,
            witness: Witness::new(),
        }],
        output,
    }
}

/// Block reward without fees, satoshis.
pub(super) fn subsidy(height: i32) -> u64 {
    FIRST_SUBSIDY.checked_shr(u32::try_from(height / HALVING_INTERVAL).unwrap_or(u32::MAX)).unwrap_or(0)
}

/// Finds a nonce that meets the header's target.
pub(super) fn grind(header: &mut Header) -> BlockHash {
    let target = header.target();
    loop {
        let hash = header.block_hash();
        if target.is_met_by(hash) {
            return hash;
        }
        header.nonce = header.nonce.wrapping_add(1);
    }
}

impl SimBlock {
    /// The block serialized.
    pub fn body(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(90 + self.transactions.iter().map(|t| t.raw.len()).sum::<usize>());
        write(&self.header, &mut bytes);
        write(&VarInt(self.transactions.len() as u64), &mut bytes);
        self.transactions.iter().for_each(|transaction| bytes.extend_from_slice(&transaction.raw));
        bytes
    }

    /// What it spends, as Bitcoin Core's `/rest/spenttxouts/HASH.bin`.
    pub fn spent(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(&VarInt(self.transactions.len() as u64), &mut bytes);
        self.transactions.iter().for_each(|transaction| transaction.write_spent(&mut bytes));
        bytes
    }

    /// Puts a block together again from its body and what it spends.
    pub(super) fn read(height: i32, mut body: &[u8], mut spent: &[u8]) -> Result<Self, encode::Error> {
        let header = Header::consensus_decode(&mut body)?;
        let count = VarInt::consensus_decode(&mut body)?;
        if VarInt::consensus_decode(&mut spent)? != count {
            return Err(encode::Error::ParseFailed("body and spent outputs disagree"));
        }
        let transactions = (0..count.0)
            .map(|_| {
                let transaction = Transaction::consensus_decode(&mut body)?;
                Ok(Arc::new(SimTransaction::new(transaction, Vec::consensus_decode(&mut spent)?)))
            })
            .collect::<Result<_, encode::Error>>()?;
        Ok(Self { hash: header.block_hash(), height, header, transactions })
    }
}

fn write(value: &impl Encodable, bytes: &mut Vec<u8>) {
    let written: Result<usize, io::Error> = value.consensus_encode(bytes).map_err(Into::into);
    written.expect("a vector takes all bytes");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_subsidy_halves_until_nothing_is_left() {
        assert_eq!(subsidy(149), FIRST_SUBSIDY);
        assert_eq!(subsidy(150), FIRST_SUBSIDY / 2);
        assert_eq!(subsidy(150 * 64), 0);
        assert_eq!(subsidy(i32::MAX), 0);
    }
}
