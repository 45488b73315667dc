//! The records of a dead letter topic.
//!
//! | header | value |
//! |---|---|
//! | `dlq-kind` | `rejected`, `parked`, `retry`, `done` or `dropped` |
//! | `dlq-group` | the group |
//! | `dlq-at` | when the record was written, milliseconds since 1970 |
//! | `dlq-topic`, `dlq-partition`, `dlq-offset` | the event that the record is about (of a chunked one, its last record); not on `retry` |
//! | `dlq-error`, `dlq-attempts` | on `rejected`: what the handler said last, and how often it tried |
//!
//! All values are text. The key is the event's, its txid. The value of `rejected` and `parked` is the event as it was read,
//! that of the others is empty.

use std::sync::Arc;

use bitcoin::Txid;
use bitcoin::hashes::Hash;
use sluice_log::Record;

use crate::beside::header::{number, text};

/// Bytes of an error's text that are kept.
pub const MAX_ERROR_BYTES: usize = 4096;

const KIND: &str = "dlq-kind";
const GROUP: &str = "dlq-group";
const AT: &str = "dlq-at";
const TOPIC: &str = "dlq-topic";
const PARTITION: &str = "dlq-partition";
const OFFSET: &str = "dlq-offset";
const ERROR: &str = "dlq-error";
const ATTEMPTS: &str = "dlq-attempts";

/// The place of an event that a record is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Source {
    /// The topic it was read from.
    pub topic: Arc<str>,
    /// Its partition.
    pub partition: i32,
    /// Its offset; of a chunked event, that of the last record.
    pub offset: i64,
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}@{}", self.topic, self.partition, self.offset)
    }
}

/// What a record of a dead letter topic says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When it was written, milliseconds since 1970.
    pub at: i64,
    /// The transaction it is about.
    pub txid: Txid,
    /// What it says.
    pub note: Note,
}

/// What is said of an event, or of a transaction's events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// The handler refused the event, or gave up on it.
    Rejected {
        /// The event.
        source: Source,
        /// What the handler said last.
        error: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// The event waits for an earlier one of its transaction.
    Parked(Source),
    /// All letters of the transaction are to be handled again.
    Retry,
    /// The event has been handled.
    Done(Source),
    /// The event is given up.
    Dropped(Source),
}

impl Note {
    fn kind(&self) -> &'static str {
        match self {
            Self::Rejected { .. } => "rejected",
            Self::Parked(_) => "parked",
            Self::Retry => "retry",
            Self::Done(_) => "done",
            Self::Dropped(_) => "dropped",
        }
    }

    /// The event that it is about; `None` where it is about a transaction.
    pub fn source(&self) -> Option<&Source> {
        match self {
            Self::Rejected { source, .. }
            | Self::Parked(source)
            | Self::Done(source)
            | Self::Dropped(source) => Some(source),
            Self::Retry => None,
        }
    }
}

impl Entry {
    /// The headers of its record.
    pub fn headers(&self, group: &str) -> Vec<(&'static str, String)> {
        let mut headers =
            vec![(KIND, self.note.kind().to_owned()), (GROUP, group.to_owned()), (AT, self.at.to_string())];
        if let Some(source) = self.note.source() {
            headers.extend([
                (TOPIC, source.topic.to_string()),
                (PARTITION, source.partition.to_string()),
                (OFFSET, source.offset.to_string()),
            ]);
        }
        if let Note::Rejected { error, attempts, .. } = &self.note {
            headers.extend([(ERROR, shortened(error)), (ATTEMPTS, attempts.to_string())]);
        }
        headers
    }

    /// Reads a whole record.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(record: &Record) -> Result<Self, String> {
        let txid = Txid::from_slice(&record.key).map_err(|_| "its key is no txid".to_owned())?;
        let note = match text(record, KIND)? {
            "rejected" => Note::Rejected {
                source: source(record)?,
                error: text(record, ERROR)?.to_owned(),
                attempts: number(record, ATTEMPTS)?,
            },
            "parked" => Note::Parked(source(record)?),
            "retry" => Note::Retry,
            "done" => Note::Done(source(record)?),
            "dropped" => Note::Dropped(source(record)?),
            other => return Err(format!("{KIND} {other:?} is not known to this version")),
        };
        Ok(Self { at: number(record, AT)?, txid, note })
    }
}

fn source(record: &Record) -> Result<Source, String> {
    Ok(Source {
        topic: text(record, TOPIC)?.into(),
        partition: number(record, PARTITION)?,
        offset: number(record, OFFSET)?,
    })
}

/// The start of a text that may be long.
fn shortened(text: &str) -> String {
    if text.len() <= MAX_ERROR_BYTES {
        return text.to_owned();
    }
    let longest = MAX_ERROR_BYTES - '…'.len_utf8();
    let end = (0..=longest).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(entry: &Entry) -> Record {
        let headers = entry.headers("g").into_iter().map(|(name, value)| (name.to_owned(), value.into()));
        Record {
            topic: "p.g.dlq".into(),
            partition: 1,
            offset: 5,
            timestamp: 0,
            key: entry.txid.to_byte_array().to_vec().into(),
            value: bytes::Bytes::new(),
            headers: headers.collect(),
        }
    }

    fn note() -> impl Strategy<Value = Note> {
        let source = || {
            ("[a-z.]{1,20}", any::<i32>(), any::<i64>()).prop_map(|(topic, partition, offset)| Source {
                topic: topic.into(),
                partition,
                offset,
            })
        };
        prop_oneof![
            (source(), ".{0,40}", any::<u32>()).prop_map(|(source, error, attempts)| Note::Rejected {
                source,
                error,
                attempts
            }),
            source().prop_map(Note::Parked),
            Just(Note::Retry),
            source().prop_map(Note::Done),
            source().prop_map(Note::Dropped),
        ]
    }

    proptest! {
        #[test]
        fn an_entry_survives_its_record(at in any::<i64>(), txid in any::<[u8; 32]>(), note in note()) {
            let entry = Entry { at, txid: Txid::from_byte_array(txid), note };
            prop_assert_eq!(Entry::read(&record(&entry)), Ok(entry));
        }

        #[test]
        fn bytes_from_outside_never_panic(kind in "rejected|parked|x", value in prop::collection::vec(any::<u8>(), 0..9)) {
            let mut record = record(&Entry { at: 0, txid: Txid::all_zeros(), note: Note::Retry });
            record.headers = vec![(KIND.to_owned(), kind.into()), (OFFSET.to_owned(), value.into())];
            prop_assert!(Entry::read(&record).is_err());
        }
    }

    #[test]
    fn a_long_error_is_cut_between_characters() {
        let note = Note::Rejected {
            source: Source { topic: "t".into(), partition: 0, offset: 0 },
            error: "ü".repeat(MAX_ERROR_BYTES),
            attempts: 1,
        };
        let entry = Entry::read(&record(&Entry { at: 0, txid: Txid::all_zeros(), note })).unwrap();
        let Note::Rejected { error, .. } = entry.note else { panic!("{entry:?}") };
        assert!(error.len() <= MAX_ERROR_BYTES && error.ends_with("ü…"));
    }
}
