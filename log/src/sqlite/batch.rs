//! Batches: how records lie in the database. Pure.
//!
//! ```text
//! 0   u32  crc32c of all that follows
//! 4   u8   0 the records as they are, 1 as one lz4 block
//! 5   u32  number of records
//! 9   u32  bytes of the records, uncompressed
//! 13  …    the records
//!
//! record: u32 key length · u32 value length · i64 timestamp · u16 number of headers
//!         (u16 name length · u32 value length · name · value)* · key · value
//! ```
//! All integers are little-endian. A batch knows nothing of its offset: it is given one when it is committed.

use std::sync::Arc;

use bytes::{Buf, Bytes};

use crate::{Error, NewRecord, Record, Result};

/// Bytes at which a batch is closed; a larger one has a single record.
pub(super) const BATCH_BYTES: usize = 128 * 1024;

/// No batch decompresses to more, whatever its header says.
const MAX_BATCH_BYTES: usize = 64 * 1024 * 1024;

const HEADER: usize = 13;
const RECORD_HEADER: usize = 18;
const HEADER_HEADER: usize = 6;
const RAW: u8 = 0;
const LZ4: u8 = 1;

/// Whether batches are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// As they are.
    #[default]
    None,
    /// LZ4, where it makes a batch smaller by an eighth or more.
    Lz4,
}

/// Collects records into a batch.
#[derive(Debug)]
pub(super) struct Builder {
    bytes: Vec<u8>,
    records: u32,
    max_timestamp: i64,
}

/// A batch ready to be stored.
#[derive(Debug)]
pub(super) struct Sealed {
    pub(super) payload: Vec<u8>,
    pub(super) records: i64,
    pub(super) max_timestamp: i64,
}

impl Builder {
    pub(super) fn new() -> Self {
        Self { bytes: Vec::new(), records: 0, max_timestamp: i64::MIN }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Whether a record goes in without passing `BATCH_BYTES`.
    pub(super) fn has_room(&self, record: &NewRecord<'_>) -> bool {
        self.bytes.len().max(HEADER) + size(record) <= BATCH_BYTES
    }

    /// Adds a record. Where it goes is the caller's business.
    pub(super) fn push(&mut self, record: &NewRecord<'_>) {
        let NewRecord { timestamp, key, value, headers, .. } = *record;
        let out = &mut self.bytes;
        if out.is_empty() {
            // At once: a batch that grows is copied over and over.
            out.reserve_exact(BATCH_BYTES.max(HEADER + size(record)));
            out.resize(HEADER, 0);
        }
        // Lengths fit: a writer refuses keys and values of 4 GiB, and headers of more than MAX_HEADERS_BYTES.
        out.extend_from_slice(&(key.len() as u32).to_le_bytes());
        out.extend_from_slice(&(value.len() as u32).to_le_bytes());
        out.extend_from_slice(&timestamp.to_le_bytes());
        out.extend_from_slice(&(headers.len() as u16).to_le_bytes());
        for (name, value) in headers {
            out.extend_from_slice(&(name.len() as u16).to_le_bytes());
            out.extend_from_slice(&(value.len() as u32).to_le_bytes());
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(value);
        }
        out.extend_from_slice(key);
        out.extend_from_slice(value);
        self.records += 1;
        self.max_timestamp = self.max_timestamp.max(timestamp);
    }

    /// Closes the batch and leaves an empty one.
    pub(super) fn seal(&mut self, compression: Compression) -> Sealed {
        let full = std::mem::replace(self, Self::new());
        let raw_bytes = full.bytes.len() - HEADER;
        let (encoding, mut payload) = match compression {
            Compression::None => (RAW, full.bytes),
            Compression::Lz4 => match compress(&full.bytes[HEADER..]) {
                Some(payload) => (LZ4, payload),
                None => (RAW, full.bytes),
            },
        };
        payload[4] = encoding;
        payload[5..9].copy_from_slice(&full.records.to_le_bytes());
        payload[9..13].copy_from_slice(&(raw_bytes as u32).to_le_bytes());
        let crc = crc32c::crc32c(&payload[4..]);
        payload[..4].copy_from_slice(&crc.to_le_bytes());
        Sealed { payload, records: i64::from(full.records), max_timestamp: full.max_timestamp }
    }
}

/// Bytes that a record takes in a batch.
fn size(record: &NewRecord<'_>) -> usize {
    let headers = record.headers.iter().map(|(name, value)| HEADER_HEADER + name.len() + value.len());
    RECORD_HEADER + headers.sum::<usize>() + record.key.len() + record.value.len()
}

/// `HEADER` free bytes and an lz4 block, or `None` where that saves too little to be worth the decoding.
fn compress(raw: &[u8]) -> Option<Vec<u8>> {
    let mut payload = vec![0; HEADER + lz4_flex::block::get_maximum_output_size(raw.len())];
    let len = lz4_flex::block::compress_into(raw, &mut payload[HEADER..]).ok()?;
    payload.truncate(HEADER + len);
    payload.shrink_to_fit();
    (len <= raw.len() / 8 * 7).then_some(payload)
}

/// Where a batch is on the log.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    pub(super) base: i64,
    pub(super) last: i64,
}

