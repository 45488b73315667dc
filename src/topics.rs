//! `sluice topics`: creates and checks the topics.

use std::process::ExitCode;

use serde_json::json;
use sluice_log::TopicOutcome;
use sluice_runtime::options::LogOptions;
use sluice_schemas::Retention;
use sluice_schemas::topics::DEFAULT_PARTITIONS;

use crate::output::{self, Form};

/// Create the topics that are missing, and check the settings of those that are there.
///
/// Changes nothing that is there: a topic with other settings is an error that names the setting, what it is and what it
/// must be. A new log needs --network.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Topics {
    /// Partitions of transactions and mempool [default: as the transactions topic has, 12 where there is none]
    #[arg(long, env = "SLUICE_PARTITIONS", value_name = "N", value_parser = clap::value_parser!(i32).range(1..=1024))]
    partitions: Option<i32>,
    /// Print JSON, an object a topic.
    #[arg(long, env = "SLUICE_JSON")]
    json: bool,
}

pub(crate) fn run(topics: &Topics, log: &LogOptions) -> anyhow::Result<ExitCode> {
    let chain = log.open()?;
    let partitions = match topics.partitions {
        Some(partitions) => partitions,
        None => chain
            .log
            .topic(&chain.topics.transactions)?
            .map_or(DEFAULT_PARTITIONS, |transactions| transactions.partitions),
    };
    let specs = chain.topics.specs(partitions);
    let outcomes = chain.log.ensure_topics(&specs)?;
    let mut rows = vec![["TOPIC", "PARTITIONS", "RETENTION", ""].map(str::to_owned).to_vec()];
    for (spec, outcome) in specs.iter().zip(outcomes) {
        let outcome = match outcome {
            TopicOutcome::Created => "created",
            TopicOutcome::Present => "present",
        };
        let retention = match spec.retention {
            Retention::Forever => "forever".to_owned(),
            Retention::Days(days) => format!("{days} days"),
        };
        if Form::asked(topics.json) == Form::Json {
            output::json(&json!({
                "topic": spec.name,
                "partitions": spec.partitions,
                "retention_ms": spec.retention.millis(),
                "outcome": outcome,
            }))?;
        }
        rows.push(vec![spec.name.clone(), spec.partitions.to_string(), retention, outcome.to_owned()]);
    }
    if Form::asked(topics.json) == Form::Text {
        output::line(&output::table(&rows))?;
    }
    Ok(ExitCode::SUCCESS)
}
