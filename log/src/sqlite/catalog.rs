//! Topics and partitions.

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};
use sluice_schemas::TopicSpec;

use super::fault::store;
use crate::{Bounds, Error, Result, TopicInfo, TopicOutcome};

pub(super) fn ensure(conn: &mut Connection, specs: &[TopicSpec]) -> Result<Vec<TopicOutcome>> {
    let attempt = "create the topics";
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate).map_err(store(attempt))?;
    // One mismatch, and none of them is created.
    let outcomes = specs.iter().map(|spec| ensure_one(&tx, spec)).collect::<Result<Vec<_>>>()?;
    tx.commit().map_err(store(attempt))?;
    Ok(outcomes)
}

fn ensure_one(tx: &Transaction<'_>, spec: &TopicSpec) -> Result<TopicOutcome> {
    if let Some(found) = topic(tx, &spec.name)? {
        let mismatch = |setting, found: String, wanted: String| Error::TopicMismatch {
            topic: spec.name.clone(),
            setting,
            found,
            wanted,
        };
        let (retention_ms, wanted_ms) = (found.retention_ms, spec.retention.millis());
        return if found.partitions != spec.partitions {
            Err(mismatch("partitions", found.partitions.to_string(), spec.partitions.to_string()))
        } else if retention_ms != wanted_ms {
            Err(mismatch("retention.ms", retention_ms.to_string(), wanted_ms.to_string()))
        } else {
            Ok(TopicOutcome::Present)
        };
    }
    create(tx, spec).map_err(store(format!("create topic {}", spec.name)))?;
    Ok(TopicOutcome::Created)
}

fn create(tx: &Transaction<'_>, spec: &TopicSpec) -> rusqlite::Result<()> {
    tx.execute(
        "INSERT INTO topic (name, partitions, retention_ms) VALUES (?1, ?2, ?3)",
        (&spec.name, spec.partitions, spec.retention.millis()),
    )?;
    let mut insert = tx.prepare("INSERT INTO partition (topic, number, newest) VALUES (?1, ?2, ?3)")?;
    for number in 0..spec.partitions {
        insert.execute((&spec.name, number, i64::MIN))?;
    }
    Ok(())
}

pub(super) fn topic(conn: &Connection, name: &str) -> Result<Option<TopicInfo>> {
    conn.prepare_cached("SELECT partitions, retention_ms FROM topic WHERE name = ?1")
        .and_then(|mut select| {
            select
                .query_row([name], |row| {
                    Ok(TopicInfo {
                        name: name.to_owned(),
                        partitions: row.get(0)?,
                        retention_ms: row.get(1)?,
                    })
                })
                .optional()
        })
        .map_err(store(format!("look up topic {name}")))
}

/// The key under which batches of a partition are stored.
pub(super) fn partition_id(conn: &Connection, topic: &str, partition: i32) -> Result<i64> {
    conn.prepare_cached("SELECT id FROM partition WHERE topic = ?1 AND number = ?2")
        .and_then(|mut select| select.query_row((topic, partition), |row| row.get(0)).optional())
        .map_err(store(format!("look up {topic}/{partition}")))?
        .ok_or_else(|| Error::NoSuchPartition { topic: topic.to_owned(), partition })
}

pub(super) fn bounds(conn: &Connection, id: i64) -> rusqlite::Result<Bounds> {
    conn.prepare_cached("SELECT start, end FROM partition WHERE id = ?1")?
        .query_row([id], |row| Ok(Bounds { start: row.get(0)?, end: row.get(1)? }))
}

/// Base offset of the first batch that has a record of `timestamp` or later.
pub(super) fn batch_at(conn: &Connection, id: i64, timestamp: i64) -> rusqlite::Result<Option<i64>> {
    // The first batch up to which such a record has been seen. Retention may have deleted the batch that had it; from
    // there on one looks at each batch.
    let seen: Option<i64> = conn
        .prepare_cached(
            "SELECT base FROM batch WHERE partition = ?1 AND newest >= ?2 ORDER BY newest, base LIMIT 1",
        )?
        .query_row((id, timestamp), |row| row.get(0))
        .optional()?;
    let Some(seen) = seen else { return Ok(None) };
    conn.prepare_cached(
        "SELECT base FROM batch WHERE partition = ?1 AND base >= ?2 AND max_timestamp >= ?3 ORDER BY base LIMIT 1",
    )?
    .query_row((id, seen, timestamp), |row| row.get(0))
    .optional()
}
