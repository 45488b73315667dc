//! The node source, against real nodes.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

mod part;

use std::sync::atomic::Ordering;
use std::time::Duration;

use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, Txid};
use part::{RealNode, cutting_proxy, hear, on_each_node, on_node, until_ok};
use sluice_body::{BlockReader, Limits, SpentReader, Summary, parse_transaction, transaction};
use sluice_schemas::{Flavour, Network};
use sluice_sources::node::{Credentials, NodeConfig, NodeSource, Zmq};
use sluice_sources::{Error, Notice, Source, Tip};
use url::Url;

fn is_refused(result: Result<NodeSource, Error>) -> String {
    match result {
        Err(error @ Error::Refused { .. }) => error.to_string(),
        Err(error) => panic!("not refused but {error}"),
        Ok(_) => panic!("not refused"),
    }
}

/// Reads a body to its end; txids, and fees where the node told what is spent.
fn read(source: &NodeSource, hash: &BlockHash) -> (Vec<Txid>, Vec<Option<i64>>, Summary) {
    let limits = Limits::of(source.network().flavour());
    let body = source.body(hash).unwrap();
    let size = body.size;
    let mut reader = BlockReader::new(body.bytes, *hash, limits).unwrap();
    let mut spent = body.spent.map(|spent| SpentReader::new(spent, limits));
    let (mut txids, mut fees) = (Vec::new(), Vec::new());
    while let Some(tx) = reader.next_tx().unwrap() {
        let spent = spent.as_mut().map(|spent| spent.next_for(&tx).unwrap());
        fees.push(transaction(&tx, source.network(), spent.as_deref()).fee);
        txids.push(tx.txid);
    }
    if let Some(spent) = spent {
        spent.finish().unwrap();
    }
    let summary = reader.finish().unwrap();
    assert_eq!(size.unwrap_or(summary.size), summary.size);
    (txids, fees, summary)
}

fn added(notices: &[Notice], wanted: &Txid) -> bool {
    notices.iter().any(|notice| matches!(notice, Notice::Added { txid, .. } if txid == wanted))
}

fn tip_changed(notices: &[Notice]) -> bool {
    notices.contains(&Notice::TipChanged)
}

#[test]
fn a_node_says_what_it_is_and_where_it_stands() {
    on_each_node("", |node| {
        let source = node.source();
        assert_eq!(source.network(), node.network());
        assert_eq!(source.id(), format!("node:127.0.0.1:{}", node.config().url.port().unwrap()));
        let hash = node.mine(1)[0];
        assert_eq!(source.tip().unwrap(), Tip { hash, height: 102 });

        let wrong = NodeConfig { network: Some(Network::BtcMainnet), ..node.config() };
        let reason = is_refused(NodeSource::connect(wrong));
        assert!(reason.contains("btc-mainnet") && reason.contains(node.network().name()), "{reason}");

        let credentials = Credentials::UserPassword { user: "alice".into(), password: "wrong".into() };
        let reason = is_refused(NodeSource::connect(NodeConfig { credentials, ..node.config() }));
        assert!(reason.contains("alice") && !reason.contains("wrong"), "{reason}");

        let credentials = Credentials::CookieFile("/nonexistent/.cookie".into());
        let error = NodeSource::connect(NodeConfig { credentials, ..node.config() }).err().unwrap();
        assert!(error.is_transient() && error.to_string().contains("/nonexistent/.cookie"), "{error}");
    });
}

#[test]
fn a_node_that_does_not_answer_is_unreachable_for_now() {
    let url = Url::parse("http://127.0.0.1:1").unwrap();
    let credentials = Credentials::UserPassword { user: "alice".into(), password: "secret".into() };
    let error = NodeSource::connect(NodeConfig::new(url, credentials.clone())).err().unwrap();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert!(!error.to_string().contains("secret"));

    let url = Url::parse("http://bob:secret@127.0.0.1:1").unwrap();
    let reason = is_refused(NodeSource::connect(NodeConfig::new(url, credentials)));
    assert!(reason.contains("credentials") && !reason.contains("secret"), "{reason}");
}

