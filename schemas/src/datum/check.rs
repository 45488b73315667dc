//! Whether bytes are a datum of any schema, without allocating on their word.

use std::collections::HashMap;

use apache_avro::Schema;
use apache_avro::schema::{Name, ResolvedSchema};

use super::read::{Reader, Result, whole};

/// Types nested deeper than this are refused; the contract's own go to eight.
const MAX_DEPTH: usize = 64;

/// Checks that `datum` is a datum of `schema` to its last byte: every length and count is that of bytes that are there.
///
/// # Errors
/// What does not fit, or a schema with a type that no version of the contract uses.
pub(crate) fn check(datum: &[u8], schema: &Schema) -> Result<()> {
    let resolved = ResolvedSchema::try_from(schema).map_err(|error| error.to_string())?;
    whole(datum, |reader| walk(reader, schema, resolved.get_names(), 0))
}

fn walk(
    reader: &mut Reader<'_>,
    schema: &Schema,
    names: &HashMap<Name, &Schema>,
    depth: usize,
) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err("its types are nested too deep".into());
    }
    let deeper = |reader: &mut Reader<'_>, schema: &Schema| walk(reader, schema, names, depth + 1);
    match schema {
        Schema::Null => Ok(()),
        Schema::Boolean => reader.skip(1),
        Schema::Float => reader.skip(4),
        Schema::Double => reader.skip(8),
        Schema::Int
        | Schema::Long
        | Schema::Enum(_)
        | Schema::Date
        | Schema::TimeMillis
        | Schema::TimeMicros
        | Schema::TimestampMillis
        | Schema::TimestampMicros
        | Schema::TimestampNanos => reader.long().map(drop),
        Schema::Bytes => reader.sized().map(drop),
        Schema::String => reader.text().map(drop),
        Schema::Fixed(fixed) => reader.skip(fixed.size),
        Schema::Record(record) => record.fields.iter().try_for_each(|field| deeper(reader, &field.schema)),
        Schema::Union(union) => {
            let branch = reader.long()?;
            let schema = usize::try_from(branch).ok().and_then(|branch| union.variants().get(branch));
            deeper(reader, schema.ok_or_else(|| format!("{branch} is no branch of a union"))?)
        }
        Schema::Array(array) => reader.blocks(|reader| deeper(reader, &array.items)),
        Schema::Map(map) => reader.blocks(|reader| {
            reader.text()?;
            deeper(reader, &map.types)
        }),
        Schema::Ref { name } => match names.get(name) {
            Some(schema) => deeper(reader, schema),
            None => Err(format!("its schema does not say what {} is", name.fullname(None))),
        },
        other => Err(format!("its schema has a {other:?}, which is not supported")),
    }
}
