//! Whole blocks, against rust-bitcoin, and everything that must not pass for one.

#![allow(clippy::unwrap_used)]

mod common;

use std::io::{self, Read};

use bitcoin::blockdata::constants::genesis_block;
use bitcoin::consensus::serialize;
use bitcoin::hashes::Hash;
use bitcoin::{Block, BlockHash, Transaction};
use common::{Pieces, block, blocks, bytes_of};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use sluice_body::{BlockReader, Error, Limits, SpentReader, Summary, TxError};
use sluice_schemas::Flavour;

fn read(
    bytes: impl Read,
    expected: BlockHash,
    limits: Limits,
) -> Result<(Vec<bitcoin::Txid>, Summary), Error> {
    let mut reader = BlockReader::new(bytes, expected, limits)?;
    let mut txids = Vec::new();
    while let Some(tx) = reader.next_tx()? {
        txids.push(tx.txid);
    }
    Ok((txids, reader.finish()?))
}

fn read_btc(bytes: &[u8], expected: BlockHash) -> Result<(Vec<bitcoin::Txid>, Summary), Error> {
    read(bytes, expected, Limits::of(Flavour::Btc))
}

fn some_transactions(count: usize, witnesses: bool) -> Vec<Transaction> {
    let mut runner = TestRunner::deterministic();
    let strategy = proptest::collection::vec(common::transaction(witnesses), count);
    strategy.new_tree(&mut runner).unwrap().current()
}

