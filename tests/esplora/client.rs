//! Every call of the `esplora-client` crate, each answer compared with the node's own values.

use std::collections::BTreeSet;

use electrum_client::GetMerkleRes;
use electrum_client::utils::validate_merkle_proof;
use sluice_test_support::bitcoin::consensus::encode::{deserialize, serialize_hex};
use sluice_test_support::bitcoin::hashes::Hash;
use sluice_test_support::bitcoin::hex::FromHex;
use sluice_test_support::bitcoin::{
    self, Address, Amount, Block, BlockHash, MerkleBlock, Network, ScriptBuf, Transaction, TxMerkleNode, Txid,
};
use sluice_test_support::serde_json::{Value, json};
use sluice_test_support::{Flavour, Node};

use crate::served::Served;

/// Bytes that the client can decode at most: what is larger is compared without it.
const LARGEST_DECODED: usize = 4_000_000;

/// The satoshis of an amount in a node's JSON. Its digits are exact, a float of them is not.
fn satoshis(amount: &Value) -> u64 {
    Amount::from_str_in(&format!("{:.8}", amount.as_f64().unwrap()), bitcoin::Denomination::Bitcoin)
        .unwrap()
        .to_sat()
}

/// A node's transaction with all it tells.
fn told(node: &Node, txid: &Txid, block: Option<&BlockHash>) -> Value {
    let verbose = match node.flavour {
        Flavour::Btc if block.is_some() => json!(2),
        Flavour::Btc => json!(1),
        Flavour::Bsv => json!(true),
    };
    match (node.flavour, block) {
        (Flavour::Btc, Some(block)) => {
            node.call("getrawtransaction", json!([txid.to_string(), verbose, block.to_string()]))
        }
        (_, None) => node.call("getrawtransaction", json!([txid.to_string(), verbose])),
        (Flavour::Bsv, Some(block)) => {
            let block = node.call("getblock", json!([block.to_string(), 2]));
            let txs = block["tx"].as_array().unwrap();
            txs.iter().find(|tx| tx["txid"] == txid.to_string()).unwrap().clone()
        }
    }
}

/// Everything about blocks, on the best chain from `from` on.
pub(crate) fn blocks(served: &Served, node: &Node, from: u32) {
    let client = &served.client;
    let chain = node.best_chain();
    assert_eq!(client.get_height().unwrap() as usize, chain.len() - 1);
    assert_eq!(client.get_tip_hash().unwrap(), *chain.last().unwrap());
    let newest: Vec<_> = client.get_block_infos(None).unwrap().into_iter().map(|block| block.id).collect();
    let wanted: Vec<_> = chain.iter().rev().take(10).copied().collect();
    assert_eq!(newest, wanted);
    #[allow(deprecated)]
    let summaries: Vec<_> = client.get_blocks(Some(12)).unwrap().into_iter().map(|block| block.id).collect();
    assert_eq!(summaries, chain[3..=12].iter().rev().copied().collect::<Vec<_>>());
    for (height, hash) in (0..).zip(&chain).skip(from as usize) {
        assert_eq!(client.get_block_hash(height).unwrap(), *hash);
        let header = node.call("getblockheader", json!([hash.to_string(), true]));
        let raw = node.call("getblockheader", json!([hash.to_string(), false]));
        assert_eq!(serialize_hex(&client.get_header_by_hash(hash).unwrap()), raw);
        let info = client.get_block_info(hash).unwrap();
        let block = node.call("getblock", json!([hash.to_string(), 1]));
        assert_eq!(json!(info.height), header["height"]);
        assert_eq!(json!(info.timestamp), header["time"]);
        assert_eq!(json!(info.mediantime), header["mediantime"]);
        assert_eq!(json!(info.nonce), header["nonce"]);
        assert_eq!(json!(info.merkle_root.to_string()), header["merkleroot"]);
        assert_eq!(json!(format!("{:08x}", info.bits.to_consensus())), header["bits"]);
        assert_eq!(json!(info.version.to_consensus()), header["version"]);
        assert!((info.difficulty / header["difficulty"].as_f64().unwrap() - 1.0).abs() < 1e-9);
        assert_eq!(json!(info.size), block["size"]);
        let weight = match node.flavour {
            Flavour::Btc => block["weight"].clone(),
            Flavour::Bsv => json!(4 * info.size),
        };
        assert_eq!(json!(info.weight), weight);
        let txids = node.txids(hash);
        assert_eq!(info.tx_count as usize, txids.len());
        assert_eq!(client.get_block_txids(hash).unwrap(), txids);
        assert_eq!(client.get_txid_at_block_index(hash, txids.len() - 1).unwrap().as_ref(), txids.last());
        assert_eq!(client.get_txid_at_block_index(hash, txids.len()).unwrap(), None);
        let status = client.get_block_status(hash).unwrap();
        assert!(status.in_best_chain);
        assert_eq!(
            (status.height, status.next_best),
            (Some(height), chain.get(height as usize + 1).copied())
        );
        let page: Vec<_> = client.get_block_txs(hash, None).unwrap().into_iter().map(|tx| tx.txid).collect();
        assert_eq!(page[..], txids[..txids.len().min(25)]);
        if txids.len() > 25 {
            let second = client.get_block_txs(hash, Some(25)).unwrap();
            assert_eq!(second[0].txid, txids[25]);
        }
        let raw = node.call("getblock", json!([hash.to_string(), 0]));
        if info.size <= LARGEST_DECODED {
            let ours = client.get_block_by_hash(hash).unwrap().unwrap();
            assert_eq!(serialize_hex(&ours), raw, "block {height}");
        }
        let ours: Block = deserialize(&served.bytes(&format!("/block/{hash}/raw"))).unwrap();
        assert_eq!(serialize_hex(&ours), raw, "block {height}");
    }
}

