//! A client of the Confluent Schema Registry's HTTP interface, which Apicurio Registry (`/apis/ccompat/v7`), Karapace and
//! Redpanda speak as well. Calls block.

use std::fmt;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use ureq::http::{Request, StatusCode};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use url::Url;

use crate::bounded::Bounded;

/// Longest that one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a request is made when the registry does not answer, or answers that it cannot just now.
const MAX_ATTEMPTS: u32 = 4;
/// Pause before the second attempt; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest answer that is read.
const MAX_ANSWER_BYTES: u64 = 4 << 20;
/// Most schemas kept in memory; when there are more, all are forgotten.
const MAX_SCHEMAS: usize = 256;
/// Longest part of a registry's own words that goes into an error.
const MAX_MESSAGE_CHARS: usize = 400;
/// Media type of requests and answers.
const MEDIA_TYPE: &str = "application/vnd.schemaregistry.v1+json";
/// The compatibility level that the contract promises.
const FULL_TRANSITIVE: &str = "FULL_TRANSITIVE";

/// Why the registry could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The URL, the credentials or the certificates cannot be used.
    #[error("schema registry URL {url:?} cannot be used: {reason}")]
    Url {
        /// Without secrets.
        url: String,
        /// Why not.
        reason: String,
    },
    /// No answer came. The same call may succeed later.
    #[error("failed to {attempt} at {url}: {reason}")]
    Unreachable {
        /// What was attempted, with what.
        attempt: String,
        /// Without secrets.
        url: String,
        /// What the way to the registry said.
        reason: String,
    },
    /// The registry refused.
    #[error("failed to {attempt} at {url}: it answers {status}{message}")]
    Refused {
        /// What was attempted, with what.
        attempt: String,
        /// Without secrets.
        url: String,
        /// HTTP status.
        status: u16,
        /// `: ` and the registry's own words, or nothing.
        message: String,
    },
    /// The answer is not what the interface says.
    #[error("failed to {attempt} at {url}: its answer has {reason}")]
    Answer {
        /// What was attempted, with what.
        attempt: String,
        /// Without secrets.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The registry holds an earlier schema with which this one does not work both ways.
    #[error("schema of {subject} is not compatible with the versions at {url}: {reasons}")]
    Incompatible {
        /// Subject.
        subject: String,
        /// Without secrets.
        url: String,
        /// The registry's own words.
        reasons: String,
    },
}

/// User name and password for the registry.
#[derive(Clone)]
pub struct Credentials {
    /// User name, or API key.
    pub username: String,
    /// Password, or API secret.
    pub password: String,
}

impl Credentials {
    /// From `SLUICE_SCHEMA_REGISTRY_USERNAME` and `SLUICE_SCHEMA_REGISTRY_PASSWORD`, where the first is set.
    pub fn from_env() -> Option<Self> {
        let username = std::env::var("SLUICE_SCHEMA_REGISTRY_USERNAME").ok()?;
        let password = std::env::var("SLUICE_SCHEMA_REGISTRY_PASSWORD").unwrap_or_default();
        Some(Self { username, password })
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(<redacted>)")
    }
}

/// How to reach a registry, beside its URL.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Used where the URL has no user info.
    pub credentials: Option<Credentials>,
    /// Certificates (PEM) that are trusted in place of the public authorities.
    pub ca_pem: Option<Vec<u8>>,
}

/// What a registry says of a schema that it does not hold yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The subject has no versions.
    NewSubject,
    /// It may be registered.
    Compatible,
    /// It may not, for these reasons.
    Incompatible {
        /// The registry's own words, on one line.
        reasons: String,
    },
}

/// A schema registry. Cheap to clone, shared by threads.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

struct Inner {
    agent: ureq::Agent,
    base: Url,
    authorization: Option<String>,
    schemas: Bounded<u32, Arc<str>>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("url", &self.url()).finish_non_exhaustive()
    }
}

/// Subject of a topic's values (TopicNameStrategy).
pub fn subject(topic: &str) -> String {
    format!("{topic}-value")
}

