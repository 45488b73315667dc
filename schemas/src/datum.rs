//! Bare Avro data of the current schemas, by serde.

use std::io::BufRead;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_avro_fast::Schema;
use serde_avro_fast::de::{DeserializerConfig, DeserializerState, read::SliceRead};
use serde_avro_fast::ser::{SerializerConfig, SerializerState};

use crate::event::Event;
use crate::schema;

/// Appends the bare datum. The fields of our events are in the schema's order, so that nothing is buffered on the way.
pub(crate) fn write<E: Event>(event: &E, out: &mut Vec<u8>) -> Result<(), String> {
    let mut config = SerializerConfig::new(&schema::current(E::KIND).schema);
    let mut state = SerializerState::from_writer(out, &mut config);
    event.serialize(state.serializer()).map_err(|e| e.to_string())
}

/// Reads a bare datum of the current schema that fills `datum` to its last byte.
pub(crate) fn read<E: Event>(datum: &[u8]) -> Result<E, String> {
    whole(datum, &schema::current(E::KIND).schema)
}

/// Checks that `datum` is a datum of `schema` to its last byte, allocating nothing.
pub(crate) fn check(datum: &[u8], schema: &Schema) -> Result<(), String> {
    whole::<Walk>(datum, schema).map(|_| ())
}

/// Lengths are checked against what is there before anything is allocated, and an array cannot have more elements than
/// the datum has bytes: memory is bounded by a small multiple of the input, whatever it says.
fn whole<'de, T: Deserialize<'de>>(datum: &'de [u8], schema: &Schema) -> Result<T, String> {
    let mut config = DeserializerConfig::new(schema);
    config.max_seq_size = datum.len();
    let mut state = DeserializerState::with_config(SliceRead::new(datum), config);
    let value = T::deserialize(state.deserializer()).map_err(|e| e.to_string())?;
    match state.into_reader().fill_buf() {
        Ok([]) => Ok(value),
        Ok(rest) => Err(format!("{} bytes follow its end", rest.len())),
        Err(e) => Err(e.to_string()),
    }
}

/// Anything. Unlike `IgnoredAny` it is asked for as any type, so that array blocks are walked element by element and
/// not skipped by the byte count that they claim.
struct Walk;

impl<'de> Deserialize<'de> for Walk {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WalkVisitor)
    }
}

struct WalkVisitor;

impl<'de> Visitor<'de> for WalkVisitor {
    type Value = Walk;
    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("any value")
    }
    fn visit_bool<E>(self, _: bool) -> Result<Walk, E> {
        Ok(Walk)
    }
    fn visit_i64<E>(self, _: i64) -> Result<Walk, E> {
        Ok(Walk)
    }
    fn visit_u64<E>(self, _: u64) -> Result<Walk, E> {
        Ok(Walk)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Walk, E> {
        Ok(Walk)
    }
    fn visit_str<E>(self, _: &str) -> Result<Walk, E> {
        Ok(Walk)
    }
    fn visit_bytes<E>(self, _: &[u8]) -> Result<Walk, E> {
        Ok(Walk)
    }
    fn visit_unit<E>(self) -> Result<Walk, E> {
        Ok(Walk)
    }
    fn visit_none<E>(self) -> Result<Walk, E> {
        Ok(Walk)
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Walk, D::Error> {
        Walk::deserialize(deserializer)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Walk, A::Error> {
        while seq.next_element::<Walk>()?.is_some() {}
        Ok(Walk)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Walk, A::Error> {
        while map.next_entry::<IgnoredAny, Walk>()?.is_some() {}
        Ok(Walk)
    }
}
