//! The API, described for programs.

use axum::http::{HeaderMap, Method};
use axum::response::Response;
use serde_json::Value;

use super::out::Media;
use super::serve;

/// The description, as it is served.
const DOCUMENT: &str = include_str!("../../openapi.json");

/// `GET /openapi.json`.
pub(super) async fn document(headers: HeaderMap) -> Response {
    serve::fixed(&headers, Media::Json, DOCUMENT)
}

/// A request as the description has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// `GET` or `POST`; what takes `GET` takes `HEAD`, too.
    pub method: Method,
    /// Path and query, what is to be put in by name: `/block/{hash}/txid/{index}`, `/reorgs?limit={limit}`.
    pub template: String,
}

impl Operation {
    /// Path and query, each name replaced by what `part` gives for it.
    pub fn path(&self, mut part: impl FnMut(&str) -> String) -> String {
        let mut pieces = self.template.split('{');
        let mut path = pieces.next().unwrap_or_default().to_owned();
        for piece in pieces {
            let (name, rest) = piece.split_once('}').unwrap_or((piece, ""));
            path.push_str(&part(name));
            path.push_str(rest);
        }
        path
    }
}

/// Every request that is described: those of this API, and `/events`.
pub fn operations() -> Vec<Operation> {
    let document: Value = serde_json::from_str(DOCUMENT).unwrap_or_default();
    let paths = document["paths"].as_object().into_iter().flatten();
    let described = paths.flat_map(|(path, methods)| {
        methods.as_object().into_iter().flatten().filter_map(move |(method, operation)| {
            let method = method.to_uppercase().parse().ok()?;
            Some(Operation { method, template: format!("{path}{}", query(operation)) })
        })
    });
    described.collect()
}

/// The parameters that stand after the path.
fn query(operation: &Value) -> String {
    let parameters = operation["parameters"].as_array().into_iter().flatten();
    let named = parameters.filter(|parameter| parameter["in"] == "query");
    let pairs =
        named.filter_map(|parameter| parameter["name"].as_str()).map(|name| format!("{name}={{{name}}}"));
    let pairs: Vec<_> = pairs.collect();
    match pairs.is_empty() {
        true => String::new(),
        false => format!("?{}", pairs.join("&")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_path_is_described_and_every_description_has_its_path() {
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        let described: BTreeSet<_> = document["paths"].as_object().unwrap().keys().cloned().collect();
        let served = super::super::routes().into_iter().map(|(path, _)| path).chain([crate::events::PATH]);
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

    #[test]
    fn every_request_has_its_parameters_and_no_name_is_left_once_they_are_put_in() {
        let operations = operations();
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        assert_eq!(operations.len(), document["paths"].as_object().unwrap().len());
        for (method, template, path) in [
            (Method::GET, "/block/{hash}/txid/{index}", "/block/<hash>/txid/<index>"),
            (Method::GET, "/reorgs?limit={limit}", "/reorgs?limit=<limit>"),
            (Method::POST, "/tx", "/tx"),
            (
                Method::POST,
                "/txs/package?maxfeerate={maxfeerate}&maxburnamount={maxburnamount}",
                "/txs/package?maxfeerate=<maxfeerate>&maxburnamount=<maxburnamount>",
            ),
        ] {
            let operation = Operation { method, template: template.to_owned() };
            assert!(operations.contains(&operation), "{operation:?}");
            assert_eq!(operation.path(|name| format!("<{name}>")), path);
        }
    }
}
