//! Deleting what a topic need not keep any longer.

use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::{OptionalExtension, Transaction};

/// About as many batches of one partition are deleted in one go: no commit is held up by a long absence.
const MAX_BATCHES: i64 = 1000;

/// Deletes the oldest batches of topics with a finite retention, and says whether there is more to delete.
///
/// Only whole batches go, from the start of a partition on, up to the first one with a record that is young enough; and
/// never a part of a chunked value.
pub(super) fn enforce(tx: &Transaction<'_>, now: SystemTime) -> rusqlite::Result<bool> {
    let now_ms = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
    let mut select = tx.prepare_cached(
        "SELECT id, end, retention_ms FROM partition JOIN topic ON topic.name = topic
         WHERE retention_ms >= 0 AND start < end",
    )?;
    let partitions: Vec<(i64, i64, i64)> = select
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let mut goes_on = false;
    for (id, end, retention_ms) in partitions {
        let kept = first_base(tx, "max_timestamp >= ?2", id, now_ms - retention_ms)?.unwrap_or(end);
        let start = limited(tx, id, kept)?;
        delete_before(tx, id, start)?;
        goes_on |= start < kept;
    }
    Ok(goes_on)
}

/// Base offset of the partition's first batch for which `condition` on a value `?2` holds.
fn first_base(tx: &Transaction<'_>, condition: &str, id: i64, value: i64) -> rusqlite::Result<Option<i64>> {
    tx.prepare_cached(&format!(
        "SELECT base FROM batch WHERE partition = ?1 AND {condition} ORDER BY base LIMIT 1"
    ))?
    .query_row((id, value), |row| row.get(0))
    .optional()
}

/// `kept`, or an earlier offset where too many batches are before it. All chunks of a value have one timestamp, so that
/// `kept` is never within a value; the earlier offset must not be, either.
fn limited(tx: &Transaction<'_>, id: i64, kept: i64) -> rusqlite::Result<i64> {
    let limit: Option<i64> = tx
        .prepare_cached("SELECT base FROM batch WHERE partition = ?1 ORDER BY base LIMIT 1 OFFSET ?2")?
        .query_row((id, MAX_BATCHES), |row| row.get(0))
        .optional()?;
    let Some(limit) = limit else { return Ok(kept) };
    let whole = first_base(tx, "base >= ?2 AND NOT continues", id, limit)?;
    Ok(whole.map_or(kept, |whole| whole.min(kept)))
}

fn delete_before(tx: &Transaction<'_>, id: i64, start: i64) -> rusqlite::Result<()> {
    tx.prepare_cached(
        "DELETE FROM payload WHERE id IN (SELECT payload FROM batch WHERE partition = ?1 AND base < ?2)",
    )?
    .execute((id, start))?;
    tx.prepare_cached("DELETE FROM batch WHERE partition = ?1 AND base < ?2")?.execute((id, start))?;
    tx.prepare_cached("UPDATE partition SET start = ?2 WHERE id = ?1 AND start < ?2")?
        .execute((id, start))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rusqlite::Connection;

    use super::*;
    use crate::sqlite::{catalog, layout};

    /// A partition of batches `(records, timestamp in ms, continues)` of a topic that keeps a second.
    fn partition(batches: &[(i64, i64, bool)]) -> Connection {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(layout::LOG.schema).unwrap();
        conn.execute("INSERT INTO topic VALUES ('t', 1, 1000)", []).unwrap();
        let mut base = 0;
        for (records, timestamp, continues) in batches {
            conn.execute("INSERT INTO payload (bytes) VALUES (x'00')", []).unwrap();
            conn.execute(
                "INSERT INTO batch VALUES (1, ?1, ?2, ?3, ?3, ?4, last_insert_rowid())",
                (base, base + records - 1, timestamp, continues),
            )
            .unwrap();
            base += records;
        }
        conn.execute("INSERT INTO partition VALUES (1, 't', 0, 0, ?1, 0)", [base]).unwrap();
        conn
    }

    /// Enforces at a time, and gives the start, the payloads left, and whether there is more to delete.
    fn enforce_at(conn: &mut Connection, now_ms: u64) -> (i64, i64, bool) {
        let tx = conn.transaction().unwrap();
        let goes_on = enforce(&tx, UNIX_EPOCH + Duration::from_millis(now_ms)).unwrap();
        let start = catalog::bounds(&tx, 1).unwrap().start;
        let payloads = tx.query_row("SELECT count(*) FROM payload", [], |row| row.get(0)).unwrap();
        tx.commit().unwrap();
        (start, payloads, goes_on)
    }

    #[test]
    fn batches_go_from_the_start_up_to_the_first_young_one() {
        let mut conn = partition(&[(10, 0, false), (5, 900, false), (5, 100, false), (1, 2000, false)]);
        assert_eq!(enforce_at(&mut conn, 1000), (0, 4, false));
        assert_eq!(enforce_at(&mut conn, 1001), (10, 3, false));
        assert_eq!(enforce_at(&mut conn, 1500), (10, 3, false));
        assert_eq!(enforce_at(&mut conn, 1901), (20, 1, false));
        assert_eq!(enforce_at(&mut conn, 9999), (21, 0, false));
    }

    #[test]
    fn a_long_absence_is_made_up_for_in_several_goes_that_part_no_value() {
        let mut batches = vec![(1, 0, false); 999];
        batches.extend([(1, 0, false), (1, 0, true), (1, 0, true)]);
        batches.extend([(1, 0, false); 1000]);
        let mut conn = partition(&batches);
        assert_eq!(enforce_at(&mut conn, 5000), (1002, 1000, true));
        assert_eq!(enforce_at(&mut conn, 5000), (2002, 0, false));
    }

    #[test]
    fn a_value_of_more_chunks_than_the_limit_goes_as_a_whole() {
        let mut batches = vec![(1, 0, true); 1500];
        batches[0].2 = false;
        let mut conn = partition(&batches);
        assert_eq!(enforce_at(&mut conn, 5000), (1500, 0, false));
    }
}
