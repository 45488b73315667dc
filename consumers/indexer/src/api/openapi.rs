//! The API, described for programs.

use axum::http::HeaderMap;
use axum::response::Response;

use super::out::Media;
use super::serve;

/// The description, as it is served.
const DOCUMENT: &str = include_str!("../../openapi.json");

/// `GET /openapi.json`.
pub(super) async fn document(headers: HeaderMap) -> Response {
    serve::fixed(&headers, Media::Json, DOCUMENT)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_path_is_described_and_every_description_has_its_path() {
        let document: serde_json::Value = serde_json::from_str(DOCUMENT).unwrap();
        let described: BTreeSet<_> = document["paths"].as_object().unwrap().keys().cloned().collect();
        let served = super::super::paths().chain([crate::events::PATH]);
        let routed: BTreeSet<_> = served.map(str::to_owned).collect();
        assert_eq!(described, routed);
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                assert!(operation["summary"].is_string(), "{method} {path}");
                assert!(operation["responses"].is_object(), "{method} {path}");
                let named = path.matches('{').count();
                let parameters = operation["parameters"]
                    .as_array()
                    .map_or(0, |all| all.iter().filter(|parameter| parameter["in"] == "path").count());
                assert_eq!(parameters, named, "{method} {path}");
            }
        }
    }
}
