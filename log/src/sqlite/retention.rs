//! Deleting what a topic need not keep any longer.

use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::{OptionalExtension, Transaction};

/// Batches of one partition deleted in one go: a commit is not held up by a long absence.
const MAX_BATCHES: i64 = 1000;

/// Deletes the oldest batches of topics with a finite retention, and says whether there is more to delete.
///
/// Only whole batches go, from the start of a partition on, up to the first one with a record that is young enough; and
/// never a part of a chunked value.
pub(super) fn enforce(tx: &Transaction<'_>, now: SystemTime) -> rusqlite::Result<bool> {
    let now_ms = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
    let mut select = tx.prepare_cached(
        "SELECT partition.id, partition.start, partition.end, retention_ms FROM partition JOIN topic ON topic.name = topic
         WHERE retention_ms >= 0 AND start < end",
    )?;
    let mut rows = select.query([])?;
    let mut goes_on = false;
    while let Some(row) = rows.next()? {
        let (id, start, end, retention_ms): (i64, i64, i64, i64) =
            (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
        let kept = first_kept(tx, id, end, now_ms - retention_ms)?;
        if kept > start {
            let deleted = delete_before(tx, id, kept)?;
            goes_on |= deleted == MAX_BATCHES;
        }
    }
    Ok(goes_on)
}

/// Offset of the first batch to keep.
fn first_kept(tx: &Transaction<'_>, id: i64, end: i64, oldest_ms: i64) -> rusqlite::Result<i64> {
    tx.prepare_cached(
        "SELECT base FROM batch WHERE partition = ?1 AND max_timestamp >= ?2 ORDER BY base LIMIT 1",
    )?
    .query_row((id, oldest_ms), |row| row.get(0))
    .optional()
    .map(|kept| kept.unwrap_or(end))
}

fn delete_before(tx: &Transaction<'_>, id: i64, kept: i64) -> rusqlite::Result<i64> {
    // A limit of this one go, moved back to where a value starts.
    let limit: Option<i64> = tx
        .prepare_cached("SELECT base FROM batch WHERE partition = ?1 ORDER BY base LIMIT 1 OFFSET ?2")?
        .query_row((id, MAX_BATCHES), |row| row.get(0))
        .optional()?;
    let wanted = limit.map_or(kept, |limit| limit.min(kept));
    let start: i64 = tx
        .prepare_cached(
            "SELECT coalesce(
                 (SELECT base FROM batch WHERE partition = ?1 AND base <= ?2 AND NOT continues ORDER BY base DESC LIMIT 1),
                 0)",
        )?
        .query_row((id, wanted), |row| row.get(0))?;
    // Where everything goes, there is no batch at `wanted`.
    let is_end = limit.is_none() && kept == end(tx, id)?;
    let start = if is_end { kept } else { start };
    tx.prepare_cached(
        "DELETE FROM payload WHERE id IN (SELECT payload FROM batch WHERE partition = ?1 AND base < ?2)",
    )?
    .execute((id, start))?;
    let deleted =
        tx.prepare_cached("DELETE FROM batch WHERE partition = ?1 AND base < ?2")?.execute((id, start))?;
    tx.prepare_cached("UPDATE partition SET start = max(start, ?2) WHERE id = ?1")?.execute((id, start))?;
    Ok(deleted as i64)
}

fn end(tx: &Transaction<'_>, id: i64) -> rusqlite::Result<i64> {
    tx.prepare_cached("SELECT end FROM partition WHERE id = ?1")?.query_row([id], |row| row.get(0))
}
