//! `sluice verify`: the audit of a log.

mod against;
mod progress;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use indicatif::{HumanBytes, HumanDuration};
use serde_json::{Value, json};
use sluice_log::chain::ChainLog;
use sluice_log::chain::verify::{self, BlockRef, Depth, MempoolView, Observer, Summary, Violation};
use sluice_runtime::node::NodeOptions;
use sluice_runtime::options::LogOptions;
use sluice_runtime::start::connected_at;
use sluice_schemas::{ChainEvent, TransactionEvent};

use crate::output::{self, Form, count};
use against::Published;
use progress::Progress;

/// Audit the log: recompute every invariant, up to proof of work and merkle roots.
///
/// Reads every record once, in bounded memory, and trusts none: sequences, links, proof of work, chain work, merkle roots,
/// transaction ids from their bytes, fees, counts and sizes, and that nothing else is visible. Ends with a summary, or
/// with exit code 1 at the first record that is wrong, named by topic, partition and offset.
///
/// With --node the log is compared with the node, too: every block and every transaction of the best chain, in order, and
/// the mempool.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Verify {
    /// Begin with the block of this height; the blocks before it are taken as given [default: the first event]
    #[arg(long, env = "SLUICE_FROM", value_name = "HEIGHT", value_parser = clap::value_parser!(i32).range(0..))]
    from: Option<i32>,
    /// Take transaction ids as they are written instead of hashing every transaction anew: a little faster.
    #[arg(long, env = "SLUICE_SHALLOW")]
    shallow: bool,
    #[command(flatten)]
    node: NodeOptions,
    /// Print the summary, or the violation, as JSON.
    #[arg(long, env = "SLUICE_JSON")]
    json: bool,
}

pub(crate) fn run(options: &Verify, log: &LogOptions) -> anyhow::Result<ExitCode> {
    let form = Form::asked(options.json);
    // First of all, so that a wrong option does not cost an hour.
    let node = against::connect(&options.node, log.network)?;
    let chain = log.open_existing()?;
    let started = Instant::now();
    let found = match audit(options, &chain, node.is_some()) {
        Ok(found) => found,
        Err(error) => return report(error, form),
    };
    let took = started.elapsed();
    if let Some(node) = node {
        node.compare(&chain, &found.published, found.mempool.as_ref())?;
    }
    match form {
        Form::Text => output::line(&found.text(&chain, took))?,
        Form::Json => output::json(&found.json(took))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What the audit found sound.
struct Found {
    summary: Summary,
    mempool: Option<MempoolView>,
    published: Published,
    against_node: bool,
}

fn audit(options: &Verify, chain: &ChainLog, against_node: bool) -> anyhow::Result<Found> {
    let from_sequence = match options.from {
        Some(height) => connected_at(chain, height)?.event.sequence,
        None => 0,
    };
    let depth = if options.shallow { Depth::Ids } else { Depth::Content };
    let progress = Progress::start(chain, options.from)?;
    let mut eyes = Eyes { progress, published: Published::default(), against_node };
    let result = chain.verify(from_sequence, depth, &mut eyes);
    eyes.progress.finish();
    let summary = result?;
    let mempool = chain.mempool_view()?;
    Ok(Found { summary, mempool, published: eyes.published, against_node })
}

/// Sees what the audit has found sound.
struct Eyes {
    progress: Progress,
    published: Published,
    against_node: bool,
}

impl Observer for Eyes {
    fn transaction(&mut self, _: &ChainEvent, transaction: &TransactionEvent) {
        self.progress.transaction();
        if self.against_node {
            self.published.transaction(&transaction.transaction.txid);
        }
    }

    fn event(&mut self, event: &ChainEvent) {
        self.progress.event(event);
        if self.against_node {
            self.published.event(event);
        }
    }
}

/// Tells of a violation on standard output where a program reads it; an error of another kind stays one.
fn report(error: anyhow::Error, form: Form) -> anyhow::Result<ExitCode> {
    let Some(verify::Error::Violation(violation)) = error.downcast_ref::<verify::Error>() else {
        return Err(error);
    };
    if form == Form::Json {
        let Violation { invariant, topic, partition, offset, reason } = &**violation;
        output::json(&json!({
            "sound": false,
            "invariant": format!("{invariant:?}"),
            "topic": topic,
            "partition": partition,
            "offset": offset,
            "reason": reason,
        }))?;
    }
    Err(error).context("the log is not sound")
}

impl Found {
    fn text(&self, chain: &ChainLog, took: Duration) -> String {
        let Summary { events, connected, disconnected, transactions, bytes, reorgs, deepest_reorg, .. } =
            self.summary;
        let mut lines = vec![
            format!("{} on {} is sound: I1 to I6 hold", chain.topics.prefix, chain.log.url()),
            format!(
                "  chain events  {}: {} connected, {} disconnected in {} reorgs, the deepest of {} blocks",
                count(events),
                count(connected),
                count(disconnected),
                count(reorgs),
                count(deepest_reorg)
            ),
        ];
        if let (Some(first), Some(tip)) = (self.summary.first, self.summary.tip) {
            lines
                .push(format!("  blocks        height {} to {}, tip {}", first.height, tip.height, tip.hash));
        }
        lines.push(format!("  transactions  {} in {} of blocks", count(transactions), HumanBytes(bytes)));
        lines.push(match &self.mempool {
            None => "  mempool       no events".to_owned(),
            Some(view) => format!(
                "  mempool       {} transactions after {} events of epoch {}{}",
                count(view.txids.len() as u64),
                count(view.events),
                view.epoch,
                if view.truncated { ", whose first are no longer kept" } else { "" }
            ),
        });
        if self.against_node {
            lines.push("  node          has the same blocks, transactions and mempool".to_owned());
        }
        let seconds = took.as_secs_f64().max(0.001);
        lines.push(format!(
            "  took          {} ({} blocks/s, {} tx/s)",
            if took.as_secs() == 0 {
                format!("{} ms", took.as_millis())
            } else {
                HumanDuration(took).to_string()
            },
            count((events as f64 / seconds) as u64),
            count((transactions as f64 / seconds) as u64)
        ));
        lines.join("\n")
    }

    fn json(&self, took: Duration) -> Value {
        let block = |block: BlockRef| json!({"height": block.height, "hash": block.hash.to_string()});
        let summary = &self.summary;
        json!({
            "sound": true,
            "events": summary.events,
            "connected": summary.connected,
            "disconnected": summary.disconnected,
            "transactions": summary.transactions,
            "bytes": summary.bytes,
            "reorgs": summary.reorgs,
            "deepest_reorg": summary.deepest_reorg,
            "first": summary.first.map(block),
            "tip": summary.tip.map(block),
            "last_sequence": summary.last_sequence,
            "mempool": self.mempool.as_ref().map(|view| json!({
                "epoch": view.epoch,
                "events": view.events,
                "sequence": view.sequence,
                "chain_sequence": view.chain_sequence,
                "transactions": view.txids.len(),
                "truncated": view.truncated,
            })),
            "compared_with_node": self.against_node,
            "seconds": took.as_secs_f64(),
        })
    }
}
