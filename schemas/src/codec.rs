//! Events to bytes and back, with the framing that names their schema.
//!
//! ```text
//! single object  C3 01 | Rabin fingerprint, 8 bytes little-endian | Avro datum
//! Confluent      00    | registry id, 4 bytes big-endian          | Avro datum
//! ```

use std::fmt;
use std::io::BufRead;
use std::sync::Arc;

use serde_avro_fast::de::{DeserializerConfig, DeserializerState, read::SliceRead};
use serde_avro_fast::ser::{SerializerConfig, SerializerState};

use crate::event::{Event, EventKind};
use crate::schema::{self, Fingerprint};

/// First two bytes of Avro single-object encoding.
const SINGLE_OBJECT: [u8; 2] = [0xC3, 0x01];
/// First byte of the Confluent wire format.
const CONFLUENT: u8 = 0x00;

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
    /// The event has no form in its schema, for example a number out of range.
    #[error("failed to encode {kind:?} event: {reason}")]
    Encode {
        /// What it is.
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
}

/// The bytes before a datum.
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
}

impl fmt::Debug for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Codec")
    }
}

impl Codec {
    /// Avro single-object encoding: `0xC3 0x01`, 8-byte little-endian Rabin fingerprint, then the datum.
    pub fn single_object() -> Self {
        let headers = EventKind::ALL.map(|kind| Header::single_object(schema::current(kind).fingerprint));
        Self { inner: Arc::new(Inner { headers }) }
    }

    /// Appends the framed event to `out`, which is left as it was on an error.
    ///
    /// # Errors
    /// `Error::Encode` where a value does not fit its schema.
    pub fn encode<E: Event>(&self, event: &E, out: &mut Vec<u8>) -> Result<(), Error> {
        let start = out.len();
        let header = &self.inner.headers[E::KIND as usize];
        out.extend_from_slice(&header.bytes[..header.len]);
        let result = write_datum(event, out);
        if result.is_err() {
            out.truncate(start);
        }
        result
    }

    /// Reads one framed event; either framing is accepted. The whole of `bytes` must be the event.
    ///
    /// # Errors
    /// `Error::UnknownSchema` where the schema is not known to this reader; the other kinds for damaged bytes.
    pub fn decode<E: Event>(&self, bytes: &[u8]) -> Result<E, Error> {
        match Frame::of::<E>(bytes)? {
            Frame::SingleObject { fingerprint, datum } => {
                if fingerprint == schema::current(E::KIND).fingerprint {
                    return read_datum(datum);
                }
                Err(unknown_fingerprint(fingerprint))
            }
            Frame::Confluent { id, .. } => Err(Error::UnknownSchema { id: format!("registry id {id}") }),
        }
    }
}

fn unknown_fingerprint(fingerprint: Fingerprint) -> Error {
    Error::UnknownSchema { id: format!("fingerprint 0x{:016x}", u64::from_le_bytes(fingerprint)) }
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
            [first, ..] => Err(framing(format!("first byte 0x{first:02x} is neither 0xc3 nor 0x00"))),
        }
    }
}

/// Appends the bare datum. The fields of our events are in the schema's order, so that nothing is buffered on the way.
fn write_datum<E: Event>(event: &E, out: &mut Vec<u8>) -> Result<(), Error> {
    let mut config = SerializerConfig::new(&schema::current(E::KIND).schema);
    let mut state = SerializerState::from_writer(out, &mut config);
    event
        .serialize(state.serializer())
        .map_err(|e| Error::Encode { kind: E::KIND, reason: e.to_string() })
}

/// Reads a bare datum of the current schema that fills `datum` to its last byte.
///
/// Lengths are checked against what is there before anything is allocated, and an array cannot have more elements than
/// the datum has bytes: memory is bounded by a small multiple of the input, whatever it says.
fn read_datum<E: Event>(datum: &[u8]) -> Result<E, Error> {
    let fail = |reason: String| Error::Datum { kind: E::KIND, reason };
    let mut config = DeserializerConfig::new(&schema::current(E::KIND).schema);
    config.max_seq_size = datum.len();
    let mut state = DeserializerState::with_config(SliceRead::new(datum), config);
    let event = E::deserialize(state.deserializer()).map_err(|e| fail(e.to_string()))?;
    match state.into_reader().fill_buf() {
        Ok([]) => Ok(event),
        Ok(rest) => Err(fail(format!("{} bytes follow its end", rest.len()))),
        Err(e) => Err(fail(e.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{StatusEvent, StatusKind};

    fn heartbeat() -> StatusEvent {
        StatusEvent {
            kind: StatusKind::Heartbeat,
            source: "simulator:7".into(),
            epoch: 3,
            tip_hash: None,
            tip_height: Some(5),
            chain_sequence: 5,
            source_height: Some(6),
            feed: None,
            from: None,
            to: None,
            recovered: None,
            detail: String::new(),
            observed_at: 1_700_000_000_000,
        }
    }

    #[test]
    fn an_event_survives_the_way_through_bytes() {
        let codec = Codec::single_object();
        let mut bytes = b"before".to_vec();
        codec.encode(&heartbeat(), &mut bytes).unwrap();
        assert_eq!(codec.decode::<StatusEvent>(&bytes[6..]).unwrap(), heartbeat());
    }
}
