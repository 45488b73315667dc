//! Events to bytes and back, with the framing that names their schema.
//!
//! ```text
//! single object  C3 01 | Rabin fingerprint, 8 bytes little-endian | Avro datum
//! Confluent      00    | registry id, 4 bytes big-endian          | Avro datum
//! ```
//!
//! The current schemas are read and written by a fast path; a datum of another version (a released one, or any that the
//! registry knows) is resolved to the current schema by Avro's rules.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, LazyLock};

use crate::bounded::Bounded;
use crate::event::{ChainEvent, Event, EventKind, MempoolEvent, StatusEvent, TransactionEvent};
use crate::publish;
use crate::registry::{self, Registry};
use crate::schema::{self, Fingerprint};
use crate::topics::Topics;
use crate::writer::{self, Writer};

/// First two bytes of Avro single-object encoding.
const SINGLE_OBJECT: [u8; 2] = [0xC3, 0x01];
/// First byte of the Confluent wire format.
const CONFLUENT: u8 = 0x00;
/// Most registry ids that a codec remembers. There is one per version of a schema, so this is never reached but by
/// damaged or hostile bytes; then all are forgotten.
const MAX_WRITERS: usize = 256;

/// Why bytes could not be read as an event, or an event not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The event's writer used a schema that this reader does not know.
    #[error("unknown schema {id}")]
    UnknownSchema {
        /// `fingerprint 0x…` or `registry id …`.
        id: String,
    },
    /// The schema is known but not one that this event can be read with.
    #[error("schema {id} cannot be used for {kind:?} events: {reason}")]
    UnusableSchema {
        /// What was expected.
        kind: EventKind,
        /// `registry id …`.
        id: String,
        /// Why not.
        reason: String,
    },
    /// The schema registry could not be asked. The same call may succeed later.
    #[error("failed to learn the schema of registry id {id}")]
    Registry {
        /// The schema's id.
        id: u32,
        /// What the registry, or the way to it, said.
        source: registry::Error,
    },
    /// The bytes carry neither framing.
    #[error("failed to read the framing of {kind:?} event: {reason}")]
    Framing {
        /// What was expected.
        kind: EventKind,
        /// What is wrong.
        reason: String,
    },
    /// The bytes are framed but no datum of the schema that they name.
    #[error("failed to decode {kind:?} event: {reason}")]
    Datum {
        /// What was expected.
        kind: EventKind,
        /// What is wrong.
        reason: String,
    },
}

/// Encodes and decodes events. Cheap to clone, shared by threads.
#[derive(Clone)]
pub struct Codec {
    inner: Arc<Inner>,
}

struct Inner {
    /// What comes before the datum of each kind.
    headers: [Header; 4],
    /// Writers with a released schema other than the current one.
    released: HashMap<(EventKind, Fingerprint), Writer>,
    registry: Option<Attached>,
}

/// A registry and what is known of its ids.
struct Attached {
    registry: Registry,
    /// Id of the current schema of each kind.
    current: [u32; 4],
    /// Other ids met, at most `MAX_WRITERS`.
    writers: Bounded<(EventKind, u32), Arc<Writer>>,
}

/// The bytes before a datum.
#[derive(Clone, Copy)]
struct Header {
    bytes: [u8; 10],
    len: usize,
}

impl Header {
    fn single_object(fingerprint: Fingerprint) -> Self {
        let mut bytes = [0; 10];
        bytes[..2].copy_from_slice(&SINGLE_OBJECT);
        bytes[2..].copy_from_slice(&fingerprint);
        Self { bytes, len: 10 }
    }

    fn confluent(id: u32) -> Self {
        let mut bytes = [0; 10];
        bytes[0] = CONFLUENT;
        bytes[1..5].copy_from_slice(&id.to_be_bytes());
        Self { bytes, len: 5 }
    }
}

impl fmt::Debug for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let registry = self.inner.registry.as_ref().map(|attached| attached.registry.url());
        f.debug_struct("Codec").field("registry", &registry).finish_non_exhaustive()
    }
}

impl Codec {
    /// Writes Avro single-object encoding: `0xC3 0x01`, 8-byte little-endian Rabin fingerprint, then the datum.
    pub fn single_object() -> Self {
        // Made once: it reads every released schema.
        static MADE: LazyLock<Codec> = LazyLock::new(Codec::new_single_object);
        MADE.clone()
    }

    fn new_single_object() -> Self {
        let headers = EventKind::ALL.map(|kind| Header::single_object(schema::current(kind)));
        Self::with(headers, None)
    }

    /// Writes the Confluent wire format: `0x00`, 4-byte big-endian schema id, then the datum. The ids of the current
    /// schemas are looked up under the subjects of `topics`, and registered where the registry does not have them yet.
    ///
    /// # Errors
    /// The registry cannot be reached, or refuses a schema.
    pub fn with_registry(registry: Registry, topics: &Topics) -> Result<Self, registry::Error> {
        let mut current = [0; 4];
        for published in publish(&registry, topics)? {
            current[published.kind as usize] = published.id;
        }
        let headers = current.map(Header::confluent);
        Ok(Self::with(headers, Some(Attached { registry, current, writers: Bounded::new(MAX_WRITERS) })))
    }