impl Registry {
    /// A registry at an `http:` or `https:` URL, which may carry user info. Nothing is asked yet.
    ///
    /// # Errors
    /// `Error::Url` says what cannot be used.
    pub fn new(url: &str, options: Options) -> Result<Self, Error> {
        let mut base =
            Url::parse(url).map_err(|e| Error::Url { url: "<not a URL>".into(), reason: e.to_string() })?;
        let user_info = user_info(&base);
        // Cannot fail on a URL with a host, and one without is refused below.
        let _ = base.set_username("");
        let _ = base.set_password(None);
        base.set_query(None);
        base.set_fragment(None);
        let refuse = |reason: &str| Error::Url { url: base.to_string(), reason: reason.to_owned() };
        if !matches!(base.scheme(), "http" | "https") || !base.has_host() {
            return Err(refuse("it must start with http:// or https://"));
        }
        let roots = match &options.ca_pem {
            None => RootCerts::WebPki,
            Some(pem) => {
                let mut certificates = Vec::new();
                for item in parse_pem(pem) {
                    if let PemItem::Certificate(certificate) =
                        item.map_err(|e| refuse(&format!("its certificates do not parse: {e}")))?
                    {
                        certificates.push(certificate);
                    }
                }
                if certificates.is_empty() {
                    return Err(refuse("the file of certificates has none"));
                }
                RootCerts::new_with_certs(&certificates)
            }
        };
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(REQUEST_TIMEOUT))
            .http_status_as_error(false)
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .user_agent(concat!("chainsluice/", env!("CARGO_PKG_VERSION")))
            .build();
        let authorization = user_info.or(options.credentials).map(|Credentials { username, password }| {
            format!("Basic {}", BASE64.encode(format!("{username}:{password}")))
        });
        Ok(Self {
            inner: Arc::new(Inner {
                agent: config.new_agent(),
                base,
                authorization,
                schemas: Bounded::new(MAX_SCHEMAS),
            }),
        })
    }

    /// For people: the URL without secrets.
    pub fn url(&self) -> &str {
        self.inner.base.as_str().trim_end_matches('/')
    }

    /// Id of a schema under a subject, or `None` where the subject does not have it.
    pub fn lookup(&self, subject: &str, schema: &str) -> Result<Option<u32>, Error> {
        let call = self.call(format!("look the schema of {subject} up"));
        match call.post(&["subjects", subject], &body(schema))? {
            Answer::Is(answer) => call.id(&answer).map(Some),
            Answer::None => Ok(None),
        }
    }

    /// Registers a schema under a subject and gives its id; one that is there already keeps its id.
    ///
    /// # Errors
    /// `Error::Incompatible` where an earlier version of the subject forbids it.
    pub fn register(&self, subject: &str, schema: &str) -> Result<u32, Error> {
        let call = self.call(format!("register the schema of {subject}"));
        match call.post(&["subjects", subject, "versions"], &body(schema)) {
            Ok(Answer::Is(answer)) => call.id(&answer),
            Ok(Answer::None) => Err(call.refused(StatusCode::NOT_FOUND, "")),
            Err(Error::Refused { status: 409, message, url, .. }) => Err(Error::Incompatible {
                subject: subject.to_owned(),
                url,
                reasons: message.trim_start_matches(": ").to_owned(),
            }),
            Err(other) => Err(other),
        }
    }

    /// The schema behind an id, or `None` where there is none. Asked for once, then remembered.
    pub fn schema(&self, id: u32) -> Result<Option<Arc<str>>, Error> {
        if let Some(schema) = self.inner.schemas.get(&id) {
            return Ok(Some(schema));
        }
        let call = self.call(format!("get schema {id}"));
        let answer = match call.get(&["schemas", "ids", &id.to_string()])? {
            Answer::Is(answer) => answer,
            Answer::None => return Ok(None),
        };
        if let Some(kind) = answer["schemaType"].as_str().filter(|kind| *kind != "AVRO") {
            return Err(call.answer(format!("a schema of type {kind:?}, not AVRO")));
        }
        let schema: Arc<str> = answer["schema"].as_str().ok_or_else(|| call.answer("no schema"))?.into();
        self.inner.schemas.insert(id, Arc::clone(&schema));
        Ok(Some(schema))
    }

    /// What the registry says of a schema against every version of a subject, at the subject's compatibility level.
    pub fn check(&self, subject: &str, schema: &str) -> Result<Verdict, Error> {
        let call = self.call(format!("check the schema of {subject}"));
        match call.post(&["compatibility", "subjects", subject, "versions?verbose=true"], &body(schema))? {
            Answer::None => Ok(Verdict::NewSubject),
            Answer::Is(answer) => match answer["is_compatible"].as_bool() {
                Some(true) => Ok(Verdict::Compatible),
                Some(false) => Ok(Verdict::Incompatible { reasons: reasons(&answer["messages"]) }),
                None => Err(call.answer("no is_compatible")),
            },
        }
    }

    /// Compatibility level of a subject, or `None` where it has none of its own.
    pub fn compatibility(&self, subject: &str) -> Result<Option<String>, Error> {
        let call = self.call(format!("get the compatibility level of {subject}"));
        match call.get(&["config", subject])? {
            Answer::None => Ok(None),
            Answer::Is(answer) => {
                let level = answer["compatibilityLevel"].as_str().or(answer["compatibility"].as_str());
                Ok(level.map(str::to_owned))
            }
        }
    }

    /// Sets the compatibility level of a subject to `FULL_TRANSITIVE`, unless it is that already.
    pub fn require_full_transitive(&self, subject: &str) -> Result<(), Error> {
        if self.compatibility(subject)?.as_deref() == Some(FULL_TRANSITIVE) {
            return Ok(());
        }
        let call = self.call(format!("set the compatibility level of {subject}"));
        match call.put(&["config", subject], &json!({ "compatibility": FULL_TRANSITIVE })) {
            Ok(Answer::Is(_)) => Ok(()),
            Ok(Answer::None) => Err(call.refused(StatusCode::NOT_FOUND, "")),
            // Another process may have set it at the same time, which a registry can take for a conflict.
            Err(error) => match self.compatibility(subject) {
                Ok(Some(level)) if level == FULL_TRANSITIVE => Ok(()),
                _ => Err(error),
            },
        }
    }

    fn call(&self, attempt: String) -> Call<'_> {
        Call { registry: self, attempt }
    }
}

