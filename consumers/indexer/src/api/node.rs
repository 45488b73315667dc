//! The node that transactions are sent to.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use sluice_runtime::node::NodeAddress;

use super::error::Error;

/// How long the node may take: a large transaction's scripts are checked while we wait.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a connection may take.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// Largest answer taken.
const MAX_ANSWER_BYTES: u64 = 1 << 20;
/// `RPC_IN_WARMUP`.
const IN_WARMUP: i64 = -28;

/// JSON-RPC of one node, Bitcoin Core or Bitcoin SV. Calls block.
pub struct Node {
    agent: ureq::Agent,
    address: NodeAddress,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Node({})", self.address.url)
    }
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    result: Value,
    error: Option<RpcError>,
}

#[derive(Deserialize)]
struct RpcError {
    code: i64,
    message: String,
}

impl Node {
    /// Nothing is asked yet.
    pub fn new(address: NodeAddress) -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            .timeout_connect(Some(CONNECT_PATIENCE))
            .max_redirects(0)
            .http_status_as_error(false);
        Self { agent: config.build().into(), address }
    }

    /// Calls a method.
    pub(super) fn call(&self, method: &'static str, params: &Value) -> Result<Value, Error> {
        let request = json!({ "jsonrpc": "1.0", "id": 0, "method": method, "params": params }).to_string();
        let silent = |reason: &dyn fmt::Display| {
            tracing::warn!(node = %self.address.url, method, %reason, "the node did not answer");
            Error::NodeSilent
        };
        let authorization = self.address.credentials.authorization().map_err(|error| silent(&error))?;
        let post = self.agent.post(self.address.url.as_str()).header("Authorization", authorization);
        let mut response =
            post.content_type("application/json").send(&request).map_err(|error| silent(&error))?;
        if response.status() == 401 {
            return Err(silent(&"it does not accept our credentials"));
        }
        let body = response.body_mut().with_config().limit(MAX_ANSWER_BYTES).read_to_vec();
        let body = body.map_err(|error| silent(&error))?;
        let answer: Answer = serde_json::from_slice(&body).map_err(|error| silent(&error))?;
        match answer.error {
            None => Ok(answer.result),
            Some(error) if error.code == IN_WARMUP => Err(silent(&error.message)),
            Some(RpcError { code, message }) => {
                let error = json!({ "code": code, "message": message }).to_string();
                Err(Error::Refused { method, error })
            }
        }
    }
}
