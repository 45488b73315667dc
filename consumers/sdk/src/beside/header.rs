//! Headers of text.

use std::str::FromStr;

use sluice_log::Record;

/// The text of a header.
pub(crate) fn text<'a>(record: &'a Record, name: &str) -> Result<&'a str, String> {
    let header = record.headers.iter().find(|(header, _)| header == name);
    let (_, value) = header.ok_or_else(|| format!("it has no header {name}"))?;
    std::str::from_utf8(value).map_err(|_| format!("its header {name} is no text"))
}

/// The number that a header gives.
pub(crate) fn number<N: FromStr>(record: &Record, name: &str) -> Result<N, String> {
    text(record, name)?.parse().map_err(|_| format!("its header {name} is no number"))
}
