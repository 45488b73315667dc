//! What a writer promises.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use sluice_log::chunk::Joiner;
use sluice_log::{AppendedRange, Class, Error, MAX_HEADERS_BYTES, NewRecord};

use super::*;

pub(crate) fn a_commit_over_several_topics_is_seen_as_a_whole(fixture: &impl Fixture) {
    let (a, b) = (topic(fixture, "a", 2), topic(fixture, "b", 1));
    let log = fixture.open();
    let mut writer = log.writer(&fixture.name("w")).unwrap();
    writer.begin().unwrap();
    writer.send(&new(&a, 1, "first")).unwrap();
    writer.send(&new(&b, 0, "second")).unwrap();
    writer.commit().unwrap();
    let other = fixture.open();
    assert_values(&*other, &a, 1, &["first"]);
    assert_values(&*other, &b, 0, &["second"]);
    assert_values(&*other, &a, 0, &[]);
}

pub(crate) fn an_aborted_transaction_is_never_seen(fixture: &impl Fixture) {
    let t = topic(fixture, "t", 1);
    let log = fixture.open();
    let mut writer = log.writer(&fixture.name("w")).unwrap();
    append(&mut *writer, &t, 0, &["before"]);
    writer.begin().unwrap();
    writer.send(&new(&t, 0, "aborted")).unwrap();
    writer.abort().unwrap();
    writer.abort().unwrap();
    append(&mut *writer, &t, 0, &["after"]);
    assert_values(&*log, &t, 0, &["before", "after"]);
}

pub(crate) fn an_open_transaction_is_seen_by_nobody(fixture: &impl Fixture) {
    let t = topic(fixture, "t", 1);
    let (log, other) = (fixture.open(), fixture.open());
    let mut writer = log.writer(&fixture.name("w")).unwrap();
    append(&mut *writer, &t, 0, &["committed"]);
    let end = other.bounds(&t, 0).unwrap().end;
    writer.begin().unwrap();
    let large = "x".repeat(1 << 20);
    for _ in 0..40 {
        writer.send(&new(&t, 0, &large)).unwrap();
    }
    assert_values(&*log, &t, 0, &["committed"]);
    assert_values(&*other, &t, 0, &["committed"]);
    assert_eq!(other.bounds(&t, 0).unwrap().end, end);
    writer.abort().unwrap();
    assert_values(&*other, &t, 0, &["committed"]);
}

pub(crate) fn a_newer_writer_fences_the_older_one(fixture: &impl Fixture) {
    let t = topic(fixture, "t", 1);
    let id = fixture.name("w");
    let (log, other) = (fixture.open(), fixture.open());
    let mut older = log.writer(&id).unwrap();
    append(&mut *older, &t, 0, &["older"]);
    older.begin().unwrap();
    older.send(&new(&t, 0, "lost")).unwrap();
    let mut newer = other.writer(&id).unwrap();
    append(&mut *newer, &t, 0, &["newer"]);
    let error = older.commit().unwrap_err();
    assert_eq!(error.class(), Class::Fenced, "{error}");
    append(&mut *newer, &t, 0, &["newest"]);
    assert_values(&*log, &t, 0, &["older", "newer", "newest"]);
}

pub(crate) fn a_fenced_writer_cannot_stage_its_way_in(fixture: &impl Fixture) {
    let t = topic(fixture, "t", 1);
    let id = fixture.name("w");
    let log = fixture.open();
    let mut older = log.writer(&id).unwrap();
    let large = "x".repeat(1 << 20);
    older.begin().unwrap();
    for _ in 0..40 {
        older.send(&new(&t, 0, &large)).unwrap();
    }
    let mut newer = fixture.open().writer(&id).unwrap();
    append(&mut *newer, &t, 0, &["newer"]);
    // A Kafka producer learns of it while sending or at the latest at the commit.
    let mut rest = (0..40).map(|_| older.send(&new(&t, 0, &large)));
    let error = rest.find_map(Result::err).unwrap_or_else(|| older.commit().unwrap_err());
    assert_eq!(error.class(), Class::Fenced, "{error}");
    append(&mut *newer, &t, 0, &["newest"]);
    assert_values(&*log, &t, 0, &["newer", "newest"]);
}

