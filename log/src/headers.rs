//! Headers of a record's own, beside those of its chunks.

use crate::{Class, Error, NewRecord, Result, chunk};

/// Largest sum of the names and values of one record's headers, which the log's own limits leave room for.
pub const MAX_HEADERS_BYTES: usize = 32 * 1024;

/// What both logs refuse, before anything of the record is appended.
pub(crate) fn check(record: &NewRecord<'_>) -> Result<()> {
    let mut bytes = 0;
    for (name, value) in record.headers {
        bytes += name.len() + value.len();
        if [chunk::INDEX, chunk::COUNT, chunk::SHA256].contains(name) {
            return Err(refused(record, format!("its header {name} is one that only a chunk has")));
        }
        if name.is_empty() || name.contains('\0') {
            return Err(refused(record, format!("a header cannot be named {name:?}")));
        }
    }
    if bytes > MAX_HEADERS_BYTES {
        let reason = format!("its headers of {bytes} bytes are larger than {MAX_HEADERS_BYTES}");
        return Err(refused(record, reason));
    }
    Ok(())
}

fn refused(record: &NewRecord<'_>, reason: String) -> Error {
    let attempt = format!("append to {}/{}", record.topic, record.partition);
    Error::Store { attempt, reason, class: Class::Fatal }
}
