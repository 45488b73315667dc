//! The schemas of the contract, as released and as they are now, parsed once.

use std::sync::LazyLock;

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

/// A current schema, ready for the hot path.
pub(crate) struct Current {
    pub(crate) schema: serde_avro_fast::Schema,
    pub(crate) fingerprint: Fingerprint,
}

/// The current schema of a kind, parsed on first use.
pub(crate) fn current(kind: EventKind) -> &'static Current {
    static ALL: LazyLock<[Current; 4]> = LazyLock::new(|| {
        EventKind::ALL.map(|kind| {
            let schema: serde_avro_fast::Schema =
                kind.schema().parse().expect("the schemas in avro/ are valid: a test parses each");
            Current { fingerprint: *schema.rabin_fingerprint(), schema }
        })
    });
    &ALL[kind as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_equal_those_of_apache_avro() {
        for kind in EventKind::ALL {
            let reference = apache_avro::Schema::parse_str(kind.schema()).unwrap();
            eprintln!("{}", reference.canonical_form());
            let fingerprint = reference.fingerprint::<apache_avro::rabin::Rabin>();
            assert_eq!(current(kind).fingerprint.as_slice(), fingerprint.bytes, "{kind:?}");
        }
    }
}
