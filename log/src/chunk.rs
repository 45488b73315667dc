//! Values larger than the log takes, as consecutive records of one partition.
//!
//! Each chunk has the key, timestamp and headers of the whole and three headers more. Their values are ASCII text, so that a
//! reader without this crate can join them, too:
//!
//! | header | value |
//! |---|---|
//! | `chunk-index` | decimal, from 0 |
//! | `chunk-count` | decimal, how many chunks the value has |
//! | `chunk-sha256` | lower-case hex, SHA-256 of the whole value |
//!
//! A value that fits is one record without these headers.

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::{Error, Record, Result};

/// Largest value of one record where nothing else is set. Kafka's default limit of 1 MiB leaves room for key, headers
/// and framing.
pub const DEFAULT_MAX_RECORD_BYTES: usize = 900_000;

/// Largest joined value where nothing else is set: the largest value Avro's Java and Rust readers take.
pub const DEFAULT_MAX_JOINED_BYTES: usize = i32::MAX as usize;

/// Header with the index of a chunk.
pub const INDEX: &str = "chunk-index";
/// Header with the number of chunks.
pub const COUNT: &str = "chunk-count";
/// Header with the hash of the whole value.
pub const SHA256: &str = "chunk-sha256";

/// One part of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk<'a> {
    /// Index from 0.
    pub index: usize,
    /// Number of chunks.
    pub count: usize,
    /// SHA-256 of the whole value.
    pub sha256: [u8; 32],
    /// The part.
    pub value: &'a [u8],
}

impl Chunk<'_> {
    /// Names and values of the headers.
    pub fn headers(&self) -> [(&'static str, String); 3] {
        [
            (INDEX, self.index.to_string()),
            (COUNT, self.count.to_string()),
            (SHA256, Sha256Hex(&self.sha256).to_string()),
        ]
    }

    /// Whether no chunk follows.
    pub fn is_last(&self) -> bool {
        self.index + 1 == self.count
    }
}

/// The headers of a chunk: those of the whole record, and then its own.
pub(crate) fn after<'a>(
    headers: &[(&'a str, &'a [u8])],
    of_chunk: &'a [(&'static str, String); 3],
) -> Vec<(&'a str, &'a [u8])> {
    let of_chunk = of_chunk.iter().map(|(name, value)| (*name, value.as_bytes()));
    headers.iter().copied().chain(of_chunk).collect()
}

/// The chunks of a value, or `None` where it fits in one record of `max_record_bytes`. Borrows the value.
pub fn split(value: &[u8], max_record_bytes: usize) -> Option<impl Iterator<Item = Chunk<'_>>> {
    let size = max_record_bytes.max(1);
    if value.len() <= size {
        return None;
    }
    let sha256 = Sha256::digest(value).into();
    let count = value.len().div_ceil(size);
    Some(value.chunks(size).enumerate().map(move |(index, value)| Chunk { index, count, sha256, value }))
}

/// Whether a record is a chunk other than the first.
pub(crate) fn is_continuation(record: &Record) -> bool {
    record.headers.iter().any(|(name, value)| name == INDEX && value.as_ref() != b"0")
}

/// Joins the records of one partition, given in offset order, to whole values again.
#[derive(Debug)]
pub struct Joiner {
    max_bytes: usize,
    partial: Option<Partial>,
}

#[derive(Debug)]
struct Partial {
    first: Record,
    last_offset: i64,
    next_index: usize,
    count: usize,
    sha256: Bytes,
    hasher: Sha256,
    value: Vec<u8>,
}

impl Default for Joiner {
    fn default() -> Self {
        Self::new(DEFAULT_MAX_JOINED_BYTES)
    }
}

impl Joiner {
    /// A joiner that refuses values of more than `max_bytes`.
    pub fn new(max_bytes: usize) -> Self {
        Self { max_bytes, partial: None }
    }

    /// Whether some, but not all chunks of a value have been pushed.
    pub fn is_partial(&self) -> bool {
        self.partial.is_some()
    }