/// Headers, whichever way they come.
fn follow_headers(node: &RealNode) {
    let source = node.source();
    let genesis = source.network().genesis();
    let before = source.tip().unwrap().height as usize;
    let tip = *node.mine_elsewhere(2201 - before).last().unwrap();
    let all = source.headers(&[], 5000).unwrap();
    assert_eq!(all.after, None);
    assert_eq!(all.headers.len(), 2202, "more than a node gives at once");
    assert_eq!(all.headers[0].block_hash(), genesis);
    assert_eq!(all.headers[2201].block_hash(), tip);
    assert_eq!(source.headers(&[], 3).unwrap().headers, all.headers[..3]);

    let hash = |height: usize| all.headers[height].block_hash();
    let some = source.headers(&[BlockHash::all_zeros(), hash(100), hash(90)], 10).unwrap();
    assert_eq!((some.after, &some.headers[..]), (Some(hash(100)), &all.headers[101..111]));
    let none = source.headers(&[hash(2201)], 10).unwrap();
    assert_eq!((none.after, none.headers.len()), (Some(hash(2201)), 0));

    // A reorganisation: our tip has left the best chain.
    node.cli(&["invalidateblock", &hash(2200).to_string()]);
    let others = node.mine(3);
    let fork = source.headers(&[hash(2201), hash(2200), hash(2199), hash(2198), genesis], 10).unwrap();
    assert_eq!(fork.after, Some(hash(2199)));
    assert_eq!(fork.headers.iter().map(|header| header.block_hash()).collect::<Vec<_>>(), others);
}

#[test]
fn headers_follow_the_newest_block_of_the_locator_on_the_best_chain() {
    on_each_node("", |node| follow_headers(&node));
}

#[test]
fn a_node_without_rest_is_followed_by_rpc() {
    on_each_node("-rest=0", |node| {
        let txid = node.pay();
        let hash = node.mine(1)[0];
        let source = node.source();
        assert!(read(&source, &hash).0.contains(&txid));
        let unknown = source.body(&BlockHash::all_zeros()).err().unwrap();
        assert!(matches!(unknown, Error::NoSuchBlock { .. }), "{unknown}");
        follow_headers(&node);
    });
}

#[test]
fn a_body_is_streamed_with_what_it_spends_where_the_node_can_tell() {
    on_each_node("", |node| {
        let source = node.source();
        let payments = [node.pay(), node.pay(), node.pay()];
        let hash = node.mine(1)[0];
        let (txids, fees, summary) = read(&source, &hash);
        assert_eq!(summary.tx_count, 4);
        assert!(payments.iter().all(|payment| txids[1..].contains(payment)));
        assert_eq!(fees[0], None);
        match node.flavour {
            Flavour::Btc => assert!(fees[1..].iter().all(|fee| fee.is_some_and(|fee| fee > 0)), "{fees:?}"),
            Flavour::Bsv => assert_eq!(fees, [None; 4]),
        }
        let (txids, _, _) = read(&source, &source.network().genesis());
        assert_eq!(txids[0].to_string(), "4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b");

        let error = source.body(&BlockHash::all_zeros()).err().unwrap();
        assert!(
            matches!(error, Error::NoSuchBlock { hash, .. } if hash == BlockHash::all_zeros()),
            "{error}"
        );
    });
}

#[test]
fn a_download_that_breaks_off_goes_on_where_it_was() {
    on_each_node("", |node| {
        node.mine(5);
        for _ in 0..5 {
            node.pay_with_data(40_000);
        }
        let hash = node.mine(1)[0];
        let (url, cuts) = cutting_proxy(&node.config().url, 100_000, 3);
        let source = NodeSource::connect(NodeConfig { url, zmq: Zmq::Off, ..node.config() }).unwrap();
        let (txids, _, summary) = read(&source, &hash);
        assert_eq!((txids.len(), cuts.load(Ordering::SeqCst)), (6, 0));
        assert!(summary.size > 200_000);
    });
}

