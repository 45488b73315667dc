//! From a request to an answer: a turn, a view, a blocking thread, and what HTTP says about caching.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bitcoin::hashes::{Hash, sha256};
use sluice_schemas::Network;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::Api;
use super::error::Error;
use super::out::{First, Freshness, Head, Media, Out};
use crate::View;

/// Confirmations from which on a block counts as there to stay, as it does for coinbases.
const FINAL_DEPTH: i32 = 100;
/// Longest path and query.
pub(super) const MAX_URL_BYTES: usize = 2048;

/// What a handler works with.
pub(super) struct Ask {
    pub(super) view: View,
    pub(super) network: Network,
    pub(super) api: Arc<Api>,
}

impl Ask {
    /// How long an answer about the block at `height` holds: `None` for what is not in a block.
    pub(super) fn freshness(&self, height: Option<i32>) -> Freshness {
        let tip = self.view.tip().map_or(-1, |tip| tip.height);
        match height {
            Some(height) if tip.saturating_sub(height) >= FINAL_DEPTH => Freshness::Immutable,
            _ => Freshness::Changing,
        }
    }
}

/// Answers a request by a handler that blocks.
pub(super) async fn answer(
    api: Arc<Api>,
    headers: HeaderMap,
    handler: impl FnOnce(&Ask, &mut Out) -> Result<(), Error> + Send + 'static,
) -> Response {
    match first(api, handler).await {
        Ok(First::Whole(head, bytes)) => whole(&headers, head, bytes),
        Ok(First::Begun(head, parts)) => begun(&headers, head, parts.into_body()),
        Err(error) => error.into_response(),
    }
}

async fn first(
    api: Arc<Api>,
    handler: impl FnOnce(&Ask, &mut Out) -> Result<(), Error> + Send + 'static,
) -> Result<First, Error> {
    let deadline = Instant::now() + api.limits.time;
    let place = api.reads.enter().await?;
    let (sender, receiver) = oneshot::channel();
    let mut out =
        Out::new(sender, place, api.streams.clone(), Handle::current(), deadline, api.limits.client);
    tokio::task::spawn_blocking(move || {
        let result = ask(api).and_then(|ask| handler(&ask, &mut out));
        out.finish(result);
    });
    match tokio::time::timeout_at(deadline.into(), receiver).await {
        Ok(Ok(first)) => first,
        Ok(Err(_)) => Err(Error::Internal("the handler ended without an answer".into())),
        Err(_) => Err(Error::TimedOut),
    }
}

fn ask(api: Arc<Api>) -> Result<Ask, Error> {
    let view = api.index.view()?;
    let network = api.index.network().ok_or(Error::Empty)?;
    Ok(Ask { view, network, api })
}

fn whole(asked: &HeaderMap, mut head: Head, bytes: Vec<u8>) -> Response {
    head.length = None;
    if head.freshness != Freshness::Once {
        let hash = sha256::Hash::hash(&bytes);
        head.tag = Some(hex::encode(&hash[..16]));
    }
    begun(asked, head, Body::from(bytes))
}

fn begun(asked: &HeaderMap, head: Head, body: Body) -> Response {
    let tag = head.tag.map(|tag| format!("\"{tag}\""));
    let unchanged = tag.as_deref().is_some_and(|tag| is_known(asked, tag));
    let mut response = if unchanged { StatusCode::NOT_MODIFIED.into_response() } else { Response::new(body) };
    let headers = response.headers_mut();
    if !unchanged {
        let media = match head.media {
            Media::Json => "application/json",
            Media::Text => "text/plain; charset=utf-8",
            Media::Binary => "application/octet-stream",
        };
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
        headers.extend(head.length.map(|length| (header::CONTENT_LENGTH, HeaderValue::from(length))));
    }
    let cache = match head.freshness {
        Freshness::Immutable => "public, max-age=31536000, immutable",
        Freshness::Changing => "no-cache",
        Freshness::Once => "no-store",
    };
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    if let Some(tag) = tag.and_then(|tag| HeaderValue::try_from(tag).ok()) {
        headers.insert(header::ETAG, tag);
    }
    response
}

/// An answer that is the same as long as this program is.
pub(super) fn fixed(asked: &HeaderMap, media: Media, bytes: &'static str) -> Response {
    let head = Head { media, freshness: Freshness::Changing, length: None, tag: None };
    whole(asked, head, bytes.into())
}

/// Whether the client has the content that `tag` stands for.
fn is_known(asked: &HeaderMap, tag: &str) -> bool {
    let given = asked.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut tags = given.flat_map(|value| value.split(',')).map(str::trim);
    tags.any(|known| known == "*" || known.trim_start_matches("W/") == tag)
}

/// Around every request: limits on what is asked, and leave for pages of other origins to ask (CORS).
pub(super) async fn around(request: Request, next: Next) -> Response {
    let mut response = match (request.method(), is_too_long(request.uri())) {
        (_, true) => Error::UrlTooLong.into_response(),
        (&Method::OPTIONS, false) => StatusCode::NO_CONTENT.into_response(),
        _ => next.run(request).await,
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD, POST, OPTIONS"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "Content-Type, If-None-Match, Last-Event-ID"),
        (header::ACCESS_CONTROL_EXPOSE_HEADERS, "ETag, Retry-After"),
        (header::ACCESS_CONTROL_MAX_AGE, "86400"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

fn is_too_long(uri: &Uri) -> bool {
    uri.path_and_query().is_some_and(|asked| asked.as_str().len() > MAX_URL_BYTES)
}
