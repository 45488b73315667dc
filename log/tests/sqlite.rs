//! The log in SQLite: the laws of every log, and what only a file can suffer.

#![allow(clippy::unwrap_used)] // a helper of tests, like the tests themselves

mod chain_log;
mod conformance;

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use conformance::child::Child;
use conformance::{Fixture, PATIENCE, append, assert_values, new, start, topic, until};
use rusqlite::Connection;
use sluice_log::chunk::Joiner;
use sluice_log::sqlite::{Compression, Options, SqliteLog};
use sluice_log::{Class, Committed, Error, Log, NewRecord, Writer};
use sluice_schemas::{Retention, TopicSpec};
use tempfile::TempDir;

/// A log in a folder of its own.
struct Sqlite {
    folder: TempDir,
}

impl Sqlite {
    fn new(_law: &str) -> Option<Self> {
        Some(Self { folder: tempfile::tempdir().unwrap() })
    }

    fn fresh() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("log.db")
    }

    fn open_with(&self, options: Options) -> sluice_log::Result<Arc<dyn Log>> {
        Ok(Arc::new(SqliteLog::open_with(self.path().to_str().unwrap(), options)?))
    }

    /// The file, for a test that tampers with it.
    fn database(&self) -> Connection {
        Connection::open(self.path()).unwrap()
    }
}

impl Fixture for Sqlite {
    fn url(&self) -> String {
        format!("sqlite:{}", self.path().display())
    }

    fn name(&self, base: &str) -> String {
        base.to_owned()
    }
}

conformance::laws!(Sqlite::new);

#[test]
fn compressed_batches_read_back_the_same() {
    let fixture = Sqlite::fresh();
    let t = topic(&fixture, "t", 1);
    let log = fixture.open_with(Options { compression: Compression::Lz4, ..Options::default() }).unwrap();
    let text = "all work and no play ".repeat(100_000);
    append(&mut *log.writer("w").unwrap(), &t, 0, &["before", &text, "after"]);
    // Any handle reads them, whatever it would write itself.
    let mut reader = fixture.open().reader(&[start(&t, 0)]).unwrap();
    let mut joiner = Joiner::default();
    let mut values = Vec::new();
    while values.len() < 3 {
        let records = reader.poll(PATIENCE).unwrap();
        values.extend(records.into_iter().filter_map(|record| joiner.push(record).unwrap()).map(|r| r.value));
    }
    assert_eq!(values, ["before".as_bytes(), text.as_bytes(), b"after"]);
    assert!(std::fs::metadata(fixture.path()).unwrap().len() < 1_000_000);
}

#[test]
fn an_aborted_transaction_gives_its_space_back() {
    let fixture = Sqlite::fresh();
    let t = topic(&fixture, "t", 1);
    let log = fixture.open();
    let mut writer = log.writer("w").unwrap();
    let large = "x".repeat(1 << 20);
    for _ in 0..4 {
        writer.begin().unwrap();
        for _ in 0..48 {
            writer.send(&new(&t, 0, &large)).unwrap();
        }
        writer.abort().unwrap();
    }
    append(&mut *writer, &t, 0, &["x"]);
    assert_values(&*log, &t, 0, &["x"]);
    let database = fixture.database();
    let count = |table| {
        let sql = format!("SELECT count(*) FROM {table}");
        database.query_row(&sql, [], |row| row.get::<_, i64>(0)).unwrap()
    };
    assert_eq!((count("staged"), count("payload"), count("batch")), (0, 1, 1));
    let pages: i64 = database.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    assert!(pages * 16_384 < 80 << 20, "{pages} pages");
}

#[test]
fn the_write_ahead_log_stays_small_beside_a_reader() {
    let fixture = Sqlite::fresh();
    let t = topic(&fixture, "t", 1);
    let log = fixture.open();
    let mut writer = log.writer("w").unwrap();
    let mut reader = log.reader(&[start(&t, 0)]).unwrap();
    let large = "x".repeat(800_000);
    for _ in 0..50 {
        append(&mut *writer, &t, 0, &[large.as_str(); 10]);
        while !reader.poll(Duration::ZERO).unwrap().is_empty() {}
    }
    let wal = std::fs::metadata(fixture.folder.path().join("log.db-wal")).unwrap().len();
    assert!(wal < 200 << 20, "{wal} bytes after 400 MB");
}

/// A writer whose open transaction has foretold an offset that another writer has taken since.
fn belied(log: &dyn Log, topic: &str) -> Box<dyn Writer> {
    let (mut first, mut second) = (log.writer("first").unwrap(), log.writer("second").unwrap());
    first.begin().unwrap();
    first.send(&new(topic, 0, "foretold")).unwrap();
    assert_eq!(first.mark().unwrap()[0].first_offset, 0);
    append(&mut *second, topic, 0, &["second"]);
    first
}

