//! The laws of a log, one function each, held by every implementer.
//!
//! A test binary names its fixture once: `conformance::laws!(MyFixture::new);` makes a test of each law, and one named
//! `child_process` that does nothing but in a child. `MyFixture::new(law: &str)` gives `Option<impl Fixture>`; `None`
//! says (and has to say it loudly) that the store is not there.

// Parts of tests, of which one implementer's need not use all.
#![allow(clippy::unwrap_used, clippy::print_stdout, dead_code)]

pub(crate) mod append;
pub(crate) mod chain;
pub(crate) mod child;
pub(crate) mod crash;
pub(crate) mod groups;
pub(crate) mod lead;
pub(crate) mod model;
pub(crate) mod read;
pub(crate) mod topics;

use std::sync::Arc;
use std::time::{Duration, Instant};

use sluice_log::{Log, NewRecord, Record, StartAt, Writer};
use sluice_schemas::{Retention, TopicSpec};

/// How long a law waits for what must come. Never waited for in full but by a law that fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How long a law looks at what must not come.
pub(crate) const QUIET: Duration = Duration::from_millis(300);

/// A log under test.
pub(crate) trait Fixture: Sync {
    /// What other processes open it by.
    fn url(&self) -> String;

    /// A handle of its own, as another process would have it.
    fn open(&self) -> Arc<dyn Log> {
        sluice_log::open(&self.url()).unwrap()
    }

    /// Name of a topic, group, role or writer that no other law uses.
    fn name(&self, base: &str) -> String;

    /// How many random sequences the model is held against.
    fn cases(&self) -> u32 {
        32
    }
}

/// Creates a topic that keeps its records, and gives its name.
pub(crate) fn topic(fixture: &impl Fixture, base: &str, partitions: i32) -> String {
    let name = fixture.name(base);
    let spec = TopicSpec { name: name.clone(), partitions, retention: Retention::Forever };
    fixture.open().ensure_topics(&[spec]).unwrap();
    name
}

/// A small record.
pub(crate) fn new<'a>(topic: &'a str, partition: i32, value: &'a str) -> NewRecord<'a> {
    NewRecord { topic, partition, timestamp: 0, key: b"key", value: value.as_bytes(), headers: &[] }
}

/// Appends small records to one partition in one transaction.
pub(crate) fn append(writer: &mut dyn Writer, topic: &str, partition: i32, values: &[&str]) {
    writer.begin().unwrap();
    for value in values {
        writer.send(&new(topic, partition, value)).unwrap();
    }
    writer.commit().unwrap();
}

/// The earliest position of a partition.
pub(crate) fn start(topic: &str, partition: i32) -> StartAt {
    StartAt { topic: topic.to_owned(), partition, offset: 0 }
}

/// Reads `count` records of a partition from `offset` on, and no more than these must be there.
pub(crate) fn read_from(
    log: &dyn Log,
    topic: &str,
    partition: i32,
    offset: i64,
    count: usize,
) -> Vec<Record> {
    let from = StartAt { topic: topic.to_owned(), partition, offset };
    let mut reader = log.partition_readers(&[from]).unwrap().remove(0);
    let mut records = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    while records.len() < count && Instant::now() < deadline {
        records.extend(reader.read(1 << 20, Duration::from_secs(1)).unwrap());
    }
    records.extend(reader.read(1 << 20, QUIET).unwrap());
    records
}

/// The values of a partition must be these and no others.
#[track_caller]
pub(crate) fn assert_values(log: &dyn Log, topic: &str, partition: i32, wanted: &[&str]) {
    let records = read_from(log, topic, partition, 0, wanted.len());
    assert_eq!(texts(&records), wanted, "of {topic}/{partition}");
}

/// Values as text.
pub(crate) fn texts(records: &[Record]) -> Vec<&str> {
    records.iter().map(|record| std::str::from_utf8(&record.value).unwrap()).collect()
}

/// Asks until the answer is there.
#[track_caller]
pub(crate) fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(answer) = ask() {
            return answer;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("gave up waiting until {what}");
}

/// Makes a test of each law.
macro_rules! laws {
    ($fixture:path) => {
        conformance::laws!(@ $fixture; append:
            a_commit_over_several_topics_is_seen_as_a_whole
            an_aborted_transaction_is_never_seen
            an_open_transaction_is_seen_by_nobody
            a_newer_writer_fences_the_older_one
            a_fenced_writer_cannot_stage_its_way_in
            transactions_are_filled_while_others_are_committed
            an_abort_does_not_take_back_what_was_submitted
            writers_of_two_ids_append_side_by_side
            a_second_writer_commits_while_the_first_is_busy
            two_writers_of_one_partition_lose_nothing_by_beginning_again
            records_keep_order_key_timestamp_and_partition
            headers_come_back_beside_those_of_chunks
            headers_that_cannot_be_kept_are_refused
            marks_name_what_was_sent_since
            a_marked_range_reads_back_exactly
            a_transaction_without_records_commits
            a_hundred_megabytes_come_back_whole
            an_unknown_partition_is_refused
            calls_out_of_turn_are_refused
        );
        conformance::laws!(@ $fixture; read:
            bounds_grow_by_commits_only
            a_time_is_found
            reading_starts_where_asked
            a_reader_gives_every_partition_in_order
            a_waiting_reader_is_woken_by_a_commit
            partition_readers_go_at_their_own_pace
            an_offset_beyond_the_end_is_out_of_range
        );
        conformance::laws!(@ $fixture; topics:
            topics_are_created_once
            a_topic_set_otherwise_fails_closed
            an_unknown_topic_is_none
        );
        conformance::laws!(@ $fixture; groups:
            a_group_resumes_where_it_committed
            two_members_share_the_partitions
            a_member_that_leaves_hands_over
            a_killed_member_hands_over
            only_the_owner_commits_a_partition
            a_running_group_is_not_reset
        );
        conformance::laws!(@ $fixture; lead:
            one_candidate_leads_and_hands_over
            a_killed_leader_hands_over
        );
        conformance::laws!(@ $fixture; crash:
            a_writer_killed_in_mid_transaction_leaves_nothing
            kills_at_any_moment_leave_whole_transactions_only
        );
        conformance::laws!(@ $fixture; chain:
            a_scan_gives_every_event_with_its_transactions
            a_scan_waits_for_what_comes_next
            a_transaction_is_read_by_its_location_in_any_order
            a_location_at_which_no_transaction_event_starts_is_refused
        );
        conformance::laws!(@ $fixture; model: any_sequence_of_calls_reads_back_as_the_model);

        /// A law's other process. Passes at once where it is none.
        #[test]
        fn child_process() {
            conformance::child::run();
        }
    };
    (@ $fixture:path; $module:ident: $($law:ident)*) => {
        $(#[test]
        fn $law() {
            if let Some(fixture) = $fixture(stringify!($law)) {
                conformance::$module::$law(&fixture);
            }
        })*
    };
}
pub(crate) use laws;
