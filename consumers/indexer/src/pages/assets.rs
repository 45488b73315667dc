//! Style, script and icon, which are part of the binary.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::response::{IntoResponse, Response};
use bitcoin::hashes::{Hash, HashEngine, sha256};

const ASSETS: [(&str, &str, &str); 3] = [
    ("style.css", "text/css; charset=utf-8", include_str!("assets/style.css")),
    ("live.js", "text/javascript; charset=utf-8", include_str!("assets/live.js")),
    ("icon.svg", "image/svg+xml", include_str!("assets/icon.svg")),
];

/// Changes with the assets, so that browsers may keep them for as long as they like.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let mut engine = sha256::Hash::engine();
    ASSETS.iter().for_each(|(_, _, content)| engine.input(content.as_bytes()));
    hex::encode(&sha256::Hash::from_engine(engine).to_byte_array()[..8])
});

/// Where a page finds an asset.
pub(super) fn url(name: &str) -> String {
    format!("/explorer/assets/{name}?{}", *VERSION)
}

pub(super) async fn serve(Path(name): Path<String>) -> Response {
    match ASSETS.iter().find(|(known, _, _)| *known == name) {
        Some((_, kind, content)) => {
            let headers = [
                (CONTENT_TYPE, *kind),
                (CACHE_CONTROL, "public, max-age=31536000, immutable"),
                (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            ];
            (headers, *content).into_response()
        }
        None => (StatusCode::NOT_FOUND, "no such asset\n").into_response(),
    }
}