#[test]
fn marks_that_another_writer_belies_abort_the_commit() {
    let fixture = Sqlite::fresh();
    let t = topic(&fixture, "t", 1);
    let log = fixture.open();
    let mut first = belied(&*log, &t);
    assert_eq!(first.commit().unwrap_err().class(), Class::Abort);
    first.abort().unwrap();
    append(&mut *first, &t, 0, &["first"]);
    assert_values(&*log, &t, 0, &["second", "first"]);
}

#[test]
fn a_submitted_transaction_that_fails_takes_the_one_begun_since_along() {
    let fixture = Sqlite::fresh();
    let t = topic(&fixture, "t", 1);
    let log = fixture.open();
    let mut first = belied(&*log, &t);
    first.submit().unwrap();
    // Whether these calls come before the failure or after it, they never tell it in place of `settle`.
    let begun = first.begin().and_then(|()| first.send(&new(&t, 0, "after what was never there")));
    assert!(begun.is_ok() || begun.is_err_and(|error| error.class() == Class::Abort));
    let error = first.settle().unwrap_err();
    assert!(error.to_string().contains("another writer has appended"), "{error}");
    assert!(first.commit().is_err(), "nothing is open any more");
    append(&mut *first, &t, 0, &["first"]);
    assert_values(&*log, &t, 0, &["second", "first"]);
}

#[test]
fn a_writer_that_is_dropped_has_committed_what_it_submitted() {
    let fixture = Sqlite::fresh();
    let t = topic(&fixture, "t", 1);
    let log = fixture.open();
    let mut writer = log.writer("w").unwrap();
    writer.begin().unwrap();
    writer.send(&new(&t, 0, "submitted")).unwrap();
    writer.submit().unwrap();
    drop(writer);
    assert_values(&*log, &t, 0, &["submitted"]);
}

#[test]
fn old_records_of_a_topic_with_retention_go_and_the_start_moves() {
    let fixture = Sqlite::fresh();
    let log = fixture.open();
    let spec = |name: &str, retention| TopicSpec { name: name.into(), partitions: 1, retention };
    log.ensure_topics(&[spec("kept", Retention::Forever), spec("short", Retention::Days(1))]).unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
    let send = |timestamp: i64, value: &[u8]| {
        // A new writer looks after retention at its first commit.
        let mut writer = log.writer("w").unwrap();
        writer.begin().unwrap();
        for topic in ["kept", "short"] {
            writer
                .send(&NewRecord { topic, partition: 0, timestamp, key: b"", value, headers: &[] })
                .unwrap();
        }
        writer.commit().unwrap();
    };
    send(1000, &[1; 2_000_000]);
    send(now, b"young");
    assert_eq!(log.bounds("kept", 0).unwrap().start, 0);
    let bounds = log.bounds("short", 0).unwrap();
    assert_eq!((bounds.start, bounds.end), (3, 4));
    let error = log.partition_readers(&[start("short", 0)]).unwrap()[0].read(1, PATIENCE).unwrap_err();
    assert!(matches!(error, Error::OutOfRange { offset: 0, start: 3, end: 4, .. }), "{error}");
    assert_eq!(log.offset_at("short", 0, 0).unwrap(), Some(3));
    assert_eq!(log.offset_at("kept", 0, 0).unwrap(), Some(0));
}

#[test]
fn a_stuck_member_loses_its_partitions_and_cannot_commit_them() {
    let fixture = Sqlite::fresh();
    let t = topic(&fixture, "t", 2);
    let options = Options { member_deadline: Duration::from_millis(500), ..Options::default() };
    let mut stuck = fixture.open_with(options).unwrap().group("g", &[&t]).unwrap();
    assert_eq!(stuck.assignment().unwrap().len(), 2);
    // As if its process had stood still: the heartbeat is long ago.
    let groups = Connection::open(fixture.folder.path().join("log.db-groups")).unwrap();
    groups.busy_timeout(PATIENCE).unwrap();
    groups.execute("UPDATE member SET heartbeat = 0, deadline_ms = 1", []).unwrap();
    let mut other = fixture.open_with(options).unwrap().group("g", &[&t]).unwrap();
    until("the other has taken over", || {
        groups.execute("UPDATE member SET heartbeat = 0 WHERE deadline_ms = 1", []).unwrap();
        other.poll(Duration::from_millis(50)).unwrap();
        (other.assignment().unwrap().len() == 2).then_some(())
    });
    let offset = Committed { topic: t.clone(), partition: 1, offset: 1 };
    let error = stuck.commit(std::slice::from_ref(&offset)).unwrap_err();
    assert!(matches!(error, Error::NotAssigned { partition: 1, .. }), "{error}");
    // It becomes a member again by polling.
    until("both share the partitions", || {
        stuck.poll(Duration::from_millis(20)).unwrap();
        other.poll(Duration::from_millis(20)).unwrap();
        let shares = (stuck.assignment().unwrap().len(), other.assignment().unwrap().len());
        (shares == (1, 1)).then_some(())
    });
}

