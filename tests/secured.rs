//! A Kafka behind TLS and a login: every command gets in, by a password from a file or the environment, and shows it to
//! nobody.
#![allow(clippy::unwrap_used)]

use sluice_test_support::{Dir, Kafka, Pipeline, parts, soon};

const PASSWORD: &str = "alice-secret";
const BLOCKS: &str = "12";

#[test]
fn every_command_gets_into_a_secured_kafka_and_shows_no_password() {
    if !parts::have("SLUICE_TEST_KAFKA_RUN") {
        return;
    }
    let kafka = Kafka::start_secured();
    let dir = Dir::new("secured");
    let (right, wrong) = (dir.join("password"), dir.join("wrong"));
    std::fs::write(&right, format!("{PASSWORD}\n")).unwrap();
    std::fs::write(&wrong, "malice-secret\n").unwrap();
    let simulator = ["--sim-block-interval", "100ms", "--sim-tx-rate", "50", "--sim-blocks", BLOCKS];
    let mut pipeline = Pipeline::new(dir, kafka.secured_url(), &simulator);
    let by_file = format!("{}&password-file={}", pipeline.log, right.display());

    // By the environment.
    pipeline.environment = vec![("SLUICE_KAFKA_PASSWORD".into(), PASSWORD.into())];
    let producer = pipeline.up();
    let url = std::mem::replace(&mut pipeline.log, by_file);
    let mut view = pipeline.view();
    let all = |view: &mut sluice_test_support::View| {
        let wanted: usize = BLOCKS.parse().unwrap();
        soon("all blocks", || match view.chain().len() {
            blocks if blocks == wanted + 1 => Ok(()),
            blocks => Err(blocks),
        });
    };
    all(&mut view);
    let (status, said) = producer.stopped();
    assert!(status.success(), "{said}");
    assert!(!said.contains(PASSWORD), "a secret was shown: {said}");

    // By a file.
    pipeline.environment.clear();
    let producer = pipeline.up();
    let lines = |arguments: &[&str]| {
        let finished = pipeline.sluice(arguments).succeeded();
        assert!(!finished.stdout.contains(PASSWORD) && !finished.stderr.contains(PASSWORD), "{finished:?}");
        finished.stdout.lines().count()
    };
    let blocks = lines(&["tail", "blocks", "--json", "--from", "genesis", "--no-follow"]);
    assert_eq!(blocks, view.chain_events.len());
    lines(&["verify"]);
    lines(&["status"]);
    lines(&["topics"]);
    assert!(producer.stop().success());

    // Who has no password, or another, is told so in one line.
    pipeline.log = format!("{url}&password-file={}", wrong.display());
    for arguments in [&["verify"][..], &["tail", "blocks", "--no-follow"]] {
        let refused = pipeline.sluice(arguments);
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.stderr.contains("uthentication"), "{refused:?}");
        assert!(!refused.stderr.contains("malice"), "a secret was shown: {refused:?}");
    }
    pipeline.log = url;
    let refused = pipeline.sluice(&["verify"]);
    assert_eq!(refused.code, Some(64), "{refused:?}");
    assert!(refused.stderr.starts_with("error: --log: user alice needs a password"), "{refused:?}");
}
