//! A dead letter as people name and see it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bitcoin::Txid;
use indicatif::HumanDuration;
use jiff::Timestamp;
use serde_json::{Value, json};
use sluice_consumer::dlq::DeadLetter;
use sluice_log::Record;
use sluice_log::chain::ChainLog;
use sluice_schemas::{Human, MempoolEvent, TransactionEvent};

use crate::output;

/// Characters of an error in a table.
const ERROR_WIDTH: usize = 60;

/// Which letters are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// All of them.
    All,
    /// A transaction's.
    Transaction(Txid),
    /// One.
    Letter {
        /// Name of the event's topic, without the prefix.
        topic: String,
        /// Its partition.
        partition: i32,
        /// Its offset.
        offset: i64,
    },
}

impl FromStr for Which {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "all" {
            return Ok(Self::All);
        }
        if let Ok(txid) = text.parse() {
            return Ok(Self::Transaction(txid));
        }
        let letter = || {
            let (topic, place) = text.split_once('/')?;
            let (partition, offset) = place.split_once('@')?;
            let (partition, offset) = (partition.parse().ok()?, offset.parse().ok()?);
            Some(Self::Letter { topic: topic.to_owned(), partition, offset })
        };
        letter().ok_or("takes a txid, a letter such as transactions/3@1042, or all")
    }
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Transaction(txid) => write!(f, "{txid}"),
            Self::Letter { topic, partition, offset } => write!(f, "{topic}/{partition}@{offset}"),
        }
    }
}

impl Which {
    /// Whether a letter is meant.
    pub(super) fn is(&self, chain: &ChainLog, dead: &DeadLetter) -> bool {
        match self {
            Self::All => true,
            Self::Transaction(txid) => dead.letter.txid == *txid,
            letter @ Self::Letter { .. } => *letter == name(chain, dead),
        }
    }
}

/// The name of a letter.
fn name(chain: &ChainLog, dead: &DeadLetter) -> Which {
    let topic = &*dead.source.topic;
    let short = topic.strip_prefix(&chain.topics.prefix).and_then(|rest| rest.strip_prefix('.'));
    let (partition, offset) = (dead.source.partition, dead.source.offset);
    Which::Letter { topic: short.unwrap_or(topic).to_owned(), partition, offset }
}

/// A letter as it is shown.
pub(super) struct Shown<'a> {
    name: Which,
    dead: &'a DeadLetter,
}

impl<'a> Shown<'a> {
    pub(super) fn new(chain: &ChainLog, dead: &'a DeadLetter) -> Self {
        Self { name: name(chain, dead), dead }
    }

    pub(super) fn json(&self) -> Value {
        let DeadLetter { source, letter, error, .. } = self.dead;
        let at = Timestamp::from_millisecond(letter.at).map_or(json!(letter.at), |at| json!(at.to_string()));
        json!({
            "letter": self.name.to_string(),
            "txid": letter.txid.to_string(),
            "state": letter.state.name(),
            "attempts": letter.attempts,
            "error": error,
            "at": at,
            "topic": &*source.topic,
            "partition": source.partition,
            "offset": source.offset,
        })
    }

    fn row(&self, now: Timestamp) -> Vec<String> {
        let DeadLetter { letter, error, .. } = self.dead;
        let age = u64::try_from(now.as_millisecond().saturating_sub(letter.at)).unwrap_or(0);
        let line: String = error.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let short = match line.char_indices().nth(ERROR_WIDTH) {
            Some((end, _)) => format!("{}…", &line[..end]),
            None => line,
        };
        vec![
            self.name.to_string(),
            letter.txid.to_string(),
            letter.state.name().to_owned(),
            letter.attempts.to_string(),
            HumanDuration(Duration::from_millis(age)).to_string(),
            short,
        ]
    }
}

/// Letters below each other.
pub(super) fn table(letters: &[Shown<'_>], now: Timestamp) -> String {
    let head = ["LETTER", "TXID", "STATE", "ATTEMPTS", "AGE", "ERROR"].map(str::to_owned).to_vec();
    let rows: Vec<_> = std::iter::once(head).chain(letters.iter().map(|letter| letter.row(now))).collect();
    output::table(&rows)
}

/// The event of a letter.
pub(super) fn event(chain: &ChainLog, dead: &DeadLetter, record: &Record) -> sluice_log::Result<Value> {
    match *dead.source.topic == *chain.topics.mempool {
        true => Ok(chain.decode::<MempoolEvent>(record)?.to_json()),
        false => Ok(chain.decode::<TransactionEvent>(record)?.to_json()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_is_named_by_its_place_its_txid_or_all() {
        let txid = "07".repeat(32);
        for text in ["all", "transactions/3@1042", "mempool/0@0", &txid] {
            assert_eq!(text.parse::<Which>().unwrap().to_string(), text);
        }
        for wrong in ["", "3@1042", "transactions/3", "transactions/x@1", "07"] {
            assert!(wrong.parse::<Which>().is_err(), "{wrong}");
        }
    }
}
