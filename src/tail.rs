//! `sluice tail`: events as they come.

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::ValueEnum;
use sluice_log::chain::ChainLog;
use sluice_log::chunk::Joiner;
use sluice_log::{Record, StartAt};
use sluice_runtime::options::LogOptions;
use sluice_runtime::shutdown::Shutdown;
use sluice_runtime::start::Start;
use sluice_schemas::{ChainEvent, Event, EventKind, Human, MempoolEvent, StatusEvent, TransactionEvent};

use crate::output::Form;
use crate::patience::Patience;

/// How long to wait for records before looking for a stop.
const POLL_WAIT: Duration = Duration::from_millis(200);
/// Without following, how long the log may stay silent before it is asked whether this is its end.
const END_WAIT: Duration = Duration::from_millis(250);

/// Print events as they come.
///
/// A line an event: text on a terminal, JSON elsewhere. Events of one partition come in order; blocks and status have one
/// partition, so theirs all do.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Tail {
    /// Which events.
    #[arg(env = "SLUICE_TOPIC")]
    topic: Topic,
    /// Where to begin: genesis (the first event kept), tip (only what comes from now on), a block height, or a time
    /// (UTC; of blocks and transactions, the block's own time).
    #[arg(long, env = "SLUICE_FROM", default_value = "tip", value_name = "genesis|tip|HEIGHT|TIME")]
    from: Start,
    /// End after this many events [default: never]
    #[arg(long, env = "SLUICE_LIMIT", value_name = "N")]
    limit: Option<u64>,
    /// End where the log ends instead of waiting for more.
    #[arg(long, env = "SLUICE_NO_FOLLOW")]
    no_follow: bool,
    /// Print JSON on a terminal, too.
    #[arg(long, env = "SLUICE_JSON")]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Topic {
    /// Blocks connected and disconnected.
    Blocks,
    /// The transactions of these blocks.
    Transactions,
    /// Transactions that come into the mempool and leave it.
    Mempool,
    /// Heartbeats, gaps and repairs, sources up and down, reorgs.
    Status,
}

impl Topic {
    fn kind(self) -> EventKind {
        match self {
            Self::Blocks => EventKind::Chain,
            Self::Transactions => EventKind::Transaction,
            Self::Mempool => EventKind::Mempool,
            Self::Status => EventKind::Status,
        }
    }
}

pub(crate) fn run(tail: &Tail, log: &LogOptions) -> anyhow::Result<ExitCode> {
    let tasks = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let _entered = tasks.enter();
    let shutdown = Shutdown::default();
    shutdown.on_signals()?;
    let chain = log.open_existing()?;
    let kind = tail.topic.kind();
    let starts = tail.from.locate(&chain, kind)?;
    let mut printer = Printer {
        joiners: starts.iter().map(|_| Joiner::default()).collect(),
        chain,
        kind,
        form: Form::of_stdout(tail.json),
        left: tail.limit.unwrap_or(u64::MAX),
        out: BufWriter::new(io::stdout()),
    };
    follow(tail, &starts, &mut printer, &shutdown)?;
    Ok(ExitCode::SUCCESS)
}

fn follow(tail: &Tail, starts: &[StartAt], printer: &mut Printer, shutdown: &Shutdown) -> anyhow::Result<()> {
    let mut reader = printer.chain.log.reader(starts)?;
    let wait = if tail.no_follow { END_WAIT } else { POLL_WAIT };
    let mut ends = Ends::of(&printer.chain, starts)?;
    let mut patience = Patience::new();
    while printer.left > 0 && !shutdown.is_requested() && !(tail.no_follow && ends.are_reached()) {
        let records = reader.poll(wait)?;
        if !records.is_empty() {
            patience = Patience::new();
        } else if tail.no_follow && patience.hear(ends.is_any_left(&printer.chain))? == Some(false) {
            break;
        }
        for record in records {
            ends.passed(&record);
            printer.print(record)?;
        }
        printer.out.flush()?;
    }
    Ok(())
}

/// Prints whole events.
struct Printer {
    chain: ChainLog,
    kind: EventKind,
    form: Form,
    /// One per partition.
    joiners: Vec<Joiner>,
    /// Events that may still be printed.
    left: u64,
    out: BufWriter<io::Stdout>,
}

impl Printer {
    fn print(&mut self, record: Record) -> anyhow::Result<()> {
        let partition = usize::try_from(record.partition)?;
        let Some(joiner) = self.joiners.get_mut(partition).filter(|_| self.left > 0) else { return Ok(()) };
        let Some(whole) = joiner.push(record)? else { return Ok(()) };
        let line = match self.kind {
            EventKind::Chain => self.line::<ChainEvent>(&whole)?,
            EventKind::Transaction => self.line::<TransactionEvent>(&whole)?,
            EventKind::Mempool => self.line::<MempoolEvent>(&whole)?,
            EventKind::Status => self.line::<StatusEvent>(&whole)?,
        };
        writeln!(self.out, "{line}")?;
        self.left -= 1;
        Ok(())
    }

    fn line<E: Event + Human>(&self, record: &Record) -> sluice_log::Result<String> {
        let event: E = self.chain.decode(record)?;
        Ok(match self.form {
            Form::Text => event.line(),
            Form::Json => event.to_json().to_string(),
        })
    }
}

/// The ends that the partitions had at the start.
struct Ends {
    /// Where each is read next, and its end.
    partitions: Vec<(StartAt, i64)>,
}

impl Ends {
    fn of(chain: &ChainLog, starts: &[StartAt]) -> sluice_log::Result<Self> {
        let ends = starts
            .iter()
            .map(|start| Ok((start.clone(), chain.log.bounds(&start.topic, start.partition)?.end)))
            .collect::<sluice_log::Result<_>>()?;
        Ok(Self { partitions: ends })
    }

    fn passed(&mut self, record: &Record) {
        let partition = usize::try_from(record.partition).ok();
        if let Some((next, _)) = partition.and_then(|partition| self.partitions.get_mut(partition)) {
            next.offset = record.offset + 1;
        }
    }

    fn are_reached(&self) -> bool {
        self.partitions.iter().all(|(next, end)| next.offset >= *end)
    }

    /// Whether a record is left before the ends. Where none comes, that may be so because the brokers are away; and what is
    /// before an end may be no record, but the marker of a transaction.
    fn is_any_left(&self, chain: &ChainLog) -> sluice_log::Result<bool> {
        for (next, end) in &self.partitions {
            if next.offset < *end && chain.is_any_left(next, *end)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
