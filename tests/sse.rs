//! The event stream, over real sockets: whoever comes back with the last id misses nothing and is told nothing twice.
#![allow(clippy::unwrap_used)] // clippy does not see helper functions as tests

mod event_stream;
mod served;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bitcoin::{Address, Network};
use event_stream::{Fold, Stream, request};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use served::Served;
use sluice_consumer::Cursor;
use sluice_consumer_testkit::{
    PEOPLE, Script, TestLog, Tx, chain, data, returned, script_of, share, waiting,
};
use sluice_indexer::ScriptHash;
use sluice_indexer::server::Patience;
use sluice_log::chain::ChainLog;
use sluice_schemas::{Action, ChainEvent, Flavour, MempoolEvent, RemovalReason, Transaction};
use sluice_test_support::soon;

/// Partitions of the log's topics.
const PARTITIONS: i32 = 3;

/// A client that is cut off again and again, after any number of bytes, until it is told to end.
fn follow_with_cuts(
    address: SocketAddr,
    query: &str,
    seed: u64,
    mut fold: Fold,
    done: impl Fn(&Fold) -> bool,
) -> Fold {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut cuts = 0;
    while !done(&fold) {
        let mut stream = Stream::open(address, query, fold.last_id.as_deref());
        assert_eq!(stream.status, 200);
        let limit = rng.random_range(0..12);
        for _ in 0..limit {
            match stream.next() {
                Some(Some(event)) => fold.take(&event),
                Some(None) => break,
                None if done(&fold) => break,
                None => {}
            }
        }
        // Half an event, perhaps, is thrown away with the socket.
        let mut rest = vec![0; rng.random_range(1..300)];
        let _ = stream.reader.get_mut().read(&mut rest);
        cuts += 1;
    }
    assert!(cuts > 1, "it was cut off");
    fold
}

/// A little traffic: what may happen next on a log.
fn traffic(rng: &mut ChaCha8Rng) -> Script {
    let person = |rng: &mut ChaCha8Rng| PEOPLE[rng.random_range(0..PEOPLE.len())];
    let transactions: Vec<Tx> = (0..rng.random_range(0..4))
        .map(|_| share(person(rng), person(rng), rng.random_range(1..60)))
        .collect();
    match rng.random_range(0..10) {
        0..4 => chain().added(transactions),
        4..6 => chain().mined_by(person(rng), [waiting()]),
        6 => chain().mined_by(person(rng), transactions),
        7 => chain()
            .reorg(rng.random_range(1..4))
            .mined_by(person(rng), [returned()])
            .blocks(rng.random_range(0..3)),
        8 => chain().removed(RemovalReason::Evicted),
        _ if rng.random_bool(0.3) => chain().takeover(),
        _ => chain().added([data(person(rng), b"hello")]),
    }
}

fn begun() -> TestLog {
    PEOPLE
        .iter()
        .fold(chain().partitions(PARTITIONS), |script, name| script.mined_by(name, []))
        .takeover()
        .build()
}

fn chain_events(log: &ChainLog, after: i64) -> Vec<ChainEvent> {
    let events = log.events::<ChainEvent>(&log.topics.blocks, 0, 0).unwrap();
    events.map(|located| located.unwrap().event).filter(|event| event.sequence > after).collect()
}

fn blocks_of(events: &[ChainEvent]) -> Vec<(Action, String)> {
    events.iter().map(|event| (event.action, event.hash.to_string())).collect()
}

/// Plays traffic while clients follow with cuts, then gives what each of them made of it.
fn followed(log: &mut TestLog, served: &Served, queries: &[String], steps: usize) -> Vec<Fold> {
    followed_by(log, served, queries, steps, Fold::default)
}

