//! Groups: committed offsets, members and who reads which partition.
//!
//! Kept in a database of its own, in short SQL transactions. Nobody rules: whoever heartbeats removes the members whose
//! deadline has passed, and everyone computes the same assignment from the members that are there. Each change of
//! members raises the group's generation, by which the others notice.

mod heartbeat;
mod member;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};

pub(super) use self::member::Member;
use super::fault::store;
use super::layout;
use crate::{Committed, Error, GroupInfo, Result};

/// The database of groups.
pub(super) struct Groups {
    conn: Mutex<Connection>,
    path: String,
    deadline: Duration,
}

impl Groups {
    pub(super) fn open(path: &Path, deadline: Duration) -> Result<Self> {
        let conn = layout::open(path, &layout::GROUPS)?;
        // A commit lost with the power is made again, after its records have been read again.
        conn.pragma_update(None, "synchronous", "NORMAL")
            .map_err(store(format!("open {}", path.display())))?;
        Ok(Self { conn: Mutex::new(conn), path: path.display().to_string(), deadline })
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.conn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `work` in one SQL transaction.
    fn write<T>(
        &self,
        attempt: &str,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T> {
        let mut conn = self.lock();
        let run = || {
            let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let done = work(&tx)?;
            tx.commit()?;
            Ok(done)
        };
        run().map_err(store(format!("{attempt} in {}", self.path)))
    }

    /// Runs `work` on one snapshot.
    fn read<T>(
        &self,
        attempt: &str,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T> {
        let conn = self.lock();
        let run = || work(&conn.unchecked_transaction()?);
        run().map_err(store(format!("{attempt} in {}", self.path)))
    }

    pub(super) fn list(&self) -> Result<Vec<GroupInfo>> {
        self.read("list the groups", list)
    }

    pub(super) fn reset(&self, group: &str, offsets: &[Committed]) -> Result<()> {
        let members = self.write(&format!("reset group {group}"), |tx| {
            let members = living(tx, group)?;
            if members == 0 {
                offsets.iter().try_for_each(|offset| set_committed(tx, group, offset))?;
            }
            Ok(members)
        })?;
        match members {
            0 => Ok(()),
            members => Err(Error::GroupRunning { group: group.to_owned(), members }),
        }
    }

    fn deadline_ms(&self) -> i64 {
        i64::try_from(self.deadline.as_millis()).unwrap_or(i64::MAX)
    }
}

fn list(tx: &Transaction<'_>) -> rusqlite::Result<Vec<GroupInfo>> {
    let mut select = tx
        .prepare("SELECT consumer_group FROM member UNION SELECT consumer_group FROM committed ORDER BY 1")?;
    let names: Vec<String> = select.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    let mut select = tx.prepare(
        "SELECT topic, partition, next_offset FROM committed WHERE consumer_group = ?1 ORDER BY topic, partition",
    )?;
    let mut groups = Vec::new();
    for name in names {
        let members = living(tx, &name)?;
        let offset = |row: &rusqlite::Row<'_>| {
            Ok(Committed { topic: row.get(0)?, partition: row.get(1)?, offset: row.get(2)? })
        };
        let committed: Vec<_> = select.query_map([&name], offset)?.collect::<rusqlite::Result<_>>()?;
        if members > 0 || !committed.is_empty() {
            groups.push(GroupInfo { name, members, committed });
        }
    }
    Ok(groups)
}

/// The consecutive partitions of the member at `index`, as Kafka's range assignor has it: the first members get one more
/// where it does not come out even.
fn share(partitions: i32, members: usize, index: usize) -> std::ops::Range<i32> {
    let (partitions, members) = (partitions as usize, members.max(1));
    let (each, more) = (partitions / members, partitions % members);
    let start = each * index + index.min(more);
    let end = start + each + usize::from(index < more);
    start as i32..end as i32
}

/// What is a member's in one generation of its group.
struct Assignment {
    generation: i64,
    partitions: Vec<(String, i32)>,
}

/// The member's present assignment, or `None` where it is no member.
fn assignment(
    conn: &Connection,
    group: &str,
    member: i64,
    topics: &BTreeMap<String, i32>,
) -> rusqlite::Result<Option<Assignment>> {
    let mut assigned = Vec::new();
    let mut select = conn.prepare_cached(
        "SELECT id FROM member JOIN subscription ON member = id
         WHERE consumer_group = ?1 AND topic = ?2 ORDER BY id",
    )?;
    for (topic, partitions) in topics {
        let members: Vec<i64> =
            select.query_map((group, topic), |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        let Some(index) = members.iter().position(|id| *id == member) else { return Ok(None) };
        let range = share(*partitions, members.len(), index);
        assigned.extend(range.map(|partition| (topic.clone(), partition)));
    }
    Ok(Some(Assignment { generation: generation(conn, group)?, partitions: assigned }))
}

/// Wall-clock milliseconds: the one clock that processes share.
fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

/// A heartbeat far in the future counts as none: the clock was set back since.
const IS_DEAD: &str = "abs(?2 - heartbeat) >= deadline_ms";

fn living(conn: &Connection, group: &str) -> rusqlite::Result<usize> {
    conn.prepare_cached(&format!("SELECT count(*) FROM member WHERE consumer_group = ?1 AND NOT {IS_DEAD}"))?
        .query_row((group, now_ms()), |row| row.get::<_, i64>(0))
        .map(|count| count as usize)
}

/// Removes the members whose deadline has passed, and says whether there were any.
fn expel(tx: &Transaction<'_>, group: &str, now: i64) -> rusqlite::Result<bool> {
    let dead: Vec<i64> = tx
        .prepare_cached(&format!("SELECT id FROM member WHERE consumer_group = ?1 AND {IS_DEAD}"))?
        .query_map((group, now), |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    dead.iter().try_for_each(|id| remove(tx, *id))?;
    if !dead.is_empty() {
        raise_generation(tx, group)?;
    }
    Ok(!dead.is_empty())
}

fn add(
    tx: &Transaction<'_>,
    group: &str,
    topics: &BTreeMap<String, i32>,
    deadline_ms: i64,
) -> rusqlite::Result<i64> {
    let id = tx
        .prepare_cached("INSERT INTO member (consumer_group, heartbeat, deadline_ms) VALUES (?1, ?2, ?3)")?
        .insert((group, now_ms(), deadline_ms))?;
    for topic in topics.keys() {
        tx.execute("INSERT INTO subscription (member, topic) VALUES (?1, ?2)", (id, topic))?;
    }
    raise_generation(tx, group)?;
    Ok(id)
}

fn remove(tx: &Transaction<'_>, member: i64) -> rusqlite::Result<()> {
    tx.execute("DELETE FROM member WHERE id = ?1", [member])?;
    tx.execute("DELETE FROM subscription WHERE member = ?1", [member])?;
    Ok(())
}

fn beat(tx: &Transaction<'_>, member: i64, now: i64) -> rusqlite::Result<()> {
    tx.prepare_cached("UPDATE member SET heartbeat = ?2 WHERE id = ?1")?.execute((member, now))?;
    Ok(())
}

fn generation(conn: &Connection, group: &str) -> rusqlite::Result<i64> {
    let generation = conn
        .prepare_cached("SELECT generation FROM consumer_group WHERE name = ?1")?
        .query_row([group], |row| row.get(0))
        .optional()?;
    Ok(generation.unwrap_or(0))
}

fn raise_generation(tx: &Transaction<'_>, group: &str) -> rusqlite::Result<()> {
    tx.execute(
        "INSERT INTO consumer_group (name, generation) VALUES (?1, 1)
         ON CONFLICT DO UPDATE SET generation = generation + 1",
        [group],
    )?;
    Ok(())
}

fn committed(conn: &Connection, group: &str, topic: &str, partition: i32) -> rusqlite::Result<Option<i64>> {
    conn.prepare_cached(
        "SELECT next_offset FROM committed WHERE consumer_group = ?1 AND topic = ?2 AND partition = ?3",
    )?
    .query_row((group, topic, partition), |row| row.get(0))
    .optional()
}

fn set_committed(tx: &Transaction<'_>, group: &str, offset: &Committed) -> rusqlite::Result<()> {
    tx.prepare_cached(
        "INSERT INTO committed (consumer_group, topic, partition, next_offset) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT DO UPDATE SET next_offset = excluded.next_offset",
    )?
    .execute((group, &offset.topic, offset.partition, offset.offset))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::share;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn each_partition_is_one_members_and_shares_differ_by_one_at_most(partitions in 0i32..100, members in 1usize..20) {
            let shares: Vec<_> = (0..members).map(|index| share(partitions, members, index)).collect();
            let all: Vec<i32> = shares.iter().cloned().flatten().collect();
            prop_assert_eq!(all, (0..partitions).collect::<Vec<_>>());
            let sizes: Vec<_> = shares.iter().map(|share| share.len()).collect();
            prop_assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1);
        }
    }
}
