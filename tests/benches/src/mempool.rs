//! What a waiting transaction takes of the indexer's memory, and of a processor when the mempool is rebuilt at a start.

use std::process::Command;

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::hashes::{Hash as _, hash160};
use bitcoin::{Amount, PubkeyHash, ScriptBuf, Transaction, TxOut};
use serde_json::{Value, json};
use sluice_test_support::{Flavour, Node, Wallet, eventually};

use crate::log::{Kind, Log};
use crate::process::{PATIENCE, Process, Usage};
use crate::setting::{Setting, binary};
use crate::signing::{Coin, Keys};
use crate::table::Line;

/// Transactions that wait.
const WAITING: u64 = 100_000;
/// Coins that one transaction of the chain makes; each is spent by one that waits.
const SPREAD: u64 = 1_000;
/// Satoshis: what the node takes a transaction for.
const FEE: u64 = 500;
/// Transactions sent to the node at once.
const AT_ONCE: usize = 1_000;

pub(crate) fn row(setting: &mut Setting, kind: Kind) -> Vec<Line> {
    let row = match kind {
        Kind::Sqlite => "mempool-sqlite",
        Kind::Kafka => "mempool-kafka",
    };
    let node = Node::start_with(Flavour::Bsv, "-maxmempool=2000");
    let log = setting.log(kind);
    let waiting = payments(&node);
    let mut command = Command::new(binary("sluice-producer"));
    command.args(log.options()).args(["--node", &node.url(), "--zmq", node.zmq()]);
    let producer = Process::start(&mut command, &log.dir.join("producer.log"));
    let empty: Vec<_> = (0..setting.runs).map(|_| start(&log, 0, node.tip().height)).collect();
    let size = waiting.iter().map(Transaction::total_size).sum::<usize>() / waiting.len();
    send(&node, &waiting);
    let full: Vec<_> = (0..setting.runs).map(|_| start(&log, WAITING, node.tip().height)).collect();
    producer.stop();
    setting.discard(log);

    let each = |of: fn(&Started) -> f64| -> Vec<f64> {
        empty.iter().zip(&full).map(|(empty, full)| (of(full) - of(empty)) / WAITING as f64).collect()
    };
    let what = format!("{kind:?}: {WAITING} transactions of {size} B waiting, memory for each");
    let mut line = Line::new(row, what, "B", each(|started| started.resident_bytes as f64));
    line.cpu_us = each(|started| started.usage.cpu_secs * 1e6);
    line.peak_bytes = full.iter().map(|started| started.usage.peak_bytes).max().unwrap_or(0);
    vec![line]
}

/// An indexer that has come to the end of its log.
struct Started {
    resident_bytes: u64,
    usage: Usage,
}

/// Starts one, and waits until it has so many waiting transactions, and the height.
fn start(log: &Log, waiting: u64, height: i32) -> Started {
    let mut command = Command::new(binary("sluice-indexer"));
    command.args(log.options()).args(["--listen", "127.0.0.1:0", "--group", "bench"]);
    let mut indexer = Process::start(&mut command, &log.dir.join("indexer.log"));
    let page = eventually("the indexer's address", PATIENCE, || {
        indexer.usage();
        let said = indexer.output();
        said.split_once("http://").and_then(|(_, rest)| Some(rest.split_once('/')?.0.to_owned())).ok_or(said)
    });
    let ask = |path: &str| -> Option<Value> {
        let mut answer = ureq::get(format!("http://{page}{path}")).call().ok()?;
        serde_json::from_str(&answer.body_mut().read_to_string().ok()?).ok()
    };
    let usage = eventually("the index to be at the end", PATIENCE, || {
        let has = (ask("/mempool").map(|told| told["count"].clone()), ask("/blocks/tip/height"));
        let is_there = has == (Some(json!(waiting)), Some(json!(height)));
        if is_there { Ok(indexer.usage()) } else { Err(format!("{has:?}")) }
    });
    let started = Started { resident_bytes: indexer.resident_bytes(), usage };
    eprintln!(
        "   {waiting} waiting: {} kB, {:.2} s of processor",
        started.resident_bytes / 1000,
        usage.cpu_secs
    );
    indexer.stop();
    started
}

/// Mines what it takes, and makes the payments: one coin to two outputs, to addresses that have nothing else.
fn payments(node: &Node) -> Vec<Transaction> {
    let keys = Keys::new(Flavour::Bsv);
    let mut wallet = node.fund((WAITING / SPREAD) as usize);
    let mut coins: Vec<Coin> = Vec::new();
    while !wallet.coins.is_empty() {
        let coin = wallet.take();
        let value = Amount::from_sat(coin.value / SPREAD - FEE);
        let outputs = (0..SPREAD).map(|n| TxOut { value, script_pubkey: keys.script(n).1 }).collect();
        let spread = Wallet::spend(&[coin], outputs);
        node.send(&spread);
        coins.extend(keys.coins(&spread));
    }
    node.mine(1);
    let somebody = |number: u64| {
        let hash = hash160::Hash::hash(&number.to_le_bytes());
        ScriptBuf::new_p2pkh(&PubkeyHash::from_byte_array(hash.to_byte_array()))
    };
    let pay = |(number, coin): (u64, &Coin)| {
        let half = Amount::from_sat((coin.value - FEE) / 2);
        let output = |number| TxOut { value: half, script_pubkey: somebody(number) };
        keys.spend(&[*coin], vec![output(2 * number), output(2 * number + 1)])
    };
    (0..).zip(&coins).map(pay).collect()
}

fn send(node: &Node, transactions: &[Transaction]) {
    for some in transactions.chunks(AT_ONCE) {
        let some: Vec<_> = some.iter().map(|tx| json!({ "hex": serialize_hex(tx) })).collect();
        let refused = node.call("sendrawtransactions", json!([some]));
        assert!(refused.as_object().is_some_and(serde_json::Map::is_empty), "refused: {refused}");
    }
    assert_eq!(node.mempool().len() as u64, WAITING);
}