#[test]
fn the_genesis_block_of_mainnet_is_read() {
    let raw = "0100000000000000000000000000000000000000000000000000000000000000000000003ba3edfd7a7b12b27ac72c3e\
        67768f617fc81bc3888a51323a9fb8aa4b1e5e4a29ab5f49ffff001d1dac2b7c0101000000010000000000000000000000000000\
        000000000000000000000000000000000000ffffffff4d04ffff001d0104455468652054696d65732030332f4a616e2f32303039\
        204368616e63656c6c6f72206f6e206272696e6b206f66207365636f6e64206261696c6f757420666f722062616e6b73ffffffff\
        0100f2052a01000000434104678afdb0fe5548271967f1a67130b7105cd6a828e03909a67962e0ea1f61deb649f6bc3f4cef38c4\
        f35504e51ec112de5c384df7ba0b8d578a4c702b6bf11d5fac00000000";
    let raw = hex::decode(raw).unwrap();
    let genesis = genesis_block(bitcoin::Network::Bitcoin);
    for flavour in [Flavour::Btc, Flavour::Bsv] {
        let (txids, summary) = read(&raw[..], genesis.block_hash(), Limits::of(flavour)).unwrap();
        assert_eq!(txids[0].to_string(), "4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b");
        assert_eq!(summary, Summary { tx_count: 1, size: 285, base_size: 285 });
        assert_eq!(summary.weight(), 1140);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_block_is_read_in_any_pieces(block in blocks(true), sizes in proptest::collection::vec(1..700usize, 1..4)) {
        let raw = bytes_of(&block);
        let pieces = Pieces { bytes: &raw, sizes, at: 0 };
        let (txids, summary) = read(pieces, block.block_hash(), Limits::of(Flavour::Btc)).unwrap();
        prop_assert_eq!(txids, block.txdata.iter().map(Transaction::compute_txid).collect::<Vec<_>>());
        prop_assert_eq!(summary.tx_count, block.txdata.len() as u64);
        prop_assert_eq!(summary.size, raw.len() as u64);
        prop_assert_eq!(summary.weight(), block.weight().to_wu());
    }

    #[test]
    fn a_block_with_a_changed_byte_never_passes(block in blocks(true), at in any::<prop::sample::Index>(), flip in 1..=255u8) {
        let mut raw = bytes_of(&block);
        let at = at.index(raw.len());
        raw[at] ^= flip;
        prop_assert!(read_btc(&raw, block.block_hash()).is_err(), "byte {}", at);
    }

    #[test]
    fn noise_after_a_header_never_passes_and_never_panics(
        noise in proptest::collection::vec(any::<u8>(), 0..300), spent in proptest::collection::vec(any::<u8>(), 0..100),
    ) {
        let genesis = genesis_block(bitcoin::Network::Regtest);
        let raw = [serialize(&genesis.header), noise.clone()].concat();
        for flavour in [Flavour::Btc, Flavour::Bsv] {
            prop_assert!(read(&raw[..], genesis.block_hash(), Limits::of(flavour)).is_err());
            prop_assert!(read(&noise[..], genesis.block_hash(), Limits::of(flavour)).is_err());
            let _ = SpentReader::new(&spent[..], Limits::of(flavour)).finish();
        }
    }
}

#[test]
fn a_block_cut_at_any_byte_is_truncated() {
    let block = block(some_transactions(5, true));
    let raw = bytes_of(&block);
    for end in 0..raw.len() {
        let error = read_btc(&raw[..end], block.block_hash()).unwrap_err();
        assert!(matches!(error, Error::Truncated { .. }), "{end}: {error}");
    }
    let error = read_btc(&raw[..raw.len() - 1], block.block_hash()).unwrap_err();
    assert_eq!(error.to_string(), format!("truncated after {} bytes, in transaction 5 of 6", raw.len() - 1));
}

#[test]
fn bytes_after_the_last_transaction_are_refused() {
    let block = block(some_transactions(2, false));
    let mut raw = bytes_of(&block);
    raw.push(0);
    let error = read_btc(&raw, block.block_hash()).unwrap_err();
    assert!(matches!(error, Error::Trailing { at } if at == raw.len() as u64 - 1), "{error}");
}

#[test]
fn another_block_than_the_one_asked_for_is_refused_before_its_transactions() {
    let block = block(some_transactions(2, false));
    let raw = bytes_of(&block);
    let error = BlockReader::new(&raw[..], BlockHash::all_zeros(), Limits::of(Flavour::Btc)).err().unwrap();
    assert!(matches!(error, Error::WrongBlock { found, .. } if found == block.block_hash()), "{error}");
}

#[test]
fn repeated_transactions_behind_the_same_merkle_root_are_refused() {
    // CVE-2012-2459: three transactions, and the last one again.
    let honest = block(some_transactions(2, false));
    let mut forged = honest.clone();
    forged.txdata.push(forged.txdata[2].clone());
    assert_eq!(forged.compute_merkle_root(), honest.compute_merkle_root());
    let error = read_btc(&bytes_of(&forged), honest.block_hash()).unwrap_err();
    assert!(matches!(error, Error::Mutated), "{error}");
}

#[test]
fn transactions_that_the_header_does_not_commit_to_are_refused() {
    let honest = block(some_transactions(3, false));
    let with = |change: fn(&mut Block)| {
        let mut changed = honest.clone();
        change(&mut changed);
        read_btc(&bytes_of(&changed), honest.block_hash()).unwrap_err()
    };
    assert!(matches!(with(|block| block.txdata.swap(1, 2)), Error::MerkleRoot { .. }));
    assert!(matches!(with(|block| drop(block.txdata.pop())), Error::MerkleRoot { .. }));
    assert!(matches!(with(|block| block.txdata[1].version.0 ^= 1), Error::MerkleRoot { .. }));
    assert!(matches!(with(|block| block.txdata.clear()), Error::NoTransactions));
    assert!(matches!(with(|block| drop(block.txdata.remove(0))), Error::Coinbase { position: 0 }));
    let twice = with(|block| block.txdata.insert(1, block.txdata[0].clone()));
    assert_eq!(twice.to_string(), "transaction 1 is a second coinbase");
}

#[test]
fn witnesses_that_the_coinbase_does_not_commit_to_are_refused() {
    let honest = block(some_transactions(4, true));
    let position =
        honest.txdata.iter().rposition(|tx| tx.input.iter().any(|i| !i.witness.is_empty())).unwrap();
    let mut changed = honest.clone();
    let input = changed.txdata[position].input.iter_mut().find(|input| !input.witness.is_empty()).unwrap();
    input.witness.push([1, 2, 3]);
    assert_eq!(changed.compute_merkle_root(), honest.compute_merkle_root());
    let error = read_btc(&bytes_of(&changed), honest.block_hash()).unwrap_err();
    assert!(matches!(error, Error::WitnessCommitment), "{error}");
}

#[test]
fn a_transaction_over_the_limit_is_refused_whatever_it_announces() {
    let mut transactions = some_transactions(1, false);
    transactions[0].output[0].script_pubkey = vec![0x6a; 2_000_000].into();
    let block = block(transactions);
    let raw = bytes_of(&block);
    let size = block.txdata[1].total_size() as u64;
    let limits = |max_tx_bytes| Limits { max_tx_bytes, ..Limits::of(Flavour::Bsv) };
    assert!(read(&raw[..], block.block_hash(), limits(size)).is_ok());
    for max in [size - 1, 100_000, 50] {
        let error = read(&raw[..], block.block_hash(), limits(max)).unwrap_err();
        assert!(matches!(&error, Error::Transaction { reason: TxError::TooLarge { .. }, .. }), "{error}");
    }
}

#[test]
fn a_transaction_larger_than_many_chunks_is_one_slice_of_its_own_bytes() {
    let mut transactions = some_transactions(3, false);
    transactions[1].output[0].script_pubkey = vec![0x6a; 5_000_000].into();
    let block = block(transactions);
    let raw = bytes_of(&block);
    let mut reader = BlockReader::new(&raw[..], block.block_hash(), Limits::of(Flavour::Bsv)).unwrap();
    for expected in &block.txdata {
        assert_eq!(reader.next_tx().unwrap().unwrap().raw, serialize(expected));
    }
    assert_eq!(reader.finish().unwrap().size, raw.len() as u64);
}

#[test]
fn a_reader_that_fails_is_told_from_one_that_ends() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("connection reset"))
        }
    }
    let block = block(some_transactions(2, false));
    let raw = bytes_of(&block);
    let error = read(raw[..200].chain(Broken), block.block_hash(), Limits::of(Flavour::Btc)).unwrap_err();
    assert!(matches!(error, Error::Read { .. }) && error.to_string().contains("connection reset"), "{error}");
}