#[test]
fn a_damaged_batch_is_named_and_not_stepped_over() {
    let fixture = Sqlite::fresh();
    let t = topic(&fixture, "t", 2);
    let log = fixture.open();
    let mut writer = log.writer("w").unwrap();
    for value in ["a", "b", "c"] {
        append(&mut *writer, &t, 1, &[value]);
    }
    fixture
        .database()
        .execute("UPDATE payload SET bytes = CAST(substr(bytes, 1, length(bytes) - 1) || 'x' AS BLOB) WHERE id = 2", [])
        .unwrap();
    let mut reader = log.partition_readers(&[start(&t, 1)]).unwrap().remove(0);
    for _ in 0..2 {
        let error = reader.read(1 << 20, PATIENCE).unwrap_err();
        assert!(
            matches!(&error, Error::Corrupt { topic, partition: 1, offset: 1, .. } if *topic == t),
            "{error}"
        );
    }
    reader.seek(2).unwrap();
    assert_eq!(reader.read(1, PATIENCE).unwrap()[0].value, "c");
}

#[test]
fn a_missing_batch_is_named_and_not_stepped_over() {
    for sql in ["DELETE FROM batch WHERE base = 1", "DELETE FROM payload WHERE id = 2"] {
        let fixture = Sqlite::fresh();
        let t = topic(&fixture, "t", 1);
        let log = fixture.open();
        let mut writer = log.writer("w").unwrap();
        for value in ["a", "b", "c"] {
            append(&mut *writer, &t, 0, &[value]);
        }
        fixture.database().execute(sql, []).unwrap();
        let mut reader = log.reader(&[start(&t, 0)]).unwrap();
        let error = reader.poll(PATIENCE).unwrap_err();
        assert!(matches!(error, Error::Corrupt { partition: 0, offset: 1, .. }), "{error}");
    }
}

#[test]
fn a_database_cut_short_is_an_error_and_never_a_panic() {
    let fixture = Sqlite::fresh();
    let t = topic(&fixture, "t", 1);
    let value = "x".repeat(500_000);
    append(&mut *fixture.open().writer("w").unwrap(), &t, 0, &[value.as_str(); 4]);
    let whole = std::fs::read(fixture.path()).unwrap();
    for parts in 1..16 {
        let folder = Sqlite::fresh();
        std::fs::write(folder.path(), &whole[..whole.len() * parts / 16]).unwrap();
        let log = match SqliteLog::open(folder.path().to_str().unwrap()) {
            Ok(log) => log,
            Err(error) => {
                assert_eq!(error.class(), Class::Fatal, "{error}");
                continue;
            }
        };
        let read =
            log.partition_readers(&[start(&t, 0)]).and_then(|mut r| r[0].read(10 << 20, Duration::ZERO));
        let error = read.expect_err("a part is missing");
        assert_eq!(error.class(), Class::Fatal, "{error}");
    }
}

#[test]
fn a_write_ahead_log_cut_short_loses_whole_transactions_from_its_end_only() {
    let fixture = Sqlite::fresh();
    let (a, b) = (topic(&fixture, "a", 1), topic(&fixture, "b", 2));
    let mut child = Child::spawn("commits", &fixture, &["w", &a, &b]);
    child.expect("commits");
    let log = fixture.open();
    until("some are committed", || (log.bounds(&a, 0).unwrap().end >= 20).then_some(()));
    child.kill();
    let all = log.bounds(&a, 0).unwrap().end as usize;
    let beside = |suffix| fixture.folder.path().join(format!("log.db{suffix}"));
    let (database, wal) = (std::fs::read(beside("")).unwrap(), std::fs::read(beside("-wal")).unwrap());
    let mut fewer = 0;
    for parts in 0..10 {
        let torn = Sqlite::fresh();
        std::fs::write(torn.path(), &database).unwrap();
        let kept = wal.len() * parts / 10 + 7;
        std::fs::write(torn.folder.path().join("log.db-wal"), &wal[..kept.min(wal.len())]).unwrap();
        let log = match SqliteLog::open(torn.path().to_str().unwrap()) {
            Ok(log) if log.topic(&b).unwrap().is_some() => log,
            // Cut off before the topics were created.
            Ok(_) => continue,
            Err(error) => panic!("{error}"),
        };
        let (in_a, in_b) = (conformance::crash::numbers(&log, &a), conformance::crash::numbers(&log, &b));
        assert_eq!(in_a, in_b);
        assert_eq!(in_a, (0..in_a.len()).map(|n| n.to_string()).collect::<Vec<_>>());
        assert!(in_a.len() <= all);
        fewer += usize::from(in_a.len() < all);
        append(&mut *log.writer("w").unwrap(), &a, 0, &["next"]);
    }
    assert!(fewer > 0, "the cut has never hit");
}

