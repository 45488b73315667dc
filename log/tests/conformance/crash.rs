//! What is left of a process that is killed.

use super::child::Child;
use super::*;

/// How often a writer is killed.
const KILLS: u64 = 6;

pub(crate) fn a_writer_killed_in_mid_transaction_leaves_nothing(fixture: &impl Fixture) {
    let t = topic(fixture, "t", 1);
    let id = fixture.name("w");
    let mut child = Child::spawn("open transaction", fixture, &[&id, &t]);
    child.expect("sent");
    let log = fixture.open();
    assert_values(&*log, &t, 0, &[]);
    child.kill();
    assert_values(&*log, &t, 0, &[]);
    let mut writer = log.writer(&id).unwrap();
    append(&mut *writer, &t, 0, &["next"]);
    assert_values(&*fixture.open(), &t, 0, &["next"]);
}

pub(crate) fn kills_at_any_moment_leave_whole_transactions_only(fixture: &impl Fixture) {
    let (a, b) = (topic(fixture, "a", 1), topic(fixture, "b", 2));
    let id = fixture.name("w");
    let mut before = 0;
    for kill in 0..KILLS {
        let mut child = Child::spawn("commits", fixture, &[&id, &a, &b]);
        child.expect("commits");
        // Let it come a little further each time, to a moment of its own.
        std::thread::sleep(Duration::from_millis(50 + 77 * kill));
        child.kill();
        let log = fixture.open();
        // The next writer ends what the killed one has left open.
        drop(log.writer(&id).unwrap());
        let (in_a, in_b) = (numbers(&*log, &a), numbers(&*log, &b));
        let wanted: Vec<String> = (0..in_a.len()).map(|n| n.to_string()).collect();
        assert_eq!(in_a, wanted, "nothing lost, nothing twice");
        assert_eq!(in_b, wanted, "both topics or none");
        assert!(in_a.len() >= before);
        before = in_a.len();
    }
    assert!(before > 0, "no child has ever committed");
}

/// Everything in partition 0 now.
pub(crate) fn numbers(log: &dyn Log, topic: &str) -> Vec<String> {
    let end = log.bounds(topic, 0).unwrap().end;
    let mut reader = log.partition_readers(&[start(topic, 0)]).unwrap().remove(0);
    let mut values = Vec::new();
    let mut next = 0;
    // Kafka's last offset before `end` may be a marker: then nothing more comes.
    while next < end {
        let records = reader.read(1 << 20, Duration::from_secs(2)).unwrap();
        let Some(last) = records.last() else { break };
        next = last.offset + 1;
        values.extend(texts(&records).into_iter().map(str::to_owned));
    }
    values
}