/// Everything about one transaction; `fee` where it is known beforehand.
pub(crate) fn transaction(
    served: &Served,
    node: &Node,
    txid: &Txid,
    block: Option<&BlockHash>,
    fee: Option<u64>,
) {
    let client = &served.client;
    let theirs = told(node, txid, block);
    let hex = match theirs["hex"].as_str() {
        Some(hex) => hex.to_owned(),
        None => node.call("getrawtransaction", json!([txid.to_string(), false])).as_str().unwrap().to_owned(),
    };
    let raw: Transaction = deserialize(&Vec::from_hex(&hex).unwrap()).unwrap();
    if hex.len() / 2 <= LARGEST_DECODED {
        assert_eq!(client.get_tx(txid).unwrap().as_ref(), Some(&raw));
        assert_eq!(client.get_tx_no_opt(txid).unwrap(), raw);
    }
    assert_eq!(deserialize::<Transaction>(&served.bytes(&format!("/tx/{txid}/raw"))).unwrap(), raw);
    assert_eq!(served.text(&format!("/tx/{txid}/hex")), hex);

    let ours = client.get_tx_info(txid).unwrap().unwrap();
    assert_eq!(ours.to_tx(), raw, "the fields are those of the raw transaction");
    assert_eq!(json!(ours.size), theirs["size"]);
    match node.flavour {
        Flavour::Btc => assert_eq!(json!(ours.weight), theirs["weight"]),
        Flavour::Bsv => assert_eq!(ours.weight, 4 * ours.size as u64),
    }
    if let Some(fee) = fee {
        assert_eq!(ours.fee, fee);
    }
    let json = served.json(&format!("/tx/{txid}"));
    for (ours, theirs) in json["vout"].as_array().unwrap().iter().zip(theirs["vout"].as_array().unwrap()) {
        output(ours, &theirs["scriptPubKey"], satoshis(&theirs["value"]));
    }
    let inputs = json["vin"].as_array().unwrap().iter().zip(theirs["vin"].as_array().unwrap());
    for (position, (ours, theirs)) in inputs.enumerate() {
        assert_eq!(ours["is_coinbase"], theirs.get("coinbase").is_some());
        assert_eq!(ours["sequence"], theirs["sequence"]);
        assert_eq!(ours.get("witness"), theirs.get("txinwitness"));
        if let Some(prevout) = theirs.get("prevout") {
            output(&ours["prevout"], &prevout["scriptPubKey"], satoshis(&prevout["value"]));
        }
        if !raw.is_coinbase() {
            let spent = raw.input[position].previous_output;
            let outspend = client.get_output_status(&spent.txid, u64::from(spent.vout)).unwrap().unwrap();
            assert!(outspend.spent);
            assert_eq!((outspend.txid, outspend.vin), (Some(*txid), Some(position as u64)));
        }
    }
    assert_eq!(client.get_tx_outspends(txid).unwrap().len(), raw.output.len());
    let status = client.get_tx_status(txid).unwrap();
    assert_eq!(ours.status, status);
    assert_eq!((status.confirmed, status.block_hash.as_ref()), (block.is_some(), block));
    match block {
        None => {
            assert_eq!(client.get_merkle_proof(txid).unwrap(), None);
            assert_eq!(client.get_merkle_block(txid).unwrap(), None);
        }
        Some(block) => proofs(served, node, txid, block),
    }
}

