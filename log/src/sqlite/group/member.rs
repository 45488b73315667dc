//! A member of a group: reads what is assigned to it.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Transaction;

use super::super::reader::Streams;
use super::super::{Shared, catalog};
use super::heartbeat::Heartbeat;
use super::{
    Assignment, add, assignment, beat, committed, generation, now_ms, raise_generation, remove, set_committed,
};
use crate::sqlite::fault::store;
use crate::{Committed, Error, GroupReader, Record, Result, StartAt};

pub(in crate::sqlite) struct Member {
    shared: Arc<Shared>,
    group: String,
    /// Topics and their numbers of partitions.
    topics: BTreeMap<String, i32>,
    id: i64,
    assignment: Assignment,
    streams: Streams,
    heartbeat: Heartbeat,
}

/// What a member knows after looking at its group.
enum Standing {
    /// Nothing has changed.
    Same,
    /// It has been removed: its deadline had passed.
    Expelled,
    /// The members have changed.
    Changed {
        assignment: Assignment,
        /// Where to go on in the partitions that are new to it; without an offset at the earliest record.
        gained: Vec<(String, i32, Option<i64>)>,
    },
}

/// No generation of any group.
const NONE: i64 = -1;

impl Member {
    pub(in crate::sqlite) fn join(shared: Arc<Shared>, group: &str, topics: &[&str]) -> Result<Self> {
        let conn = shared.connection()?;
        let topics = topics
            .iter()
            .map(|name| match catalog::topic(&conn, name)? {
                Some(topic) => Ok((topic.name, topic.partitions)),
                None => Err(Error::NoSuchPartition { topic: (*name).to_owned(), partition: 0 }),
            })
            .collect::<Result<BTreeMap<_, _>>>()?;
        drop(conn);
        let (id, heartbeat) = enter(&shared, group, &topics)?;
        let mut member = Self {
            streams: Streams::open(shared.clone(), &[])?,
            shared,
            group: group.to_owned(),
            topics,
            id,
            assignment: Assignment { generation: NONE, partitions: Vec::new() },
            heartbeat,
        };
        member.follow()?;
        Ok(member)
    }

    /// Follows a change of members.
    fn follow(&mut self) -> Result<()> {
        self.heartbeat.polled();
        let mut standing = self.standing()?;
        if matches!(standing, Standing::Expelled) {
            // What was read since belongs to others.
            self.streams.retain(|_, _| false);
            (self.id, self.heartbeat) = enter(&self.shared, &self.group, &self.topics)?;
            standing = self.standing()?;
        }
        let Standing::Changed { assignment, gained } = standing else { return Ok(()) };
        self.streams.retain(|topic, partition| {
            assignment.partitions.iter().any(|(t, p)| t == topic && *p == partition)
        });
        let starts = gained.into_iter().map(|(topic, partition, offset)| {
            let offset = match offset {
                Some(offset) => offset,
                None => self.earliest(&topic, partition)?,
            };
            Ok(StartAt { topic, partition, offset })
        });
        let starts = starts.collect::<Result<Vec<_>>>()?;
        self.streams.add(&starts)?;
        self.assignment = assignment;
        let Assignment { generation, partitions } = &self.assignment;
        tracing::info!(
            group = self.group,
            generation,
            partitions = partitions.len(),
            "group assignment changed"
        );
        Ok(())
    }

    fn standing(&self) -> Result<Standing> {
        self.shared.groups.read(&format!("look up the members of group {}", self.group), |tx| {
            if generation(tx, &self.group)? == self.assignment.generation {
                return Ok(Standing::Same);
            }
            let Some(assignment) = assignment(tx, &self.group, self.id, &self.topics)? else {
                return Ok(Standing::Expelled);
            };
            let gained = assignment
                .partitions
                .iter()
                .filter(|(topic, partition)| !self.streams.contains(topic, *partition))
                .map(|(topic, partition)| {
                    let offset = committed(tx, &self.group, topic, *partition)?;
                    Ok((topic.clone(), *partition, offset))
                })
                .collect::<rusqlite::Result<_>>()?;
            Ok(Standing::Changed { assignment, gained })
        })
    }

    fn earliest(&self, topic: &str, partition: i32) -> Result<i64> {
        let conn = self.shared.connection()?;
        let id = catalog::partition_id(&conn, topic, partition)?;
        let bounds = catalog::bounds(&conn, id);
        bounds.map(|bounds| bounds.start).map_err(store(format!("look up the start of {topic}/{partition}")))
    }

    /// Commits the offsets; or none of them, and names the first that is not this member's.
    fn try_commit(
        &self,
        tx: &Transaction<'_>,
        offsets: &[Committed],
    ) -> rusqlite::Result<Option<(String, i32)>> {
        let now = assignment(tx, &self.group, self.id, &self.topics)?;
        let now = now.unwrap_or(Assignment { generation: NONE, partitions: Vec::new() });
        let then: HashSet<_> = self.assignment.partitions.iter().collect();
        let mine: HashSet<_> = now.partitions.iter().filter(|partition| then.contains(partition)).collect();
        let places = offsets.iter().map(|offset| (offset.topic.clone(), offset.partition));
        if let Some(not_mine) = places.into_iter().find(|place| !mine.contains(place)) {
            return Ok(Some(not_mine));
        }
        for offset in offsets {
            // Another member may have had the partition in between, and have come further.
            let is_behind = now.generation != self.assignment.generation
                && committed(tx, &self.group, &offset.topic, offset.partition)?
                    .is_some_and(|there| there > offset.offset);
            if !is_behind {
                set_committed(tx, &self.group, offset)?;
            }
        }
        beat(tx, self.id, now_ms())?;
        Ok(None)
    }
}

/// Becomes a member.
fn enter(shared: &Arc<Shared>, group: &str, topics: &BTreeMap<String, i32>) -> Result<(i64, Heartbeat)> {
    let deadline_ms = shared.groups.deadline_ms();
    let id = shared.groups.write(&format!("join group {group}"), |tx| add(tx, group, topics, deadline_ms))?;
    shared.bell.ring();
    Ok((id, Heartbeat::start(shared.clone(), group.to_owned(), id)?))
}

impl GroupReader for Member {
    fn poll(&mut self, wait: Duration) -> Result<Vec<Record>> {
        let until = Instant::now().checked_add(wait);
        loop {
            let rings = self.shared.bell.count();
            self.follow()?;
            let records = self.streams.fetch()?;
            if !records.is_empty() || until.is_some_and(|until| Instant::now() >= until) {
                return Ok(records);
            }
            self.shared.bell.wait(rings, until);
        }
    }

    fn assignment(&self) -> Result<Vec<(String, i32)>> {
        Ok(self.assignment.partitions.clone())
    }

    fn commit(&mut self, offsets: &[Committed]) -> Result<()> {
        self.heartbeat.polled();
        let attempt = format!("commit the offsets of group {}", self.group);
        match self.shared.groups.write(&attempt, |tx| self.try_commit(tx, offsets))? {
            None => Ok(()),
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
