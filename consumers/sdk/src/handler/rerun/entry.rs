//! The records of a replay topic.
//!
//! | header | value |
//! |---|---|
//! | `replay-kind` | `request`, `progress`, `done` or `cancelled` |
//! | `replay-id` | names the request |
//! | `replay-at` | when the record was written, milliseconds since 1970 |
//! | `replay-range`, `replay-sequence`, `replay-watermark` | on `request`: heights `A..B`, the chain event that it was made at, and the offset after that event in the partition |
//! | `replay-next` | on `progress`: where to go on |
//! | `replay-sent`, `replay-superseded` | on `progress` and `done`: events handled, and events left out because live ones win |
//!
//! All values are text. The key is the request's id. The value of `request` has a line `START..END` per run of offsets to send
//! again, in ascending order; END is not part of the run.

use std::ops::{Range, RangeInclusive};

use sluice_log::Record;

use crate::beside::Parcel;
use crate::beside::header::{number, text};

/// Most runs of one request in one partition: there is one, and one more for each reorg in it.
pub(crate) const MAX_RUNS: usize = 100_000;

const KIND: &str = "replay-kind";
const ID: &str = "replay-id";
const AT: &str = "replay-at";
const RANGE: &str = "replay-range";
const SEQUENCE: &str = "replay-sequence";
const WATERMARK: &str = "replay-watermark";
const NEXT: &str = "replay-next";
const SENT: &str = "replay-sent";
const SUPERSEDED: &str = "replay-superseded";

/// What a record of a replay topic says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When it was written, milliseconds since 1970.
    pub at: i64,
    /// The request that it is about.
    pub id: String,
    /// What it says.
    pub note: Note,
}

/// What is said of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// It is made.
    Request(Request),
    /// Everything before an offset is done.
    Progress {
        /// Where to go on.
        next: i64,
        /// How much was done.
        tally: Tally,
    },
    /// Everything is done.
    Done(Tally),
    /// A person has taken it back.
    Cancelled,
}

/// A request as one partition has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The heights asked for.
    pub heights: RangeInclusive<i32>,
    /// The last chain event when it was made: the blocks asked for are those of the best chain after it.
    pub sequence: i64,
    /// Offset in the partition: an event of a later chain event is there or behind.
    pub watermark: i64,
    /// Offsets of the partition to send again.
    pub runs: Vec<Range<i64>>,
}

/// How much was done of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Events given to the handler again.
    pub sent: u64,
    /// Events left out because live ones win.
    pub superseded: u64,
}

impl Entry {
    /// The record to append.
    pub(crate) fn parcel(&self, partition: i32) -> Parcel {
        let mut headers = vec![(ID, self.id.clone()), (AT, self.at.to_string())];
        let mut value = String::new();
        let tell =
            |tally: &Tally| [(SENT, tally.sent.to_string()), (SUPERSEDED, tally.superseded.to_string())];
        match &self.note {
            Note::Request(request) => {
                let (first, last) = (request.heights.start(), request.heights.end());
                headers.extend([
                    (KIND, "request".to_owned()),
                    (RANGE, format!("{first}..{last}")),
                    (SEQUENCE, request.sequence.to_string()),
                    (WATERMARK, request.watermark.to_string()),
                ]);
                value.extend(request.runs.iter().map(|run| format!("{}..{}\n", run.start, run.end)));
            }
            Note::Progress { next, tally } => {
                headers.extend([(KIND, "progress".to_owned()), (NEXT, next.to_string())]);
                headers.extend(tell(tally));
            }
            Note::Done(tally) => {
                headers.push((KIND, "done".to_owned()));
                headers.extend(tell(tally));
            }
            Note::Cancelled => headers.push((KIND, "cancelled".to_owned())),
        }
        let key = self.id.clone().into_bytes();
        Parcel { partition, timestamp: self.at, key, value: value.into(), headers }
    }