#[test]
fn the_mempool_and_its_transactions_can_be_asked_for() {
    on_each_node("", |node| {
        let source = node.source();
        let mut payments = vec![node.pay(), node.pay()];
        let mut snapshot = source.mempool().unwrap();
        snapshot.txids.sort();
        payments.sort();
        assert_eq!(snapshot.txids, payments);
        assert_eq!(snapshot.sequence, (node.flavour == Flavour::Btc).then_some(2));

        let unknown = Txid::all_zeros();
        let asked: Vec<Txid> = (0..600).map(|n| if n % 3 == 2 { unknown } else { payments[n % 3] }).collect();
        let raw = source.transactions(&asked).unwrap();
        assert_eq!(raw.len(), asked.len());
        for (txid, raw) in asked.iter().zip(raw) {
            let found = raw.map(|raw| parse_transaction(raw, node.flavour).unwrap().txid);
            assert_eq!(found, (*txid != unknown).then_some(*txid));
        }
    });
}

#[test]
fn transactions_that_are_too_large_for_one_answer_come_in_parts() {
    on_each_node("", |node| {
        node.mine(3);
        let txids = [node.pay(), node.pay_with_data(40_000), node.pay_with_data(30_000), Txid::all_zeros()];
        // Two digits a byte: the first of the large ones does not even fit alone.
        let config = NodeConfig { max_batch_bytes: 70_000, zmq: Zmq::Off, ..node.config() };
        let raw = NodeSource::connect(config).unwrap().transactions(&txids).unwrap();
        let found = raw.into_iter().map(|raw| Some(parse_transaction(raw?, node.flavour).unwrap().txid));
        assert_eq!(found.collect::<Vec<_>>(), [Some(txids[0]), Some(txids[1]), Some(txids[2]), None]);
    });
}

#[test]
fn the_feed_tells_of_transactions_and_blocks() {
    on_each_node("", |node| {
        let source = node.source();
        let mut feed = source.feed().unwrap();
        let first = node.pay();
        let second = node.pay();
        let heard = hear(&mut *feed, |heard| added(heard, &second));
        assert!(added(&heard, &first), "{heard:?}");
        // Of blocks it may tell late, even of those before.
        for notice in heard.iter().filter(|notice| **notice != Notice::TipChanged) {
            let Notice::Added { txid, sequence, raw } = notice else { panic!("{notice:?}") };
            if let Some(raw) = raw {
                assert_eq!(parse_transaction(raw.clone(), node.flavour).unwrap().txid, *txid);
            }
            assert!(raw.is_some() || node.flavour == Flavour::Btc, "Bitcoin SV sends the bytes along");
            assert_eq!(sequence.is_some(), node.flavour == Flavour::Btc);
        }
        let hash = node.mine(1)[0];
        let heard = hear(&mut *feed, tip_changed);
        assert!(
            !heard.iter().any(|notice| matches!(notice, Notice::Removed { .. } | Notice::Gap { .. })),
            "{heard:?}"
        );
        assert_eq!(source.tip().unwrap().hash, hash);

        // The block leaves the best chain, and its transactions come back.
        node.cli(&["invalidateblock", &hash.to_string()]);
        hear(&mut *feed, |heard| added(heard, &first) && added(heard, &second));
    });
}

#[test]
fn numbers_of_mempool_changes_go_on_from_those_of_the_snapshot() {
    on_node(Flavour::Btc, "", |node| {
        let source = node.source();
        node.pay();
        let mut feed = source.feed().unwrap();
        let snapshot = source.mempool().unwrap().sequence.unwrap();
        let txid = node.pay();
        let heard = hear(&mut *feed, |heard| added(heard, &txid));
        let numbers = heard.iter().filter_map(|notice| match notice {
            Notice::Added { sequence, .. } => Some(*sequence),
            _ => None,
        });
        assert_eq!(numbers.collect::<Vec<_>>(), [Some(snapshot + 1)]);
    });
}

#[test]
fn a_replaced_transaction_leaves_before_the_one_that_replaces_it_comes() {
    on_node(Flavour::Btc, "", |node| {
        let mut feed = node.source().feed().unwrap();
        let replaced = node.pay();
        let json: serde_json::Value =
            serde_json::from_str(&node.cli(&["bumpfee", &replaced.to_string()])).unwrap();
        let by: Txid = json["txid"].as_str().unwrap().parse().unwrap();
        let heard = hear(&mut *feed, |heard| added(heard, &by));
        let left = heard
            .iter()
            .position(|notice| matches!(notice, Notice::Removed { txid, .. } if *txid == replaced));
        let came =
            heard.iter().position(|notice| matches!(notice, Notice::Added { txid, .. } if *txid == by));
        assert!(left.is_some() && left < came, "{heard:?}");
    });
}

