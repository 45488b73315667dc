//! What readers promise.

use std::collections::HashMap;

use sluice_log::{Error, NewRecord};

use super::*;

pub(crate) fn bounds_grow_by_commits_only(fixture: &impl Fixture) {
    let t = topic(fixture, "t", 2);
    let (log, other) = (fixture.open(), fixture.open());
    let empty = other.bounds(&t, 0).unwrap();
    assert_eq!((empty.start, empty.end), (0, 0));
    let mut writer = log.writer(&fixture.name("w")).unwrap();
    append(&mut *writer, &t, 0, &["a", "b"]);
    let two = other.bounds(&t, 0).unwrap();
    assert!(two.start == 0 && two.end >= 2, "{two:?}");
    assert_eq!(other.bounds(&t, 1).unwrap().end, 0);
    writer.begin().unwrap();
    writer.send(&new(&t, 0, "c")).unwrap();
    writer.commit().unwrap();
    assert!(other.bounds(&t, 0).unwrap().end > two.end);
    let error = log.bounds(&t, 2).unwrap_err();
    assert!(matches!(error, Error::NoSuchPartition { partition: 2, .. }), "{error}");
}

pub(crate) fn a_time_is_found(fixture: &impl Fixture) {
    let t = topic(fixture, "t", 1);
    let log = fixture.open();
    assert_eq!(log.offset_at(&t, 0, 0).unwrap(), None);
    let mut writer = log.writer(&fixture.name("w")).unwrap();
    // Block times do not ascend.
    for times in [&[10, 30], &[20, 20], &[50, 40]] {
        writer.begin().unwrap();
        for &timestamp in times {
            let value = timestamp.to_string();
            let record = NewRecord {
                topic: &t,
                partition: 0,
                timestamp,
                key: b"",
                value: value.as_bytes(),
                headers: &[],
            };
            writer.send(&record).unwrap();
        }
        writer.commit().unwrap();
    }
    let records = read_from(&*log, &t, 0, 0, 6);
    for timestamp in [0, 10, 11, 30, 31, 40, 50, 51] {
        let wanted = records.iter().find(|record| record.timestamp >= timestamp).map(|record| record.offset);
        assert_eq!(log.offset_at(&t, 0, timestamp).unwrap(), wanted, "at {timestamp}");
    }
}

pub(crate) fn reading_starts_where_asked(fixture: &impl Fixture) {
    let t = topic(fixture, "t", 1);
    let log = fixture.open();
    let mut writer = log.writer(&fixture.name("w")).unwrap();
    append(&mut *writer, &t, 0, &["a", "b", "c"]);
    append(&mut *writer, &t, 0, &["d", "e"]);
    let all = read_from(&*log, &t, 0, 0, 5);
    assert_eq!(texts(&all), ["a", "b", "c", "d", "e"]);
    let mut reader = log.partition_readers(&[start(&t, 0)]).unwrap().remove(0);
    for record in &all {
        let rest: Vec<_> = all.iter().filter(|r| r.offset >= record.offset).cloned().collect();
        assert_eq!(read_from(&*log, &t, 0, record.offset, rest.len()), rest);
        reader.seek(record.offset).unwrap();
        assert_eq!(reader.read(1, PATIENCE).unwrap().first(), Some(record));
    }
}

pub(crate) fn a_reader_gives_every_partition_in_order(fixture: &impl Fixture) {
    let (a, b) = (topic(fixture, "a", 3), topic(fixture, "b", 1));
    let log = fixture.open();
    let mut writer = log.writer(&fixture.name("w")).unwrap();
    let places = [(&a, 0), (&a, 1), (&a, 2), (&b, 0)];
    for n in 0..50 {
        writer.begin().unwrap();
        for (topic, partition) in places {
            writer.send(&new(topic, partition, &n.to_string())).unwrap();
        }
        writer.commit().unwrap();
    }
    let from: Vec<_> = places.iter().map(|(topic, partition)| start(topic, *partition)).collect();
    let mut reader = fixture.open().reader(&from).unwrap();
    let mut seen: HashMap<(String, i32), Vec<String>> = HashMap::new();
    while seen.values().map(Vec::len).sum::<usize>() < 200 {
        let records = reader.poll(PATIENCE).unwrap();
        assert!(!records.is_empty());
        for record in &records {
            let value = texts(std::slice::from_ref(record))[0].to_owned();
            seen.entry((record.topic.to_string(), record.partition)).or_default().push(value);
        }
    }
    let wanted: Vec<String> = (0..50).map(|n| n.to_string()).collect();
    for (topic, partition) in places {
        assert_eq!(seen[&(topic.clone(), partition)], wanted, "of {topic}/{partition}");
    }
}

pub(crate) fn a_waiting_reader_is_woken_by_a_commit(fixture: &impl Fixture) {
    let t = topic(fixture, "t", 1);
    let log = fixture.open();
    let mut writer = log.writer(&fixture.name("w")).unwrap();
    let mut reader = fixture.open().reader(&[start(&t, 0)]).unwrap();
    for n in 0..20 {
        let value = n.to_string();
        std::thread::scope(|scope| {
            let polled = scope.spawn(|| reader.poll(PATIENCE).unwrap());
            append(&mut *writer, &t, 0, &[&value]);
            assert_eq!(texts(&polled.join().unwrap()), [value.as_str()]);
        });
    }
    assert_eq!(reader.poll(QUIET).unwrap(), []);
}

pub(crate) fn partition_readers_go_at_their_own_pace(fixture: &impl Fixture) {
    let t = topic(fixture, "t", 2);
    let log = fixture.open();
    let mut writer = log.writer(&fixture.name("w")).unwrap();
    writer.begin().unwrap();
    let value = "v".repeat(1000);
    for n in 0..1000 {
        writer.send(&new(&t, n % 2, &value)).unwrap();
    }
    writer.commit().unwrap();
    let mut readers = log.partition_readers(&[start(&t, 1), start(&t, 0)]).unwrap();
    let mut ones = 0;
    while ones < 500 {
        let records = readers[0].read(10_000, PATIENCE).unwrap();
        assert!((1..=20).contains(&records.len()), "{} records", records.len());
        assert!(records.iter().all(|record| record.partition == 1));
        ones += records.len();
    }
    let records = readers[1].read(1, PATIENCE).unwrap();
    assert_eq!((records.len(), records[0].partition, records[0].offset), (1, 0, 0));
}

pub(crate) fn an_offset_beyond_the_end_is_out_of_range(fixture: &impl Fixture) {
    let t = topic(fixture, "t", 1);
    let log = fixture.open();
    append(&mut *log.writer(&fixture.name("w")).unwrap(), &t, 0, &["a"]);
    let from = StartAt { topic: t.clone(), partition: 0, offset: 1_000_000 };
    let error = match log.partition_readers(&[from]) {
        Err(error) => error,
        Ok(mut readers) => readers[0].read(1, PATIENCE).unwrap_err(),
    };
    assert!(matches!(error, Error::OutOfRange { offset: 1_000_000, start: 0, .. }), "{error}");
}
