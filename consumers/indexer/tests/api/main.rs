//! The HTTP API over an index of a log made from a script.
#![allow(clippy::unwrap_used)]

mod server;
mod trouble;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use axum::http::Method;
use bitcoin::consensus::deserialize;
use bitcoin::{Address, Block, MerkleBlock, Network};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value;
use sluice_consumer_testkit::{Script, chain, data, pay, returned, script_of, split};
use sluice_indexer::ScriptHash;
use sluice_indexer::api::{Limits, Operation, operations};
use sluice_schemas::{Flavour, Network as Chain};

use server::{Server, at_once};

fn hash_of(name: &str) -> ScriptHash {
    ScriptHash::of(script_of(name, Flavour::Btc).as_bytes())
}

/// A chain with payments, and a mempool.
fn script() -> Script {
    chain()
        .mined_by("alice", [])
        .block([pay("alice", "bob", 500_000), pay("alice", "carol", 300_000)])
        .block([pay("bob", "carol", 100_000), data("alice", b"hello")])
        .takeover()
        .added([pay("carol", "dave", 50_000)])
}

#[test]
fn a_request_that_makes_no_sense_is_refused_with_the_reason_that_esplora_gives() {
    let server = Server::of(&script());
    let unknown = "ab".repeat(32);
    let tip = server.text("/blocks/tip/hash");
    let long = "a".repeat(5_000);
    let bech32_of_mainnet = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4";
    for (path, status, reason) in [
        ("/block/xyz".to_owned(), 400, "Invalid hex string"),
        (format!("/block/{unknown}ab"), 400, "Invalid hex string"),
        (format!("/block/{unknown}"), 404, "Block not found"),
        (format!("/block/{unknown}/header"), 404, "Block not found"),
        (format!("/block/{unknown}/raw"), 404, "Block not found"),
        (format!("/block/{unknown}/txids"), 404, "Block not found"),
        (format!("/block/{unknown}/txs"), 404, "Block not found"),
        (format!("/block/{unknown}/txid/0"), 404, "Block not found"),
        (format!("/block/{tip}/txid/99999999999"), 404, "tx index out of range"),
        (format!("/block/{tip}/txid/99999999999999999999"), 400, "Invalid number"),
        (format!("/block/{tip}/txs/7"), 400, "start index must be a multiple of 25"),
        (format!("/block/{tip}/txs/25"), 400, "start index out of range"),
        (format!("/block/{tip}/txs/9223372036854775800"), 400, "start index out of range"),
        (format!("/block/{tip}/txs/-25"), 400, "Invalid number"),
        ("/block-height/4294967296".into(), 404, "Block not found"),
        ("/block-height/1000".into(), 404, "Block not found"),
        ("/block-height/-1".into(), 400, "Invalid number"),
        ("/block-height/".into(), 404, "There is no such path; /openapi.json lists them"),
        ("/blocks/99999999999999999999999".into(), 400, "Invalid number"),
        ("/blocks/1000".into(), 404, "Block not found"),
        ("/tx/nonsense".into(), 400, "Invalid hex string"),
        (format!("/tx/{unknown}"), 404, "Transaction not found"),
        (format!("/tx/{unknown}/hex"), 404, "Transaction not found"),
        (format!("/tx/{unknown}/raw"), 404, "Transaction not found"),
        (format!("/tx/{unknown}/outspends"), 404, "Transaction not found"),
        (format!("/tx/{unknown}/journey"), 404, "Transaction not found"),
        (format!("/tx/{unknown}/outspend/4294967296"), 400, "Invalid number"),
        (format!("/tx/{unknown}/merkle-proof"), 404, "Transaction not found or is unconfirmed"),
        (format!("/tx/{unknown}/merkleblock-proof"), 404, "Transaction not found or is unconfirmed"),
        (format!("/tx/{unknown}/bump-proof"), 404, "Transaction not found or is unconfirmed"),
        ("/address/nonsense".into(), 400, "Invalid Bitcoin address"),
        ("/address/%00%ff".into(), 400, "Invalid path"),
        ("/address/%F0%9F%AA%99/utxo".into(), 400, "Invalid Bitcoin address"),
        (format!("/address/{bech32_of_mainnet}"), 400, "Address on invalid network"),
        ("/address/12cbQLTFMXRnSzktFkuoG3eHoMeFtpTu3S/txs".into(), 400, "Address on invalid network"),
        ("/scripthash/ab".into(), 400, "Invalid scripthash"),
        (format!("/scripthash/{unknown}/txs/chain/xyz"), 400, "Invalid hex string"),
        (format!("/scripthash/{unknown}/txs/chain/{unknown}"), 404, "Transaction not found"),
        ("/address-prefix/%20".into(), 400, "Invalid address prefix"),
        ("/reorgs?limit=x".into(), 400, "Invalid number"),
        ("/nothing".into(), 404, "There is no such path; /openapi.json lists them"),
        (format!("/block/{long}"), 414, "URL too long"),
    ] {
        let answer = server.get(&path);
        assert_eq!((answer.status, answer.text().as_str()), (status, reason), "{path}");
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"), "{path}");
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"), "{path}");
    }
    // What Esplora answers for what nobody has heard of.
    assert_eq!(server.text(&format!("/tx/{unknown}/status")), r#"{"confirmed":false}"#);
    assert_eq!(server.text(&format!("/tx/{unknown}/outspend/0")), r#"{"spent":false}"#);
    assert_eq!(
        server.text(&format!("/block/{unknown}/status")),
        r#"{"in_best_chain":false,"height":null,"next_best":null}"#
    );
    assert_eq!(server.json(&format!("/scripthash/{unknown}"))["chain_stats"]["tx_count"], 0);
    assert_eq!(server.text(&format!("/scripthash/{unknown}/txs")), "[]");
    assert_eq!(server.text(&format!("/scripthash/{unknown}/utxo")), "[]");
}

#[test]
fn what_is_sent_is_checked_before_a_node_is_asked_and_without_one_nothing_is_taken() {
    let server = Server::of(&script());
    let answer = server.post("/tx", b"00");
    assert_eq!(answer.status, 501, "{}", answer.text());
    assert_eq!(server.get("/tx").status, 405);
    assert_eq!(server.post("/blocks", b"").status, 405);
}

#[test]
fn a_block_is_rebuilt_byte_for_byte_and_its_parts_agree() {
    let server = Server::of(&script());
    let tip = server.text("/blocks/tip/hash");
    assert_eq!(server.text("/blocks/tip/height"), "3");
    assert_eq!(server.text("/block-height/3"), tip);
    let raw = server.get(&format!("/block/{tip}/raw"));
    let block: Block = deserialize(&raw.body).unwrap();
    assert_eq!(block.block_hash().to_string(), tip);
    assert!(block.check_merkle_root());
    let txids: Vec<_> = block.txdata.iter().map(|tx| tx.compute_txid().to_string()).collect();
    assert_eq!(server.json(&format!("/block/{tip}/txids")), serde_json::json!(txids));
    assert_eq!(server.text(&format!("/block/{tip}/txid/1")), txids[1]);
    assert_eq!(server.text(&format!("/block/{tip}/header")), hex::encode(&raw.body[..80]));
    let json = server.json(&format!("/block/{tip}"));
    assert_eq!(json["tx_count"], txids.len());
    assert_eq!(json["size"], raw.body.len());
    assert_eq!(json["weight"], block.weight().to_wu());
    assert_eq!(json["previousblockhash"], server.text("/block-height/2"));
    let listed = server.json("/blocks");
    assert_eq!(listed.as_array().unwrap().len(), 4);
    assert_eq!(listed[0], json);
    assert_eq!(server.json("/blocks/1")[0]["height"], 1);
    assert_eq!(
        server.json("/block-height/0".replace("-height/0", "s/0").as_str())[0]["previousblockhash"],
        Value::Null
    );
    let page = server.json(&format!("/block/{tip}/txs"));
    let of_page: Vec<_> = page.as_array().unwrap().iter().map(|tx| tx["txid"].as_str().unwrap()).collect();
    assert_eq!(of_page, txids);
    for tx in page.as_array().unwrap() {
        let txid = tx["txid"].as_str().unwrap();
        assert_eq!(server.json(&format!("/tx/{txid}")), *tx);
        assert_eq!(tx["status"]["block_hash"], tip);
    }
}

#[test]
fn what_is_left_by_a_reorg_is_still_told_and_no_longer_best() {
    let mut server = Server::of(&script());
    let stale = server.text("/blocks/tip/hash");
    let stale_txids = server.json(&format!("/block/{stale}/txids"));
    let moved = stale_txids[1].as_str().unwrap().to_owned();
    server.play(&chain().reorg(1).block([returned()]).blocks(1));
    let status = server.json(&format!("/block/{stale}/status"));
    assert_eq!(status["in_best_chain"], false);
    assert_eq!(server.json(&format!("/block/{stale}/txids")), stale_txids);
    let page = server.json(&format!("/block/{stale}/txs"));
    assert_eq!(page[1]["txid"], moved);
    let raw = server.get(&format!("/block/{stale}/raw"));
    assert_eq!(deserialize::<Block>(&raw.body).unwrap().block_hash().to_string(), stale);
    assert_eq!(server.json(&format!("/tx/{moved}/status"))["block_height"], 3);
    let reorgs = server.json("/reorgs");
    assert_eq!(reorgs[0]["depth"], 1);
    assert_eq!(reorgs[0]["disconnected"][0]["hash"], stale);
    assert_eq!(reorgs[0]["fork"]["height"], 2);
    let steps = server.json(&format!("/tx/{moved}/journey"));
    let steps: Vec<_> = steps["steps"].as_array().unwrap().iter().map(|s| s["step"].clone()).collect();
    assert_eq!(steps.iter().filter(|step| **step == "mined").count(), 2, "{steps:?}");
    assert!(steps.iter().any(|step| *step == "reverted"), "{steps:?}");
}

#[test]
fn an_address_and_the_hash_of_its_script_tell_the_same() {
    let server = Server::of(&script());
    let carol = hash_of("carol");
    let script = script_of("carol", Flavour::Btc);
    let stats = server.json(&format!("/scripthash/{carol}"));
    assert_eq!(stats["chain_stats"]["funded_txo_sum"], 400_000);
    assert_eq!(stats["chain_stats"]["tx_count"], 2);
    assert_eq!(stats["mempool_stats"]["tx_count"], 1);
    let txs = server.json(&format!("/scripthash/{carol}/txs"));
    assert_eq!(txs.as_array().unwrap().len(), 3);
    assert_eq!(txs[0]["status"]["confirmed"], false);
    let mempool = server.json(&format!("/scripthash/{carol}/txs/mempool"));
    assert_eq!(mempool.as_array().unwrap()[..], txs.as_array().unwrap()[..1]);
    let confirmed = server.json(&format!("/scripthash/{carol}/txs/chain"));
    assert_eq!(confirmed.as_array().unwrap()[..], txs.as_array().unwrap()[1..]);
    let newest = confirmed[0]["txid"].as_str().unwrap();
    let rest = server.json(&format!("/scripthash/{carol}/txs/chain/{newest}"));
    assert_eq!(rest.as_array().unwrap()[..], confirmed.as_array().unwrap()[1..]);
    // After an unconfirmed one nothing confirmed comes, as with Esplora.
    let unconfirmed = txs[0]["txid"].as_str().unwrap();
    assert_eq!(server.text(&format!("/scripthash/{carol}/txs/chain/{unconfirmed}")), "[]");
    if let Ok(address) = Address::from_script(&script, Network::Regtest) {
        let mut by_address = server.json(&format!("/address/{address}"));
        assert_eq!(by_address["address"], address.to_string());
        by_address.as_object_mut().unwrap().remove("address");
        let mut by_hash = stats;
        by_hash.as_object_mut().unwrap().remove("scripthash");
        assert_eq!(by_address, by_hash);
        for path in ["txs", "txs/chain", "txs/mempool", "utxo"] {
            assert_eq!(
                server.json(&format!("/address/{address}/{path}")),
                server.json(&format!("/scripthash/{carol}/{path}"))
            );
        }
        let found = server.json(&format!("/address-prefix/{}", &address.to_string()[..8]));
        assert!(found.as_array().unwrap().contains(&Value::from(address.to_string())), "{found}");
    }
}

#[test]
fn the_mempool_and_what_it_asks_for() {
    let server = Server::of(&script());
    let txid = server.mempool().remove(0);
    assert_eq!(server.json("/mempool/txids"), serde_json::json!([txid]));
    let mempool = server.json("/mempool");
    assert_eq!(mempool["count"], 1);
    let recent = server.json("/mempool/recent");
    assert_eq!(recent[0]["txid"], txid);
    assert_eq!(recent[0]["fee"], mempool["total_fee"]);
    assert_eq!(recent[0]["vsize"], mempool["vsize"]);
    let estimates = server.json("/fee-estimates");
    assert_eq!(estimates["1"], 1.0);
    assert_eq!(estimates.as_object().unwrap().len(), 28);
    let tx = server.json(&format!("/tx/{txid}"));
    let spent = &tx["vin"][0];
    let outspend =
        server.json(&format!("/tx/{}/outspend/{}", spent["txid"].as_str().unwrap(), spent["vout"]));
    assert_eq!(outspend["txid"], txid);
    assert_eq!(outspend["status"]["confirmed"], false);
}

#[test]
fn proofs_of_every_transaction_are_believed_by_the_bitcoin_crate() {
    let server = Server::of(
        &chain()
            .mined_by("alice", [])
            .block([split("alice", 30)])
            .block((0..12).map(|n| pay("alice", "bob", 10_000 + n))),
    );
    let tip = server.text("/blocks/tip/hash");
    let root = server.json(&format!("/block/{tip}"))["merkle_root"].as_str().unwrap().to_owned();
    for (position, txid) in server.json(&format!("/block/{tip}/txids")).as_array().unwrap().iter().enumerate()
    {
        let txid = txid.as_str().unwrap();
        let proof = hex::decode(server.text(&format!("/tx/{txid}/merkleblock-proof"))).unwrap();
        let proof: MerkleBlock = deserialize(&proof).unwrap();
        let (mut txids, mut positions) = (vec![], vec![]);
        proof.extract_matches(&mut txids, &mut positions).unwrap();
        assert_eq!(proof.header.block_hash().to_string(), tip);
        assert_eq!((txids[0].to_string().as_str(), positions[0] as usize), (txid, position));
        assert_eq!(proof.header.merkle_root.to_string(), root);
        let electrum = server.json(&format!("/tx/{txid}/merkle-proof"));
        assert_eq!(electrum["pos"], position);
        assert_eq!(electrum["block_height"], 3);
        assert_eq!(electrum["merkle"].as_array().unwrap().len(), 4);
    }
}

#[test]
fn what_has_not_changed_is_not_sent_again_and_what_is_deep_may_be_kept() {
    let server = Server::of(&script().blocks(100));
    let deep = server.text("/block-height/1");
    let txid = server.text(&format!("/block/{deep}/txid/0"));
    for (path, cache) in [
        ("/blocks/tip/hash".to_owned(), "no-cache"),
        ("/mempool".into(), "no-cache"),
        (format!("/block/{deep}"), "public, max-age=31536000, immutable"),
        (format!("/block/{deep}/raw"), "public, max-age=31536000, immutable"),
        (format!("/tx/{txid}"), "public, max-age=31536000, immutable"),
        ("/block-height/1".into(), "public, max-age=31536000, immutable"),
        ("/block-height/90".into(), "no-cache"),
        ("/openapi.json".into(), "no-cache"),
    ] {
        let first = server.get(&path);
        assert_eq!(first.header("cache-control"), Some(cache), "{path}");
        let tag = first.header("etag").unwrap_or_else(|| panic!("{path} has no ETag"));
        for known in [tag, &format!("W/{tag}"), &format!("\"other\", {tag}"), "*"] {
            let again = server.get_with(&path, &[("If-None-Match", known)]);
            assert_eq!((again.status, again.body.len()), (304, 0), "{path} {known}");
            assert_eq!(again.header("etag"), Some(tag));
        }
        assert_eq!(server.get_with(&path, &[("If-None-Match", "\"other\"")]).status, 200);
        let head = server.head(&path);
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
        assert_eq!(head.header("content-length"), Some(first.body.len().to_string().as_str()), "{path}");
    }
}

#[test]
fn a_page_of_another_origin_may_ask() {
    let server = Server::of(&chain());
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let host = server.address();
    write!(
        stream,
        "OPTIONS /tx HTTP/1.1\r\nHost: {host}\r\nOrigin: http://elsewhere\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    assert!(answer.contains("access-control-allow-methods: GET, HEAD, POST, OPTIONS"), "{answer}");
}

#[test]
fn a_large_block_is_sent_in_parts_and_whole() {
    const COUNT: u64 = 20_000;
    let server = Server::of(&chain().mined_by("alice", []).crowd(COUNT));
    let tip = server.text("/blocks/tip/hash");
    let raw = server.get(&format!("/block/{tip}/raw"));
    assert_eq!(raw.header("content-length"), Some(raw.body.len().to_string().as_str()));
    let block: Block = deserialize(&raw.body).unwrap();
    assert!(block.check_merkle_root());
    let txids: BTreeSet<_> = block.txdata.iter().map(|tx| tx.compute_txid().to_string()).collect();
    let listed = server.json(&format!("/block/{tip}/txids"));
    let listed: BTreeSet<_> =
        listed.as_array().unwrap().iter().map(|txid| txid.as_str().unwrap().to_owned()).collect();
    assert_eq!(listed, txids);
    let last = server.json(&format!("/block/{tip}/txs/{COUNT}"));
    assert_eq!(last[0]["txid"], block.txdata[COUNT as usize].compute_txid().to_string());
    // A client that takes nothing holds a place among the large answers only, and a client that leaves gives it back.
    for _ in 0..40 {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        write!(stream, "GET /block/{tip}/raw HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        stream.read_exact(&mut [0; 16]).unwrap();
    }
    assert_eq!(server.get(&format!("/block/{tip}/raw")).body.len(), raw.body.len());
}

#[test]
fn beyond_the_limit_a_request_is_told_to_come_again() {
    let limits = Limits { reads: 1, waiting: 0, ..Limits::default() };
    let server = Arc::new(Server::with(&chain().mined_by("alice", []).crowd(20_000), limits));
    let tip = server.text("/blocks/tip/hash");
    let txid = server.text(&format!("/block/{tip}/txid/5"));
    let path = format!("/tx/{txid}/merkle-proof");
    let statuses = at_once(&server, 24, &path);
    assert!(statuses.contains(&200), "{statuses:?}");
    assert!(statuses.contains(&503), "{statuses:?}");
    assert!(statuses.iter().all(|status| [200, 503].contains(status)), "{statuses:?}");
    assert_eq!(server.get(&path).status, 200);

    // A proof that takes longer than an answer may.
    let limits = Limits { time: std::time::Duration::ZERO, ..Limits::default() };
    let server = Server::with(&chain(), limits);
    let first = "4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b";
    let answer = server.get(&format!("/tx/{first}/merkle-proof"));
    assert_eq!((answer.status, answer.text().as_str()), (503, "The answer takes too long"));
    assert_eq!(answer.header("retry-after"), Some("1"));
}

#[test]
fn more_unspent_outputs_than_may_be_listed_are_refused_not_cut() {
    let script = chain().mined_by("alice", []).block([split("alice", 30)]);
    let alice = hash_of("alice");
    let count = Server::of(&script).json(&format!("/scripthash/{alice}/utxo")).as_array().unwrap().len();
    assert!(count >= 30);
    for (utxos, status) in [(count, 200), (count - 1, 400)] {
        let server = Server::with(&script, Limits { utxos, ..Limits::default() });
        assert_eq!(server.get(&format!("/scripthash/{alice}/utxo")).status, status, "{utxos}");
    }
}

#[test]
fn the_history_of_a_busy_address_pages_without_gap_or_repetition() {
    let busy = (0..4).fold(chain().mined_by("alice", []).block([split("alice", 140)]), |script, _| {
        script.block((0..30).map(|n| pay("alice", "bob", 1_000 + n)))
    });
    let server = Server::of(&busy);
    let bob = hash_of("bob");
    let mut seen = Vec::new();
    let mut path = format!("/scripthash/{bob}/txs");
    loop {
        let page = server.json(&path);
        let page = page.as_array().unwrap();
        seen.extend(page.iter().map(|tx| tx["txid"].as_str().unwrap().to_owned()));
        if page.len() < 25 {
            break;
        }
        path = format!("/scripthash/{bob}/txs/chain/{}", seen.last().unwrap());
    }
    let distinct: BTreeSet<_> = seen.iter().collect();
    assert_eq!((seen.len(), distinct.len()), (120, 120));
    let stats = server.json(&format!("/scripthash/{bob}"));
    assert_eq!(stats["chain_stats"]["tx_count"], 120);
}

#[test]
fn on_a_chain_without_witnesses_prevouts_are_looked_up_and_weights_are_four_sizes() {
    let script = chain()
        .on(Chain::BsvRegtest)
        .mined_by("alice", [])
        .block([pay("alice", "bob", 500_000)])
        .block([pay("bob", "carol", 100_000), data("bob", &[0x5a; 300_000])]);
    let server = Server::of(&script);
    let tip = server.text("/blocks/tip/hash");
    let page = server.json(&format!("/block/{tip}/txs"));
    assert_eq!(page[0]["fee"], 0);
    for tx in page.as_array().unwrap() {
        assert_eq!(tx["weight"].as_i64().unwrap(), 4 * tx["size"].as_i64().unwrap());
    }
    let paid: i64 = page[1]["vout"].as_array().unwrap().iter().map(|o| o["value"].as_i64().unwrap()).sum();
    let spent = page[1]["vin"][0]["prevout"]["value"].as_i64().expect("looked up");
    assert_eq!(page[1]["fee"].as_i64(), Some(spent - paid));
    let kinds: BTreeSet<_> = page[2]["vout"]
        .as_array()
        .unwrap()
        .iter()
        .map(|o| o["scriptpubkey_type"].as_str().unwrap())
        .collect();
    assert!(kinds.contains("op_return"), "{kinds:?}");
    let txid = page[2]["txid"].as_str().unwrap();
    let raw = server.get(&format!("/tx/{txid}/raw")).body;
    assert_eq!(server.text(&format!("/tx/{txid}/hex")), hex::encode(&raw));
    assert_eq!(raw.len() as i64, page[2]["size"].as_i64().unwrap());
}

#[test]
fn whatever_is_asked_is_answered_or_refused_with_a_reason() {
    let server = Server::of(&script());
    let tip = server.text("/blocks/tip/hash");
    let txid = server.text(&format!("/block/{tip}/txid/0"));
    let known = [tip.as_str(), &txid, "0", "1", "mfWxJ45yp2SFn7UciZyNpvDKrzbhyfKrY8"];
    let part = prop_oneof![
        proptest::sample::select(known.map(str::to_owned).to_vec()),
        "[0-9a-f]{64}",
        "[0-9]{1,30}",
        proptest::collection::vec(any::<u8>(), 0..40)
            .prop_map(|bytes| bytes.iter().map(|byte| format!("%{byte:02x}")).collect::<String>()),
    ];
    let mut asked = operations();
    asked.retain(|operation| operation.method == Method::GET);
    asked.push(Operation { method: Method::GET, template: "/{anything}".into() });
    let asked = (proptest::sample::select(asked), proptest::collection::vec(part, 5));
    let mut runner = TestRunner::new(Config { cases: 600, failure_persistence: None, ..Config::default() });
    runner
        .run(&asked, |(operation, parts)| {
            let mut parts = parts.into_iter();
            let path = operation.path(|_| parts.next().expect("no request has more"));
            let answer = server.get(&path);
            prop_assert!([200, 400, 404].contains(&answer.status), "{}: {}", answer.status, answer.text());
            prop_assert!(answer.status == 200 || !answer.text().is_empty());
            Ok(())
        })
        .unwrap();
}