    /// Takes the next record. Gives it back where it is whole; `None` while chunks are missing; with the last chunk the
    /// whole value, without the chunk headers and with the offset of that last chunk, so that `offset + 1` is the next
    /// offset to read in both cases.
    ///
    /// # Errors
    /// `Error::Corrupt` where a chunk is missing, or has no first one, where the hash does not match, or where the value
    /// is larger than allowed. What was joined so far is dropped.
    pub fn push(&mut self, record: Record) -> Result<Option<Record>> {
        let headers = ChunkHeaders::of(&record)?;
        match (self.partial.take(), headers) {
            (None, None) => Ok(Some(record)),
            (Some(partial), None) => Err(corrupt(
                &record,
                format!(
                    "the value at offset {} ends after {} of {} chunks",
                    partial.first.offset, partial.next_index, partial.count
                ),
            )),
            (None, Some(headers)) if headers.index != 0 => Err(corrupt(
                &record,
                format!("chunk {} of {} has no first chunk before it", headers.index, headers.count),
            )),
            (None, Some(headers)) => {
                let partial = Partial {
                    first: Record { value: Bytes::new(), ..record.clone() },
                    last_offset: record.offset - 1,
                    next_index: 0,
                    count: headers.count,
                    sha256: headers.sha256.clone(),
                    hasher: Sha256::new(),
                    value: Vec::new(),
                };
                self.add(partial, &headers, &record)
            }
            (Some(partial), Some(headers)) => self.add(partial, &headers, &record),
        }
    }

    fn add(
        &mut self,
        mut partial: Partial,
        headers: &ChunkHeaders,
        record: &Record,
    ) -> Result<Option<Record>> {
        let same_value = headers.count == partial.count && headers.sha256 == partial.sha256;
        if !same_value || headers.index != partial.next_index || record.offset != partial.last_offset + 1 {
            return Err(corrupt(
                record,
                format!(
                    "chunk {} of the value at offset {} should be here, but it is chunk {} of {}",
                    partial.next_index,
                    partial.first.offset,
                    headers.index,
                    if same_value { "the same value" } else { "another value" }
                ),
            ));
        }
        if partial.value.len() + record.value.len() > self.max_bytes {
            let reason = format!(
                "the value at offset {} is larger than the {} bytes allowed",
                partial.first.offset, self.max_bytes
            );
            return Err(corrupt(record, reason));
        }
        partial.hasher.update(&record.value);
        partial.value.extend_from_slice(&record.value);
        partial.next_index += 1;
        partial.last_offset = record.offset;
        if partial.next_index < partial.count {
            self.partial = Some(partial);
            return Ok(None);
        }
        let found = Sha256Hex(&partial.hasher.finalize().into()).to_string();
        if found.as_bytes() != partial.sha256 {
            return Err(corrupt(
                record,
                format!("the chunks joined have sha256 {found}, not the one announced"),
            ));
        }
        let mut joined = partial.first;
        joined.offset = partial.last_offset;
        joined.value = partial.value.into();
        joined.headers.retain(|(name, _)| ![INDEX, COUNT, SHA256].contains(&name.as_str()));
        Ok(Some(joined))
    }
}

struct ChunkHeaders {
    index: usize,
    count: usize,
    sha256: Bytes,
}

impl ChunkHeaders {
    fn of(record: &Record) -> Result<Option<Self>> {
        let find = |name: &str| record.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value);
        let (index, count, sha256) = match (find(INDEX), find(COUNT), find(SHA256)) {
            (None, None, None) => return Ok(None),
            (Some(index), Some(count), Some(sha256)) => (index, count, sha256),
            _ => return Err(corrupt(record, "some of the three chunk headers are missing".into())),
        };
        let number = |name: &str, bytes: &Bytes| {
            std::str::from_utf8(bytes)
                .ok()
                .and_then(|text| text.parse::<usize>().ok())
                .ok_or_else(|| corrupt(record, format!("header {name} is not a number")))
        };
        let (index, count) = (number(INDEX, index)?, number(COUNT, count)?);
        if index >= count {
            return Err(corrupt(record, format!("chunk {index} of {count} cannot be")));
        }
        // A slice of its own: the record's buffer may be large.
        Ok(Some(Self { index, count, sha256: Bytes::copy_from_slice(sha256) }))
    }
}

struct Sha256Hex<'a>(&'a [u8; 32]);

