//! Random sequences of calls against the simplest log there is: vectors.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use sluice_log::AppendedRange;
use sluice_log::chunk::Joiner;

use super::*;

const PARTITIONS: i32 = 3;

#[derive(Clone, Debug)]
enum Call {
    Send { partition: i32, bytes: usize },
    Mark,
    Commit,
    Abort,
    Reopen,
}

fn call() -> impl Strategy<Value = Call> {
    let bytes = prop_oneof![6 => 0usize..200, 2 => 1_000usize..150_000, 1 => 800_000usize..3_000_000];
    prop_oneof![
        12 => (0..PARTITIONS, bytes).prop_map(|(partition, bytes)| Call::Send { partition, bytes }),
        3 => Just(Call::Mark),
        3 => Just(Call::Commit),
        1 => Just(Call::Abort),
        1 => Just(Call::Reopen),
    ]
}

pub(crate) fn any_sequence_of_calls_reads_back_as_the_model(fixture: &impl Fixture) {
    let mut runner = TestRunner::new(Config {
        cases: fixture.cases(),
        max_shrink_iters: 200,
        failure_persistence: None,
        ..Config::default()
    });
    let count = std::cell::Cell::new(0);
    let calls = prop::collection::vec(call(), 0..40);
    let result = runner.run(&calls, |calls| {
        count.set(count.get() + 1);
        hold(fixture, &format!("t{}", count.get()), &calls)
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}

/// Values of a partition in order.
type Values = Vec<Vec<u8>>;

fn hold(fixture: &impl Fixture, base: &str, calls: &[Call]) -> Result<(), TestCaseError> {
    let t = topic(fixture, base, PARTITIONS);
    let id = fixture.name(&format!("{base}-writer"));
    let log = fixture.open();
    let mut writer = log.writer(&id).unwrap();
    let mut committed: Vec<Values> = vec![Vec::new(); PARTITIONS as usize];
    let mut open: Vec<Values> = committed.clone();
    let mut unmarked: Vec<i64> = vec![0; PARTITIONS as usize];
    let mut ranges: Vec<(AppendedRange, Values)> = Vec::new();
    let mut open_ranges = ranges.clone();
    writer.begin().unwrap();
    for (seed, call) in calls.iter().enumerate() {
        match call {
            Call::Send { partition, bytes } => {
                let value: Vec<u8> = (0..*bytes).map(|n| (n * 31 + seed * 7 + n / 251) as u8).collect();
                writer
                    .send(&sluice_log::NewRecord {
                        topic: &t,
                        partition: *partition,
                        timestamp: seed as i64,
                        key: b"",
                        value: &value,
                        headers: &[],
                    })
                    .unwrap();
                open[*partition as usize].push(value);
                unmarked[*partition as usize] += 1;
            }
            Call::Mark => {
                let marked = writer.mark().unwrap();
                let sent: Vec<_> = marked.iter().map(|range| (range.partition, range.sent)).collect();
                let wanted: Vec<_> =
                    (0..).zip(unmarked.iter().copied()).filter(|(_, sent)| *sent > 0).collect();
                prop_assert_eq!(sent, wanted);
                for range in marked {
                    let values = &open[range.partition as usize];
                    let values = values[values.len() - range.sent as usize..].to_vec();
                    open_ranges.push((range, values));
                }
                unmarked.fill(0);
            }
            Call::Commit | Call::Abort | Call::Reopen => {
                match call {
                    Call::Commit => {
                        writer.commit().unwrap();
                        for (all, new) in committed.iter_mut().zip(&mut open) {
                            all.append(new);
                        }
                        ranges.append(&mut open_ranges);
                    }
                    Call::Abort => writer.abort().unwrap(),
                    _ => writer = fixture.open().writer(&id).unwrap(),
                }
                open.iter_mut().for_each(Vec::clear);
                open_ranges.clear();
                unmarked.fill(0);
                writer.begin().unwrap();
            }
        }
    }
    let readers = log.partition_readers(&(0..PARTITIONS).map(|p| start(&t, p)).collect::<Vec<_>>()).unwrap();
    for ((partition, mut reader), wanted) in (0i32..).zip(readers).zip(&committed) {
        let joined = join(&mut *reader, wanted.len());
        prop_assert!(joined == *wanted, "partition {} differs", partition);
        prop_assert_eq!(reader.read(1, Duration::from_millis(1)).unwrap(), vec![]);
        for (range, values) in ranges.iter().filter(|(range, _)| range.partition == partition) {
            reader.seek(range.first_offset).unwrap();
            prop_assert!(join(&mut *reader, values.len()) == *values, "{:?} reads otherwise", range);
        }
    }
    Ok(())
}

fn join(reader: &mut dyn sluice_log::PartitionReader, count: usize) -> Values {
    let mut joiner = Joiner::default();
    let mut joined = Vec::new();
    while joined.len() < count {
        let records = reader.read(1, PATIENCE).unwrap();
        assert!(!records.is_empty(), "{} of {count} values", joined.len());
        joined.extend(
            records.into_iter().filter_map(|record| joiner.push(record).unwrap()).map(|r| r.value.to_vec()),
        );
    }
    joined
}