pub(crate) fn transactions_are_filled_while_others_are_committed(fixture: &impl Fixture) {
    let t = topic(fixture, "t", 2);
    let log = fixture.open();
    let mut writer = log.writer(&fixture.name("w")).unwrap();
    let (mut wanted, mut marks) = (Vec::new(), Vec::new());
    for n in 0..20 {
        // One is larger than what a writer holds in memory.
        let padding = "x".repeat(if n == 10 { 890_000 } else { 1000 });
        writer.begin().unwrap();
        for i in 0..20 {
            wanted.push(format!("{n}.{i} {padding}"));
            writer.send(&new(&t, 1, &wanted[wanted.len() - 1])).unwrap();
        }
        if n % 3 == 0 {
            writer.send(&new(&t, 0, "now and then")).unwrap();
        }
        marks.extend(writer.mark().unwrap().into_iter().filter(|range| range.partition == 1));
        writer.submit().unwrap();
    }
    writer.settle().unwrap();
    writer.settle().unwrap();
    let records = read_from(&*fixture.open(), &t, 1, 0, wanted.len());
    assert!(texts(&records) == wanted, "another order, or not all");
    for (range, records) in marks.iter().zip(records.chunks(20)) {
        assert_eq!(range.first_offset, records[0].offset);
    }
    assert_values(&*log, &t, 0, &["now and then"; 7]);
}

pub(crate) fn an_abort_does_not_take_back_what_was_submitted(fixture: &impl Fixture) {
    let t = topic(fixture, "t", 1);
    let log = fixture.open();
    let mut writer = log.writer(&fixture.name("w")).unwrap();
    writer.begin().unwrap();
    writer.send(&new(&t, 0, "submitted")).unwrap();
    writer.submit().unwrap();
    writer.begin().unwrap();
    writer.send(&new(&t, 0, "given up")).unwrap();
    writer.abort().unwrap();
    writer.settle().unwrap();
    append(&mut *writer, &t, 0, &["after"]);
    assert_values(&*log, &t, 0, &["submitted", "after"]);
}

pub(crate) fn writers_of_two_ids_append_side_by_side(fixture: &impl Fixture) {
    let (a, b) = (topic(fixture, "a", 1), topic(fixture, "b", 1));
    let log = fixture.open();
    let mut first = log.writer(&fixture.name("first")).unwrap();
    let mut second = fixture.open().writer(&fixture.name("second")).unwrap();
    first.begin().unwrap();
    first.send(&new(&a, 0, "of the first")).unwrap();
    append(&mut *second, &b, 0, &["of the second"]);
    assert_values(&*log, &b, 0, &["of the second"]);
    first.commit().unwrap();
    append(&mut *second, &a, 0, &["of the second"]);
    assert_values(&*log, &a, 0, &["of the first", "of the second"]);
}

/// Appends one transaction, and begins again where the log says so.
pub(crate) fn append_at_last(writer: &mut dyn Writer, topic: &str, values: &[&str]) {
    let attempt = |writer: &mut dyn Writer| {
        writer.begin()?;
        values.iter().try_for_each(|value| writer.send(&new(topic, 0, value)))?;
        writer.commit()
    };
    until("the transaction is committed", || match attempt(writer) {
        Ok(()) => Some(()),
        Err(error) => {
            assert_eq!(error.class(), Class::Abort, "{error}");
            writer.abort().unwrap();
            None
        }
    });
}

pub(crate) fn a_second_writer_commits_while_the_first_is_busy(fixture: &impl Fixture) {
    let (busy, refused) = (topic(fixture, "busy", 3), topic(fixture, "busy.group.dlq", 1));
    let log = fixture.open();
    let large = "x".repeat(1 << 20);
    let (large, busy_name) = (&large, &busy);
    let done = AtomicBool::new(false);
    let committed = std::thread::scope(|scope| {
        let first = scope.spawn(|| {
            let mut writer = fixture.open().writer(&fixture.name("first")).unwrap();
            let mut committed = 0;
            // Transactions larger than what is held in memory, one after the other, and some that are given up.
            while !done.load(Ordering::Relaxed) || committed == 0 {
                writer.begin().unwrap();
                (0..24).for_each(|n| writer.send(&new(busy_name, n % 3, large)).unwrap());
                if committed % 3 == 2 {
                    writer.abort().unwrap();
                    writer.begin().unwrap();
                    (0..24).for_each(|n| writer.send(&new(busy_name, n % 3, large)).unwrap());
                }
                writer.commit().unwrap();
                committed += 1;
            }
            committed
        });
        let mut second = log.writer(&fixture.name("second")).unwrap();
        for n in 0..20 {
            append(&mut *second, &refused, 0, &[&n.to_string()]);
        }
        done.store(true, Ordering::Relaxed);
        first.join().unwrap()
    });
    let wanted: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    assert_values(&*log, &refused, 0, &wanted.iter().map(String::as_str).collect::<Vec<_>>());
    let mut reader = log.partition_readers(&[start(&busy, 0)]).unwrap().remove(0);
    let (mut joiner, mut found) = (Joiner::default(), 0);
    while found < committed * 8 {
        let records = reader.read(4 << 20, PATIENCE).unwrap();
        assert!(!records.is_empty(), "{found} of {committed} transactions of 8 values");
        found += records.into_iter().filter_map(|record| joiner.push(record).unwrap()).count();
    }
    assert_eq!(found, committed * 8);
}