#[test]
fn a_transaction_that_is_not_final_is_not_told_of() {
    on_node(Flavour::Bsv, "", |node| {
        let source = node.source();
        node.mine(2);
        let mut feed = source.feed().unwrap();
        let waiting = node.pay_at(100_000, 5);
        let final_by_height = node.pay_at(50, 5);
        let last = node.pay();
        let both = |heard: &[Notice]| added(heard, &final_by_height) && added(heard, &last);
        let heard = hear(&mut *feed, both);
        assert!(!added(&heard, &waiting), "{heard:?}");
        assert!(!source.mempool().unwrap().txids.contains(&waiting));
    });
}

#[test]
fn without_zmq_the_best_block_is_asked_for() {
    on_each_node("", |node| {
        let config = NodeConfig { zmq: Zmq::Off, fast_poll: Duration::from_millis(50), ..node.config() };
        let mut feed = NodeSource::connect(config).unwrap().feed().unwrap();
        node.pay();
        node.mine(1);
        assert_eq!(hear(&mut *feed, tip_changed), [Notice::TipChanged]);
    });
}

#[test]
fn numbers_that_a_publisher_skips_are_told_exactly() {
    on_each_node("", |node| {
        let publisher = zmq::Context::new().socket(zmq::PUB).unwrap();
        publisher.bind("tcp://127.0.0.1:*").unwrap();
        let endpoint = publisher.get_last_endpoint().unwrap().unwrap();
        let config = NodeConfig { zmq: Zmq::Endpoints(vec![endpoint]), ..node.config() };
        let mut feed = NodeSource::connect(config).unwrap().feed().unwrap();
        let topic = if node.flavour == Flavour::Btc { "hashblock" } else { "hashblock2" };
        for number in [7u32, 8, 12, 0] {
            publisher.send_multipart([topic.as_bytes(), &[1; 32], &number.to_le_bytes()], 0).unwrap();
        }
        let heard =
            hear(&mut *feed, |heard| heard.iter().any(|notice| matches!(notice, Notice::Restarted { .. })));
        let findings: Vec<_> = heard.into_iter().filter(|notice| *notice != Notice::TipChanged).collect();
        assert_eq!(
            findings,
            [Notice::Gap { feed: topic, from: 9, to: 11 }, Notice::Restarted { feed: topic }]
        );
    });
}

#[test]
fn a_restart_of_the_node_is_told_of_and_survived() {
    on_each_node("", |node| {
        let config = NodeConfig {
            slow_poll: Duration::from_millis(100),
            fast_poll: Duration::from_millis(100),
            zmq: Zmq::Endpoints(vec![node.zmq_url()]),
            ..node.config()
        };
        let source = NodeSource::connect(config).unwrap();
        let mut feed = source.feed().unwrap();
        node.pay();
        node.mine(1);
        hear(&mut *feed, tip_changed);

        node.stop();
        let error = (0..100).find_map(|_| feed.wait(Duration::from_millis(100)).err()).unwrap();
        assert!(error.is_transient(), "{error}");
        assert!(source.tip().unwrap_err().is_transient());
        node.up();
        // A new cookie, and numbers that begin again.
        let tip = until_ok(|| source.tip());
        let feeds: &[_] = match node.flavour {
            Flavour::Btc => &["sequence"],
            Flavour::Bsv => &["hashblock2", "rawtx2", "removedfrommempoolblock"],
        };
        let restarted =
            |heard: &[Notice]| feeds.iter().all(|feed| heard.contains(&Notice::Restarted { feed }));
        let heard = hear(&mut *feed, restarted);
        assert!(
            tip_changed(&heard) && !heard.iter().any(|notice| matches!(notice, Notice::Gap { .. })),
            "{heard:?}"
        );
        assert!(read(&source, &tip.hash).2.tx_count > 1);
        let txid = node.pay();
        hear(&mut *feed, |heard| added(heard, &txid));
    });
}
