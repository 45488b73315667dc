//! HTTP to one node: pooled connections, every wait and every answer bounded.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use ureq::Agent;
use ureq::http::{HeaderMap, Response as HttpResponse};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{Connector, RustlsConnector};
use url::Url;

use super::tcp::Tcp;
use crate::{Error, Result};

/// Time to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time until the first byte of an answer. A node may have to read gigabytes first.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);
/// Time without any byte within an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Idle connections kept. As many bodies are fetched ahead at once, each with what it spends.
const IDLE_CONNECTIONS: usize = 16;
/// Bytes read of an answer that explains an error.
const MAX_EXPLANATION_BYTES: u64 = 4096;

/// A client of one node.
#[derive(Clone)]
pub(super) struct Http {
    agent: Agent,
    /// Without a slash at its end.
    base: Arc<str>,
    source_id: Arc<str>,
}

/// An answer whose body has not been read.
pub(super) struct Response {
    pub(super) status: u16,
    body: ureq::Body,
    headers: HeaderMap,
    source_id: Arc<str>,
}

impl Http {
    pub(super) fn new(url: &Url, source_id: &str) -> Result<Self> {
        let refused =
            |reason: &str| Error::Refused { source_id: source_id.to_owned(), reason: reason.to_owned() };
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(refused("the node's URL must be of the form http://HOST:PORT"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refused(
                "the node's URL must not hold credentials; give them by file or environment",
            ));
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_recv_response(Some(RESPONSE_TIMEOUT))
            .timeout_per_read(Some(READ_TIMEOUT))
            .timeout_per_write(Some(READ_TIMEOUT))
            .max_idle_connections(IDLE_CONNECTIONS)
            .max_idle_connections_per_host(IDLE_CONNECTIONS)
            .build();
        let connector = ().chain(Tcp).chain(RustlsConnector::default());
        let agent = Agent::with_parts(config, connector, DefaultResolver::default());
        let base = url.as_str().trim_end_matches('/').into();
        Ok(Self { agent, base, source_id: source_id.into() })
    }

    pub(super) fn source_id(&self) -> &str {
        &self.source_id
    }

    /// Asks for a path, from byte `from` where the server can.
    pub(super) fn get(&self, path: &str, from: Option<u64>) -> Result<Response> {
        let url = format!("{}{path}", self.base);
        self.twice(&format!("fetch {path}"), || {
            let request = self.agent.get(&url);
            match from {
                Some(from) => request.header("Range", format!("bytes={from}-")).call(),
                None => request.call(),
            }
        })
    }

    /// Calls RPC.
    pub(super) fn post(&self, attempt: &str, authorization: &str, body: &[u8]) -> Result<Response> {
        let url = format!("{}/", self.base);
        self.twice(attempt, || {
            let request = self.agent.post(&url).header("Authorization", authorization);
            request.header("Content-Type", "application/json").send(body)
        })
    }

    /// Nodes close idle connections; the second try is on a new one. Nothing we ask for changes anything.
    fn twice(
        &self,
        attempt: &str,
        call: impl Fn() -> Result<HttpResponse<ureq::Body>, ureq::Error>,
    ) -> Result<Response> {
        let answer = match call() {
            Err(ureq::Error::Io(_) | ureq::Error::Protocol(_)) => call(),
            answer => answer,
        };
        let answer = answer.map_err(|error| self.unreachable(attempt, error.to_string()))?;
        let (parts, body) = answer.into_parts();
        Ok(Response {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body,
            source_id: Arc::clone(&self.source_id),
        })
    }

    pub(super) fn unreachable(&self, attempt: &str, reason: String) -> Error {
        Error::Unreachable { attempt: attempt.to_owned(), source_id: self.source_id.to_string(), reason }
    }
}

impl Response {
    /// Size of the body, where the node says it beforehand.
    pub(super) fn size(&self) -> Option<u64> {
        self.body.content_length()
    }

    /// Where in the whole the body begins: as asked for where the server can, else 0.
    pub(super) fn starts_at(&self) -> u64 {
        let range = self.headers.get("Content-Range").and_then(|range| range.to_str().ok());
        let start = range.and_then(|range| range.strip_prefix("bytes ")?.split('-').next()?.parse().ok());
        if self.status == 206 { start.unwrap_or(0) } else { 0 }
    }

    /// The body as it arrives.
    pub(super) fn reader(self) -> impl Read + Send + 'static {
        self.body.into_with_config().limit(u64::MAX).reader()
    }

    /// The whole body, of at most `max` bytes.
    pub(super) fn bytes(self, attempt: &str, max: u64) -> Result<Vec<u8>> {
        let source_id = Arc::clone(&self.source_id);
        self.bytes_up_to(attempt, max)?.ok_or_else(|| Error::Unusable {
            attempt: attempt.to_owned(),
            source_id: source_id.to_string(),
            reason: format!("more than {max} bytes"),
        })
    }

    /// The whole body, or `None` where it has more than `max` bytes.
    pub(super) fn bytes_up_to(self, attempt: &str, max: u64) -> Result<Option<Vec<u8>>> {
        if self.size().is_some_and(|size| size > max) {
            return Ok(None);
        }
        let source_id = Arc::clone(&self.source_id);
        let mut bytes = Vec::new();
        let read =
            self.body.into_with_config().limit(u64::MAX).reader().take(max + 1).read_to_end(&mut bytes);
        read.map_err(|error| Error::Unreachable {
            attempt: attempt.to_owned(),
            source_id: source_id.to_string(),
            reason: error.to_string(),
        })?;
        Ok((bytes.len() as u64 <= max).then_some(bytes))
    }

    /// What the node says in the body of an answer that is not the one hoped for.
    pub(super) fn explanation(self) -> String {
        let mut text = Vec::new();
        // What cannot be read explains nothing; the status has been kept.
        let _ = self.reader().take(MAX_EXPLANATION_BYTES).read_to_end(&mut text);
        String::from_utf8_lossy(&text).trim().to_owned()
    }

    /// The error for a status that nothing can be done about.
    pub(super) fn unexpected(self, attempt: &str) -> Error {
        let (status, source_id) = (self.status, self.source_id.to_string());
        let explanation = self.explanation();
        let reason = format!("HTTP status {status} {explanation}").trim_end().to_owned();
        let attempt = attempt.to_owned();
        match status {
            // Warming up, or too many calls at once.
            503 => Error::Unreachable { attempt, source_id, reason: explanation },
            403 => Error::Refused {
                source_id,
                reason: format!("it does not let us in ({reason}); see its -rpcallowip"),
            },
            _ => Error::Unusable { attempt, source_id, reason },
        }
    }
}