/// As `followed`, with what clients begin with.
fn followed_by(
    log: &mut TestLog,
    served: &Served,
    queries: &[String],
    steps: usize,
    fold: impl Fn() -> Fold,
) -> Vec<Fold> {
    let done = AtomicBool::new(false);
    let end = std::sync::Mutex::new(None::<Cursor>);
    // Everybody has a place before anything happens.
    let begun: Vec<_> = queries
        .iter()
        .map(|query| {
            let mut fold = fold();
            fold.take(&Stream::open(served.address, query, None).must());
            fold
        })
        .collect();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..)
            .zip(queries.iter().zip(begun))
            .map(|(seed, (query, fold))| {
                let (done, end) = (&done, &end);
                scope.spawn(move || {
                    follow_with_cuts(served.address, query, seed, fold, |fold| {
                        if !done.load(Ordering::SeqCst) {
                            return false;
                        }
                        let end = end.lock().unwrap().unwrap();
                        let at: Cursor = fold.last_id.as_deref().unwrap().parse().unwrap();
                        at.sequence == end.sequence
                            && (query.contains("only=blocks") || at.mempool == end.mempool)
                    })
                })
            })
            .collect();
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        for _ in 0..steps {
            log.play(&traffic(&mut rng));
        }
        // The last event is one that every filter is told the cursor of.
        log.play(&chain().mined_by("alice", []));
        served.reaches(&log.chain);
        let last = Stream::open(served.address, "", None).must();
        *end.lock().unwrap() = Some(last.id.parse().unwrap());
        done.store(true, Ordering::SeqCst);
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    })
}

#[test]
fn a_client_cut_off_at_any_time_misses_nothing_and_is_told_nothing_twice() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = begun();
    let served = Served::start(&log.chain, folder.path(), None);
    served.reaches(&log.chain);
    let before = chain_events(&log.chain, -1).len() as i64 - 1;
    let queries = ["", "?only=blocks", "", "?only=blocks"].map(str::to_owned);
    let folds = followed(&mut log, &served, &queries, 150);
    let expected = blocks_of(&chain_events(&log.chain, before));
    assert!(expected.iter().any(|(action, _)| *action == Action::Disconnected));
    let mempool: BTreeSet<_> = log.mempool().iter().map(|txid| txid.to_string()).collect();
    for (fold, query) in folds.iter().zip(&queries) {
        assert_eq!(fold.blocks, expected, "{query}");
        if !query.contains("only=blocks") {
            assert_eq!(fold.mempool, mempool);
        }
    }
}

#[test]
fn a_filter_lets_through_what_touches_an_address_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = begun();
    let served = Served::start(&log.chain, folder.path(), None);
    served.reaches(&log.chain);
    let before = chain_events(&log.chain, -1).len() as i64 - 1;
    let script = ScriptHash::of(script_of("bob", Flavour::Btc).as_bytes());
    let folds = followed(&mut log, &served, &[format!("?scripthash={script}&only=blocks")], 80);
    let mut expected = BTreeMap::<String, i32>::new();
    for event in chain_events(&log.chain, before) {
        for item in log.chain.transactions(&event).unwrap() {
            let transaction = item.unwrap().transaction;
            let paid = transaction.outputs.iter().map(|output| &output.script_pubkey);
            let spent =
                transaction.inputs.iter().filter_map(|input| Some(&input.prevout.as_ref()?.script_pubkey));
            if paid.chain(spent).any(|of| ScriptHash::of(of) == script) {
                *expected.entry(transaction.txid.to_string()).or_default() +=
                    if event.action == Action::Connected { 1 } else { -1 };
            }
        }
    }
    assert!(expected.len() > 3);
    assert_eq!(folds[0].confirmed, expected);
}

#[test]
fn a_filter_of_an_address_follows_its_transactions_through_the_mempool_live_and_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = begun();
    let served = Served::start(&log.chain, folder.path(), None);
    served.reaches(&log.chain);
    let script = script_of("bob", Flavour::Btc);
    let address = Address::from_script(&script, Network::Regtest).unwrap();
    let bob = ScriptHash::of(script.as_bytes());
    // One client stays, and is told live; the others are cut off again and again.
    let mut live = Stream::open(served.address, &format!("?address={address}"), None);
    let mut told = Fold::filtered();
    told.take(&live.must());
    let queries = [format!("?address={address}"), format!("?scripthash={bob}")];
    let folds = followed_by(&mut log, &served, &queries, 80, Fold::filtered);
    let (touching, others): (BTreeSet<_>, BTreeSet<_>) = {
        let (touching, others) =
            added(&log.chain).into_iter().partition(|(_, scripts)| scripts.contains(&bob));
        let ids = |added: Vec<(String, _)>| added.into_iter().map(|(txid, _)| txid).collect();
        (ids(touching), ids(others))
    };
    let waiting: BTreeSet<_> =
        log.mempool().iter().map(ToString::to_string).filter(|txid| touching.contains(txid)).collect();
    assert!(touching.len() > 3 && others.len() > 3, "{touching:?}, {others:?}");
    let end = folds[0].last_id.clone();
    while told.last_id != end {
        told.take(&live.must());
    }
    for fold in folds.iter().chain([&told]) {
        assert_eq!(fold.mempool, waiting);
        assert!(fold.seen.is_disjoint(&others), "{:?}", fold.seen);
    }
    // Who stays is told of each that came while it listened.
    assert_eq!(told.seen, touching);
}

