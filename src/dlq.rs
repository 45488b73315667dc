//! `sluice dlq`: the dead letters of a group.

mod letter;

use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::bail;
use clap::Subcommand;
use jiff::Timestamp;
use serde_json::json;
use sluice_consumer::dlq::{DeadLetter, Desk};
use sluice_log::chain::ChainLog;
use sluice_runtime::options::LogOptions;

use crate::output::{self, Form};
use crate::replay;
use letter::{Shown, Which};

/// Show, redrive and drop the dead letters of a group of handlers.
///
/// A dead letter is an event that a handler refused, or gave up on after its last attempt. With handlers that keep the order
/// of each transaction's events, the later events of that transaction wait behind it.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Dlq {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// List what is not resolved, in the order of the log.
    List {
        /// Name of the group.
        group: String,
        /// Print JSON, an object a letter.
        #[arg(long, env = "SLUICE_JSON")]
        json: bool,
    },
    /// Show letters in full: what the handler said, and the event.
    Show {
        /// Name of the group.
        group: String,
        /// A letter as `list` names it, a txid, or all
        #[arg(required = true, value_name = "LETTER|TXID|all")]
        which: Vec<Which>,
        /// Print JSON on one line on a terminal, too.
        #[arg(long, env = "SLUICE_JSON")]
        json: bool,
    },
    /// Have the letters of transactions handled again, each transaction's in order.
    ///
    /// The group's members do it: the running ones at once, else the next ones that start.
    Retry {
        /// Name of the group.
        group: String,
        /// Txids, or all
        #[arg(required = true, value_name = "TXID|all")]
        which: Vec<Which>,
        /// Print JSON.
        #[arg(long, env = "SLUICE_JSON")]
        json: bool,
    },
    /// Give letters up: they are never handled. What waits behind them is.
    Drop {
        /// Name of the group.
        group: String,
        /// Letters as `list` names them, txids, or all
        #[arg(required = true, value_name = "LETTER|TXID|all")]
        which: Vec<Which>,
        /// Print JSON.
        #[arg(long, env = "SLUICE_JSON")]
        json: bool,
    },
}

pub(crate) fn run(dlq: &Dlq, log: &LogOptions) -> anyhow::Result<ExitCode> {
    let chain = log.open_existing()?;
    match &dlq.command {
        Command::List { group, json } => list(&chain, group, Form::asked(*json))?,
        Command::Show { group, which, json } => show(&chain, group, which, Form::of_stdout(*json))?,
        Command::Retry { group, which, json } => retry(&chain, group, which, Form::asked(*json))?,
        Command::Drop { group, which, json } => forget(&chain, group, which, Form::asked(*json))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn list(chain: &ChainLog, group: &str, form: Form) -> anyhow::Result<()> {
    let letters: Vec<_> = match open(chain, group)? {
        Some(desk) => desk.letters().collect(),
        None => Vec::new(),
    };
    let shown: Vec<_> = letters.iter().map(|dead| Shown::new(chain, dead)).collect();
    match form {
        Form::Json => shown.iter().try_for_each(|letter| output::json(&letter.json()))?,
        Form::Text if shown.is_empty() => output::line(&format!("group {group} has no dead letters"))?,
        Form::Text => output::line(&letter::table(&shown, Timestamp::now()))?,
    }
    Ok(())
}

fn show(chain: &ChainLog, group: &str, which: &[Which], form: Form) -> anyhow::Result<()> {
    let (desk, letters) = choose(chain, group, which)?;
    for dead in &letters {
        let record = desk.record(dead)?;
        let mut value = Shown::new(chain, dead).json();
        value["event"] = letter::event(chain, dead, &record)?;
        match form {
            Form::Json => output::json(&value)?,
            Form::Text => output::line(&serde_json::to_string_pretty(&value)?)?,
        }
    }
    Ok(())
}

fn retry(chain: &ChainLog, group: &str, which: &[Which], form: Form) -> anyhow::Result<()> {
    if let Some(Which::Letter { .. }) = which.iter().find(|which| matches!(which, Which::Letter { .. })) {
        bail!("name the txid: a transaction's letters are handled again together, in order");
    }
    let (desk, letters) = choose(chain, group, which)?;
    let txids: BTreeSet<_> = letters.iter().map(|dead| dead.letter.txid).collect();
    desk.retry(&txids, Timestamp::now().as_millisecond())?;
    let members = replay::find(chain, group)?.map_or(0, |info| info.members);
    match form {
        Form::Json => output::json(&json!({
            "group": group,
            "letters": letters.len(),
            "transactions": txids.len(),
            "members": members,
        }))?,
        Form::Text => output::line(&format!(
            "{} of {} will be handled again, in order, {}",
            many(letters.len(), "letter"),
            many(txids.len(), "transaction"),
            match members {
                0 => format!("once a member of {group} runs"),
                members => format!("by the {} of {group}", many(members, "running member")),
            }
        ))?,
    }
    Ok(())
}

fn forget(chain: &ChainLog, group: &str, which: &[Which], form: Form) -> anyhow::Result<()> {
    let (desk, letters) = choose(chain, group, which)?;
    desk.forget(&letters, Timestamp::now().as_millisecond())?;
    match form {
        Form::Json => output::json(&json!({"group": group, "dropped": letters.len()}))?,
        Form::Text => output::line(&format!("dropped {}", many(letters.len(), "letter")))?,
    }
    Ok(())
}

/// The letters of a group that were named. Each name must be one's.
fn choose(chain: &ChainLog, group: &str, which: &[Which]) -> anyhow::Result<(Desk, Vec<DeadLetter>)> {
    let Some(desk) = open(chain, group)? else { bail!("group {group} has no dead letters") };
    let letters: Vec<_> = desk.letters().collect();
    for one in which {
        if !letters.iter().any(|dead| one.is(chain, dead)) {
            match one {
                Which::All => bail!("group {group} has no dead letters"),
                one => bail!("group {group} has no dead letter {one}: `sluice dlq list {group}` lists them"),
            }
        }
    }
    let chosen = letters.into_iter().filter(|dead| which.iter().any(|one| one.is(chain, dead))).collect();
    Ok((desk, chosen))
}

/// Where a group's dead letters are looked at; `None` where it never had one. There must be such a group.
fn open(chain: &ChainLog, group: &str) -> anyhow::Result<Option<Desk>> {
    let desk = Desk::open(chain, group)?;
    if desk.is_none() {
        replay::expect_group(chain, group)?;
    }
    Ok(desk)
}

/// A number of things.
fn many(count: usize, thing: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {thing}{plural}", output::count(count as u64))
}
