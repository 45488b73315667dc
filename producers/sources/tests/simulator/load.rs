//! Chains for load.

use std::collections::HashMap;
use std::io::Read;

use bitcoin::consensus::deserialize;
use bitcoin::hashes::{Hash, HashEngine, sha256d};
use bitcoin::{Block, OutPoint, TxOut};
use sluice_schemas::Network;
use sluice_sources::simulator::{HugeBlock, LoadConfig, LoadSource};
use sluice_sources::{Error, Source};

fn read(mut from: Box<dyn Read + Send>) -> Vec<u8> {
    let mut bytes = vec![];
    from.read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_generated_chain_holds_its_value_work_and_merkle_roots() {
    for transactions in [1, 2, 3, 4, 500, 1_002, 1_003, 1_004, 2_500] {
        for data_bytes in [0, 1, 300] {
            let config = LoadConfig { blocks: 4, transactions, data_bytes, ..LoadConfig::default() };
            let source = LoadSource::new(config).unwrap();
            let headers = source.headers(&[Network::BtcRegtest.genesis()], 100).unwrap().headers;
            assert_eq!(headers.len(), 4);
            let mut unspent: HashMap<OutPoint, TxOut> = HashMap::new();
            for (header, height) in headers.iter().zip(1..) {
                header.validate_pow(header.target()).unwrap();
                let body = source.body(&header.block_hash()).unwrap();
                let (size, bytes) = (body.size, read(body.bytes));
                assert_eq!(size, Some(bytes.len() as u64));
                let block: Block = deserialize(&bytes).unwrap();
                assert_eq!(block.header, *header);
                assert!(block.check_merkle_root());
                assert_eq!(block.txdata.len() as u64, if height == 1 { 1 } else { transactions });
                let spent = read(body.spent.unwrap());
                let mut expected = bitcoin::consensus::serialize(&bitcoin::VarInt(block.txdata.len() as u64));
                let (mut came, mut went) = (5_000_000_000, 0);
                for transaction in &block.txdata {
                    let inputs = transaction.input.iter().filter(|_| !transaction.is_coinbase());
                    let taken: Vec<TxOut> = inputs
                        .map(|input| unspent.remove(&input.previous_output).expect("unspent"))
                        .collect();
                    expected.extend(bitcoin::consensus::serialize(&taken));
                    came += taken.iter().map(|out| out.value.to_sat()).sum::<u64>();
                    went += transaction.output.iter().map(|out| out.value.to_sat()).sum::<u64>();
                    for (out, vout) in transaction.output.iter().zip(0..) {
                        unspent.insert(OutPoint { txid: transaction.compute_txid(), vout }, out.clone());
                    }
                }
                assert_eq!(spent, expected);
                assert_eq!(came, went, "what nobody else gets is the miner's");
            }
        }
    }
}

#[test]
fn the_same_settings_give_the_same_load() {
    let tip = |seed| LoadSource::new(LoadConfig { seed, ..LoadConfig::default() }).unwrap().tip().unwrap();
    assert_eq!(tip(1), tip(1));
    assert_ne!(tip(1).hash, tip(2).hash);
}

/// Reads a block as a stream and counts; it holds a few bytes only, whatever the size.
struct Counter {
    from: Box<dyn Read + Send>,
    read: u64,
    hash: <sha256d::Hash as Hash>::Engine,
}

impl Counter {
    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.from.read_exact(&mut bytes).unwrap();
        self.hash.input(&bytes);
        self.read += N as u64;
        bytes
    }

    fn compact(&mut self) -> u64 {
        match self.bytes::<1>()[0] {
            0xfd => u16::from_le_bytes(self.bytes()).into(),
            0xfe => u32::from_le_bytes(self.bytes()).into(),
            0xff => u64::from_le_bytes(self.bytes()),
            small => small.into(),
        }
    }

    fn skip(&mut self, mut count: u64) {
        let mut some = [0; 16 << 10];
        while count > 0 {
            let part = count.min(some.len() as u64) as usize;
            self.from.read_exact(&mut some[..part]).unwrap();
            self.hash.input(&some[..part]);
            self.read += part as u64;
            count -= part as u64;
        }
    }

    /// Size and hash of the next transaction.
    fn transaction(&mut self) -> (u64, sha256d::Hash) {
        let start = self.read;
        self.hash = sha256d::Hash::engine();
        self.skip(4);
        for _ in 0..self.compact() {
            self.skip(36);
            let script = self.compact();
            self.skip(script + 4);
        }
        for _ in 0..self.compact() {
            self.skip(8);
            let script = self.compact();
            self.skip(script);
        }
        self.skip(4);
        (self.read - start, sha256d::Hash::from_engine(self.hash.clone()))
    }
}

/// 3 GB and a transaction of 120 MB with `SLUICE_TEST_HUGE=1`, else 150 MB and 110 MB.
#[test]
fn a_huge_block_streams_and_its_merkle_root_is_right() {
    let full = std::env::var_os("SLUICE_TEST_HUGE").is_some();
    let (body_bytes, transaction_bytes) =
        if full { (3_100_000_000, 120_000_000) } else { (150_000_000, 110_000_000) };
    let huge = HugeBlock { height: 2, body_bytes, transaction_bytes, filler_bytes: 100_000 };
    let config =
        LoadConfig { network: Network::BsvRegtest, blocks: 3, huge: Some(huge), ..LoadConfig::default() };
    let source = LoadSource::new(config).unwrap();
    let header = source.headers(&[], 10).unwrap().headers[2];
    let body = source.body(&header.block_hash()).unwrap();
    let mut counter = Counter { from: body.bytes, read: 0, hash: sha256d::Hash::engine() };
    assert_eq!(counter.bytes::<80>().to_vec(), bitcoin::consensus::serialize(&header));
    let count = counter.compact();
    let (sizes, hashes): (Vec<u64>, Vec<_>) = (0..count).map(|_| counter.transaction()).unzip();
    assert_eq!(counter.from.read(&mut [0]).unwrap(), 0, "nothing is left");
    assert_eq!(Some(counter.read), body.size);
    // beyond what was asked for: the transactions that spread the money
    assert!(counter.read >= body_bytes && counter.read < body_bytes + body_bytes / 1_000 + 1_000_000);
    assert!(sizes.iter().any(|size| *size > transaction_bytes));
    let root = bitcoin::merkle_tree::calculate_root(hashes.into_iter());
    assert_eq!(root, Some(header.merkle_root.to_raw_hash()));
}

#[test]
fn load_that_cannot_be_is_refused() {
    let huge = HugeBlock { height: 1, body_bytes: 1, transaction_bytes: 1, filler_bytes: 1 };
    let refused = |config| match LoadSource::new(config) {
        Err(Error::Refused { reason, .. }) => reason,
        _ => panic!("not refused"),
    };
    assert!(refused(LoadConfig { huge: Some(huge), ..LoadConfig::default() }).contains("height"));
    assert!(refused(LoadConfig { data_bytes: 1 << 32, ..LoadConfig::default() }).contains("bytes of data"));
    assert!(
        refused(LoadConfig { network: Network::BtcSignet, ..LoadConfig::default() }).contains("btc-signet")
    );
}
