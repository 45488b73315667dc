//! The commands that read a log, run as a user runs them, on logs built by hand.
#![allow(clippy::unwrap_used)] // clippy does not see helper functions as tests

#[path = "../log/tests/chain_log/mod.rs"]
mod chain_log;

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use chain_log::TestLog;
use serde_json::Value;
use sluice_log::Committed;
use sluice_schemas::{Action, EventKind};

/// `sluice` without any settings of the machine it runs on.
fn sluice(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SLUICE_")) {
        command.env_remove(name);
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

/// `sluice` on a log.
fn on(log: &TestLog, arguments: &[&str]) -> Command {
    let mut command = sluice(arguments);
    command.args(["--log", log.chain.log.url()]);
    command
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// What a command that must succeed printed.
#[track_caller]
fn succeeds(mut command: Command) -> String {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    stdout(&output)
}

#[track_caller]
fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[track_caller]
fn json(command: Command) -> Value {
    let mut lines = json_lines(&succeeds(command));
    assert_eq!(lines.len(), 1);
    lines.pop().unwrap()
}

#[test]
fn a_wrong_command_line_is_refused_with_one_line_that_names_the_option_and_what_it_takes() {
    let cases: [(&[&str], &[&str]); 10] = [
        (&["tail", "blocks", "--from", "yesterday"], &["--from", "takes genesis, tip, a height, or a time"]),
        (&["tail", "bloks"], &["bloks", "blocks, transactions, mempool, status"]),
        (&["tail"], &["<TOPIC>"]),
        (&["verify", "--log", "postgres://db"], &["--log <URL>", "sqlite:PATH or kafka://HOST:PORT"]),
        (&["verify", "--network", "dogecoin"], &["--network <NETWORK>", "btc-mainnet"]),
        (&["verify", "--from", "-5"], &["-5"]),
        (&["verify", "--node-cookie", "x"], &["--node <URL>"]),
        (&["topics", "--partitions", "0"], &["--partitions <N>", "1..=1024"]),
        (&["status", "--stuck-after", "long"], &["--stuck-after <DURATION>"]),
        (&["schemas", "publish"], &["--schema-registry", "takes http://HOST"]),
    ];
    for (arguments, words) in cases {
        let output = sluice(arguments).output().unwrap();
        let line = stderr(&output);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {line}");
        assert_eq!(line.lines().count(), 1, "{arguments:?}: {line}");
        for word in words {
            assert!(line.contains(word), "{arguments:?}: {line}");
        }
    }
}

#[test]
fn help_names_the_environment_variable_of_every_option() {
    for arguments in [&["verify"][..], &["tail"], &["status"], &["topics"], &["schemas", "publish"], &["up"]]
    {
        let help = succeeds(sluice(&[arguments, &["--help"]].concat()));
        // An option's entry runs to the next one; `--data-dir` in the middle of a sentence is none.
        let entries: Vec<_> = help
            .split("\n      --")
            .skip(1)
            .filter(|entry| !entry.starts_with("node-password-file."))
            .collect();
        assert!(entries.len() > 6, "{help}");
        for entry in entries {
            let name = entry.lines().next().unwrap_or_default().split(' ').next().unwrap_or_default();
            let variable = format!("[env: SLUICE_{}", name.to_uppercase().replace('-', "_"));
            assert!(entry.contains(&variable), "--{name} of {arguments:?} has no {variable}");
        }
    }
}

#[test]
fn a_log_that_is_not_there_is_an_error_and_is_not_made() {
    let folder = tempfile::tempdir().unwrap();
    let output = sluice(&["status", "--data-dir", folder.path().to_str().unwrap()]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("there is no log at"), "{}", stderr(&output));
    assert_eq!(folder.path().read_dir().unwrap().count(), 0);
}

#[test]
fn verify_sums_a_sound_log_up() {
    let mut log = TestLog::sound();
    log.mempool_epoch(7, 12);
    let text = succeeds(on(&log, &["verify"]));
    assert!(text.starts_with("btc.regtest on sqlite:"), "{text}");
    for words in
        ["is sound: I1 to I6 hold", "11 connected, 3 disconnected in 2 reorgs", "12 transactions after 15"]
    {
        assert!(text.contains(words), "{text}");
    }
    let summary = json(on(&log, &["verify", "--json"]));
    assert_eq!(summary["sound"], true);
    assert_eq!(summary["events"], log.events.len());
    assert_eq!(summary["tip"]["hash"], log.blocks.last().unwrap().event.hash.to_string());
    assert_eq!(summary["mempool"]["transactions"], 12);
    let part = json(on(&log, &["verify", "--json", "--shallow", "--from", "4"]));
    assert_eq!(part["first"]["height"], 4);
    assert_eq!(part["tip"], summary["tip"]);
}

#[test]
fn verify_ends_with_1_at_the_first_violation_and_names_its_place() {
    let mut log = TestLog::sound();
    let offset = log.events.len();
    let block = log.block(1, None);
    log.append(block, Action::Connected, |_| {}, |event| event.chain_work[31] ^= 1);
    let output = on(&log, &["verify", "--json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let line = stderr(&output);
    for word in ["btc.regtest.blocks/0", &format!("offset {offset}"), "I5", "chain_work"] {
        assert!(line.contains(word), "{line}");
    }
    let violation = &json_lines(&stdout(&output))[0];
    assert_eq!(violation["sound"], false);
    assert_eq!((&violation["invariant"], &violation["offset"]), (&"I5".into(), &offset.into()));
}

#[test]
fn tail_prints_the_log_in_order_from_any_place() {
    let mut log = TestLog::sound();
    log.mempool_epoch(1, 4);
    let tail =
        |arguments: &[&str]| json_lines(&succeeds(on(&log, &[&["tail", "--no-follow"], arguments].concat())));
    let blocks = tail(&["blocks", "--from", "genesis"]);
    let sequences: Vec<_> = blocks.iter().map(|event| event["sequence"].as_u64().unwrap()).collect();
    assert_eq!(sequences, (0..log.events.len() as u64).collect::<Vec<_>>());
    assert_eq!(blocks[5]["action"], "DISCONNECTED");
    assert_eq!(blocks[3]["hash"], log.events[3].hash.to_string());

    assert_eq!(tail(&["blocks", "--from", "genesis", "--limit", "3"]).len(), 3);
    assert_eq!(tail(&["blocks"]).len(), 0);
    assert_eq!(tail(&["blocks", "--from", "0"]).len(), log.events.len());
    assert_eq!(tail(&["blocks", "--from", "7"])[0]["height"], 7);

    let transactions = tail(&["transactions", "--from", "genesis"]);
    let published: i64 = log.events.iter().map(|event| event.tx_count).sum();
    assert_eq!(transactions.len() as i64, published);
    let late = tail(&["transactions", "--from", "7"]);
    assert!(!late.is_empty() && late.iter().all(|event| event["height"].as_i64() >= Some(6)), "{late:?}");

    assert_eq!(tail(&["mempool", "--from", "genesis"]).len(), 3 + 4);
    assert_eq!(tail(&["status", "--from", "genesis"]).len(), 0);

    let output = on(&log, &["tail", "blocks", "--no-follow", "--from", "999"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("the log has come to height 7 only"), "{}", stderr(&output));
}

/// A `tail` that follows, and what it printed first.
fn follow(log: &mut TestLog) -> (Child, BufReader<std::process::ChildStdout>) {
    // From genesis, so that it is known to have started once the first line is there.
    let mut child = on(log, &["tail", "blocks", "--from", "genesis"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    for event in &log.events {
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        assert_eq!(json_lines(&line)[0]["sequence"], event.sequence);
    }
    (child, lines)
}

#[test]
fn tail_follows_and_ends_cleanly_when_interrupted() {
    let mut log = TestLog::sound();
    let (mut child, mut lines) = follow(&mut log);
    log.connect(1);
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    assert_eq!(json_lines(&line)[0]["height"], log.events.last().unwrap().height);
    let interrupted = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupted.success());
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    assert_eq!((rest.as_str(), child.wait().unwrap().code()), ("", Some(0)));
}

#[test]
fn tail_ends_cleanly_when_nobody_reads_any_more() {
    let mut log = TestLog::sound();
    let (mut child, lines) = follow(&mut log);
    drop(lines);
    log.connect(1);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn status_tells_how_far_each_group_is_behind() {
    let log = TestLog::sound();
    let topics = &log.chain.topics;
    let commit = |group: &str, topic: &str, partition: i32, offset: i64| {
        let committed = Committed { topic: topic.to_owned(), partition, offset };
        log.chain.log.reset_group(group, &[committed]).unwrap();
    };
    // One has read all events but the last four, the other all.
    commit("late", &topics.blocks, 0, log.events.len() as i64 - 4);
    commit("current", &topics.blocks, 0, log.events.len() as i64);
    // This one has read every transaction but the last block's.
    let last = log.events.last().unwrap();
    for partition in 0..chain_log::PARTITIONS {
        let range = last.transactions.iter().find(|range| range.partition == partition);
        let end = log.chain.log.bounds(&topics.transactions, partition).unwrap().end;
        commit("spender", &topics.transactions, partition, range.map_or(end, |range| range.first_offset));
    }

    let report = json(on(&log, &["status", "--json", "--watch", "10ms"]));
    assert_eq!(report["tip"]["height"], last.height);
    assert_eq!(report["tip"]["sequence"], last.sequence);
    let group = |name: &str| {
        report["groups"].as_array().unwrap().iter().find(|group| group["group"] == name).unwrap().clone()
    };
    assert_eq!(group("late")["blocks_behind"], 4);
    assert_eq!(group("late")["height"], log.events[log.events.len() - 5].height);
    assert_eq!(group("late")["state"], "stopped");
    assert_eq!(group("current")["blocks_behind"], 0);
    assert_eq!(group("current")["height"], last.height);
    assert_eq!(group("spender")["blocks_behind"], 1);
    assert_eq!(group("spender")["height"], last.height - 1);
    let text = succeeds(on(&log, &["status"]));
    assert!(text.contains("BLOCKS BEHIND") && text.contains("late"), "{text}");
}

#[test]
fn a_running_group_that_commits_nothing_is_stuck() {
    let log = TestLog::sound();
    let mut member = log.chain.log.group("idle", &[&log.chain.topics.blocks]).unwrap();
    let mut records = Vec::new();
    while records.is_empty() {
        records = member.poll(Duration::from_secs(1)).unwrap();
    }
    let topic = log.chain.topics.blocks.clone();
    member.commit(&[Committed { topic, partition: 0, offset: 1 }]).unwrap();
    let state = |stuck_after: &str| {
        let report = json(on(&log, &["status", "--json", "--watch", "10ms", "--stuck-after", stuck_after]));
        report["groups"][0]["state"].as_str().unwrap().to_owned()
    };
    // The events of this log were seen in 1970.
    assert_eq!(state("1s"), "stuck");
    assert_eq!(state("200years"), "behind");
}

#[test]
fn topics_are_created_checked_and_never_changed() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("log.db").display());
    let topics = |arguments: &[&str]| {
        let mut command = sluice(&["topics", "--log", &url]);
        command.args(arguments);
        command
    };
    let output = topics(&[]).output().unwrap();
    assert_eq!(output.status.code(), Some(64));
    assert!(stderr(&output).contains("--network"), "{}", stderr(&output));
    let created = json_lines(&succeeds(topics(&["--network", "bsv-regtest", "--partitions", "4", "--json"])));
    assert_eq!(created.len(), EventKind::ALL.len());
    assert!(created.iter().all(|topic| topic["outcome"] == "created"));
    assert_eq!(
        (&created[1]["topic"], &created[1]["partitions"]),
        (&"bsv.regtest.transactions".into(), &4.into())
    );
    // The network is known now, and so is the number of partitions.
    let present = json_lines(&succeeds(topics(&["--json"])));
    assert!(present.iter().all(|topic| topic["outcome"] == "present"));
    let output = topics(&["--partitions", "5"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let line = stderr(&output);
    assert!(line.contains("bsv.regtest.transactions has") && line.contains("5 is needed"), "{line}");
}

#[test]
fn schemas_are_printed_and_checked() {
    for (name, record) in [
        ("chain-event", "ChainEvent"),
        ("transaction-event", "TransactionEvent"),
        ("mempool-event", "MempoolEvent"),
        ("status-event", "StatusEvent"),
    ] {
        let schema: Value = serde_json::from_str(&succeeds(sluice(&["schemas", "print", name]))).unwrap();
        assert_eq!(schema["name"], record);
    }
    assert!(succeeds(sluice(&["schemas", "check"])).contains("every released version"));
}
