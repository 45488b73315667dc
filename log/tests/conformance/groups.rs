//! What groups promise.

use std::collections::BTreeSet;

use sluice_log::{Committed, Error, GroupReader};

use super::child::Child;
use super::*;

const STEP: Duration = Duration::from_millis(100);

fn committed(topic: &str, partition: i32, offset: i64) -> Committed {
    Committed { topic: topic.to_owned(), partition, offset }
}

/// Polls until `count` records are there.
fn poll(member: &mut dyn GroupReader, count: usize) -> Vec<Record> {
    let mut records = Vec::new();
    until(&format!("{count} records are read"), || {
        records.extend(member.poll(STEP).unwrap());
        (records.len() >= count).then_some(())
    });
    records
}

/// Polls both members until they share all partitions.
fn settle(first: &mut dyn GroupReader, second: &mut dyn GroupReader, partitions: usize) -> Vec<Record> {
    let mut records = Vec::new();
    until("two members share the partitions", || {
        records.extend(first.poll(STEP).unwrap());
        records.extend(second.poll(STEP).unwrap());
        let (a, b) = (owned(first), owned(second));
        (!a.is_empty() && !b.is_empty() && a.is_disjoint(&b) && a.len() + b.len() == partitions).then_some(())
    });
    records
}

fn owned(member: &dyn GroupReader) -> BTreeSet<(String, i32)> {
    member.assignment().unwrap().into_iter().collect()
}

/// Polls until all partitions are this member's.
fn take_over(member: &mut dyn GroupReader, partitions: usize) {
    until("the last member owns all partitions", || {
        member.poll(STEP).unwrap();
        (owned(member).len() == partitions).then_some(())
    });
}

pub(crate) fn a_group_resumes_where_it_committed(fixture: &impl Fixture) {
    let t = topic(fixture, "t", 1);
    let group = fixture.name("g");
    let log = fixture.open();
    let mut writer = log.writer(&fixture.name("w")).unwrap();
    append(&mut *writer, &t, 0, &["a", "b", "c"]);
    let mut member = log.group(&group, &[&t]).unwrap();
    let records = poll(&mut *member, 3);
    assert_eq!(texts(&records), ["a", "b", "c"]);
    member.commit(&[committed(&t, 0, records[2].offset)]).unwrap();
    drop(member);
    let mut member = fixture.open().group(&group, &[&t]).unwrap();
    assert_eq!(texts(&poll(&mut *member, 1)), ["c"]);
    append(&mut *writer, &t, 0, &["d"]);
    assert_eq!(texts(&poll(&mut *member, 1)), ["d"]);
    let info = log.groups().unwrap().into_iter().find(|info| info.name == group).unwrap();
    assert_eq!(info.committed, [committed(&t, 0, records[2].offset)]);
    assert_eq!(info.members, 1);
}

pub(crate) fn two_members_share_the_partitions(fixture: &impl Fixture) {
    let t = topic(fixture, "t", 4);
    let group = fixture.name("g");
    let log = fixture.open();
    let mut writer = log.writer(&fixture.name("w")).unwrap();
    let mut first = log.group(&group, &[&t]).unwrap();
    let mut second = fixture.open().group(&group, &[&t]).unwrap();
    settle(&mut *first, &mut *second, 4);
    for partition in 0..4 {
        append(&mut *writer, &t, partition, &["x"]);
    }
    let mut seen = Vec::new();
    until("each record is read", || {
        for member in [&mut first, &mut second] {
            let records = member.poll(STEP).unwrap();
            let mine = owned(&**member);
            assert!(records.iter().all(|r| mine.contains(&(r.topic.to_string(), r.partition))));
            seen.extend(records.iter().map(|record| record.partition));
        }
        (seen.len() >= 4).then_some(())
    });
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 2, 3], "each record goes to one member");
}

pub(crate) fn a_member_that_leaves_hands_over(fixture: &impl Fixture) {
    let t = topic(fixture, "t", 4);
    let group = fixture.name("g");
    let log = fixture.open();
    let mut first = log.group(&group, &[&t]).unwrap();
    let mut second = fixture.open().group(&group, &[&t]).unwrap();
    settle(&mut *first, &mut *second, 4);
    drop(first);
    take_over(&mut *second, 4);
    let mut writer = log.writer(&fixture.name("w")).unwrap();
    for partition in 0..4 {
        append(&mut *writer, &t, partition, &["x"]);
    }
    assert_eq!(poll(&mut *second, 4).len(), 4);
}

pub(crate) fn a_killed_member_hands_over(fixture: &impl Fixture) {
    let t = topic(fixture, "t", 2);
    let group = fixture.name("g");
    let log = fixture.open();
    let mut child = Child::spawn("member", fixture, &[&group, &t]);
    child.expect("joined");
    let mut survivor = log.group(&group, &[&t]).unwrap();
    until("the partitions are shared", || {
        survivor.poll(STEP).unwrap();
        (owned(&*survivor).len() == 1).then_some(())
    });
    child.kill();
    take_over(&mut *survivor, 2);
}

pub(crate) fn only_the_owner_commits_a_partition(fixture: &impl Fixture) {
    let t = topic(fixture, "t", 2);
    let group = fixture.name("g");
    let log = fixture.open();
    let mut writer = log.writer(&fixture.name("w")).unwrap();
    append(&mut *writer, &t, 0, &["a"]);
    append(&mut *writer, &t, 1, &["a"]);
    let mut first = log.group(&group, &[&t]).unwrap();
    poll(&mut *first, 2);
    let mut second = fixture.open().group(&group, &[&t]).unwrap();
    settle(&mut *first, &mut *second, 2);
    let (mine, others) = (owned(&*first), owned(&*second));
    let (mine, others) = (mine.first().unwrap().1, others.first().unwrap().1);
    let error = first.commit(&[committed(&t, others, 1)]).unwrap_err();
    assert!(matches!(&error, Error::NotAssigned { partition, .. } if *partition == others), "{error}");
    first.commit(&[committed(&t, mine, 1)]).unwrap();
    let info = log.groups().unwrap().into_iter().find(|info| info.name == group).unwrap();
    assert_eq!(info.committed, [committed(&t, mine, 1)]);
}

pub(crate) fn a_running_group_is_not_reset(fixture: &impl Fixture) {
    let t = topic(fixture, "t", 1);
    let group = fixture.name("g");
    let log = fixture.open();
    append(&mut *log.writer(&fixture.name("w")).unwrap(), &t, 0, &["a", "b", "c"]);
    let mut member = log.group(&group, &[&t]).unwrap();
    let records = poll(&mut *member, 3);
    member.commit(&[committed(&t, 0, records[2].offset + 1)]).unwrap();
    let error = log.reset_group(&group, &[committed(&t, 0, 0)]).unwrap_err();
    assert!(matches!(error, Error::GroupRunning { members: 1, .. }), "{error}");
    drop(member);
    until("the group has stopped", || log.reset_group(&group, &[committed(&t, 0, records[1].offset)]).ok());
    let mut member = log.group(&group, &[&t]).unwrap();
    assert_eq!(texts(&poll(&mut *member, 2)), ["b", "c"]);
}
