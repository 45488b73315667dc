//! `sluice replay`: events once more, for a group of handlers.

use std::ops::RangeInclusive;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::ArgGroup;
use jiff::Timestamp;
use serde_json::json;
use sluice_consumer::handler::rerun::{self, Desk};
use sluice_log::chain::ChainLog;
use sluice_log::{Committed, GroupInfo};
use sluice_runtime::options::LogOptions;
use sluice_runtime::start::Start;
use sluice_schemas::EventKind;

use crate::output::{self, Form};
use crate::patience::Patience;

/// Pause between two looks at what is left to do.
const LOOK_PAUSE: Duration = Duration::from_millis(500);

/// Handle events once more: all from a place on, or a range of blocks beside the live ones.
///
/// --from moves a stopped group, which then handles everything after that place again. --range leaves the group where it is,
/// running or not, and has the transactions of these blocks handled again beside the live ones; live events always win: an
/// event is left out where a newer one of the same transaction exists.
#[derive(Clone, Debug, clap::Args)]
#[command(group = ArgGroup::new("what").required(true).args(["from", "range", "cancel"]))]
pub(crate) struct Replay {
    /// Name of the group.
    group: String,
    /// Move the stopped group here: genesis, tip, a block height, or a time (UTC, as blocks have it)
    #[arg(long, env = "SLUICE_FROM", value_name = "genesis|tip|HEIGHT|TIME")]
    from: Option<Start>,
    /// Send the best chain's blocks of these heights again, both included
    #[arg(long, env = "SLUICE_RANGE", value_name = "FIRST..LAST", value_parser = range)]
    range: Option<RangeInclusive<i32>>,
    /// Take back what --range asked for and is not done yet
    #[arg(long, env = "SLUICE_CANCEL")]
    cancel: bool,
    /// With --range: end once it is done
    #[arg(long, env = "SLUICE_WAIT", requires = "range")]
    wait: bool,
    /// Print JSON.
    #[arg(long, env = "SLUICE_JSON")]
    json: bool,
}

fn range(text: &str) -> Result<RangeInclusive<i32>, &'static str> {
    rerun::heights(text).ok_or("takes two heights, as in 100..200, the lower one first")
}

pub(crate) fn run(replay: &Replay, log: &LogOptions) -> anyhow::Result<ExitCode> {
    let chain = log.open_existing()?;
    let info = expect_group(&chain, &replay.group)?;
    let form = Form::asked(replay.json);
    match (&replay.from, &replay.range) {
        (Some(from), _) => move_to(&chain, &info, *from, form)?,
        (None, Some(heights)) => send_again(&chain, &info, heights, replay.wait, form)?,
        (None, None) => cancel(&chain, &info, form)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// A group by its name, where there is one.
pub(crate) fn find(chain: &ChainLog, group: &str) -> sluice_log::Result<Option<GroupInfo>> {
    Ok(chain.log.groups()?.into_iter().find(|info| info.name == group))
}

/// A group by its name.
pub(crate) fn expect_group(chain: &ChainLog, group: &str) -> anyhow::Result<GroupInfo> {
    let groups = chain.log.groups()?;
    if let Some(info) = groups.iter().find(|info| info.name == group) {
        return Ok(info.clone());
    }
    match groups.is_empty() {
        true => bail!("there is no group {group}: no consumer has come to this log yet"),
        false => {
            let names: Vec<_> = groups.iter().map(|info| info.name.as_str()).collect();
            bail!("there is no group {group}: there are {}", names.join(", "))
        }
    }
}

/// The topics that a handler's group reads. A projection's group is refused.
fn topics(chain: &ChainLog, info: &GroupInfo) -> anyhow::Result<Vec<EventKind>> {
    let reads = |kind| info.committed.iter().any(|committed| committed.topic == chain.topics.name(kind));
    if reads(EventKind::Chain) {
        bail!(
            "group {} is a projection's, and its position is in its own store: stop it, empty the store, and start it \
             again with --start",
            info.name
        );
    }
    if !info.committed.is_empty() && !reads(EventKind::Transaction) {
        bail!("group {} does not read {}: it is no handler's group", info.name, chain.topics.transactions);
    }
    let mempool = reads(EventKind::Mempool).then_some(EventKind::Mempool);
    Ok([EventKind::Transaction].into_iter().chain(mempool).collect())
}

fn move_to(chain: &ChainLog, info: &GroupInfo, from: Start, form: Form) -> anyhow::Result<()> {
    let mut offsets = Vec::new();
    for kind in topics(chain, info)? {
        let starts = from.locate(chain, kind).context("--from")?;
        offsets.extend(starts.into_iter().map(|start| Committed {
            topic: start.topic,
            partition: start.partition,
            offset: start.offset,
        }));
    }
    chain.log.reset_group(&info.name, &offsets)?;
    match form {
        Form::Json => {
            let places = offsets.iter().map(
                |place| json!({"topic": place.topic, "partition": place.partition, "offset": place.offset}),
            );
            output::json(&json!({"group": info.name, "offsets": places.collect::<Vec<_>>()}))?;
        }
        Form::Text => output::line(&format!(
            "group {} goes on there: moved in {} partitions",
            info.name,
            offsets.len()
        ))?,
    }
    Ok(())
}

fn send_again(
    chain: &ChainLog,
    info: &GroupInfo,
    heights: &RangeInclusive<i32>,
    wait: bool,
    form: Form,
) -> anyhow::Result<()> {
    topics(chain, info)?;
    let now = Timestamp::now().as_millisecond();
    let (first, last) = (heights.start(), heights.end());
    // Two requests of one millisecond are told apart by their ranges.
    let id = format!("{now}-{first}-{last}");
    let desk = Desk::new(chain, &info.name);
    let blocks = desk.request(heights.clone(), &id, now)?;
    if wait {
        let mut patience = Patience::new();
        while patience.hear(desk.open())?.is_none_or(|open| open.iter().any(|(_, open)| open.id == id)) {
            std::thread::sleep(LOOK_PAUSE);
        }
    }
    match form {
        Form::Json => output::json(&json!({
            "group": info.name,
            "id": id,
            "first": first,
            "last": last,
            "blocks": blocks,
            "members": info.members,
            "done": wait,
        }))?,
        Form::Text => {
            let when = match (wait, info.members) {
                (true, _) => "have been",
                (false, 0) => "will be, once a member runs,",
                (false, _) => "are being",
            };
            output::line(&format!("blocks {first} to {last} {when} sent again to group {}", info.name))?;
        }
    }
    Ok(())
}

fn cancel(chain: &ChainLog, info: &GroupInfo, form: Form) -> anyhow::Result<()> {
    let desk = Desk::new(chain, &info.name);
    let open = desk.open()?;
    desk.cancel(&open, Timestamp::now().as_millisecond())?;
    let mut ids: Vec<_> = open.into_iter().map(|(_, open)| open.id).collect();
    ids.sort_unstable();
    ids.dedup();
    match form {
        Form::Json => output::json(&json!({"group": info.name, "cancelled": ids}))?,
        Form::Text if ids.is_empty() => {
            output::line(&format!("nothing is being sent again to group {}", info.name))?;
        }
        Form::Text => output::line(&format!("taken back: {}", ids.join(", ")))?,
    }
    Ok(())
}