impl Place {
    pub(super) fn corrupt(&self, reason: impl Into<String>) -> Error {
        Error::Corrupt {
            topic: self.topic.to_string(),
            partition: self.partition,
            offset: self.base,
            reason: reason.into(),
        }
    }
}

/// Appends the records of a batch from offset `from` on to `out`. Their keys and values are slices of `payload`, or of
/// the buffer it was decompressed to.
pub(super) fn decode(payload: Bytes, place: &Place, from: i64, out: &mut impl Extend<Record>) -> Result<()> {
    let (records, mut body) = open(payload, place)?;
    if i64::from(records) != place.last - place.base + 1 {
        return Err(place.corrupt(format!("it holds {records} records up to offset {}", place.last)));
    }
    for index in 0..i64::from(records) {
        let record = next(&mut body, place, place.base + index)
            .ok_or_else(|| place.corrupt(format!("record {index} of {records} is cut off")))?;
        if record.offset >= from {
            out.extend(std::iter::once(record));
        }
    }
    if body.has_remaining() {
        return Err(place.corrupt(format!("{} bytes follow its last record", body.remaining())));
    }
    Ok(())
}

/// Number of records, and their bytes.
fn open(mut payload: Bytes, place: &Place) -> Result<(u32, Bytes)> {
    if payload.len() < HEADER {
        return Err(place.corrupt(format!("a batch of {} bytes is too short", payload.len())));
    }
    let stored = payload.get_u32_le();
    let found = crc32c::crc32c(&payload);
    if stored != found {
        return Err(place.corrupt(format!("its crc32c is {found:08x}, stored as {stored:08x}")));
    }
    let encoding = payload.get_u8();
    let records = payload.get_u32_le();
    let raw_bytes = payload.get_u32_le() as usize;
    if raw_bytes > MAX_BATCH_BYTES {
        return Err(place.corrupt(format!("it claims to hold {raw_bytes} bytes")));
    }
    match encoding {
        RAW if payload.len() == raw_bytes => Ok((records, payload)),
        RAW => Err(place.corrupt(format!("it holds {} bytes, not {raw_bytes}", payload.len()))),
        LZ4 => {
            let raw = lz4_flex::block::decompress(&payload, raw_bytes)
                .map_err(|error| place.corrupt(error.to_string()))?;
            if raw.len() != raw_bytes {
                return Err(place.corrupt(format!("it holds {} bytes, not {raw_bytes}", raw.len())));
            }
            Ok((records, raw.into()))
        }
        other => Err(place.corrupt(format!("its encoding {other} is unknown"))),
    }
}

/// The record at the front, or `None` where it is cut off.
fn next(body: &mut Bytes, place: &Place, offset: i64) -> Option<Record> {
    let key_bytes = body.try_get_u32_le().ok()? as usize;
    let value_bytes = body.try_get_u32_le().ok()? as usize;
    let timestamp = body.try_get_i64_le().ok()?;
    let header_count = body.try_get_u16_le().ok()?;
    let mut headers = Vec::new();
    for _ in 0..header_count {
        let name_bytes = body.try_get_u16_le().ok()? as usize;
        let value_bytes = body.try_get_u32_le().ok()? as usize;
        let name = take(body, name_bytes)?;
        headers.push((String::from_utf8(name.to_vec()).ok()?, take(body, value_bytes)?));
    }
    let key = take(body, key_bytes)?;
    let value = take(body, value_bytes)?;
    let topic = place.topic.clone();
    Some(Record { topic, partition: place.partition, offset, timestamp, key, value, headers })
}