/// An answer of the registry.
enum Answer {
    /// 2xx, with this body.
    Is(Value),
    /// 404: there is no such thing.
    None,
}

/// One call: what is attempted, for errors.
struct Call<'a> {
    registry: &'a Registry,
    attempt: String,
}

impl Call<'_> {
    fn get(&self, path: &[&str]) -> Result<Answer, Error> {
        self.send("GET", path, Vec::new())
    }

    fn post(&self, path: &[&str], body: &Value) -> Result<Answer, Error> {
        self.send("POST", path, body.to_string().into_bytes())
    }

    fn put(&self, path: &[&str], body: &Value) -> Result<Answer, Error> {
        self.send("PUT", path, body.to_string().into_bytes())
    }

    /// All calls of the interface may be repeated.
    fn send(&self, method: &str, path: &[&str], body: Vec<u8>) -> Result<Answer, Error> {
        let url = self.url(path)?;
        let mut pause = FIRST_PAUSE;
        for attempt in 1.. {
            match self.send_once(method, &url, &body) {
                Err(Error::Unreachable { .. } | Error::Refused { status: 429 | 502..=504, .. })
                    if attempt < MAX_ATTEMPTS =>
                {
                    sleep(pause);
                    pause *= 2;
                }
                result => return result,
            }
        }
        unreachable!("the last attempt returns")
    }

    fn send_once(&self, method: &str, url: &Url, body: &[u8]) -> Result<Answer, Error> {
        let unreachable = |reason: String| Error::Unreachable {
            attempt: self.attempt.clone(),
            url: self.registry.url().to_owned(),
            reason: one_line(&reason),
        };
        let mut request = Request::builder().method(method).uri(url.as_str()).header("accept", MEDIA_TYPE);
        if !body.is_empty() {
            request = request.header("content-type", MEDIA_TYPE);
        }
        if let Some(authorization) = &self.registry.inner.authorization {
            request = request.header("authorization", authorization);
        }
        let agent = &self.registry.inner.agent;
        let sent = match body {
            [] => request.body(()).map_err(|e| unreachable(e.to_string())).map(|request| agent.run(request)),
            body => {
                request.body(body).map_err(|e| unreachable(e.to_string())).map(|request| agent.run(request))
            }
        }?;
        let mut response = sent.map_err(|e| unreachable(e.to_string()))?;
        let status = response.status();
        let bytes = response.body_mut().with_config().limit(MAX_ANSWER_BYTES).read_to_vec();
        let bytes = bytes.map_err(|e| unreachable(e.to_string()))?;
        let answer: Option<Value> = serde_json::from_slice(&bytes).ok();
        match answer {
            Some(answer) if status.is_success() => Ok(Answer::Is(answer)),
            None if status.is_success() => Err(self.answer("no JSON")),
            // The interface says what is missing by a code of its own; a 404 without one is of something else.
            Some(answer) if status == StatusCode::NOT_FOUND && answer["error_code"].is_i64() => {
                Ok(Answer::None)
            }
            Some(answer) => Err(self.refused(status, answer["message"].as_str().unwrap_or(""))),
            None => Err(self.refused(status, "")),
        }
    }

    fn url(&self, path: &[&str]) -> Result<Url, Error> {
        let mut url = self.registry.inner.base.clone();
        let (last, query) = match path.last().and_then(|last| last.split_once('?')) {
            Some((last, query)) => (last, Some(query)),
            None => (path.last().copied().unwrap_or(""), None),
        };
        match url.path_segments_mut() {
            Ok(mut segments) => {
                segments.pop_if_empty().extend(&path[..path.len().saturating_sub(1)]).push(last);
            }
            Err(()) => return Err(self.answer("no path")),
        }
        url.set_query(query);
        Ok(url)
    }

    fn id(&self, answer: &Value) -> Result<u32, Error> {
        answer["id"].as_u64().and_then(|id| id.try_into().ok()).ok_or_else(|| self.answer("no id"))
    }

    fn answer(&self, reason: impl Into<String>) -> Error {
        Error::Answer {
            attempt: self.attempt.clone(),
            url: self.registry.url().to_owned(),
            reason: reason.into(),
        }
    }

    fn refused(&self, status: StatusCode, message: &str) -> Error {
        let message = one_line(message);
        Error::Refused {
            attempt: self.attempt.clone(),
            url: self.registry.url().to_owned(),
            status: status.as_u16(),
            message: if message.is_empty() { message } else { format!(": {message}") },
        }
    }
}

