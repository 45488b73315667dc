//! A node with a long chain of payments, made once and kept: Bitcoin SV's, or Bitcoin Core's.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::Command;

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{Amount, Block, Transaction, TxOut};
use serde_json::json;
use sluice_test_support::{Flavour, Parent, Rpc, Salt, Wallet, block_on};

use crate::signing::{Coin, Keys};

/// Changes when the chain is to be made anew.
const VERSION: u32 = 1;
/// Coinbases that are spread over many coins.
const FUNDS: usize = 40;
/// Coins of each: payments in one block seldom spend each other's outputs.
const SPREAD: u64 = 1_000;
/// Blocks until a coinbase may be spent.
const MATURITY: usize = 100;
/// Payments in blocks, one after the other and again.
const BSV_PAYMENTS: [usize; 4] = [4_000, 8_000, 12_000, 16_000];
/// The same on Bitcoin, where a block of some 5,900 is full.
const BTC_PAYMENTS: [usize; 4] = [2_000, 4_000, 5_000, 5_500];
/// Transactions of `SPREAD` outputs that fit into one block of Bitcoin.
const BTC_SPREADS: usize = FUNDS / 2;
/// Payments made at once; none of them spends another of them.
const AT_ONCE: usize = 4_000;
/// User and password that `run-node.sh` gives a node.
const USER: &str = "sluice";
const PASSWORD: &str = "sluice-secret";

/// The node; it is stopped on drop, and its chain kept.
pub(crate) struct Chain {
    dir: PathBuf,
    address: String,
    /// Transactions of each block, by height.
    pub(crate) counts: Vec<u64>,
    /// Bytes of all blocks.
    pub(crate) bytes: u64,
}

impl Chain {
    /// Starts the node, and makes its chain where there is none yet.
    pub(crate) fn start(flavour: Flavour, transactions: usize) -> Self {
        let cache = std::env::var("SLUICE_CACHE").expect("tests/benches/run sets it");
        let name = match flavour {
            Flavour::Btc => format!("bench-chain-core-{VERSION}-{transactions}"),
            Flavour::Bsv => format!("bench-chain-{VERSION}-{transactions}"),
        };
        let dir = Path::new(&cache).join(name);
        let made = dir.join("counts.json");
        if !made.exists() {
            let _ = std::fs::remove_dir_all(&dir);
            let address = start_node(flavour, &dir);
            let counts = make(&rpc(&address), flavour, transactions);
            std::fs::write(&made, json!(counts).to_string()).unwrap();
            run_node(&["stop"], &dir);
        }
        let address = start_node(flavour, &dir);
        let counts: Vec<(u64, u64)> = serde_json::from_slice(&std::fs::read(&made).unwrap()).unwrap();
        Self {
            dir,
            address,
            bytes: counts.iter().map(|(_, bytes)| bytes).sum(),
            counts: counts.into_iter().map(|(transactions, _)| transactions).collect(),
        }
    }

    /// With user and password.
    pub(crate) fn url(&self) -> String {
        format!("http://{}@{}", Self::credentials(), self.address)
    }

    /// Host and port of its RPC and REST.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// User and password, as `bitcoind` takes them.
    pub(crate) fn credentials() -> String {
        format!("{USER}:{PASSWORD}")
    }