impl std::fmt::Display for Sha256Hex<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

fn corrupt(record: &Record, reason: String) -> Error {
    Error::Corrupt {
        topic: record.topic.to_string(),
        partition: record.partition,
        offset: record.offset,
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(offset: i64, value: &[u8], headers: &[(&str, String)]) -> Record {
        Record {
            topic: "t".into(),
            partition: 3,
            offset,
            timestamp: 7,
            key: Bytes::from_static(b"k"),
            value: Bytes::copy_from_slice(value),
            headers: headers.iter().map(|(n, v)| (n.to_string(), v.clone().into())).collect(),
        }
    }

    fn records(value: &[u8], max: usize, first_offset: i64) -> Vec<Record> {
        match split(value, max) {
            None => vec![record(first_offset, value, &[])],
            Some(chunks) => chunks
                .map(|chunk| record(first_offset + chunk.index as i64, chunk.value, &chunk.headers()))
                .collect(),
        }
    }

    fn join(records: Vec<Record>) -> Result<Vec<Record>> {
        let mut joiner = Joiner::default();
        let mut whole = Vec::new();
        for record in records {
            whole.extend(joiner.push(record)?);
        }
        Ok(whole)
    }

    proptest! {
        #[test]
        fn joining_undoes_splitting(
            values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..6),
            max in 1usize..20,
        ) {
            let mut all = Vec::new();
            for value in &values {
                let next = all.len() as i64;
                all.extend(records(value, max, next));
            }
            prop_assert!(all.iter().all(|r| r.value.len() <= max));
            let joined = join(all).unwrap();
            prop_assert_eq!(joined.iter().map(|r| r.value.to_vec()).collect::<Vec<_>>(), values);
            prop_assert!(joined.iter().all(|r| r.headers.is_empty()));
        }

        #[test]
        fn a_joiner_never_panics(
            index in "[0-9]{0,25}", count in "[0-9]{0,25}", value in prop::collection::vec(any::<u8>(), 0..9),
        ) {
            let headers = [(INDEX, index), (COUNT, count), (SHA256, "00".into())];
            let _ = Joiner::new(4).push(record(0, &value, &headers));
        }
    }

    #[test]
    fn a_value_of_exactly_the_limit_is_one_record() {
        assert!(split(&[0; 10], 10).is_none());
        assert_eq!(split(&[0; 11], 10).unwrap().count(), 2);
    }

    #[test]
    fn the_joined_record_has_the_offset_of_its_last_chunk() {
        assert_eq!(join(records(b"abcdefg", 3, 40)).unwrap()[0].offset, 42);
    }

    #[test]
    fn the_headers_are_text() {
        let headers: Vec<_> = split(b"abc", 2).unwrap().last().unwrap().headers().into();
        assert_eq!(headers[0], (INDEX, "1".into()));
        assert_eq!(headers[1], (COUNT, "2".into()));
        assert_eq!(headers[2].1, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn a_missing_chunk_is_an_error() {
        for missing in 0..3 {
            let mut parts = records(b"abcdefg", 3, 0);
            parts.remove(missing);
            parts.push(record(3, b"next", &[]));
            assert!(join(parts).is_err(), "without chunk {missing}");
        }
    }

    #[test]
    fn a_chunk_of_another_value_is_an_error() {
        let mut parts = records(b"abcdefg", 3, 0);
        parts[1] = records(b"ABCDEFG", 3, 0).remove(1);
        assert!(join(parts).unwrap_err().to_string().contains("another value"));
    }

    #[test]
    fn a_flipped_bit_is_an_error() {
        let mut parts = records(b"abcdefg", 3, 0);
        parts[2].value = Bytes::from_static(b"h");
        assert!(join(parts).unwrap_err().to_string().contains("sha256"));
    }

    #[test]
    fn a_value_over_the_limit_is_refused_before_it_is_held() {
        let mut joiner = Joiner::new(5);
        let mut parts = records(b"abcdefg", 3, 0).into_iter();
        assert_eq!(joiner.push(parts.next().unwrap()).unwrap(), None);
        assert!(joiner.push(parts.next().unwrap()).unwrap_err().to_string().contains("5 bytes"));
        assert!(!joiner.is_partial());
    }
}
