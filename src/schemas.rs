//! `sluice schemas`: the contract's schemas, printed, checked and published.

use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};
use serde_json::json;
use sluice_runtime::options::{LogOptions, Usage};
use sluice_schemas::{EventKind, Topics};

use crate::output::{self, Form};

/// Print, check or publish the Avro schemas of the events.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Schemas {
    #[command(subcommand)]
    action: Action,
}

#[derive(Clone, Debug, Subcommand)]
enum Action {
    /// Print a schema as JSON, ready for another tool.
    Print {
        /// Which one.
        #[arg(value_name = "EVENT")]
        kind: Kind,
    },
    /// Check that the schemas work with every released version, both ways (FULL_TRANSITIVE). Needs no registry.
    Check,
    /// Register the schemas at --schema-registry under the subjects of the topics, set to FULL_TRANSITIVE. Does nothing
    /// where they are there. Credentials: SLUICE_SCHEMA_REGISTRY_USERNAME and SLUICE_SCHEMA_REGISTRY_PASSWORD.
    Publish {
        /// Print JSON, an object a schema.
        #[arg(long, env = "SLUICE_JSON")]
        json: bool,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    /// Of the blocks topic.
    #[value(name = "chain-event")]
    Chain,
    /// Of the transactions topic.
    #[value(name = "transaction-event")]
    Transaction,
    /// Of the mempool topic.
    #[value(name = "mempool-event")]
    Mempool,
    /// Of the status topic.
    #[value(name = "status-event")]
    Status,
}

pub(crate) fn run(schemas: &Schemas, log: &LogOptions) -> anyhow::Result<ExitCode> {
    match schemas.action {
        Action::Print { kind } => {
            let kind = match kind {
                Kind::Chain => EventKind::Chain,
                Kind::Transaction => EventKind::Transaction,
                Kind::Mempool => EventKind::Mempool,
                Kind::Status => EventKind::Status,
            };
            output::line(sluice_schemas::print(kind).trim_end())?;
            Ok(ExitCode::SUCCESS)
        }
        Action::Check => check(),
        Action::Publish { json } => publish(log, Form::asked(json)),
    }
}

fn check() -> anyhow::Result<ExitCode> {
    match sluice_schemas::check() {
        Ok(()) => {
            output::line("every released version can read the schemas, and can be read with them")?;
            Ok(ExitCode::SUCCESS)
        }
        Err(found) => {
            for incompatibility in found {
                output::line(&incompatibility.to_string())?;
            }
            Ok(ExitCode::FAILURE)
        }
    }
}

fn publish(log: &LogOptions, form: Form) -> anyhow::Result<ExitCode> {
    let Some(registry) = log.registry()? else {
        let reason = "is needed, and takes http://HOST[:PORT] or https://HOST[:PORT]".into();
        return Err(Usage { option: "--schema-registry", reason }.into());
    };
    let topics = match (&log.prefix, log.network) {
        (Some(prefix), _) => Topics::new(prefix),
        (None, Some(network)) => Topics::of(network),
        (None, None) => {
            let reason = "is needed, or --prefix: the subjects are named after the topics".into();
            return Err(Usage { option: "--network", reason }.into());
        }
    };
    for published in sluice_schemas::publish(&registry, &topics)? {
        let outcome = if published.new { "registered" } else { "present" };
        match form {
            Form::Text => output::line(&format!("{}: id {}, {outcome}", published.subject, published.id))?,
            Form::Json => output::json(&json!({
                "subject": published.subject,
                "id": published.id,
                "outcome": outcome,
            }))?,
        }
    }
    Ok(ExitCode::SUCCESS)
}
