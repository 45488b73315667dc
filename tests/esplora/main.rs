//! Other people's clients and wallets, over our index of real nodes.
#![allow(clippy::unwrap_used)]

mod client;
mod served;
mod wallet;

use std::process::Command;

use sluice_test_support::bitcoin::consensus::encode::serialize_hex;
use sluice_test_support::bitcoin::hashes::Hash;
use sluice_test_support::bitcoin::{
    Address, Amount, Network, PubkeyHash, ScriptBuf, ScriptHash, Transaction, TxOut, Txid, WPubkeyHash,
    WScriptHash,
};
use sluice_test_support::serde_json::json;
use sluice_test_support::{Coin, FEE, Flavour, Lock, Node, Wallet, parts};

use served::Served;
use wallet::Bdk;

/// Satoshis that a payment of these tests is about.
const PAID: u64 = 1_000_000;

#[test]
fn every_call_of_esplora_client_tells_what_bitcoin_core_tells() {
    compare(Flavour::Btc);
}

#[test]
fn every_call_of_esplora_client_tells_what_bitcoin_sv_tells() {
    compare(Flavour::Bsv);
}

fn compare(flavour: Flavour) {
    if !parts::have_node(flavour) || !parts::have("SLUICE_TEST_PYTHON") {
        return;
    }
    let (node, mut coins) = Node::start_funded(flavour, 200);
    let mut served = Served::from(&node);
    let scripts = scripts(flavour);
    let mut sent = Vec::new();
    // More transactions of one script than a page has, and every kind of script in each.
    for _ in 0..30 {
        sent.push(node.send(&to_scripts(&coins.take(), &scripts, FEE)));
    }
    if flavour == Flavour::Bsv {
        sent.push(node.send(&Wallet::store(&coins.take(), &[0x5a; 5_000_000], 3_000_000)));
    }
    let data = Wallet::store(&coins.take(), &[0x5a; 60_000], 200_000);
    sent.push(if flavour == Flavour::Bsv { node.send(&data) } else { mine_it(&node, data) });
    if flavour == Flavour::Btc {
        let parent = to_scripts(&coins.take(), &vec![Lock::AnyoneByWitness.script_pubkey(); 2], FEE);
        node.send(&parent);
        sent.push(node.send(&Wallet::pay(&Coin::of(&parent)[0], Lock::AnyoneByWitness, FEE)));
    }
    node.mine(1);
    let block = node.tip_hash();
    let waiting: Vec<_> =
        (0..5).map(|n| node.send(&to_scripts(&coins.take(), &scripts, FEE * (n + 1)))).collect();
    served.equals(&node);

    let height = node.tip().height as u32;
    client::blocks(&served, &node, height - 12);
    client::mempool(&served, &node);
    let in_block = node.txids(&block);
    for txid in sent.iter().filter(|txid| in_block.contains(txid)) {
        client::transaction(&served, &node, txid, Some(&block), None);
    }
    client::transaction(&served, &node, &in_block[0], Some(&block), Some(0));
    for (n, txid) in (1..).zip(&waiting) {
        client::transaction(&served, &node, txid, None, Some(FEE * n));
    }
    for script in &scripts {
        client::script(&served, &node, script);
    }
    believed_by_the_bsv_sdk(&served, &in_block);

    // The block is replaced, and comes back in other blocks.
    node.reorganise(2, vec![]);
    served.equals(&node);
    assert!(!served.client.get_block_status(&block).unwrap().in_best_chain);
    assert_eq!(served.client.get_block_txids(&block).unwrap(), in_block, "what was is still told");
    node.mine(1);
    served.equals(&node);
    client::blocks(&served, &node, height - 2);
    let again = node.tip_hash();
    client::transaction(&served, &node, &sent[0], Some(&again), None);
    let journey = served.json(&format!("/tx/{}/journey", sent[0]));
    let steps: Vec<_> =
        journey["steps"].as_array().unwrap().iter().map(|step| step["step"].clone()).collect();
    let mined = steps.iter().filter(|step| **step == "mined").count();
    let reverted = steps.iter().filter(|step| **step == "reverted").count();
    assert_eq!((mined, reverted), (2, 1), "{steps:?}");
    assert_eq!(served.json("/reorgs")[0]["disconnected"][0]["hash"], block.to_string());
}

/// A transaction that the mempool would not take, in a block.
fn mine_it(node: &Node, transaction: Transaction) -> Txid {
    let txid = transaction.compute_txid();
    match node.try_send(&transaction) {
        Ok(txid) => txid,
        Err(_) => {
            let branch = sluice_test_support::Branch::grow(&node.tip(), 1, vec![transaction]);
            node.submit_all(&branch.blocks);
            txid
        }
    }
}