/// Every transaction that came into the newest mempool view and those before it, with its scripts.
fn added(log: &ChainLog) -> Vec<(String, BTreeSet<ScriptHash>)> {
    let events = (0..PARTITIONS).flat_map(|partition| {
        let events = log.events::<MempoolEvent>(&log.topics.mempool, partition, 0).unwrap();
        events.map(|located| located.unwrap().event)
    });
    let transactions = events.filter_map(|event| event.transaction);
    let scripts = |transaction: &Transaction| {
        let paid = transaction.outputs.iter().map(|output| &output.script_pubkey);
        let spent = transaction.inputs.iter().map(|input| &input.prevout.as_ref().unwrap().script_pubkey);
        paid.chain(spent).map(|script| ScriptHash::of(script)).collect()
    };
    transactions.map(|transaction| (transaction.txid.to_string(), scripts(&transaction))).collect()
}

#[test]
fn a_client_that_takes_nothing_gives_up_its_seat_though_nothing_happens_any_more() {
    const PAIRS: usize = 500;
    const BUFFER_BYTES: usize = 4096;
    let folder = tempfile::tempdir().unwrap();
    let mut log = begun();
    let patience = Patience { client: Duration::from_millis(100), connections: 16 };
    let served = Served::bounded(&log.chain, folder.path(), Some(BUFFER_BYTES), 1, patience);
    served.reaches(&log.chain);
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(BUFFER_BYTES).unwrap();
    socket.connect(&served.address.into()).unwrap();
    let mut stuck = Stream::over(TcpStream::from(socket), "", None);
    assert!(!stuck.must().id.is_empty());
    assert_eq!(Stream::open(served.address, "", None).status, 503);
    let some = |script: Script| script.added([data("alice", b"here")]).removed(RemovalReason::Evicted);
    log.play(&(0..PAIRS).fold(chain(), |script, _| some(script)));
    served.reaches(&log.chain);
    soon("the seat to be free", || match Stream::open(served.address, "", None).status {
        200 => Ok(()),
        status => Err(status),
    });
    drop(stuck);
}

#[test]
fn a_thousand_clients_are_told_of_a_reorg_at_once() {
    const CLIENTS: usize = 1000;
    let folder = tempfile::tempdir().unwrap();
    let mut log = begun();
    let served = Served::start(&log.chain, folder.path(), None);
    served.reaches(&log.chain);
    let before = chain_events(&log.chain, -1).len() as i64 - 1;
    let tasks = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut sockets = tasks.block_on(async {
        let mut sockets = Vec::new();
        for _ in 0..CLIENTS {
            let mut socket = TcpStream::connect(served.address).unwrap();
            socket.write_all(request("?only=blocks", None).as_bytes()).unwrap();
            socket.set_nonblocking(true).unwrap();
            sockets.push((tokio::net::TcpStream::from_std(socket).unwrap(), String::new()));
        }
        for (socket, text) in &mut sockets {
            read_until(socket, text, "\n\n", 1).await;
        }
        sockets
    });
    log.play(&chain().mined_by("alice", []).reorg(2).blocks(3));
    let expected = blocks_of(&chain_events(&log.chain, before));
    tasks.block_on(async {
        for (socket, text) in &mut sockets {
            read_until(socket, text, "event: ", expected.len()).await;
            read_until(socket, text, "\n\n", expected.len() + 1).await;
            let told: Vec<_> = text
                .lines()
                .filter_map(|line| line.strip_prefix("data: "))
                .map(|data| serde_json::from_str::<Value>(data).unwrap()["hash"].as_str().unwrap().to_owned())
                .collect();
            assert_eq!(told, expected.iter().map(|(_, hash)| hash.clone()).collect::<Vec<_>>());
        }
    });
}

