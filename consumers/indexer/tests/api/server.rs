//! The API over an index of a log made from a script, on a port of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use sluice_consumer::Shutdown;
use sluice_consumer_testkit::{Script, TestLog, project};
use sluice_indexer::api::{Limits, Node, router};
use sluice_indexer::server::{Patience, serve};
use sluice_indexer::{Projector, Settings};
use sluice_log::chain::ChainLog;
use sluice_log::sqlite::SqliteLog;
use sluice_schemas::Codec;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// A server with its log and index.
pub(crate) struct Server {
    log: Mutex<TestLog>,
    address: SocketAddr,
    projector: Mutex<Projector>,
    agent: ureq::Agent,
    runtime: Runtime,
    directory: TempDir,
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
    headers: Vec<(String, String)>,
}

impl Server {
    pub(crate) fn of(script: &Script) -> Self {
        Self::with(script, Limits::default())
    }

    pub(crate) fn with(script: &Script, limits: Limits) -> Self {
        Self::before(None, script, limits)
    }

    /// In front of a node, where there is one.
    pub(crate) fn before(node: Option<Node>, script: &Script, limits: Limits) -> Self {
        let log = script.build();
        let directory = tempfile::tempdir().unwrap();
        let settings = Settings { cache_bytes: 8 << 20, ..Settings::default() };
        let mut projector = Projector::open(log.chain.clone(), directory.path(), settings).unwrap();
        project(&log.chain, &mut projector).unwrap();
        let router = router(projector.index().clone(), node, limits);
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let patience = Patience { client: limits.client, connections: 512 };
        runtime.spawn(serve(listener, router, patience, Shutdown::default()));
        let agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let (log, projector) = (Mutex::new(log), Mutex::new(projector));
        Self { log, address, projector, agent, runtime, directory }
    }

    /// Goes on with the log, and brings the index after it.
    pub(crate) fn play(&mut self, script: &Script) {
        let log = self.log.get_mut().unwrap();
        log.play(script);
        project(&log.chain, self.projector.get_mut().unwrap()).unwrap();
    }

    /// The log, to be opened elsewhere, and the index's directory.
    pub(crate) fn files(&self) -> (PathBuf, &Path) {
        let url = self.log.lock().unwrap().url();
        (url.strip_prefix("sqlite:").unwrap().into(), self.directory.path())
    }

    /// Why an index opened again, over the log that is in a file now, does not go on.
    pub(crate) fn reopened(self, log: &Path) -> String {
        let Self { log: kept, projector, runtime, directory, .. } = self;
        let topics = kept.lock().unwrap().chain.topics.clone();
        // Nobody else has the index open any more.
        drop((runtime, projector));
        let log = Arc::new(SqliteLog::open(log.to_str().unwrap()).unwrap());
        let chain = ChainLog { log, codec: Codec::single_object(), topics };
        let mut projector = Projector::open(chain.clone(), directory.path(), Settings::default()).unwrap();
        project(&chain, &mut projector).unwrap_err().to_string()
    }

    /// Ids of what is in the mempool.
    pub(crate) fn mempool(&self) -> Vec<String> {
        self.log.lock().unwrap().mempool().iter().map(ToString::to_string).collect()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.get_with(path, &[])
    }

    pub(crate) fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = self.agent.get(self.url(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Answer::of(request.call().unwrap())
    }

    pub(crate) fn head(&self, path: &str) -> Answer {
        Answer::of(self.agent.head(self.url(path)).call().unwrap())
    }

    pub(crate) fn post(&self, path: &str, body: &[u8]) -> Answer {
        Answer::of(self.agent.post(self.url(path)).send(body).unwrap())
    }

    /// The body of an answer that must be there, as text.
    pub(crate) fn text(&self, path: &str) -> String {
        let answer = self.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.text()
    }

    /// The body of an answer that must be there, as JSON.
    pub(crate) fn json(&self, path: &str) -> serde_json::Value {
        serde_json::from_str(&self.text(path)).unwrap()
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

impl Answer {
    fn of(mut response: ureq::http::Response<ureq::Body>) -> Self {
        let shown = |value: &ureq::http::HeaderValue| value.to_str().unwrap().to_owned();
        let headers =
            response.headers().iter().map(|(name, value)| (name.to_string(), shown(value))).collect();
        let body = response.body_mut().with_config().limit(1 << 30).read_to_vec().unwrap();
        Self { status: response.status().as_u16(), headers, body }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }
}

/// Calls from many threads at once; the statuses they got.
pub(crate) fn at_once(server: &Arc<Server>, count: usize, path: &str) -> Vec<u16> {
    let threads: Vec<_> = (0..count)
        .map(|_| {
            let (server, path) = (server.clone(), path.to_owned());
            std::thread::spawn(move || server.get(&path).status)
        })
        .collect();
    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
}