/// The user info of a URL, its percent-encoding undone.
fn user_info(url: &Url) -> Option<Credentials> {
    if url.username().is_empty() {
        return None;
    }
    let decode = |text: &str| percent_decode(text);
    Some(Credentials { username: decode(url.username()), password: decode(url.password().unwrap_or("")) })
}

fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = match tail {
            [a, b, after @ ..] if *first == b'%' => match hex::decode([*a, *b]).as_deref() {
                Ok([byte]) => {
                    bytes.push(*byte);
                    after
                }
                _ => {
                    bytes.push(*first);
                    tail
                }
            },
            _ => {
                bytes.push(*first);
                tail
            }
        };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn body(schema: &str) -> Value {
    json!({ "schema": schema, "schemaType": "AVRO" })
}

fn reasons(messages: &Value) -> String {
    let messages = messages.as_array().map(Vec::as_slice).unwrap_or_default();
    let texts: Vec<_> = messages.iter().filter_map(Value::as_str).collect();
    one_line(if texts.is_empty() { "it does not say why".to_owned() } else { texts.join("; ") }.as_str())
}

/// A text of unknown origin as part of one line of an error.
fn one_line(text: &str) -> String {
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        line.extend(word.chars().filter(|c| !c.is_control()));
    }
    if let Some((end, _)) = line.char_indices().nth(MAX_MESSAGE_CHARS) {
        line.truncate(end);
        line.push('…');
    }
    line
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;
