//! Transactions and blocks made by rust-bitcoin, to hold our own reading against.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]

use std::io::{self, Read};

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::consensus::serialize;
use bitcoin::hashes::Hash;
use bitcoin::transaction;
use bitcoin::{
    Amount, Block, BlockHash, CompactTarget, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxMerkleNode,
    TxOut, Txid, Witness,
};
use proptest::collection::vec;
use proptest::prelude::*;

pub fn script(max: usize) -> impl Strategy<Value = ScriptBuf> {
    // Small ones mostly, and some whose length takes three bytes.
    prop_oneof![9 => vec(any::<u8>(), 0..40), 1 => vec(any::<u8>(), 0..max)].prop_map(ScriptBuf::from_bytes)
}

fn input(witnesses: bool) -> impl Strategy<Value = TxIn> {
    let items = if witnesses { 0..4usize } else { 0..1 };
    (any::<[u8; 32]>(), 0..1000u32, script(600), any::<u32>(), vec(vec(any::<u8>(), 0..80), items)).prop_map(
        |(txid, vout, script_sig, sequence, witness)| TxIn {
            previous_output: OutPoint { txid: Txid::from_byte_array(txid), vout },
            script_sig,
            sequence: Sequence(sequence),
            witness: Witness::from_slice(&witness),
        },
    )
}

pub fn output() -> impl Strategy<Value = TxOut> {
    (0..2_100_000_000_000_000u64, script(600))
        .prop_map(|(value, script_pubkey)| TxOut { value: Amount::from_sat(value), script_pubkey })
}

pub fn transaction(witnesses: bool) -> impl Strategy<Value = Transaction> {
    (any::<i32>(), vec(input(witnesses), 1..5), vec(output(), 0..5), any::<u32>()).prop_map(
        |(version, input, output, lock_time)| Transaction {
            version: transaction::Version(version),
            lock_time: LockTime::from_consensus(lock_time),
            input,
            output,
        },
    )
}

/// A block of the transactions, with a coinbase that commits to their witnesses where there are any.
pub fn block(mut transactions: Vec<Transaction>) -> Block {
    let witnesses = transactions.iter().any(|tx| tx.input.iter().any(|input| !input.witness.is_empty()));
    let coinbase = TxIn {
        previous_output: OutPoint::null(),
        script_sig: ScriptBuf::from_bytes(vec![1, 7]),
        sequence: Sequence::MAX,
        witness: if witnesses { Witness::from_slice(&[[7u8; 32]]) } else { Witness::new() },
    };
    let subsidy =
        TxOut { value: Amount::from_sat(50_0000_0000), script_pubkey: ScriptBuf::from_bytes(vec![0x51]) };
    transactions.insert(
        0,
        Transaction {
            version: transaction::Version::ONE,
            lock_time: LockTime::ZERO,
            input: vec![coinbase],
            output: vec![subsidy],
        },
    );
    let header = Header {
        version: Version::TWO,
        prev_blockhash: BlockHash::all_zeros(),
        merkle_root: TxMerkleNode::all_zeros(),
        time: 1_700_000_000,
        bits: CompactTarget::from_consensus(0x207f_ffff),
        nonce: 0,
    };
    let mut block = Block { header, txdata: transactions };
    if witnesses {
        let root = block.witness_root().unwrap();
        let commitment = Block::compute_witness_commitment(&root, &[7; 32]);
        let mut mark = vec![0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];
        mark.extend(commitment.to_byte_array());
        let output = TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::from_bytes(mark) };
        block.txdata[0].output.push(output);
    }
    block.header.merkle_root = block.compute_merkle_root().unwrap();
    block
}

pub fn blocks(witnesses: bool) -> impl Strategy<Value = Block> {
    vec(transaction(witnesses), 0..12).prop_map(block)
}

pub fn bytes_of(block: &Block) -> Vec<u8> {
    serialize(block)
}

/// Gives its bytes in pieces of the given sizes, again and again.
pub struct Pieces<'a> {
    pub bytes: &'a [u8],
    pub sizes: Vec<usize>,
    pub at: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let size = self.sizes[self.at % self.sizes.len()].min(buffer.len()).min(self.bytes.len());
        self.at += 1;
        let (piece, rest) = self.bytes.split_at(size);
        buffer[..size].copy_from_slice(piece);
        self.bytes = rest;
        Ok(size)
    }
}