/// Locking scripts of every kind that a network has.
fn scripts(flavour: Flavour) -> Vec<ScriptBuf> {
    let key = [7; 20];
    let mut scripts = vec![
        ScriptBuf::new_p2pkh(&PubkeyHash::from_byte_array(key)),
        Lock::Anyone.script_pubkey(),
        ScriptBuf::from_hex(&format!("21{}ac", "02".repeat(33))).unwrap(),
    ];
    if flavour == Flavour::Btc {
        scripts.push(ScriptBuf::new_p2sh(&ScriptHash::from_byte_array(key)));
        scripts.push(ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array(key)));
        scripts.push(ScriptBuf::new_p2wsh(&WScriptHash::from_byte_array([7; 32])));
        scripts.push(ScriptBuf::from_hex(&format!("5120{}", "07".repeat(32))).unwrap());
    }
    scripts
}

/// Spends a coin to each of some scripts, and the rest to anyone.
fn to_scripts(coin: &Coin, scripts: &[ScriptBuf], fee: u64) -> Transaction {
    let each = (coin.value - fee) / (scripts.len() as u64 + 1);
    let rest = coin.value - fee - each * scripts.len() as u64;
    let output = |value: u64, script_pubkey: &ScriptBuf| TxOut {
        value: Amount::from_sat(value),
        script_pubkey: script_pubkey.clone(),
    };
    let mut outputs: Vec<_> = scripts.iter().map(|script| output(each, script)).collect();
    outputs.push(output(rest, &Lock::Anyone.script_pubkey()));
    Wallet::spend(&[*coin], outputs)
}

/// BUMP proofs of some transactions of the tip, checked by code that is not ours.
fn believed_by_the_bsv_sdk(served: &Served, txids: &[Txid]) {
    let height = served.client.get_height().unwrap();
    let block = served.client.get_block_hash(height).unwrap();
    let root = served.client.get_header_by_hash(&block).unwrap().merkle_root.to_string();
    let case = |txid: &Txid| {
        let bump = served.text(&format!("/tx/{txid}/bump-proof"));
        json!({ "txid": txid.to_string(), "height": height, "root": root, "bump": bump })
    };
    let cases: Vec<_> = txids.iter().map(case).collect();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/proofs.py");
    let output = Command::new(parts::path("SLUICE_TEST_PYTHON"))
        .args([script, &json!(cases).to_string()])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), format!("{} proofs", txids.len()));
}

#[test]
fn a_wallet_receives_sees_a_reorg_take_it_back_and_return_and_spends() {
    if !parts::have_node(Flavour::Btc) {
        return;
    }
    let (node, mut coins) = Node::start_funded(Flavour::Btc, 100);
    let mut served = Served::from(&node);
    let mut bdk = Bdk::new("wpkh");
    let address = bdk.next_address();
    bdk.scan(&served);
    assert_eq!(bdk.balance(), (0, 0));

    // Seen, then confirmed.
    let payment = to_address(&coins.take(), &address);
    node.send(&payment);
    served.equals(&node);
    bdk.sync(&served);
    assert_eq!(bdk.balance(), (0, PAID));
    node.mine(2);
    served.equals(&node);
    bdk.sync(&served);
    assert_eq!(bdk.balance(), (PAID, 0));

    // A reorg takes its block away: it waits again.
    node.reorganise(2, vec![]);
    served.equals(&node);
    bdk.sync(&served);
    assert_eq!(bdk.balance(), (0, PAID));
    node.mine(1);
    served.equals(&node);
    bdk.sync(&served);
    assert_eq!(bdk.balance(), (PAID, 0));

    // Another is double-spent by a reorg, and never comes back.
    let coin = coins.take();
    let lost = to_address(&coin, &bdk.next_address());
    node.send(&lost);
    node.mine(1);
    served.equals(&node);
    bdk.sync(&served);
    assert_eq!(bdk.balance(), (2 * PAID, 0));
    node.reorganise(1, vec![Wallet::pay(&coin, Lock::Anyone, FEE)]);
    served.equals(&node);
    bdk.sync(&served);
    assert_eq!(bdk.balance(), (PAID, 0));

    // It spends what it has, through us.
    let miner: Address<_> = "mfWxJ45yp2SFn7UciZyNpvDKrzbhyfKrY8".parse().unwrap();
    let spend = bdk.pay(&miner.require_network(Network::Regtest).unwrap(), 300_000);
    served.client.broadcast(&spend).unwrap();
    assert!(node.mempool().contains(&spend.compute_txid()));
    served.equals(&node);
    bdk.sync(&served);
    let (confirmed, waiting) = bdk.balance();
    assert_eq!(confirmed, 0);
    assert!((600_000..700_000).contains(&waiting), "{waiting}");
    node.mine(1);
    served.equals(&node);
    // A wallet made anew from the same keys finds the same.
    let mut anew = Bdk::new("wpkh");
    anew.scan(&served);
    bdk.sync(&served);
    assert_eq!(anew.balance(), (waiting, 0));
    assert_eq!(anew.balance(), bdk.balance());
    assert_eq!(anew.transactions(), 2);
}