#[test]
fn a_full_disk_can_be_tried_again_and_nothing_partial_is_seen() {
    let fixture = Sqlite::fresh();
    let t = topic(&fixture, "t", 1);
    // Files may not pass 64 MiB (in blocks of 512 or 1024 bytes, as the shell has it).
    let script = "trap '' XFSZ; ulimit -f 65536; exec \"$0\" \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", script]).arg(std::env::current_exe().unwrap());
    let mut child = Child::start(&mut command, "fill", &fixture, &["w", &t]);
    child.expect("is there a quota, or a limit to the size of a file?");
    child.finish();
    assert_values(&*fixture.open(), &t, 0, &["before", "after"]);
}

#[test]
fn many_processes_read_while_one_writes() {
    let fixture = Sqlite::fresh();
    let t = topic(&fixture, "t", 1);
    let mut children: Vec<_> = (0..4).map(|_| Child::spawn("read", &fixture, &[&t, "300"])).collect();
    children.iter_mut().for_each(|child| child.expect("reads"));
    let log = fixture.open();
    let mut writer = log.writer("w").unwrap();
    for n in 0..300 {
        append(&mut *writer, &t, 0, &[&n.to_string()]);
    }
    children.into_iter().for_each(Child::finish);
}

#[test]
fn many_processes_create_one_log() {
    let fixture = Sqlite::fresh();
    let mut children: Vec<_> = (0..4).map(|_| Child::spawn("leader", &fixture, &["role"])).collect();
    until("one leads", || fixture.path().exists().then_some(()));
    for _ in 0..4 {
        // Each in turn, whichever it is: the kill of one makes another lead.
        let mut child = children.remove(0);
        child.kill();
    }
    let log = fixture.open();
    let t = topic(&fixture, "t", 1);
    append(&mut *log.writer("w").unwrap(), &t, 0, &["x"]);
    assert_values(&*log, &t, 0, &["x"]);
}

#[test]
fn what_is_no_log_of_this_version_is_refused_and_left_alone() {
    let refused = |bytes: &[u8], because: &str| {
        let fixture = Sqlite::fresh();
        std::fs::write(fixture.path(), bytes).unwrap();
        let error = fixture.open_with(Options::default()).err().expect(because);
        assert_eq!(error.class(), Class::Fatal);
        assert!(error.to_string().contains(because), "{error}");
        assert!(error.to_string().contains(fixture.path().to_str().unwrap()), "{error}");
        assert_eq!(std::fs::read(fixture.path()).unwrap(), bytes);
    };
    refused(b"short", "not an SQLite database");
    refused(&b"a text file, and a longer one. ".repeat(1000), "not an SQLite database");

    let database = |sql: &str| {
        let fixture = Sqlite::fresh();
        fixture.database().execute_batch(sql).unwrap();
        std::fs::read(fixture.path()).unwrap()
    };
    refused(&database("CREATE TABLE t (x)"), "another program's database");
    refused(&database("PRAGMA application_id = 7"), "another program's database");

    let newer = Sqlite::fresh();
    newer.open_with(Options::default()).unwrap();
    newer.database().execute_batch("PRAGMA user_version = 2; PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    let error = newer.open_with(Options::default()).err().unwrap();
    assert!(error.to_string().contains("version 2, this program knows version 1"), "{error}");
}

#[test]
fn a_path_that_cannot_be_is_one_clear_error() {
    let fixture = Sqlite::fresh();
    let url = format!("sqlite:{}/none/log.db", fixture.folder.path().display());
    let error = sluice_log::open(&url).err().unwrap();
    assert!(error.to_string().contains("none/log.db: the file cannot be opened or created"), "{error}");
    assert!(matches!(sluice_log::open("sqlite:").err().unwrap(), Error::Url { .. }));
}