fn take(body: &mut Bytes, len: usize) -> Option<Bytes> {
    (len <= body.len()).then(|| body.split_to(len))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sha2::{Digest, Sha256};

    fn place(base: i64, records: i64) -> Place {
        Place { topic: "t".into(), partition: 2, base, last: base + records - 1 }
    }

    type Parts = (i64, Vec<u8>, Vec<u8>, Vec<String>);

    fn parts() -> impl Strategy<Value = Vec<Parts>> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..40);
        prop::collection::vec(
            (any::<i64>(), bytes(), bytes(), prop::collection::vec("[a-z]{0,5}", 0..3)),
            1..20,
        )
    }

    fn seal(parts: &[Parts], compression: Compression) -> Sealed {
        let mut builder = Builder::new();
        for (timestamp, key, value, headers) in parts {
            let headers: Vec<_> = headers.iter().map(|text| ("name", text.as_bytes())).collect();
            let (topic, partition, timestamp) = ("t", 2, *timestamp);
            builder.push(&NewRecord { topic, partition, timestamp, key, value, headers: &headers });
        }
        builder.seal(compression)
    }

    proptest! {
        #[test]
        fn decoding_undoes_sealing(parts in parts(), lz4: bool, base in 0i64..1000, skip in 0i64..20) {
            let sealed = seal(&parts, if lz4 { Compression::Lz4 } else { Compression::None });
            prop_assert_eq!(sealed.max_timestamp, parts.iter().map(|p| p.0).max().unwrap());
            let mut records = Vec::new();
            decode(sealed.payload.into(), &place(base, sealed.records), base + skip, &mut records).unwrap();
            let wanted: Vec<_> = parts.iter().enumerate().skip(skip as usize).collect();
            prop_assert_eq!(records.len(), wanted.len());
            for (record, (index, (timestamp, key, value, headers))) in records.iter().zip(wanted) {
                prop_assert_eq!(record.offset, base + index as i64);
                prop_assert_eq!(record.timestamp, *timestamp);
                prop_assert_eq!(&record.key[..], &key[..]);
                prop_assert_eq!(&record.value[..], &value[..]);
                prop_assert!(record.headers.iter().map(|(_, v)| &v[..]).eq(headers.iter().map(|h| h.as_bytes())));
            }
        }

        #[test]
        fn any_changed_byte_is_noticed(parts in parts(), lz4: bool, at: prop::sample::Index, flip in 1u8..) {
            let sealed = seal(&parts, if lz4 { Compression::Lz4 } else { Compression::None });
            let mut payload = sealed.payload;
            let at = at.index(payload.len());
            payload[at] ^= flip;
            let error = decode(payload.into(), &place(5, sealed.records), 0, &mut Vec::new()).unwrap_err();
            let named = matches!(error, Error::Corrupt { partition: 2, offset: 5, .. });
            prop_assert!(named);
        }

        #[test]
        fn arbitrary_bytes_with_a_right_checksum_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 4..200)) {
            let crc = crc32c::crc32c(&bytes[4..]);
            bytes[..4].copy_from_slice(&crc.to_le_bytes());
            if let Some(high) = bytes.get_mut(12) {
                *high = 0;
            }
            let _ = decode(bytes.into(), &place(0, 1), 0, &mut Vec::new());
        }
    }

    #[test]
    fn repetitive_batches_are_stored_compressed_and_random_ones_are_not() {
        let text = [(0, vec![], b"all work and no play ".repeat(100), vec![])];
        assert!(seal(&text, Compression::Lz4).payload.len() < 500);
        let noise: Vec<u8> = (0u8..20).flat_map(|n| Sha256::digest([n])).collect();
        let noise = [(0, vec![], noise, vec![])];
        assert_eq!(
            seal(&noise, Compression::Lz4).payload.len(),
            seal(&noise, Compression::None).payload.len()
        );
    }
}
