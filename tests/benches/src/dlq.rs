//! `sluice dlq` on a large topic of dead letters: each call reads all of it.

use std::process::Command;

use bitcoin::Txid;
use bitcoin::hashes::Hash as _;
use sluice_consumer::dlq::{Entry, Note, Source, spec, topic};
use sluice_log::chain::ChainLog;
use sluice_log::{NewRecord, TopicInfo};
use sluice_schemas::topics::partition;

use crate::log::{Kind, Log};
use crate::process::{Process, Usage};
use crate::setting::{Setting, binary};
use crate::table::Line;

/// The group whose letters they are.
const GROUP: &str = "bench";
/// Letters.
const LETTERS: u64 = 100_000;
/// Bytes of each letter's event.
const EVENT_BYTES: usize = 480;
/// What the handler said of each.
const ERROR: &str = "failed to store the payment: the database does not take it, for its customer is unknown";
/// Records in one log transaction.
const AT_ONCE: usize = 10_000;

pub(crate) fn row(setting: &mut Setting, kind: Kind) -> Vec<Line> {
    let row = match kind {
        Kind::Sqlite => "dlq-sqlite",
        Kind::Kafka => "dlq-kafka",
    };
    let log = setting.log(kind);
    command(&log, &["topics", "--network", "bsv-regtest"]);
    let chain = log.open();
    let transactions = chain.log.topic(&chain.topics.transactions).unwrap().unwrap();
    let events: Vec<_> = (0..LETTERS).map(|number| source(&transactions, number)).collect();
    chain.log.ensure_topics(&[spec(&chain.topics, GROUP, transactions.partitions)]).unwrap();
    append(&chain, &events, |source| Note::Rejected { source, error: ERROR.to_owned(), attempts: 5 });
    let one = txid(LETTERS / 2).to_string();
    let mut lines = Vec::new();
    let mut measure = |what: &str, arguments: &[&str]| {
        let runs: Vec<_> = (0..setting.runs).map(|_| command(&log, arguments)).collect();
        let what = format!("{kind:?}: {what}");
        let mut line = Line::new(row, what, "ms", runs.iter().map(|(took, _)| *took).collect());
        line.peak_bytes = runs.iter().map(|(_, usage)| usage.peak_bytes).max().unwrap_or(0);
        lines.push(line);
    };
    measure(&format!("`sluice dlq list` of {LETTERS} letters"), &["dlq", "list", GROUP, "--json"]);
    measure("`sluice dlq show` of one of them", &["dlq", "show", GROUP, &one, "--json"]);
    measure("`sluice dlq show all`", &["dlq", "show", GROUP, "all", "--json"]);
    measure("`sluice dlq retry all`", &["dlq", "retry", GROUP, "all"]);
    append(&chain, &events, Note::Done);
    measure("`sluice dlq list` when all are done", &["dlq", "list", GROUP, "--json"]);
    setting.discard(log);
    lines
}

/// Runs a command to its end: milliseconds of the whole process.
fn command(log: &Log, arguments: &[&str]) -> (f64, Usage) {
    let mut command = Command::new(binary("sluice"));
    command.args(arguments).args(log.options());
    let (took, usage, _) = Process::start(&mut command, &log.dir.join("dlq.log")).wait();
    (took.as_secs_f64() * 1e3, usage)
}

fn txid(number: u64) -> Txid {
    Txid::hash(&number.to_le_bytes())
}

/// The event that a letter is about.
fn source(transactions: &TopicInfo, number: u64) -> Source {
    let partition = partition(txid(number).as_byte_array(), transactions.partitions);
    Source { topic: transactions.name.as_str().into(), partition, offset: number as i64 }
}

fn append(chain: &ChainLog, events: &[Source], note: impl Fn(Source) -> Note) {
    let (topic, mut writer) = (topic(&chain.topics, GROUP), chain.log.writer("bench").unwrap());
    for some in events.chunks(AT_ONCE) {
        writer.begin().unwrap();
        for source in some {
            let number = source.offset as u64;
            let entry = Entry { at: 1_700_000_000_000, txid: txid(number), note: note(source.clone()) };
            let has_event = matches!(entry.note, Note::Rejected { .. });
            let headers = entry.headers(GROUP);
            let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
            let record = NewRecord {
                topic: &topic,
                partition: source.partition,
                timestamp: entry.at,
                key: entry.txid.as_byte_array(),
                value: &vec![number as u8; if has_event { EVENT_BYTES } else { 0 }],
                headers: &headers,
            };
            writer.send(&record).unwrap();
        }
        writer.mark().unwrap();
        writer.commit().unwrap();
    }
}
