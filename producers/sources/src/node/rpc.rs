//! JSON-RPC as both nodes speak it.

use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sluice_runtime::node::Credentials;

use super::auth::{self, Missing};
use super::http::{Http, Response};
use crate::{Error, Result};

/// `RPC_INVALID_ADDRESS_OR_KEY`: there is no such block or transaction.
pub(super) const NO_SUCH_THING: i64 = -5;
/// `RPC_IN_WARMUP`.
const IN_WARMUP: i64 = -28;
/// `RPC_METHOD_NOT_FOUND`.
const METHOD_NOT_FOUND: i64 = -32601;
/// Size of an answer, unless the caller expects more.
const MAX_ANSWER_BYTES: u64 = 16 << 20;
/// A node that starts listens before its new cookie is written: an old one is tried again this often.
const COOKIE_TRIES: u32 = 4;
const COOKIE_WAIT: Duration = Duration::from_millis(300);

/// JSON-RPC of one node.
pub(super) struct Rpc {
    http: Http,
    credentials: Credentials,
}

/// An error the node answered with.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct RpcError {
    pub(super) code: i64,
    pub(super) message: String,
}

#[derive(Deserialize)]
struct Answer<T> {
    #[serde(default = "Option::default")]
    result: Option<T>,
    #[serde(default)]
    error: Option<RpcError>,
    #[serde(default)]
    id: Option<usize>,
}

impl Rpc {
    pub(super) fn new(http: Http, credentials: Credentials) -> Self {
        Self { http, credentials }
    }

    /// Calls a method whose answer is small.
    pub(super) fn call<T: DeserializeOwned>(&self, method: &str, params: Value) -> Result<T> {
        self.call_sized(method, params, MAX_ANSWER_BYTES)
    }

    /// Calls a method whose answer has at most `max` bytes.
    pub(super) fn call_sized<T: DeserializeOwned>(&self, method: &str, params: Value, max: u64) -> Result<T> {
        match self.try_call(method, params, max)? {
            Ok(result) => Ok(result),
            Err(error) => Err(self.failed(method, &error)),
        }
    }

    /// Calls a method; an error the node answered with is the caller's to judge.
    pub(super) fn try_call<T: DeserializeOwned>(
        &self,
        method: &str,
        params: Value,
        max: u64,
    ) -> Result<Result<T, RpcError>> {
        let request = json!({ "jsonrpc": "1.0", "id": 0, "method": method, "params": params });
        let bytes = self.post(method, &request)?.bytes(method, max)?;
        let answer: Answer<T> = self.parsed(method, &bytes)?;
        match answer {
            Answer { error: Some(error), .. } if error.code == IN_WARMUP => Err(self.failed(method, &error)),
            Answer { error: Some(error), .. } => Ok(Err(error)),
            Answer { result: Some(result), .. } => Ok(Ok(result)),
            _ => Err(self.unusable(method, "neither a result nor an error")),
        }
    }

    /// Calls a method once for each of `params`; the answers are in their order. `None` where they have together more
    /// than `max` bytes.
    pub(super) fn batch<T: DeserializeOwned>(
        &self,
        method: &str,
        params: impl Iterator<Item = Value>,
        max: u64,
    ) -> Result<Option<Vec<Result<T, RpcError>>>> {
        let requests: Vec<Value> = params
            .enumerate()
            .map(|(id, params)| json!({ "jsonrpc": "1.0", "id": id, "method": method, "params": params }))
            .collect();
        if requests.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let asked = requests.len();
        let Some(bytes) = self.post(method, &Value::Array(requests))?.bytes_up_to(method, max)? else {
            return Ok(None);
        };
        if bytes.trim_ascii_start().starts_with(b"{") {
            // The batch as a whole failed.
            let answer: Answer<Value> = self.parsed(method, &bytes)?;
            let error = answer.error.ok_or_else(|| self.unusable(method, "one answer to a batch"))?;
            return Err(self.failed(method, &error));
        }
        let mut answers: Vec<Answer<T>> = self.parsed(method, &bytes)?;
        answers.sort_by_key(|answer| answer.id);
        if !answers.iter().map(|answer| answer.id).eq((0..asked).map(Some)) {
            return Err(self.unusable(method, "answers that are not those of the batch"));
        }
        let results = answers.into_iter().map(|answer| match answer {
            Answer { error: Some(error), .. } if error.code == IN_WARMUP => Err(self.failed(method, &error)),
            Answer { error: Some(error), .. } => Ok(Err(error)),
            Answer { result: Some(result), .. } => Ok(Ok(result)),
            _ => Err(self.unusable(method, "neither a result nor an error")),
        });
        results.collect::<Result<Vec<_>>>().map(Some)
    }

    /// What an error of the node means to the caller of this crate.
    pub(super) fn failed(&self, method: &str, error: &RpcError) -> Error {
        let source_id = self.http.source_id().to_owned();
        let reason = format!("{} (code {})", error.message, error.code);
        match error.code {
            IN_WARMUP => Error::Unreachable { attempt: format!("call {method}"), source_id, reason },
            METHOD_NOT_FOUND => Error::Refused { source_id, reason: format!("it has no method {method}") },
            _ => Error::Unusable { attempt: method.to_owned(), source_id, reason },
        }
    }

    fn post(&self, method: &str, request: &Value) -> Result<Response> {
        let attempt = format!("call {method}");
        let body = request.to_string();
        for attempts_left in (0..COOKIE_TRIES).rev() {
            let authorization = auth::header(&self.credentials).map_err(|missing| match missing {
                Missing::NotYet(reason) => self.http.unreachable(&attempt, reason),
                Missing::Unreadable(reason) => self.refused(reason),
            })?;
            let response = self.http.post(&attempt, &authorization, body.as_bytes())?;
            match response.status {
                200 | 404 | 500 => return Ok(response),
                401 if matches!(self.credentials, Credentials::CookieFile(_)) && attempts_left > 0 => {
                    std::thread::sleep(COOKIE_WAIT);
                }
                401 => break,
                _ => return Err(response.unexpected(method)),
            }
        }
        Err(self.refused(auth::advice(&self.credentials)))
    }

    fn parsed<'a, T: Deserialize<'a>>(&self, method: &str, bytes: &'a [u8]) -> Result<T> {
        serde_json::from_slice(bytes)
            .map_err(|error| self.unusable(method, &format!("what cannot be read: {error}")))
    }

    fn refused(&self, reason: String) -> Error {
        Error::Refused { source_id: self.http.source_id().to_owned(), reason }
    }

    fn unusable(&self, method: &str, reason: &str) -> Error {
        Error::Unusable {
            attempt: method.to_owned(),
            source_id: self.http.source_id().to_owned(),
            reason: reason.to_owned(),
        }
    }
}