pub(crate) fn two_writers_of_one_partition_lose_nothing_by_beginning_again(fixture: &impl Fixture) {
    let t = topic(fixture, "t", 1);
    let names = ["a", "b"];
    let values = |name: &str| -> Vec<String> { (0..15).map(|n| format!("{name}{n}")).collect() };
    std::thread::scope(|scope| {
        for name in names {
            let (t, values) = (&t, &values);
            scope.spawn(move || {
                let mut writer = fixture.open().writer(&fixture.name(name)).unwrap();
                for pair in values(name).chunks(3) {
                    append_at_last(&mut *writer, t, &pair.iter().map(String::as_str).collect::<Vec<_>>());
                }
            });
        }
    });
    let records = read_from(&*fixture.open(), &t, 0, 0, 30);
    let found = texts(&records);
    for name in names {
        let of_one: Vec<&str> = found.iter().copied().filter(|value| value.starts_with(name)).collect();
        assert_eq!(of_one, values(name));
    }
    assert_eq!(found.len(), 30);
    let whole = |triple: &[&str]| triple.iter().all(|value| value[..1] == triple[0][..1]);
    assert!(found.chunks(3).all(whole), "{found:?}");
}

pub(crate) fn records_keep_order_key_timestamp_and_partition(fixture: &impl Fixture) {
    let t = topic(fixture, "t", 3);
    let log = fixture.open();
    let mut writer = log.writer(&fixture.name("w")).unwrap();
    for round in 0i64..3 {
        writer.begin().unwrap();
        for n in round * 100..round * 100 + 100 {
            let (key, value) = (n.to_be_bytes(), format!("{n}"));
            let timestamp = 1_600_000_000_000 - n;
            let value = value.as_bytes();
            writer
                .send(&NewRecord {
                    topic: &t,
                    partition: (n % 3) as i32,
                    timestamp,
                    key: &key,
                    value,
                    headers: &[],
                })
                .unwrap();
        }
        writer.commit().unwrap();
    }
    for partition in 0..3 {
        let records = read_from(&*log, &t, partition, 0, 100);
        let wanted: Vec<i64> = (0..300).filter(|n| n % 3 == i64::from(partition)).collect();
        assert_eq!(records.len(), wanted.len());
        assert!(records.is_sorted_by(|a, b| a.offset < b.offset));
        for (record, n) in records.iter().zip(wanted) {
            assert_eq!(record.value, n.to_string().as_bytes());
            assert_eq!(record.key, &n.to_be_bytes()[..]);
            assert_eq!(record.timestamp, 1_600_000_000_000 - n);
            assert_eq!((&*record.topic, record.partition), (&*t, partition));
            assert!(record.headers.is_empty());
        }
    }
}

pub(crate) fn headers_come_back_beside_those_of_chunks(fixture: &impl Fixture) {
    let t = topic(fixture, "t", 1);
    let log = fixture.open();
    let mut writer = log.writer(&fixture.name("w")).unwrap();
    let headers: &[(&str, &[u8])] = &[("error", b"no such coin"), ("empty", b""), ("error", &[0xff, 0])];
    let large = vec![7; 2_000_000];
    let values: [&[u8]; 3] = [b"small", &large, b""];
    writer.begin().unwrap();
    for value in values {
        let record = NewRecord { topic: &t, partition: 0, timestamp: 0, key: b"key", value, headers };
        writer.send(&record).unwrap();
    }
    let records = writer.mark().unwrap()[0].records;
    writer.commit().unwrap();
    let records = read_from(&*log, &t, 0, 0, records as usize);
    assert!(records.len() > values.len());
    let wanted: Vec<(String, Vec<u8>)> = headers.iter().map(|(n, v)| (n.to_string(), v.to_vec())).collect();
    let found = |record: &Record| -> Vec<(String, Vec<u8>)> {
        record.headers.iter().map(|(name, value)| (name.clone(), value.to_vec())).collect()
    };
    for record in &records {
        assert_eq!(found(record)[..wanted.len()], wanted);
    }
    let mut joiner = Joiner::default();
    let joined: Vec<_> = records.into_iter().filter_map(|record| joiner.push(record).unwrap()).collect();
    assert!(joined.iter().map(|record| &record.value[..]).eq(values));
    assert!(joined.iter().all(|record| found(record) == wanted));
}

