//! How fast the API answers: `cargo bench -p sluice-indexer --bench api`.
//!
//! An open loop: requests begin when they are due, whatever became of those before, so that a stall is counted in every
//! request that had to wait for it.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sluice_consumer_testkit::{chain, pay, project, script_of, split};
use sluice_indexer::api::{Limits, router};
use sluice_indexer::{Index, Projector, ScriptHash, Settings};
use sluice_schemas::Flavour;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// Requests a second.
const RATE: u32 = 1_000;
/// How long.
const TIME: Duration = Duration::from_secs(10);
/// Connections.
const CLIENTS: usize = 32;
/// Transactions of the busy address.
const BUSY: usize = 10_000;

fn main() {
    let busy = (0..BUSY / 1_000)
        .fold(chain().mined_by("alice", []).block([split("alice", 1_000)]), |script, _| {
            script.block((0..1_000).map(|_| pay("alice", "bob", 1_000)))
        });
    let log = busy.build();
    let directory = tempfile::tempdir().unwrap();
    let mut projector = Projector::open(log.chain.clone(), directory.path(), Settings::default()).unwrap();
    project(&log.chain, &mut projector).unwrap();
    let runtime = Runtime::new().unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let router = router(projector.index().clone(), None, Limits::default());
    runtime.spawn(async move { axum::serve(listener, router).await });

    let tip = get(&agent(), &format!("{base}/blocks/tip/hash"));
    let txids: Vec<String> =
        serde_json::from_str(&get(&agent(), &format!("{base}/block/{tip}/txids"))).unwrap();
    let of = |name: &str| ScriptHash::of(script_of(name, Flavour::Btc).as_bytes());
    let (bob, alice) = (of("bob"), of("alice"));
    measure_outputs(projector.index(), "of few transactions", &alice);
    measure_outputs(projector.index(), "of as many transactions", &bob);
    measure("/tx/:txid", txids.iter().map(|txid| format!("{base}/tx/{txid}")).collect());
    measure("/scripthash/:h/utxo, 1,000 outputs", vec![format!("{base}/scripthash/{alice}/utxo")]);
    let quiet: Vec<_> =
        (0..1_000).map(|n| format!("{base}/scripthash/{}/utxo", of(&format!("quiet {n}")))).collect();
    measure("/scripthash/:h/utxo, none", quiet);

    let agent = agent();
    let (mut pages, mut count, mut last) = (Vec::new(), 0, None::<String>);
    loop {
        let began = Instant::now();
        let after = last.map(|last| format!("/{last}")).unwrap_or_default();
        let page = get(&agent, &format!("{base}/scripthash/{bob}/txs/chain{after}"));
        pages.push(began.elapsed());
        let page: Vec<serde_json::Value> = serde_json::from_str(&page).unwrap();
        count += page.len();
        last = page.last().map(|tx| tx["txid"].as_str().unwrap().to_owned());
        if page.len() < 25 {
            break;
        }
    }
    assert_eq!(count, BUSY);
    show(&format!("a page of {BUSY} transactions"), &mut pages, 0);
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().http_status_as_error(false).build().into()
}

fn get(agent: &ureq::Agent, url: &str) -> String {
    let mut response = agent.get(url).call().unwrap();
    assert_eq!(response.status().as_u16(), 200, "{url}");
    response.body_mut().read_to_string().unwrap()
}

/// What the outputs of a script take of one processor, without HTTP around it.
fn measure_outputs(index: &Index, what: &str, script: &ScriptHash) {
    const ROUNDS: usize = 50;
    let (before, mut count) = (processor_time(), 0);
    for _ in 0..ROUNDS {
        count += index.view().unwrap().utxos(script, usize::MAX).unwrap().len();
    }
    let per_output = (processor_time() - before) / u32::try_from(count).unwrap();
    println!("{} unspent outputs {what}: {per_output:.2?} of a processor for each", count / ROUNDS);
}

/// What this thread has had of a processor.
fn processor_time() -> Duration {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(told.split(' ').next().unwrap().parse().unwrap())
}

fn measure(what: &str, urls: Vec<String>) {
    let total = (TIME.as_secs_f64() * f64::from(RATE)) as usize;
    let (next, refused) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (times, urls) = (Arc::new(Mutex::new(Vec::new())), Arc::new(urls));
    let start = Instant::now();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (next, refused, times, urls) = (next.clone(), refused.clone(), times.clone(), urls.clone());
            std::thread::spawn(move || {
                let (agent, mut mine) = (agent(), Vec::new());
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= total {
                        break;
                    }
                    let due = start + Duration::from_secs(1) / RATE * number as u32;
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    let mut response = agent.get(&urls[number % urls.len()]).call().unwrap();
                    let _ = response.body_mut().read_to_vec().unwrap();
                    if response.status().as_u16() != 200 {
                        refused.fetch_add(1, Ordering::Relaxed);
                    }
                    mine.push(due.elapsed());
                }
                times.lock().unwrap().append(&mut mine);
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    let per_second = total as f64 / start.elapsed().as_secs_f64();
    let what = format!("{what} at {per_second:.0}/s");
    show(&what, &mut times.lock().unwrap(), refused.load(Ordering::Relaxed));
}

fn show(what: &str, times: &mut [Duration], refused: usize) {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!(
        "{what}: p50 {:.2?}, p99 {:.2?}, max {:.2?}, sum {:.2?}, {refused} refused",
        at(0.5),
        at(0.99),
        times[times.len() - 1],
        times.iter().sum::<Duration>()
    );
}
