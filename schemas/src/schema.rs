//! The schemas of the contract, as released and as they are now.

use std::sync::LazyLock;

use apache_avro::Schema;
use apache_avro::rabin::Rabin;
use serde_json::Value;

use crate::event::EventKind;

impl EventKind {
    /// The current Avro schema, as JSON text.
    pub fn schema(self) -> &'static str {
        match self {
            Self::Chain => include_str!("../avro/chain_event.avsc"),
            Self::Transaction => include_str!("../avro/transaction_event.avsc"),
            Self::Mempool => include_str!("../avro/mempool_event.avsc"),
            Self::Status => include_str!("../avro/status_event.avsc"),
        }
    }

    /// Name of the record in the schema, without its namespace.
    pub fn record_name(self) -> &'static str {
        match self {
            Self::Chain => "ChainEvent",
            Self::Transaction => "TransactionEvent",
            Self::Mempool => "MempoolEvent",
            Self::Status => "StatusEvent",
        }
    }

    /// Fingerprint of the current schema, as it stands in the single-object header: CRC-64-AVRO of the Parsing Canonical
    /// Form, little-endian.
    pub fn fingerprint(self) -> [u8; 8] {
        current(self)
    }

    /// The released schemas, oldest first. A release adds its four here and is never changed afterwards.
    pub fn released(self) -> &'static [Released] {
        match self {
            Self::Chain => {
                &[Released { version: "v1", schema: include_str!("../released/v1/chain_event.avsc") }]
            }
            Self::Transaction => {
                &[Released { version: "v1", schema: include_str!("../released/v1/transaction_event.avsc") }]
            }
            Self::Mempool => {
                &[Released { version: "v1", schema: include_str!("../released/v1/mempool_event.avsc") }]
            }
            Self::Status => {
                &[Released { version: "v1", schema: include_str!("../released/v1/status_event.avsc") }]
            }
        }
    }
}

/// A schema that some release has written with, or reads with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Released {
    /// `v1` ….
    pub version: &'static str,
    /// Avro schema, as JSON text.
    pub schema: &'static str,
}

/// Rabin fingerprint (CRC-64-AVRO) of a schema's Parsing Canonical Form, little-endian as in the single-object header.
pub(crate) type Fingerprint = [u8; 8];

/// Fingerprint of a schema's Parsing Canonical Form.
///
/// apache-avro leaves `{"type":"long"}` where it strips a logical type, and the specification (PRIMITIVES) wants "long";
/// so logical types are taken out first.
///
/// # Errors
/// The text is no schema.
pub(crate) fn fingerprint(schema: &str) -> Result<Fingerprint, String> {
    let json = serde_json::from_str(schema).map_err(|error| error.to_string())?;
    let plain = Schema::parse(&without_logical_types(json)).map_err(|error| error.to_string())?;
    let bytes = plain.fingerprint::<Rabin>().bytes;
    bytes.try_into().map_err(|_| "its fingerprint has not 8 bytes".to_owned())
}

fn without_logical_types(schema: Value) -> Value {
    match schema {
        Value::Array(items) => items.into_iter().map(without_logical_types).collect(),
        Value::Object(mut object) => {
            object.remove("logicalType");
            let named =
                object.contains_key("name") || object.contains_key("items") || object.contains_key("values");
            match object.remove("type") {
                Some(primitive) if object.is_empty() || (!named && primitive.is_string()) => primitive,
                Some(inner) => {
                    object.insert("type".to_owned(), inner);
                    Value::Object(
                        object.into_iter().map(|(key, value)| (key, without_logical_types(value))).collect(),
                    )
                }
                None => Value::Object(object),
            }
        }
        other => other,
    }
}

/// The fingerprint of the current schema of a kind, computed on first use.
pub(crate) fn current(kind: EventKind) -> Fingerprint {
    static ALL: LazyLock<[Fingerprint; 4]> = LazyLock::new(|| {
        EventKind::ALL.map(|kind| {
            fingerprint(kind.schema()).expect("the schemas in avro/ are valid: a test parses each")
        })
    });
    ALL[kind as usize]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// As fastavro computes them. They stand for good: a released schema is never edited.
    #[test]
    fn the_first_release_has_the_fingerprints_of_fastavro() {
        for (kind, fingerprint) in [
            (EventKind::Chain, "35c604153fb7374a"),
            (EventKind::Transaction, "4a0840ef3648e9c6"),
            (EventKind::Mempool, "53975a968585788a"),
            (EventKind::Status, "01e94f22e99d200b"),
        ] {
            let Released { version, schema } = kind.released()[0];
            assert_eq!(version, "v1");
            assert_eq!(hex::encode(super::fingerprint(schema).unwrap()), fingerprint, "{kind:?}");
        }
    }

    #[test]
    fn released_schemas_are_valid_and_of_their_kind() {
        for kind in EventKind::ALL {
            assert!(!kind.released().is_empty());
            assert_eq!(crate::writer::released(kind).count(), 0, "nothing but v1 is released");
        }
    }

    /// Every type and field says what it is; a number says its unit or what it counts, in its own words.
    #[test]
    fn every_type_and_field_is_documented() {
        fn walk(schema: &Value, path: &str, seen: &mut BTreeSet<String>) {
            match schema {
                Value::Array(items) => items.iter().for_each(|item| walk(item, path, seen)),
                Value::Object(object) => {
                    let path = format!("{path}.{}", schema["name"].as_str().unwrap_or_default());
                    if object.contains_key("name") {
                        let doc = schema["doc"].as_str().unwrap_or_default();
                        assert!(doc.len() > 5 && doc.ends_with('.'), "{path} has doc {doc:?}");
                        seen.insert(path.clone());
                    }
                    for part in ["type", "items", "fields"] {
                        if let Some(part) = object.get(part) {
                            walk(part, &path, seen);
                        }
                    }
                }
                _ => {}
            }
        }
        for kind in EventKind::ALL {
            let schema: Value = serde_json::from_str(kind.schema()).unwrap();
            assert_eq!(schema["name"], kind.record_name());
            assert_eq!(schema["namespace"], crate::writer::NAMESPACE);
            let mut seen = BTreeSet::new();
            walk(&schema, "", &mut seen);
            assert!(seen.len() > 10);
        }
    }
}
