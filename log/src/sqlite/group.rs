//! Groups: committed offsets, members and who reads which partition.
//!
//! Kept in a database of its own, in short SQL transactions. Nobody rules: whoever heartbeats removes the members whose
//! deadline has passed, and everyone computes the same assignment from the members that are there. Each change of
//! members raises the group's generation, by which the others notice.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};

use super::fault::store;
use super::reader::Streams;
use super::{Shared, catalog, layout};
use crate::{Committed, Error, GroupInfo, GroupReader, Record, Result, StartAt};

/// Heartbeats within one deadline.
const HEARTBEATS: u32 = 3;

/// The database of groups.
pub(super) struct Groups {
    conn: Mutex<Connection>,
    path: String,
    deadline: Duration,
}

/// Partitions by topic and number.
type Partitions = HashSet<(String, i32)>;

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

    pub(super) fn list(&self) -> Result<Vec<GroupInfo>> {
        let conn = self.lock();
        conn.unchecked_transaction()
            .and_then(|tx| list(&tx))
            .map_err(store(format!("list the groups in {}", self.path)))
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

/// A member of a group.
pub(super) struct Member {
    shared: Arc<Shared>,
    group: String,
    /// Topics and their numbers of partitions.
    topics: BTreeMap<String, i32>,
    id: i64,
    generation: i64,
    assigned: Vec<(String, i32)>,
    streams: Streams,
    heartbeat_due: Instant,
}

impl Member {
    pub(super) fn join(shared: Arc<Shared>, group: &str, topics: &[&str]) -> Result<Self> {
        let conn = shared.connection()?;
        let topics = topics
            .iter()
            .map(|name| match catalog::topic(&conn, name)? {
                Some(topic) => Ok((topic.name, topic.partitions)),
                None => Err(Error::NoSuchPartition { topic: (*name).to_owned(), partition: 0 }),
            })
            .collect::<Result<BTreeMap<_, _>>>()?;
        drop(conn);
        let id = shared.groups.write(&format!("join group {group}"), |tx| {
            tx.execute(
                "INSERT INTO member (consumer_group, heartbeat, deadline_ms) VALUES (?1, ?2, ?3)",
                (group, now_ms(), shared.groups.deadline.as_millis() as i64),
            )?;
            let id = tx.last_insert_rowid();
            for topic in topics.keys() {
                tx.execute("INSERT INTO subscription (member, topic) VALUES (?1, ?2)", (id, topic))?;
            }
            raise_generation(tx, group)?;
            Ok(id)
        })?;
        shared.bell.ring();
        let streams = Streams::open(shared.clone(), &[])?;
        let mut member = Self {
            shared,
            group: group.to_owned(),
            topics,
            id,
            generation: -1,
            assigned: Vec::new(),
            streams,
            heartbeat_due: Instant::now(),
        };
        member.keep_membership()?;
        Ok(member)
    }

    fn attempt(&self) -> String {
        format!("keep the membership in group {}", self.group)
    }

    /// Heartbeats when it is time to, and follows a change of members.
    fn keep_membership(&mut self) -> Result<()> {
        let now = Instant::now();
        let shared = self.shared.clone();
        if now >= self.heartbeat_due {
            let was_expelled = shared.groups.write(&self.attempt(), |tx| self.heartbeat(tx))?;
            self.heartbeat_due = now + shared.groups.deadline / HEARTBEATS;
            if was_expelled {
                // What was read since belongs to others.
                self.streams.retain(|_, _| false);
                self.generation = -1;
                shared.bell.ring();
            }
        }
        let conn = shared.groups.lock();
        let seen = generation(&conn, &self.group).map_err(store(self.attempt()))?;
        if seen == self.generation {
            return Ok(());
        }
        // One snapshot of members and offsets.
        let tx = conn.unchecked_transaction().map_err(store(self.attempt()))?;
        let (generation, assigned) = self.assignment_now(&tx).map_err(store(self.attempt()))?;
        let is_mine: Partitions = assigned.iter().cloned().collect();
        self.streams.retain(|topic, partition| is_mine.contains(&(topic.to_owned(), partition)));
        let mut starts = Vec::new();
        for (topic, partition) in assigned.iter().filter(|(t, p)| !self.streams.contains(t, *p)) {
            let offset = committed(&tx, &self.group, topic, *partition).map_err(store(self.attempt()))?;
            starts.push((topic.clone(), *partition, offset));
        }
        drop(tx);
        drop(conn);
        let log = shared.connection()?;
        let starts = starts.into_iter().map(|(topic, partition, offset)| {
            let offset = match offset {
                Some(offset) => offset,
                None => {
                    let id = catalog::partition_id(&log, &topic, partition)?;
                    catalog::bounds(&log, id).map_err(store(self.attempt()))?.start
                }
            };
            Ok(StartAt { topic, partition, offset })
        });
        let starts = starts.collect::<Result<Vec<_>>>()?;
        drop(log);
        self.streams.add(&starts)?;
        self.generation = generation;
        self.assigned = assigned;
        tracing::info!(
            group = self.group,
            generation,
            partitions = self.assigned.len(),
            "group assignment changed"
        );
        Ok(())
    }

    /// Says that this member lives, and removes those that do not. Whether this one had been removed.
    fn heartbeat(&self, tx: &Transaction<'_>) -> rusqlite::Result<bool> {
        let now = now_ms();
        let updated = tx.execute(
            "UPDATE member SET heartbeat = ?3 WHERE id = ?1 AND consumer_group = ?2",
            (self.id, &self.group, now),
        )?;
        let was_expelled = updated == 0;
        if was_expelled {
            tx.execute(
                "INSERT INTO member (id, consumer_group, heartbeat, deadline_ms) VALUES (?1, ?2, ?3, ?4)",
                (self.id, &self.group, now, self.shared.groups.deadline.as_millis() as i64),
            )?;
            for topic in self.topics.keys() {
                tx.execute("INSERT INTO subscription (member, topic) VALUES (?1, ?2)", (self.id, topic))?;
            }
        }
        let expelled = expel(tx, &self.group, now)?;
        if was_expelled || expelled > 0 {
            raise_generation(tx, &self.group)?;
        }
        Ok(was_expelled)
    }

    /// The present generation, and what is this member's in it.
    fn assignment_now(&self, conn: &Connection) -> rusqlite::Result<(i64, Vec<(String, i32)>)> {
        let mut assigned = Vec::new();
        let mut select = conn.prepare_cached(
            "SELECT id FROM member JOIN subscription ON member = id
             WHERE consumer_group = ?1 AND topic = ?2 ORDER BY id",
        )?;
        for (topic, partitions) in &self.topics {
            let members: Vec<i64> =
                select.query_map((&self.group, topic), |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
            if let Some(index) = members.iter().position(|id| *id == self.id) {
                let range = share(*partitions, members.len(), index);
                assigned.extend(range.map(|partition| (topic.clone(), partition)));
            }
        }
        Ok((generation(conn, &self.group)?, assigned))
    }

    /// Commits the offsets, or says which of them is not this member's.
    fn try_commit(
        &self,
        tx: &Transaction<'_>,
        offsets: &[Committed],
    ) -> rusqlite::Result<Option<(String, i32)>> {
        let (generation, assigned) = self.assignment_now(tx)?;
        let known: HashSet<_> = self.assigned.iter().collect();
        let mine: HashSet<_> = assigned.iter().filter(|partition| known.contains(partition)).collect();
        for offset in offsets {
            let partition = (offset.topic.clone(), offset.partition);
            if !mine.contains(&partition) {
                return Ok(Some(partition));
            }
            // Another member may have had the partition in between, and have come further.
            let is_behind = generation != self.generation
                && committed(tx, &self.group, &offset.topic, offset.partition)?
                    .is_some_and(|there| there > offset.offset);
            if !is_behind {
                set_committed(tx, &self.group, offset)?;
            }
        }
        tx.execute("UPDATE member SET heartbeat = ?2 WHERE id = ?1", (self.id, now_ms()))?;
        Ok(None)
    }
}

impl GroupReader for Member {
    fn poll(&mut self, wait: Duration) -> Result<Vec<Record>> {
        let until = Instant::now().checked_add(wait);
        loop {
            let rings = self.shared.bell.count();
            self.keep_membership()?;
            let records = self.streams.fetch()?;
            if !records.is_empty() || until.is_some_and(|until| Instant::now() >= until) {
                return Ok(records);
            }
            let look_again = until.map_or(self.heartbeat_due, |until| until.min(self.heartbeat_due));
            self.shared.bell.wait(rings, Some(look_again));
        }
    }

    fn assignment(&self) -> Result<Vec<(String, i32)>> {
        Ok(self.assigned.clone())
    }

    fn commit(&mut self, offsets: &[Committed]) -> Result<()> {
        let attempt = format!("commit the offsets of group {}", self.group);
        let mut conn = self.shared.groups.lock();
        let tx = conn
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(store(attempt.as_str()))?;
        match self.try_commit(&tx, offsets).map_err(store(attempt.as_str()))? {
            None => tx.commit().map_err(store(attempt.as_str())),
            Some((topic, partition)) => {
                Err(Error::NotAssigned { group: self.group.clone(), topic, partition })
            }
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let left = self.shared.groups.write(&format!("leave group {}", self.group), |tx| {
            remove(tx, self.id)?;
            raise_generation(tx, &self.group)
        });
        match left {
            Ok(()) => self.shared.bell.ring(),
            // The others take over when the deadline has passed.
            Err(error) => tracing::warn!(group = self.group, %error, "group not left cleanly"),
        }
    }
}

/// The consecutive partitions of the member at `index`, as Kafka's range assignor has it: the first members get one more
/// where it does not come out even.
fn share(partitions: i32, members: usize, index: usize) -> std::ops::Range<i32> {
    let (partitions, members, index) = (partitions as usize, members.max(1), index);
    let (each, more) = (partitions / members, partitions % members);
    let start = each * index + index.min(more);
    let end = start + each + usize::from(index < more);
    start as i32..end as i32
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

/// Removes the members whose deadline has passed.
fn expel(tx: &Transaction<'_>, group: &str, now: i64) -> rusqlite::Result<usize> {
    let dead: Vec<i64> = tx
        .prepare_cached(&format!("SELECT id FROM member WHERE consumer_group = ?1 AND {IS_DEAD}"))?
        .query_map((group, now), |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    dead.iter().try_for_each(|id| remove(tx, *id))?;
    Ok(dead.len())
}

fn remove(tx: &Transaction<'_>, member: i64) -> rusqlite::Result<()> {
    tx.execute("DELETE FROM member WHERE id = ?1", [member])?;
    tx.execute("DELETE FROM subscription WHERE member = ?1", [member])?;
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
