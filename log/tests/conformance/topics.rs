//! What creating topics promises.

use sluice_log::{Error, TopicOutcome};

use super::*;

fn spec(name: &str, partitions: i32, retention: Retention) -> TopicSpec {
    TopicSpec { name: name.to_owned(), partitions, retention }
}

pub(crate) fn topics_are_created_once(fixture: &impl Fixture) {
    let (a, b) = (fixture.name("a"), fixture.name("b"));
    let specs = [spec(&a, 3, Retention::Forever), spec(&b, 1, Retention::Days(7))];
    let log = fixture.open();
    assert_eq!(log.ensure_topics(&specs).unwrap(), [TopicOutcome::Created, TopicOutcome::Created]);
    let other = fixture.open();
    assert_eq!(other.ensure_topics(&specs).unwrap(), [TopicOutcome::Present, TopicOutcome::Present]);
    let info = other.topic(&a).unwrap().unwrap();
    assert_eq!((info.name, info.partitions, info.retention_ms), (a, 3, -1));
    assert_eq!(other.topic(&b).unwrap().unwrap().retention_ms, 7 * 86_400_000);
}

pub(crate) fn a_topic_set_otherwise_fails_closed(fixture: &impl Fixture) {
    let (a, b) = (fixture.name("a"), fixture.name("b"));
    let log = fixture.open();
    log.ensure_topics(&[spec(&a, 3, Retention::Forever)]).unwrap();
    for wrong in [spec(&a, 4, Retention::Forever), spec(&a, 3, Retention::Days(1))] {
        let error = log.ensure_topics(&[spec(&b, 1, Retention::Forever), wrong]).unwrap_err();
        assert!(matches!(&error, Error::TopicMismatch { topic, .. } if *topic == a), "{error}");
        assert_eq!(log.topic(&b).unwrap(), None, "created beside a mismatch");
    }
    assert_eq!(log.topic(&a).unwrap().unwrap().partitions, 3);
}

pub(crate) fn an_unknown_topic_is_none(fixture: &impl Fixture) {
    assert_eq!(fixture.open().topic(&fixture.name("none")).unwrap(), None);
}