#[test]
fn what_a_block_spends_is_read_beside_it() {
    // As a node gave it: a coinbase and four transactions of one input each.
    let scripts = [vec![0x51, 0x75, 0x51, 0x75, 0x51], vec![0x51], vec![0; 300], vec![]];
    let mut raw = vec![5, 0];
    for (n, script) in scripts.iter().enumerate() {
        raw.push(1);
        raw.extend((n as i64 * 1000).to_le_bytes());
        raw.extend(serialize(&bitcoin::ScriptBuf::from_bytes(script.clone())));
    }
    let sizes = vec![1, 7, 300];
    let mut reader = SpentReader::new(Pieces { bytes: &raw, sizes, at: 0 }, Limits::of(Flavour::Btc));
    assert_eq!(reader.next_tx().unwrap().unwrap(), []);
    for (n, script) in scripts.iter().enumerate() {
        let spent = reader.next_tx().unwrap().unwrap();
        assert_eq!((spent[0].value, &spent[0].script_pubkey[..]), (n as i64 * 1000, &script[..]));
    }
    assert_eq!(reader.next_tx().unwrap(), None);
    reader.finish().unwrap();
    for end in 0..raw.len() {
        assert!(SpentReader::new(&raw[..end], Limits::of(Flavour::Btc)).finish().is_err(), "{end}");
    }
    raw.push(0);
    assert!(SpentReader::new(&raw[..], Limits::of(Flavour::Btc)).finish().is_err());
}

#[test]
fn outputs_spent_that_do_not_fit_to_the_transaction_are_refused() {
    let block = block(some_transactions(1, false));
    let raw = bytes_of(&block);
    let mut reader = BlockReader::new(&raw[..], block.block_hash(), Limits::of(Flavour::Btc)).unwrap();
    let (coinbase, tx) = (reader.next_tx().unwrap().unwrap(), reader.next_tx().unwrap().unwrap());
    let mut spent = SpentReader::new(&[2, 0, 0][..], Limits::of(Flavour::Btc));
    assert_eq!(spent.next_for(&coinbase).unwrap(), []);
    let error = spent.next_for(&tx).unwrap_err().to_string();
    let inputs = tx.input_count();
    assert_eq!(
        error,
        format!("outputs spent by transaction 1 cannot be used: they are 0, for {inputs} inputs")
    );
    assert!(spent.next_for(&tx).unwrap_err().to_string().contains("there are none left"));
}

#[test]
fn outputs_spent_over_the_limit_are_refused_before_they_arrive() {
    let limits = Limits { max_spent_bytes: 1000, ..Limits::of(Flavour::Btc) };
    let raw = [&[1, 1][..], &[0; 8], &[0xfe, 0, 0, 0, 0x40]].concat();
    let error = SpentReader::new(&raw[..], limits).next_tx().unwrap_err().to_string();
    assert!(error.contains("more than 1000 bytes"), "{error}");
}