pub(crate) fn headers_that_cannot_be_kept_are_refused(fixture: &impl Fixture) {
    let t = topic(fixture, "t", 1);
    let log = fixture.open();
    let mut writer = log.writer(&fixture.name("w")).unwrap();
    writer.begin().unwrap();
    let huge = vec![0; MAX_HEADERS_BYTES];
    for (name, value) in [("chunk-index", &b"0"[..]), ("", b"x"), ("a\0b", b"x"), ("n", &huge)] {
        let error =
            writer.send(&NewRecord { headers: &[(name, value)], ..new(&t, 0, "refused") }).unwrap_err();
        assert_eq!(error.class(), Class::Fatal, "{error}");
    }
    let most = &huge[1..];
    for _ in 0..200 {
        writer.send(&NewRecord { headers: &[("n", most)], ..new(&t, 0, "") }).unwrap();
    }
    writer.commit().unwrap();
    let records = read_from(&*log, &t, 0, 0, 200);
    assert_eq!(records.len(), 200);
    assert!(records.iter().all(|record| record.headers[0].1 == most));
}

/// Topic, partition, records and calls of `send`.
fn shape(marked: &[AppendedRange]) -> Vec<(String, i32, i64, i64)> {
    marked.iter().map(|range| (range.topic.to_string(), range.partition, range.records, range.sent)).collect()
}

pub(crate) fn marks_name_what_was_sent_since(fixture: &impl Fixture) {
    let (a, b) = (topic(fixture, "a", 3), topic(fixture, "b", 1));
    let log = fixture.open();
    let mut writer = log.writer(&fixture.name("w")).unwrap();
    append(&mut *writer, &a, 1, &["earlier"]);
    writer.begin().unwrap();
    assert_eq!(writer.mark().unwrap(), []);
    for (topic, partition) in [(&b, 0), (&a, 2), (&a, 1), (&a, 2)] {
        writer.send(&new(topic, partition, "x")).unwrap();
    }
    let first = writer.mark().unwrap();
    assert_eq!(shape(&first), [(a.clone(), 1, 1, 1), (a.clone(), 2, 2, 2), (b.clone(), 0, 1, 1)]);
    let large = "y".repeat(2_000_000);
    writer.send(&new(&a, 2, &large)).unwrap();
    writer.send(&new(&a, 2, "z")).unwrap();
    let second = writer.mark().unwrap();
    assert_eq!(second.len(), 1);
    assert_eq!(second[0].first_offset, first[1].first_offset + 2);
    assert_eq!(second[0].sent, 2);
    assert!(second[0].records > 3, "{second:?}");
    assert_eq!(writer.mark().unwrap(), []);
    writer.commit().unwrap();
    // What was sent before an abort is in no later mark.
    writer.begin().unwrap();
    writer.send(&new(&b, 0, "aborted")).unwrap();
    writer.abort().unwrap();
    writer.begin().unwrap();
    writer.send(&new(&a, 0, "x")).unwrap();
    assert_eq!(shape(&writer.mark().unwrap()), [(a.clone(), 0, 1, 1)]);
    writer.commit().unwrap();
}