/// An output against a node's `scriptPubKey`.
fn output(ours: &Value, theirs: &Value, value: u64) {
    assert_eq!(ours["value"], value);
    assert_eq!(ours["scriptpubkey"], theirs["hex"]);
    let script = ScriptBuf::from_hex(theirs["hex"].as_str().unwrap()).unwrap();
    assert_eq!(ours["scriptpubkey_asm"], script.to_asm_string());
    let address =
        theirs.get("address").or_else(|| theirs["addresses"].as_array().and_then(|all| all.first()));
    let named = match theirs["type"].as_str().unwrap() {
        "pubkeyhash" => "p2pkh",
        "scripthash" => "p2sh",
        "pubkey" => return assert_eq!(ours["scriptpubkey_type"], "p2pk"),
        "nulldata" => "op_return",
        "witness_v0_keyhash" => "v0_p2wpkh",
        "witness_v0_scripthash" => "v0_p2wsh",
        "witness_v1_taproot" => "v1_p2tr",
        _ if script.is_empty() => "empty",
        // A node calls data non-standard where it is not only pushes.
        _ if ours["scriptpubkey_type"] == "op_return" => "op_return",
        _ => "unknown",
    };
    assert_eq!(ours["scriptpubkey_type"], named);
    assert_eq!(ours.get("scriptpubkey_address"), address, "{theirs}");
}

/// Where the first hash of a `merkleblock` begins, in digits: after the header, the number of transactions and that of
/// hashes.
const FIRST_HASH: usize = 2 * (80 + 4 + 1);

/// The proofs of a confirmed transaction, checked by the node, the `bitcoin` crate and `electrum-client`.
fn proofs(served: &Served, node: &Node, txid: &Txid, block: &BlockHash) {
    let ours = served.text(&format!("/tx/{txid}/merkleblock-proof"));
    assert_eq!(node.call("gettxoutproof", json!([[txid.to_string()], block.to_string()])), ours);
    assert_eq!(node.call("verifytxoutproof", json!([ours])), json!([txid.to_string()]));
    let mut damaged = ours;
    let digit = if damaged[FIRST_HASH..].starts_with('0') { "1" } else { "0" };
    damaged.replace_range(FIRST_HASH..=FIRST_HASH, digit);
    assert_eq!(node.call("verifytxoutproof", json!([damaged])), json!([]), "one digit is another");
    let proof: MerkleBlock = served.client.get_merkle_block(txid).unwrap().unwrap();
    let (mut matches, mut positions) = (vec![], vec![]);
    proof.extract_matches(&mut matches, &mut positions).unwrap();
    assert_eq!((matches, proof.header.block_hash()), (vec![*txid], *block));
    let electrum = served.client.get_merkle_proof(txid).unwrap().unwrap();
    assert_eq!(electrum.pos, positions[0] as usize);
    assert_eq!(served.client.get_block_hash(electrum.block_height).unwrap(), *block);
    believed_by_electrum_client(served, txid, &proof.header.merkle_root);
}

/// The proof holds for what it is of, and for nothing else.
fn believed_by_electrum_client(served: &Served, txid: &Txid, root: &TxMerkleNode) {
    let told = served.json(&format!("/tx/{txid}/merkle-proof"));
    let proof: GetMerkleRes = sluice_test_support::serde_json::from_value(told).unwrap();
    assert!(validate_merkle_proof(txid, root, &proof));
    assert!(!validate_merkle_proof(&Txid::all_zeros(), root, &proof), "another transaction");
    for step in 0..proof.merkle.len() {
        let mut damaged = proof.clone();
        damaged.merkle[step][0] ^= 1;
        assert!(!validate_merkle_proof(txid, root, &damaged), "step {step} is another");
        let short = GetMerkleRes { merkle: proof.merkle[..step].to_vec(), ..proof };
        assert!(!validate_merkle_proof(txid, root, &short), "{step} steps of {}", proof.merkle.len());
    }
    // What has nothing beside it is paired with itself: only there, left and right are the same.
    let beside = proof.merkle.first().map(|step| step.iter().rev().copied().collect::<Vec<_>>());
    let is_alone = beside.is_none_or(|beside| beside == txid.as_byte_array());
    let swapped = GetMerkleRes { pos: proof.pos ^ 1, ..proof };
    assert_eq!(validate_merkle_proof(txid, root, &swapped), is_alone, "another position");
}

