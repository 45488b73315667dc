//! Events of writers that use another version of a schema: resolved to the current one by Avro's rules. Not a hot path.

use apache_avro::{Schema, from_avro_datum, to_avro_datum};

use crate::datum;
use crate::event::{Event, EventKind};
use crate::schema::{self, Fingerprint};

/// Namespace of every type of the contract.
pub(crate) const NAMESPACE: &str = "chainsluice.v1";

/// How to read what a writer wrote.
pub(crate) enum Writer {
    /// With the current schema.
    Current,
    /// With another one, by resolution.
    Other(Box<Resolution>),
}

/// From a writer's schema to the current one.
pub(crate) struct Resolution {
    writer: Schema,
    reader: Schema,
}

impl Writer {
    /// The writer of `schema`, which must be a version of the schema of `kind`.
    pub(crate) fn new(kind: EventKind, schema: &str) -> Result<Self, String> {
        let fingerprint = schema::fingerprint(schema).map_err(|e| format!("it does not parse: {e}"))?;
        if fingerprint == schema::current(kind) {
            return Ok(Self::Current);
        }
        let writer = Schema::parse_str(schema).map_err(|e| format!("it does not parse: {e}"))?;
        let expected = format!("{NAMESPACE}.{}", kind.record_name());
        match writer.name().map(|name| name.fullname(None)) {
            Some(name) if name == expected => {}
            Some(name) => return Err(format!("it is of {name}, not of {expected}")),
            None => return Err(format!("it has no name, {expected} was expected")),
        }
        let reader =
            Schema::parse_str(kind.schema()).map_err(|e| format!("the reader's does not parse: {e}"))?;
        Ok(Self::Other(Box::new(Resolution { writer, reader })))
    }

    /// Reads a bare datum.
    pub(crate) fn read<E: Event>(&self, datum: &[u8]) -> Result<E, String> {
        match self {
            Self::Current => E::read_datum(datum),
            Self::Other(resolution) => E::read_datum(&resolution.resolve(datum)?),
        }
    }
}

impl Resolution {
    /// Writes the datum anew with the current schema.
    ///
    /// apache-avro reserves memory on the word of an array's length, so the bytes are walked first.
    fn resolve(&self, mut datum: &[u8]) -> Result<Vec<u8>, String> {
        datum::check(datum, &self.writer)?;
        let value =
            from_avro_datum(&self.writer, &mut datum, Some(&self.reader)).map_err(|e| e.to_string())?;
        to_avro_datum(&self.reader, value).map_err(|e| e.to_string())
    }
}

/// The released writers of a kind whose schema differs from the current one, by fingerprint.
pub(crate) fn released(kind: EventKind) -> impl Iterator<Item = (Fingerprint, Writer)> {
    kind.released().iter().filter_map(move |released| {
        let fingerprint =
            schema::fingerprint(released.schema).expect("released schemas are valid: a test parses each");
        match Writer::new(kind, released.schema)
            .expect("released schemas are of their kind: a test checks it")
        {
            Writer::Current => None,
            writer @ Writer::Other(_) => Some((fingerprint, writer)),
        }
    })
}
