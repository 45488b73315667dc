//! Requests to the HTTP API as anybody might send them: never a panic, never an internal error.
#![no_main]

use std::sync::{Mutex, OnceLock};

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode, Uri};
use libfuzzer_sys::fuzz_target;
use sluice_consumer_testkit::{TestLog, chain, pay, project};
use sluice_indexer::api::{Limits, paths, router};
use sluice_indexer::{Projector, Settings};
use tokio::runtime::Runtime;
use tower::ServiceExt;

struct Served {
    runtime: Runtime,
    router: Router,
    paths: Vec<&'static str>,
    /// What is there: hashes, ids, an address.
    known: Vec<String>,
    _log: TestLog,
}

fn served() -> &'static Mutex<Served> {
    static SERVED: OnceLock<Mutex<Served>> = OnceLock::new();
    SERVED.get_or_init(|| {
        let script = chain().mined_by("alice", []).block([pay("alice", "bob", 500_000)]).reorg(1).blocks(3);
        let log = script.build();
        let directory = tempfile::tempdir().expect("a directory").keep();
        let mut projector =
            Projector::open(log.chain.clone(), &directory, Settings::default()).expect("an index");
        project(&log.chain, &mut projector).expect("a sound log");
        let mut known = vec!["mfWxJ45yp2SFn7UciZyNpvDKrzbhyfKrY8".to_owned(), "0".into(), "25".into()];
        known.extend(log.best_chain().map(|event| event.hash.to_string()));
        for event in log.best_chain() {
            let transactions = log.chain.transactions(event).expect("its transactions");
            known.extend(transactions.map(|tx| tx.expect("one").transaction.txid.to_string()));
        }
        let router = router(projector.index().clone(), None, Limits::default());
        let runtime = Runtime::new().expect("a runtime");
        let paths = paths().chain(["/reorgs?limit={limit}", "/{anything}"]).collect();
        Mutex::new(Served { runtime, router, paths, known, _log: log })
    })
}

fuzz_target!(|input: (u8, bool, u8, u8, &str, &[u8])| {
    let (path, is_post, first, second, text, body) = input;
    let served = served().lock().expect("no request has panicked");
    let mut parts = [first, second].into_iter().map(|choice| match served.known.get(usize::from(choice)) {
        Some(known) => known.as_str(),
        None => text,
    });
    let named = served.paths[usize::from(path) % served.paths.len()].split('/');
    let asked: Vec<_> = named
        .map(|part| match part.split_once('{') {
            Some((before, _)) => format!("{before}{}", parts.next().unwrap_or_default()),
            None => part.to_owned(),
        })
        .collect();
    let asked = asked.join("/");
    drop(parts);
    let Ok(uri) = Uri::try_from(asked) else { return };
    let method = if is_post { Method::POST } else { Method::GET };
    let tag = String::from_utf8_lossy(body).into_owned();
    let request = Request::builder().method(method).uri(uri).header("if-none-match", tag);
    let Ok(request) = request.body(Body::from(body.to_vec())) else { return };
    let response = served.runtime.block_on(served.router.clone().oneshot(request)).expect("infallible");
    assert_ne!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let body = axum::body::to_bytes(response.into_body(), 1 << 26);
    served.runtime.block_on(body).expect("an answer does not break off");
});