/// Reads until a text has come so many times.
async fn read_until(socket: &mut tokio::net::TcpStream, text: &mut String, wanted: &str, times: usize) {
    while text.matches(wanted).count() < times {
        let mut bytes = [0; 4096];
        socket.readable().await.unwrap();
        let count = match socket.try_read(&mut bytes) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            read => read.unwrap(),
        };
        assert!(count > 0, "the stream ended: {text}");
        text.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
    }
}

#[test]
fn a_client_that_does_not_read_is_dropped_with_a_cursor_and_comes_back() {
    /// Comings and goings: more than is kept for a slow client, and than lies in buffers on the way.
    const PAIRS: usize = 5_000;
    const BUFFER_BYTES: usize = 4096;
    let folder = tempfile::tempdir().unwrap();
    let mut log = begun();
    let served = Served::start(&log.chain, folder.path(), Some(BUFFER_BYTES));
    served.reaches(&log.chain);
    let before = chain_events(&log.chain, -1).len() as i64 - 1;
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(BUFFER_BYTES).unwrap();
    socket.connect(&served.address.into()).unwrap();
    let mut stream = Stream::over(TcpStream::from(socket), "", None);
    let mut fold = Fold::default();
    fold.take(&stream.must());

    let some = |script: Script| script.added([data("alice", b"here")]).removed(RemovalReason::Evicted);
    log.play(&(0..PAIRS).fold(chain(), |script, _| some(script)));
    log.play(&chain().added([data("bob", b"to stay")]).reorg(2).blocks(3));
    served.reaches(&log.chain);
    let mut told = 0;
    let dropped = loop {
        match stream.must() {
            event if event.name == "dropped" => break event,
            event => fold.take(&event),
        }
        told += 1;
    };
    assert_eq!(dropped.data["reason"], "too slow");
    assert_eq!(Some(&dropped.id), fold.last_id.as_ref(), "its cursor is of the last event that it was told");
    assert_eq!(soon("the end", || stream.next().ok_or(())), None);
    assert!(told < 2 * PAIRS, "it was dropped on the way");

    // A browser comes back by itself.
    let mut stream = Stream::open(served.address, "", Some(&dropped.id));
    let events = blocks_of(&chain_events(&log.chain, before));
    let waiting: BTreeSet<_> = log.mempool().iter().map(|txid| txid.to_string()).collect();
    while fold.blocks.len() < events.len() || fold.mempool != waiting {
        fold.take(&stream.must());
        told += 1;
    }
    assert_eq!(fold.blocks, events);
    assert!(told > 2 * PAIRS, "it was told of everything that it had missed");
}

#[test]
fn what_cannot_be_served_is_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = begun();
    log.play(&chain().blocks(2).reorg(1).blocks(2));
    let served = Served::start(&log.chain, folder.path(), None);
    served.reaches(&log.chain);
    let now = Stream::open(served.address, "", None).must().id;
    let other = format!("3.{}", "07".repeat(32));
    let future = format!("99999.{}", "07".repeat(32));
    let unseen = format!("{}.99.3", now.split('.').take(2).collect::<Vec<_>>().join("."));
    for (query, id, status, words) in [
        ("", Some("hello"), 400, "not a cursor"),
        ("?cursor=1", None, 400, "not a cursor"),
        ("", Some(future.as_str()), 400, "future"),
        ("", Some(other.as_str()), 410, "replaced"),
        ("", Some(unseen.as_str()), 410, "mempool"),
        ("?only=mempool", None, 400, "only takes"),
        ("?txid=xyz", None, 400, "64 hexadecimal digits"),
        ("?address=12cbQLTFMXRnSzktFkuoG3eHoMeFtpTu3S", None, 400, "btc-regtest"),
        ("?adress=x", None, 400, "the parameters are"),
    ] {
        let stream = Stream::open(served.address, query, id);
        assert_eq!(stream.status, status, "{query} {id:?}");
        let body = stream.body();
        assert!(body.contains(words) && body.lines().count() == 1, "{query} {id:?}: {body}");
    }
    // The header is newer than what the address was opened with.
    let stream = Stream::open(served.address, "?cursor=hello", Some(&now));
    assert_eq!(stream.status, 200);
}