    /// Transactions of all blocks.
    pub(crate) fn transactions(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The process.
    pub(crate) fn pid(&self) -> u32 {
        run_node(&["pid"], &self.dir).trim().parse().expect("it runs")
    }

    pub(crate) fn height(&self) -> i32 {
        self.counts.len() as i32 - 1
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        run_node(&["stop"], &self.dir);
    }
}

fn run_node(command: &[&str], dir: &Path) -> String {
    let mut run = Command::new(std::env::var("SLUICE_TEST_RUN_NODE").expect("tests/benches/run sets it"));
    run.args(command).arg(dir).env("RPC_AUTH", "password").env("STOP_WAIT", "120");
    let output = run.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Host and port of its RPC.
fn start_node(flavour: Flavour, dir: &Path) -> String {
    let kind = match flavour {
        Flavour::Btc => "core",
        Flavour::Bsv => "bsv",
    };
    let said = run_node(&["start", kind], dir);
    let url = said.lines().find_map(|line| line.strip_prefix("RPC_URL=")).expect("it says its address");
    url.trim_start_matches("http://").to_owned()
}

fn rpc(address: &str) -> Rpc {
    Rpc::new(&format!("http://{address}"), USER, PASSWORD)
}

/// A chain in the making: transactions and bytes of its blocks.
struct Making<'a> {
    rpc: &'a Rpc,
    tip: Parent,
    counts: Vec<(u64, u64)>,
}

impl Making<'_> {
    fn add(&mut self, transactions: Vec<Transaction>) -> Block {
        let block = block_on(&self.tip, transactions, 1, Salt(self.counts.len() as u64));
        let said = self.rpc.try_call("submitblock", json!([serialize_hex(&block)])).unwrap();
        assert!(said.is_null(), "submitblock: {said}");
        self.tip = self.tip.child(&block);
        self.counts.push((block.txdata.len() as u64, block.total_size() as u64));
        block
    }
}

fn make(rpc: &Rpc, flavour: Flavour, transactions: usize) -> Vec<(u64, u64)> {
    eprintln!("   making a chain of {transactions} payments, once");
    let hash = rpc.try_call("getblockhash", json!([0])).unwrap();
    let genesis = Parent { hash: hash.as_str().unwrap().parse().unwrap(), height: 0, times: vec![] };
    let mut making = Making { rpc, tip: genesis, counts: vec![(1, 285)] };
    let funds: Vec<Block> = (0..FUNDS).map(|_| making.add(vec![])).collect();
    (0..MATURITY).for_each(|_| drop(making.add(vec![])));

    let keys = Keys::new(flavour);
    let spread = spread(&keys, &funds);
    let mut coins: VecDeque<Coin> = spread.iter().flat_map(|tx| keys.coins(tx)).collect();
    let (spreads, sizes) = match flavour {
        Flavour::Btc => (BTC_SPREADS, BTC_PAYMENTS),
        Flavour::Bsv => (FUNDS, BSV_PAYMENTS),
    };
    spread.chunks(spreads).for_each(|spread| drop(making.add(spread.to_vec())));

    let mut made = 0;
    for size in sizes.iter().cycle() {
        let size = (*size).min(transactions - made);
        if size == 0 {
            break;
        }
        let mut block = Vec::with_capacity(size);
        while block.len() < size {
            block.extend(payments(&keys, &mut coins, made + block.len(), AT_ONCE.min(size - block.len())));
        }
        made += size;
        making.add(block);
        eprint!("\r   {made} payments");
    }
    eprintln!();
    making.counts
}

/// Transactions that give each coinbase's money to many coins.
fn spread(keys: &Keys, funds: &[Block]) -> Vec<Transaction> {
    let coins = Wallet::of_coinbases(funds).coins;
    let spread = |coin: sluice_test_support::Coin| {
        let value = Amount::from_sat(coin.value / SPREAD - 100);
        let outputs = (0..SPREAD).map(|n| TxOut { value, script_pubkey: keys.script(n).1 }).collect();
        Wallet::spend(&[coin], outputs)
    };
    coins.into_iter().map(spread).collect()
}

/// The next payments, one or two coins each, the oldest coins first. Signed on two threads.
fn payments(keys: &Keys, coins: &mut VecDeque<Coin>, first: usize, count: usize) -> Vec<Transaction> {
    let numbers = (first as u64..).take(count);
    // Two of five payments have two inputs.
    let inputs: Vec<(u64, Vec<Coin>)> =
        numbers.map(|number| (number, coins.drain(..if number % 5 < 2 { 2 } else { 1 }).collect())).collect();
    let pay = |half: &[(u64, Vec<Coin>)]| -> Vec<(Transaction, Vec<Coin>)> {
        half.iter().map(|(number, coins)| keys.pay(coins, *number)).collect()
    };
    let (left, right) = inputs.split_at(count / 2);
    let (mut paid, more) = std::thread::scope(|scope| {
        let other = scope.spawn(|| pay(right));
        (pay(left), other.join().unwrap())
    });
    paid.extend(more);
    paid.into_iter()
        .map(|(tx, made)| {
            coins.extend(made);
            tx
        })
        .collect()
}