#[test]
fn on_bitcoin_sv_a_wallet_of_key_hashes_receives_and_sees_a_reorg() {
    if !parts::have_node(Flavour::Bsv) {
        return;
    }
    let (node, mut coins) = Node::start_funded(Flavour::Bsv, 100);
    let mut served = Served::from(&node);
    let mut bdk = Bdk::new("pkh");
    let addresses: Vec<_> = (0..60).map(|_| bdk.next_address()).collect();
    // More than a page of one address, mixed with others.
    for address in &addresses[..3] {
        (0..30).for_each(|_| _ = node.send(&to_address(&coins.take(), address)));
    }
    node.mine(1);
    served.equals(&node);
    bdk.scan(&served);
    assert_eq!(bdk.balance(), (90 * PAID, 0));
    node.reorganise(1, vec![]);
    served.equals(&node);
    bdk.sync(&served);
    assert_eq!(bdk.balance(), (0, 90 * PAID));
    node.mine(1);
    served.equals(&node);
    bdk.sync(&served);
    assert_eq!(bdk.balance(), (90 * PAID, 0));
}

fn to_address(coin: &Coin, address: &Address) -> Transaction {
    let rest = coin.value - PAID - FEE;
    let output =
        |value: u64, script_pubkey: ScriptBuf| TxOut { value: Amount::from_sat(value), script_pubkey };
    Wallet::spend(
        &[*coin],
        vec![output(PAID, address.script_pubkey()), output(rest, Lock::Anyone.script_pubkey())],
    )
}

#[test]
fn what_bitcoin_core_refuses_is_told_as_esplora_tells_it() {
    refusals(Flavour::Btc, "min relay fee not met");
}

#[test]
fn what_bitcoin_sv_refuses_is_told_as_esplora_tells_it() {
    refusals(Flavour::Bsv, "txn-mempool-conflict");
}

fn refusals(flavour: Flavour, policy: &str) {
    if !parts::have_node(flavour) {
        return;
    }
    let (node, mut coins) = Node::start_funded(flavour, 20);
    let served = Served::from(&node);
    let coin = coins.take();
    let good = Wallet::pay(&coin, Lock::Anyone, FEE);
    let hex = serialize_hex(&good);
    assert_eq!(served.post("/tx", &format!("{hex}\n")), (200, good.compute_txid().to_string()));
    let refused = |body: &str, code: i64, reason: &str| {
        let (status, said) = served.post("/tx", body);
        assert_eq!(status, 400, "{said}");
        let start = format!("sendrawtransaction RPC error: {{\"code\":{code},\"message\":\"");
        assert!(said.starts_with(&start) && said.contains(reason), "{said}");
    };
    match flavour {
        // Once more is no error with Core.
        Flavour::Btc => {
            assert_eq!(served.post("/tx", &hex).0, 200);
            refused(&serialize_hex(&Wallet::pay(&coins.take(), Lock::Anyone, 0)), -26, policy);
        }
        Flavour::Bsv => {
            refused(&hex, -27, "already in the mempool");
            refused(&serialize_hex(&Wallet::pay(&coin, Lock::Anyone, 2 * FEE)), -26, policy);
        }
    }
    let missing =
        Coin { outpoint: Coin::of(&Wallet::pay(&coins.take(), Lock::Anyone, FEE))[0].outpoint, ..coin };
    refused(&serialize_hex(&Wallet::pay(&missing, Lock::Anyone, FEE)), -25, "issing");
    refused("00", -22, "TX decode failed");
    for (body, reason) in
        [("", "Invalid hex string"), ("0", "Invalid hex string"), ("zz", "Invalid hex string")]
    {
        assert_eq!(served.post("/tx", body), (400, reason.to_owned()), "{body:?}");
    }
    assert_eq!(served.announce("/tx", (32 << 20) + 1), "HTTP/1.1 413");
    if flavour == Flavour::Btc {
        let parent = Wallet::pay(&coins.take(), Lock::AnyoneByWitness, FEE);
        let child = Wallet::pay(&Coin::of(&parent)[0], Lock::AnyoneByWitness, FEE);
        let result = served.client.submit_package(&[parent, child.clone()], None, None).unwrap();
        assert_eq!(result.package_msg, "success");
        assert!(node.mempool().contains(&child.compute_txid()));
    }
    for (body, reason) in [
        ("{}", "Invalid package: an array of transactions in hex is taken"),
        ("[]", "Exceeded maximum of 25 transactions"),
        ("[\"zz\"]", "Invalid hex string"),
    ] {
        assert_eq!(served.post("/txs/package", body), (400, reason.to_owned()), "{body}");
    }
    node.kill();
    let (status, said) = served.post("/tx", &hex);
    assert_eq!((status, said.as_str()), (502, "The node does not answer"));
}