/// Everything about a script.
pub(crate) fn script(served: &Served, node: &Node, script: &ScriptBuf) {
    let client = &served.client;
    let stats = client.get_scripthash_stats(script).unwrap();
    let pages = pages(|last| client.scripthash_txs(script, last).unwrap());
    let unconfirmed = client.get_mempool_scripthash_txs(script).unwrap();
    assert_eq!(pages.iter().filter(|tx| !tx.status.confirmed).count(), unconfirmed.len());
    let confirmed = pages.iter().filter(|tx| tx.status.confirmed).count();
    assert_eq!(stats.chain_stats.tx_count as usize, confirmed);
    assert_eq!(stats.mempool_stats.tx_count as usize, unconfirmed.len());
    let utxos = client.get_scripthash_utxos(script).unwrap();
    type Utxos<'a> = Vec<&'a esplora_client::Utxo>;
    let (confirmed, waiting): (Utxos<'_>, Utxos<'_>) = utxos.iter().partition(|utxo| utxo.status.confirmed);
    for utxo in &confirmed {
        let theirs = node.call("gettxout", json!([utxo.txid.to_string(), utxo.vout, true]));
        assert_eq!(satoshis(&theirs["value"]), utxo.value.to_sat());
    }
    if node.flavour == Flavour::Btc {
        let scan = node.call("scantxoutset", json!(["start", [format!("raw({})", script.to_hex_string())]]));
        let unspent =
            scan["unspents"].as_array().unwrap().iter().map(|one| (one["txid"].clone(), one["vout"].clone()));
        let theirs: BTreeSet<_> = unspent.map(|(txid, vout)| format!("{txid}:{vout}")).collect();
        let by_mempool = |one: &String| {
            let (txid, vout) = one.rsplit_once(':').unwrap();
            client
                .get_output_status(&txid.trim_matches('"').parse().unwrap(), vout.parse().unwrap())
                .unwrap()
                .unwrap()
                .spent
        };
        let theirs: BTreeSet<_> = theirs.into_iter().filter(|one| !by_mempool(one)).collect();
        let ours: BTreeSet<_> =
            confirmed.iter().map(|utxo| format!("\"{}\":{}", utxo.txid, utxo.vout)).collect();
        assert_eq!(ours, theirs, "as the node's scantxoutset, without what its mempool spends");
        let balance = stats.chain_stats.funded_txo_sum - stats.chain_stats.spent_txo_sum;
        assert_eq!(balance, satoshis(&scan["total_amount"]));
    }
    for utxo in waiting {
        assert!(node.mempool().contains(&utxo.txid));
    }
    let Ok(address) = Address::from_script(script, Network::Regtest) else { return };
    let by_address = client.get_address_stats(&address).unwrap();
    assert_eq!(by_address.address, address.to_string());
    assert_eq!((by_address.chain_stats, by_address.mempool_stats), (stats.chain_stats, stats.mempool_stats));
    assert_eq!(self::pages(|last| client.get_address_txs(&address, last).unwrap()), pages);
    assert_eq!(client.get_mempool_address_txs(&address).unwrap(), unconfirmed);
    assert_eq!(client.get_address_utxos(&address).unwrap(), utxos);
}

/// All pages; one that is not full is the last.
fn pages(mut page: impl FnMut(Option<Txid>) -> Vec<esplora_client::Tx>) -> Vec<esplora_client::Tx> {
    let mut all = Vec::new();
    loop {
        let next = page(all.last().map(|tx: &esplora_client::Tx| tx.txid));
        let is_last = next.len() < 25;
        all.extend(next);
        if is_last {
            return all;
        }
    }
}

/// The mempool as a whole.
pub(crate) fn mempool(served: &Served, node: &Node) {
    let client = &served.client;
    let txids: BTreeSet<_> = client.get_mempool_txids().unwrap().into_iter().collect();
    assert_eq!(txids, node.mempool());
    let stats = client.get_mempool_stats().unwrap();
    let info = node.call("getmempoolinfo", json!([]));
    assert_eq!(json!(stats.count), info["size"]);
    assert_eq!(json!(stats.vsize), info["bytes"]);
    let verbose = node.call("getrawmempool", json!([true]));
    let fee_of =
        |entry: &Value| satoshis(if entry["fee"].is_null() { &entry["fees"]["base"] } else { &entry["fee"] });
    let fees: u64 = verbose.as_object().unwrap().values().map(fee_of).sum();
    assert_eq!(stats.total_fee, fees);
    for recent in client.get_mempool_recent_txs().unwrap() {
        let entry = &verbose[recent.txid.to_string()];
        assert_eq!(recent.fee, fee_of(entry));
        let size = if entry["vsize"].is_null() { &entry["size"] } else { &entry["vsize"] };
        assert_eq!(json!(recent.vsize), *size);
    }
    let estimates = client.get_fee_estimates().unwrap();
    assert!(estimates.contains_key(&1) && estimates.contains_key(&1008), "{estimates:?}");
}