pub(crate) fn a_marked_range_reads_back_exactly(fixture: &impl Fixture) {
    let t = topic(fixture, "t", 2);
    let log = fixture.open();
    let mut writer = log.writer(&fixture.name("w")).unwrap();
    let values: Vec<String> = ["a", "bb", "ccc"].iter().map(|s| s.repeat(700_000)).collect();
    let mut ranges: Vec<(AppendedRange, Vec<String>)> = Vec::new();
    for _ in 0..3 {
        writer.begin().unwrap();
        for _ in 0..2 {
            let mut sent: HashMap<i32, Vec<String>> = HashMap::new();
            for (index, value) in values.iter().enumerate() {
                let partition = (index % 2) as i32;
                writer.send(&new(&t, partition, value)).unwrap();
                sent.entry(partition).or_default().push(value.clone());
            }
            ranges.extend(writer.mark().unwrap().into_iter().map(|range| {
                let values = sent.remove(&range.partition).unwrap();
                (range, values)
            }));
        }
        writer.commit().unwrap();
    }
    assert_eq!(ranges.len(), 12);
    for (range, wanted) in ranges {
        let from = StartAt { topic: t.clone(), partition: range.partition, offset: range.first_offset };
        let mut reader = fixture.open().partition_readers(&[from]).unwrap().remove(0);
        let mut records = Vec::new();
        while records.len() < range.records as usize {
            let more = reader.read(1 << 20, PATIENCE).unwrap();
            assert!(!more.is_empty(), "{range:?}");
            records.extend(more);
        }
        records.truncate(range.records as usize);
        assert_eq!(records[0].offset, range.first_offset);
        assert!(records.iter().zip(range.first_offset..).all(|(record, offset)| record.offset == offset));
        let mut joiner = Joiner::default();
        let joined: Vec<_> = records.into_iter().filter_map(|r| joiner.push(r).unwrap()).collect();
        assert!(!joiner.is_partial());
        assert_eq!(joined.len(), range.sent as usize);
        assert_eq!(texts(&joined), wanted);
    }
}

pub(crate) fn a_transaction_without_records_commits(fixture: &impl Fixture) {
    let t = topic(fixture, "t", 1);
    let log = fixture.open();
    let mut writer = log.writer(&fixture.name("w")).unwrap();
    writer.begin().unwrap();
    writer.commit().unwrap();
    append(&mut *writer, &t, 0, &["x"]);
    assert_values(&*log, &t, 0, &["x"]);
}

pub(crate) fn a_hundred_megabytes_come_back_whole(fixture: &impl Fixture) {
    let t = topic(fixture, "t", 1);
    let log = fixture.open();
    let mut writer = log.writer(&fixture.name("w")).unwrap();
    let large: Vec<u8> =
        (0u32..25_000_000).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    writer.begin().unwrap();
    writer.send(&new(&t, 0, "before")).unwrap();
    writer
        .send(&NewRecord {
            topic: &t,
            partition: 0,
            timestamp: 5,
            key: b"large",
            value: &large,
            headers: &[],
        })
        .unwrap();
    writer.send(&new(&t, 0, "after")).unwrap();
    let marked = writer.mark().unwrap();
    writer.commit().unwrap();
    let mut reader = log.partition_readers(&[start(&t, 0)]).unwrap().remove(0);
    let mut joiner = Joiner::default();
    let (mut joined, mut read) = (Vec::new(), 0);
    while joined.len() < 3 {
        let records = reader.read(4 << 20, PATIENCE).unwrap();
        assert!(!records.is_empty());
        for record in records {
            read += 1;
            joined.extend(joiner.push(record).unwrap());
        }
    }
    assert_eq!((marked[0].records, marked[0].sent), (read, 3));
    assert_eq!((&joined[0].value[..], &joined[2].value[..]), (&b"before"[..], &b"after"[..]));
    assert_eq!((&joined[1].key[..], joined[1].timestamp), (&b"large"[..], 5));
    assert!(joined[1].value == large, "the value has changed");
}

pub(crate) fn an_unknown_partition_is_refused(fixture: &impl Fixture) {
    let t = topic(fixture, "t", 1);
    let log = fixture.open();
    let mut writer = log.writer(&fixture.name("w")).unwrap();
    writer.begin().unwrap();
    for (topic, partition) in [(&t, 1), (&t, -1), (&fixture.name("none"), 0)] {
        let error = writer.send(&new(topic, partition, "x")).unwrap_err();
        assert!(matches!(error, Error::NoSuchPartition { .. }), "{error}");
    }
    writer.abort().unwrap();
    append(&mut *writer, &t, 0, &["x"]);
    assert_values(&*log, &t, 0, &["x"]);
}

pub(crate) fn calls_out_of_turn_are_refused(fixture: &impl Fixture) {
    let t = topic(fixture, "t", 1);
    let mut writer = fixture.open().writer(&fixture.name("w")).unwrap();
    assert!(writer.send(&new(&t, 0, "x")).is_err());
    assert!(writer.commit().is_err());
    assert!(writer.mark().is_err());
    writer.begin().unwrap();
    assert!(writer.begin().is_err());
    writer.abort().unwrap();
}