    fn with(headers: [Header; 4], registry: Option<Attached>) -> Self {
        let released = EventKind::ALL
            .into_iter()
            .flat_map(|kind| writer::released(kind).map(move |(fingerprint, w)| ((kind, fingerprint), w)))
            .collect();
        Self { inner: Arc::new(Inner { headers, released, registry }) }
    }

    /// Appends the framed event to `out`.
    pub fn encode<E: Event>(&self, event: &E, out: &mut Vec<u8>) {
        let header = &self.inner.headers[E::KIND as usize];
        out.extend_from_slice(&header.bytes[..header.len]);
        event.write_datum(out);
    }

    /// Reads one framed event; either framing is accepted. The whole of `bytes` must be the event.
    ///
    /// May ask the registry once for each id that is new to it, and blocks meanwhile.
    ///
    /// # Errors
    /// `Error::UnknownSchema` where the schema is not known to this reader; other kinds for damaged bytes.
    pub fn decode<E: Event>(&self, bytes: &[u8]) -> Result<E, Error> {
        let damaged = |reason| Error::Datum { kind: E::KIND, reason };
        match Frame::of::<E>(bytes)? {
            Frame::SingleObject { fingerprint, datum: body } => {
                if fingerprint == schema::current(E::KIND) {
                    return E::read_datum(body).map_err(damaged);
                }
                match self.inner.released.get(&(E::KIND, fingerprint)) {
                    Some(writer) => writer.read(body).map_err(damaged),
                    None => Err(unknown_fingerprint(fingerprint)),
                }
            }
            Frame::Confluent { id, datum: body } => {
                let Some(attached) = &self.inner.registry else {
                    return Err(Error::UnknownSchema {
                        id: format!("registry id {id} (no schema registry is set)"),
                    });
                };
                if id == attached.current[E::KIND as usize] {
                    return E::read_datum(body).map_err(damaged);
                }
                attached.writer(E::KIND, id)?.read(body).map_err(damaged)
            }
        }
    }
}

impl Attached {
    /// The writer behind an id, from memory or from the registry.
    fn writer(&self, kind: EventKind, id: u32) -> Result<Arc<Writer>, Error> {
        if let Some(writer) = self.writers.get(&(kind, id)) {
            return Ok(writer);
        }
        let schema = self
            .registry
            .schema(id)
            .map_err(|source| Error::Registry { id, source })?
            .ok_or_else(|| Error::UnknownSchema { id: format!("registry id {id}") })?;
        let writer = Writer::new(kind, &schema).map_err(|reason| Error::UnusableSchema {
            kind,
            id: format!("registry id {id}"),
            reason,
        })?;
        let writer = Arc::new(writer);
        self.writers.insert((kind, id), Arc::clone(&writer));
        Ok(writer)
    }
}

fn unknown_fingerprint(fingerprint: Fingerprint) -> Error {
    Error::UnknownSchema { id: format!("fingerprint 0x{:016x}", u64::from_le_bytes(fingerprint)) }
}

/// For fuzzing: reads `bytes` as an event of each kind. An event that can be read must survive being written.
///
/// # Panics
/// Where it does not, or where reading panics; both are bugs.
pub fn fuzz(bytes: &[u8]) {
    fn survives<E: Event>(codec: &Codec, bytes: &[u8]) {
        if let Ok(event) = codec.decode::<E>(bytes) {
            let mut once = Vec::new();
            codec.encode(&event, &mut once);
            let mut twice = Vec::new();
            let again: E = codec.decode(&once).expect("what was written can be read");
            codec.encode(&again, &mut twice);
            assert_eq!(once, twice, "an event has one form");
        }
    }
    thread_local!(static CODEC: Codec = Codec::single_object());
    CODEC.with(|codec| {
        survives::<ChainEvent>(codec, bytes);
        survives::<TransactionEvent>(codec, bytes);
        survives::<MempoolEvent>(codec, bytes);
        survives::<StatusEvent>(codec, bytes);
    });
}

/// A record's value, its framing told apart.
enum Frame<'a> {
    SingleObject { fingerprint: Fingerprint, datum: &'a [u8] },
    Confluent { id: u32, datum: &'a [u8] },
}

impl<'a> Frame<'a> {
    fn of<E: Event>(bytes: &'a [u8]) -> Result<Self, Error> {
        let framing = |reason: String| Error::Framing { kind: E::KIND, reason };
        let short = || framing(format!("{} bytes are too few", bytes.len()));
        match bytes {
            [0xC3, 0x01, rest @ ..] => {
                let (fingerprint, datum) = rest.split_first_chunk::<8>().ok_or_else(short)?;
                Ok(Self::SingleObject { fingerprint: *fingerprint, datum })
            }
            [CONFLUENT, rest @ ..] => {
                let (id, datum) = rest.split_first_chunk::<4>().ok_or_else(short)?;
                Ok(Self::Confluent { id: u32::from_be_bytes(*id), datum })
            }
            [] | [0xC3] => Err(short()),
            _ => Err(framing(format!(
                "0x{} starts no known framing",
                hex::encode(&bytes[..bytes.len().min(2)])
            ))),
        }
    }
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
