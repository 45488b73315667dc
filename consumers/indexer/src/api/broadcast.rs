//! `POST /tx` and `POST /txs/package`: transactions on their way to the node.

use std::sync::Arc;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{RawQuery, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;

use super::Api;
use super::error::Error;

/// Most transactions of a package, as Bitcoin Core has it.
const MAX_PACKAGE: usize = 25;

/// Sends a transaction, in hexadecimal digits, and answers with its id.
pub(super) async fn transaction(State(api): State<Arc<Api>>, body: Body) -> Response {
    match send_transaction(api, body).await {
        Ok(txid) => never_kept(txid.into_response()),
        Err(error) => error.into_response(),
    }
}

async fn send_transaction(api: Arc<Api>, body: Body) -> Result<String, Error> {
    let place = api.posts.enter().await?;
    let body = read(&api, body).await?;
    let hex = body.trim_ascii();
    if hex.is_empty() || hex.len() % 2 != 0 || !hex.iter().all(u8::is_ascii_hexdigit) {
        return Err(Error::Invalid("Invalid hex string"));
    }
    let hex = String::from_utf8_lossy(hex).into_owned();
    drop(body);
    let txid = call(api, place, "sendrawtransaction", json!([hex])).await?;
    txid.as_str().map(str::to_owned).ok_or(Error::NodeSilent)
}

/// Sends transactions that depend on each other, as a JSON array, and answers with what the node says of each.
pub(super) async fn package(State(api): State<Arc<Api>>, RawQuery(query): RawQuery, body: Body) -> Response {
    match send_package(api, query.unwrap_or_default(), body).await {
        Ok(result) => never_kept(axum::Json(result).into_response()),
        Err(error) => error.into_response(),
    }
}

async fn send_package(api: Arc<Api>, query: String, body: Body) -> Result<Value, Error> {
    let place = api.posts.enter().await?;
    let package: Vec<String> = serde_json::from_slice(&read(&api, body).await?)
        .map_err(|_| Error::Invalid("Invalid package: an array of transactions in hex is taken"))?;
    if package.is_empty() || package.len() > MAX_PACKAGE {
        return Err(Error::Invalid("Exceeded maximum of 25 transactions"));
    }
    let is_hex = |hex: &String| !hex.is_empty() && hex.bytes().all(|digit| digit.is_ascii_hexdigit());
    if !package.iter().all(is_hex) {
        return Err(Error::Invalid("Invalid hex string"));
    }
    let mut params = vec![json!(package)];
    for (position, name) in (1..).zip(["maxfeerate", "maxburnamount"]) {
        if let Some(amount) = decimal(&query, name)? {
            params.resize(position, Value::Null);
            params.push(amount);
        }
    }
    call(api, place, "submitpackage", Value::Array(params)).await
}

/// A decimal number of a query, passed on as it is.
fn decimal(query: &str, name: &str) -> Result<Option<Value>, Error> {
    let given = query.split('&').filter_map(|pair| pair.split_once('='));
    let Some((_, digits)) = given.into_iter().find(|(given, _)| *given == name) else { return Ok(None) };
    let is_decimal = digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let number = if is_decimal { serde_json::from_str(digits).ok() } else { None };
    number.map(Some).ok_or(Error::Invalid("Invalid number"))
}

async fn read(api: &Api, body: Body) -> Result<Bytes, Error> {
    let limit_bytes = api.limits.post_bytes;
    if api.node.is_none() {
        return Err(Error::NoNode);
    }
    let too_large = Error::BodyTooLarge { limit_bytes };
    if body.size_hint().lower() > limit_bytes as u64 {
        return Err(too_large);
    }
    match tokio::time::timeout(api.limits.client, axum::body::to_bytes(body, limit_bytes)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if is_over_limit(&error) => Err(too_large),
        _ => Err(Error::Body),
    }
}

/// Whether reading ended at the limit, rather than by the client.
fn is_over_limit(error: &axum::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.to_string().contains("length limit"))
}

/// Asks the node. The place is given back when the node has answered, even if the client has gone before.
async fn call(
    api: Arc<Api>,
    place: OwnedSemaphorePermit,
    method: &'static str,
    params: Value,
) -> Result<Value, Error> {
    let asked = tokio::task::spawn_blocking(move || {
        let answer = match &api.node {
            Some(node) => node.call(method, &params),
            None => Err(Error::NoNode),
        };
        drop(place);
        answer
    });
    asked.await.map_err(|error| Error::Internal(error.into()))?
}

fn never_kept(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