    /// Reads a whole record.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(record: &Record) -> Result<Self, String> {
        let tally = || {
            Ok::<_, String>(Tally { sent: number(record, SENT)?, superseded: number(record, SUPERSEDED)? })
        };
        let note = match text(record, KIND)? {
            "request" => Note::Request(Request {
                heights: heights(text(record, RANGE)?)
                    .ok_or_else(|| format!("its header {RANGE} is no range"))?,
                sequence: number(record, SEQUENCE)?,
                watermark: number(record, WATERMARK)?,
                runs: runs(&record.value)?,
            }),
            "progress" => Note::Progress { next: number(record, NEXT)?, tally: tally()? },
            "done" => Note::Done(tally()?),
            "cancelled" => Note::Cancelled,
            other => return Err(format!("{KIND} {other:?} is not known to this version")),
        };
        Ok(Self { at: number(record, AT)?, id: text(record, ID)?.to_owned(), note })
    }
}

/// Reads `A..B`, both heights included.
pub fn heights(text: &str) -> Option<RangeInclusive<i32>> {
    let (first, last) = text.split_once("..")?;
    let height = |text: &str| text.parse::<i32>().ok().filter(|height| *height >= 0);
    let (first, last) = (height(first)?, height(last)?);
    (first <= last).then_some(first..=last)
}

fn runs(value: &[u8]) -> Result<Vec<Range<i64>>, String> {
    let wrong = || "its value is no list of runs".to_owned();
    let lines = std::str::from_utf8(value).map_err(|_| wrong())?.lines();
    let mut runs: Vec<Range<i64>> = Vec::new();
    for line in lines {
        let (start, end) = line.split_once("..").ok_or_else(wrong)?;
        let run = start.parse().map_err(|_| wrong())?..end.parse().map_err(|_| wrong())?;
        let after = runs.last().map_or(0, |last| last.end);
        if run.is_empty() || run.start < after || runs.len() == MAX_RUNS {
            return Err(wrong());
        }
        runs.push(run);
    }
    Ok(runs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn note() -> impl Strategy<Value = Note> {
        let tally = || (any::<u64>(), any::<u64>()).prop_map(|(sent, superseded)| Tally { sent, superseded });
        let runs = prop::collection::vec((0..9_i64, 1..9_i64), 0..9).prop_map(|steps| {
            let mut at = 0;
            let run = |(gap, length): (i64, i64)| {
                let start = at + gap;
                at = start + length;
                start..at
            };
            steps.into_iter().map(run).collect()
        });
        let request = (0..99_i32, 0..99_i32, any::<i64>(), any::<i64>(), runs).prop_map(
            |(first, more, sequence, watermark, runs)| {
                Note::Request(Request { heights: first..=first + more, sequence, watermark, runs })
            },
        );
        prop_oneof![
            request,
            (any::<i64>(), tally()).prop_map(|(next, tally)| Note::Progress { next, tally }),
            tally().prop_map(Note::Done),
            Just(Note::Cancelled),
        ]
    }

    fn record(parcel: &Parcel) -> Record {
        let headers = parcel.headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone().into()));
        Record {
            topic: "p.g.replay".into(),
            partition: parcel.partition,
            offset: 3,
            timestamp: parcel.timestamp,
            key: parcel.key.clone().into(),
            value: parcel.value.clone(),
            headers: headers.collect(),
        }
    }

    proptest! {
        #[test]
        fn an_entry_survives_its_record(at in any::<i64>(), id in "[0-9a-z]{1,20}", note in note()) {
            let entry = Entry { at, id, note };
            prop_assert_eq!(Entry::read(&record(&entry.parcel(1))), Ok(entry));
        }

        #[test]
        fn bytes_from_outside_never_panic(value in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = runs(&value);
        }
    }

    #[test]
    fn runs_that_go_back_are_refused() {
        assert_eq!(runs(b"1..2\n2..4\n"), Ok(vec![1..2, 2..4]));
        for wrong in ["1..2\n1..4", "2..2", "3..1", "-1..2", "1", "x..2"] {
            assert!(runs(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_range_of_heights_goes_up() {
        assert_eq!(heights("7..9"), Some(7..=9));
        assert_eq!(heights("7..7"), Some(7..=7));
        for wrong in ["9..7", "-1..3", "7", "7..", "a..b", "7...9"] {
            assert_eq!(heights(wrong), None, "{wrong}");
        }
    }
}
