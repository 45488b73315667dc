//! A small JSON-RPC client: the tests do not ask the product how to speak to a node.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

/// Enough for a block of a gigabyte in hexadecimal.
const TIMEOUT: Duration = Duration::from_secs(600);

/// Why a call gave no result.
#[derive(Debug)]
pub enum CallError {
    /// The node could not be reached, or said no JSON.
    Transport(String),
    /// The node refused.
    Refused {
        /// Bitcoin's error code.
        code: i64,
        /// Its text.
        message: String,
    },
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transport(reason) => f.write_str(reason),
            Self::Refused { code, message } => write!(f, "{code}: {message}"),
        }
    }
}

/// A client of one node.
#[derive(Clone, Debug)]
pub struct Rpc {
    agent: ureq::Agent,
    url: String,
    authorization: String,
}

impl Rpc {
    /// A client that gives this user and password.
    pub fn new(url: &str, user: &str, password: &str) -> Self {
        let config =
            ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(TIMEOUT)).build();
        let authorization = format!("Basic {}", base64(format!("{user}:{password}").as_bytes()));
        Self { agent: config.into(), url: url.to_owned(), authorization }
    }

    /// Calls a method.
    pub fn try_call(&self, method: &str, params: Value) -> Result<Value, CallError> {
        let request = json!({ "id": 0, "method": method, "params": params });
        read_result(self.post(&request)?)
    }

    /// Calls one method many times in one request; results in order.
    pub fn try_batch(&self, method: &str, params: Vec<Value>) -> Result<Vec<Value>, CallError> {
        let request: Vec<_> =
            params.into_iter().map(|p| json!({ "id": 0, "method": method, "params": p })).collect();
        match self.post(&Value::Array(request))? {
            Value::Array(answers) => answers.into_iter().map(read_result).collect(),
            other => Err(CallError::Transport(format!("a batch was answered with {other}"))),
        }
    }

    fn post(&self, request: &Value) -> Result<Value, CallError> {
        let transport = |e: &dyn fmt::Display| CallError::Transport(format!("{}: {e}", self.url));
        let mut answer = self
            .agent
            .post(&self.url)
            .header("authorization", &self.authorization)
            .header("content-type", "application/json")
            .send(request.to_string())
            .map_err(|e| transport(&e))?;
        let status = answer.status();
        let body =
            answer.body_mut().with_config().limit(u64::MAX).read_to_vec().map_err(|e| transport(&e))?;
        serde_json::from_slice(&body).map_err(|e| transport(&format!("status {status}, {e}")))
    }
}

fn read_result(mut answer: Value) -> Result<Value, CallError> {
    match &answer["error"] {
        Value::Null => Ok(answer["result"].take()),
        error => Err(CallError::Refused {
            code: error["code"].as_i64().unwrap_or(0),
            message: error["message"].as_str().unwrap_or_default().to_owned(),
        }),
    }
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0u32, |bits, b| bits << 8 | u32::from(*b)) << (8 * (3 - group.len()));
        for i in 0..4 {
            let digit = ALPHABET[(bits >> (18 - 6 * i) & 63) as usize];
            out.push(if i <= group.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn base64_pads_to_four_digits() {
        for (bytes, text) in [("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
