//! Requests to the indexer's server as anybody might send them: never a panic, never an internal error.
#![no_main]

use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use axum::response::Response;
use http_body_util::BodyExt;
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use sluice_consumer_testkit::{TestLog, chain, data, pay, project, split};
use sluice_indexer::api::{self, Limits, Node, Operation};
use sluice_indexer::{Projector, Settings, events, pages};
use sluice_runtime::node::{Credentials, NodeAddress};
use sluice_runtime::shutdown::Shutdown;
use tokio::runtime::Runtime;
use tower::ServiceExt;

/// Every parameter that any page takes.
const PARAMETERS: &str = "from={from}&start={start}&inputs={inputs}&outputs={outputs}&after={after}&q={q}";
/// How long a stream of events may take to say its first: at the end of the log there is none.
const FIRST_EVENT: Duration = Duration::from_millis(5);

/// What is put into a path or a query.
#[derive(Debug, Arbitrary)]
enum Part<'a> {
    Known(u8),
    Number(i64),
    /// What says where a client of `/events` left off.
    Cursor {
        sequence: i64,
        block: u8,
        mempool: Option<(i64, i64)>,
    },
    /// Where a list goes on.
    Place(i64, i64),
    Text(&'a str),
}

#[derive(Debug, Arbitrary)]
struct Asked<'a> {
    operation: u8,
    /// Another method than the one that is expected there.
    method: Option<bool>,
    /// As many as the longest template has.
    parts: [Part<'a>; 8],
    /// Texts as they are: most are no part of a URL then.
    is_raw: bool,
    known_tag: Option<&'a str>,
    last_event: Option<Part<'a>>,
    body: &'a [u8],
}

struct Served {
    runtime: Runtime,
    router: Router,
    operations: Vec<Operation>,
    /// What is there: hashes, ids, addresses.
    known: Vec<String>,
    _log: TestLog,
}

impl Served {
    fn start() -> Self {
        let script = chain()
            .mined_by("alice", [])
            .blocks(2)
            .block([pay("alice", "bob", 500_000), split("alice", 60), data("alice", b"<b>hello</b>")])
            .takeover()
            .added([pay("bob", "carol", 5_000)])
            .reorg(1)
            .blocks(3)
            .added([pay("carol", "bob", 1_000)]);
        let log = script.build();
        let directory = tempfile::tempdir().expect("a directory").keep();
        let mut projector =
            Projector::open(log.chain.clone(), &directory, Settings::default()).expect("an index");
        project(&log.chain, &mut projector).expect("a sound log");
        let index = projector.index().clone();
        let runtime = Runtime::new().expect("a runtime");
        // Nobody listens at the discard port: what is sent on to the node is refused there, with no internal error.
        let node = NodeAddress {
            url: "http://127.0.0.1:9".parse().expect("a URL"),
            credentials: Credentials::UserPassword { user: "user".into(), password: "password".into() },
        };
        let router = api::router(index.clone(), Some(Node::new(node)), Limits::default())
            .merge(events::router(index.clone(), Shutdown::default(), 16))
            .merge(pages::router(index));
        Self { runtime, router, operations: operations(), known: known(&log), _log: log }
    }

    fn text(&self, part: &Part<'_>, is_raw: bool) -> String {
        let known = |choice: u8| &self.known[usize::from(choice) % self.known.len()];
        let text = match part {
            Part::Known(choice) => known(*choice).clone(),
            Part::Number(number) => number.to_string(),
            Part::Cursor { sequence, block, mempool: None } => format!("{sequence}.{}", known(*block)),
            Part::Cursor { sequence, block, mempool: Some((epoch, number)) } => {
                format!("{sequence}.{}.{epoch}.{number}", known(*block))
            }
            Part::Place(height, position) => format!("{height}.{position}"),
            Part::Text(text) => (*text).to_owned(),
        };
        if is_raw { text } else { utf8_percent_encode(&text, NON_ALPHANUMERIC).to_string() }
    }

    /// `None` where it is no request at all.
    fn request(&self, asked: &Asked<'_>) -> Option<Request<Body>> {
        let operation = &self.operations[usize::from(asked.operation) % self.operations.len()];
        let mut parts = asked.parts.iter();
        let path = operation.path(|_| self.text(parts.next().expect("no template has more"), asked.is_raw));
        let method = match asked.method {
            None => operation.method.clone(),
            Some(true) => Method::HEAD,
            Some(false) => Method::POST,
        };
        let mut request = Request::builder().method(method).uri(path);
        if let Some(tag) = asked.known_tag {
            request = request.header(header::IF_NONE_MATCH, tag);
        }
        if let Some(last) = &asked.last_event {
            request = request.header("last-event-id", self.text(last, true));
        }
        request.body(Body::from(asked.body.to_vec())).ok()
    }

    fn ask(&self, request: Request<Body>) {
        let asked = format!("{} {}", request.method(), request.uri());
        let response =
            self.runtime.block_on(self.router.clone().oneshot(request)).expect("a router does not fail");
        assert_ne!(response.status(), StatusCode::INTERNAL_SERVER_ERROR, "{asked}");
        self.runtime.block_on(read(response));
    }
}

/// Every request that the server takes, and one that it does not.
fn operations() -> Vec<Operation> {
    let get = |template| Operation { method: Method::GET, template };
    let pages = pages::paths().flat_map(|path| [path.to_owned(), format!("{path}?{PARAMETERS}")]);
    let pages = pages.chain(["/{anything}".to_owned()]).map(get);
    api::operations().into_iter().chain(pages).collect()
}

fn known(log: &TestLog) -> Vec<String> {
    let mut known =
        vec!["mfWxJ45yp2SFn7UciZyNpvDKrzbhyfKrY8".to_owned(), "style.css".into(), "blocks".into()];
    for event in log.best_chain() {
        known.push(event.hash.to_string());
        for item in log.chain.transactions(event).expect("its transactions") {
            let transaction = item.expect("one").transaction;
            known.push(transaction.txid.to_string());
            known.extend(transaction.outputs.into_iter().take(2).filter_map(|output| output.address));
        }
    }
    known.extend(log.mempool().iter().map(ToString::to_string));
    known
}

/// Reads an answer; of a stream of events, which has no end, the first.
async fn read(response: Response) {
    let media = response.headers().get(header::CONTENT_TYPE).map(|media| media.as_bytes().to_vec());
    let mut body = response.into_body();
    if media.is_some_and(|media| media.starts_with(b"text/event-stream")) {
        let _ = tokio::time::timeout(FIRST_EVENT, body.frame()).await;
        return;
    }
    while let Some(frame) = body.frame().await {
        frame.expect("an answer does not break off");
    }
}

fuzz_target!(|asked: Asked<'_>| {
    static SERVED: OnceLock<Mutex<Served>> = OnceLock::new();
    let served = SERVED.get_or_init(|| Mutex::new(Served::start())).lock().expect("nothing has panicked");
    if let Some(request) = served.request(&asked) {
        served.ask(request);
    }
});
