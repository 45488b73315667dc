//! Handlers as processes, and the commands for their groups.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use sluice_consumer::{
    ChainLog, Consumer, Handler, HandlerError, HandlerSettings, KeyOrder, Shutdown, handler,
};
use sluice_consumer_testkit::{TestLog, chain};
use sluice_log::Committed;
use sluice_schemas::{Action, TransactionEvent};
use sluice_test_support::{
    Dir, FEE, Finished, Flavour, Lock, LogKind, Node, Pipeline, Sluice, Wallet, parts, sluice, sluice_binary,
    soon,
};

/// The example `whales`, which prints a line per payment; on a log, as a member of a group.
fn whales(dir: &Dir, log: &[String], group: &str) -> Sluice {
    let mut arguments = log.to_vec();
    arguments.extend(["--group", group, "--satoshis", "0"].map(str::to_owned));
    let example = sluice_binary().with_file_name("examples").join("whales");
    Sluice::spawn(&example, dir, "", &arguments, &[] as &[(&str, &str)])
}

/// How often each transaction was printed.
fn printed<'a>(members: impl IntoIterator<Item = &'a Sluice>) -> BTreeMap<String, usize> {
    let mut times = BTreeMap::new();
    for member in members {
        for line in member.output().lines() {
            if let Some((_, rest)) = line.split_once(" satoshis by ") {
                *times.entry(rest[..64].to_owned()).or_default() += 1;
            }
        }
    }
    times
}

#[test]
fn a_killed_members_partitions_go_to_the_others_with_nothing_lost_on_sqlite() {
    kill_a_member(Flavour::Bsv, LogKind::Sqlite);
}

#[test]
fn a_killed_members_partitions_go_to_the_others_with_nothing_lost_on_kafka() {
    kill_a_member(Flavour::Btc, LogKind::Kafka);
}

fn kill_a_member(flavour: Flavour, kind: LogKind) {
    if !parts::have_node(flavour) || !kind.there() {
        return;
    }
    let (node, mut wallet) = Node::start_funded(flavour, 400);
    let pipeline = Pipeline::of(&node, kind);
    let producer = pipeline.up();
    // The node's own first blocks are there when a consumer looks for topics.
    soon("the log", || if pipeline.sluice(&["status"]).code == Some(0) { Ok(()) } else { Err(()) });
    let group = format!("{}-whales", pipeline.prefix);
    let start = || whales(&pipeline.dir, &pipeline.log_options(), &group);
    let mut paid = BTreeSet::new();
    let mut pay = |count: usize| {
        for _ in 0..count {
            let txid = node.send(&Wallet::pay(&wallet.take(), Lock::Anyone, FEE));
            paid.insert(txid.to_string());
        }
        node.mine(1);
        paid.len()
    };
    let [first, second] = [start(), start()];
    let mut sent = 0;
    soon("both have some of the partitions", || {
        let shares = [printed([&first]).len(), printed([&second]).len()];
        // Slowly: joining must not take longer than there are coins.
        if shares.iter().sum::<usize>() >= sent {
            std::thread::sleep(Duration::from_millis(500));
            sent = pay(2);
        }
        if shares.iter().all(|share| *share > 0) { Ok(()) } else { Err(shares) }
    });
    // In the middle of its work.
    pay(100);
    first.signal("-KILL");
    pay(50);
    let expected = paid.len();
    let all = || {
        let there = printed([&first, &second]);
        paid.iter().filter(|txid| there.contains_key(*txid)).count()
    };
    soon("every payment is printed by one of them", || if all() == expected { Ok(()) } else { Err(all()) });
    assert!(second.stop().success());
    assert!(producer.stop().success());
}

/// A log of two partitions, with blocks of transactions that nobody asked for.
fn crowds(counts: &[u64]) -> TestLog {
    counts.iter().fold(chain().partitions(2), |script, count| script.crowd(*count)).build()
}

fn options(log: &TestLog) -> Vec<String> {
    vec!["--log".to_owned(), log.url()]
}

fn run(log: &TestLog, arguments: &[&str]) -> Finished {
    let mut all: Vec<_> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    all.extend(options(log));
    sluice(&all)
}

/// The line with which a command refuses.
#[track_caller]
fn refusal(log: &TestLog, arguments: &[&str]) -> String {
    let finished = run(log, arguments);
    assert_ne!(finished.code, Some(0), "{}", finished.stdout);
    assert_eq!(finished.stderr.lines().count(), 1, "{}", finished.stderr);
    finished.stderr
}

fn json_lines(finished: Finished) -> Vec<Value> {
    finished.succeeded().stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Waits until so many lines have been printed, and not more.
fn expect_printed(member: &Sluice, lines: usize) {
    soon("lines", || {
        let there: usize = printed([member]).values().sum();
        if there == lines { Ok(()) } else { Err(there) }
    });
}

#[test]
fn a_stopped_group_is_moved_and_a_running_one_is_not() {
    let dir = Dir::new("replay");
    let log = crowds(&[10, 20, 30]);
    let member = whales(&dir, &options(&log), "whales");
    expect_printed(&member, 60);
    let line = refusal(&log, &["replay", "whales", "--from", "genesis"]);
    assert!(line.contains("group whales has 1 running members; stop them first"), "{line}");
    assert!(member.stop().success());
    for (from, lines) in [("2", 50), ("genesis", 60), ("3", 30)] {
        run(&log, &["replay", "whales", "--from", from]).succeeded();
        let member = whales(&dir, &options(&log), "whales");
        expect_printed(&member, lines);
        assert!(member.stop().success());
    }
}

#[test]
fn a_replay_that_cannot_be_is_refused_with_one_line() {
    let log = crowds(&[1]);
    let commit = |group: &str, topic: &str| {
        let place = Committed { topic: topic.to_owned(), partition: 0, offset: 1 };
        log.chain.log.reset_group(group, &[place]).unwrap();
    };
    assert!(refusal(&log, &["replay", "nobody", "--from", "0"]).contains("no consumer has come to this log"));
    commit("balances", &log.chain.topics.blocks);
    commit("whales", &log.chain.topics.transactions);
    let cases: [(&[&str], &str); 8] = [
        (&["nobody", "--from", "0"], "there is no group nobody: there are balances, whales"),
        (
            &["balances", "--from", "0"],
            "group balances is a projection's, and its position is in its own store",
        ),
        (&["balances", "--range", "0..1"], "group balances is a projection's"),
        (&["whales", "--from", "9"], "the log has come to height 1 only"),
        (&["whales", "--range", "0..9"], "the log has come to height 1 only"),
        (&["whales", "--range", "9..0"], "takes two heights, as in 100..200, the lower one first"),
        (&["whales"], "--from"),
        (&["whales", "--from", "0", "--range", "0..1"], "cannot be used with"),
    ];
    for (arguments, words) in cases {
        let line = refusal(&log, &[&["replay"], arguments].concat());
        assert!(line.contains(words), "{arguments:?}: {line}");
    }
    assert!(refusal(&log, &["dlq", "list", "nobody"]).contains("there is no group nobody"));
    assert!(refusal(&log, &["dlq", "retry", "whales", "all"]).contains("group whales has no dead letters"));
    assert!(refusal(&log, &["dlq", "drop", "whales", "7"]).contains("takes a txid, a letter such as"));
}

#[test]
fn a_range_is_sent_again_to_a_running_group() {
    let dir = Dir::new("range");
    let log = crowds(&[10, 20, 30]);
    let member = whales(&dir, &options(&log), "whales");
    expect_printed(&member, 60);
    let said = json_lines(run(&log, &["replay", "whales", "--range", "1..2", "--wait", "--json"]));
    assert_eq!(
        (&said[0]["blocks"], &said[0]["done"], &said[0]["members"]),
        (&2.into(), &true.into(), &1.into())
    );
    expect_printed(&member, 60 + 30);
    assert!(member.stop().success());
    // Of a stopped group it waits, and can be taken back.
    let said = run(&log, &["replay", "whales", "--range", "1..1"]).succeeded().stdout;
    assert!(said.contains("blocks 1 to 1 will be, once a member runs, sent again to group whales"), "{said}");
    let said = json_lines(run(&log, &["replay", "whales", "--cancel", "--json"]));
    assert_eq!(said[0]["cancelled"].as_array().unwrap().len(), 1);
    let said = run(&log, &["replay", "whales", "--cancel"]).succeeded().stdout;
    assert!(said.contains("nothing is being sent again to group whales"), "{said}");
}

/// Refuses what is connected, until it is mended.
#[derive(Clone)]
struct Picky(Arc<AtomicBool>);

impl Handler for Picky {
    async fn handle(&self, tx: TransactionEvent) -> Result<(), HandlerError> {
        let is_mended = self.0.load(Ordering::SeqCst);
        match tx.action {
            Action::Connected if tx.height == 1 && !tx.transaction.coinbase && !is_mended => {
                Err(HandlerError::reject("unknown\nscript"))
            }
            _ => Ok(()),
        }
    }
}

struct Member(Shutdown, JoinHandle<Result<(), handler::Error>>);

impl Member {
    fn start(log: &TestLog, picky: &Picky) -> Self {
        let own = sluice_log::open(&log.url()).unwrap();
        let chain = ChainLog { log: own, ..log.chain.clone() };
        let (stop, picky) = (Shutdown::default(), picky.clone());
        let settings = HandlerSettings { order: KeyOrder::OrderedByKey, ..HandlerSettings::default() };
        let thread = std::thread::spawn({
            let stop = stop.clone();
            move || Consumer::new(chain, "picky").handle(picky, &settings, &stop)
        });
        Self(stop, thread)
    }

    fn stop(self) {
        self.0.request();
        self.1.join().unwrap().unwrap();
    }
}

#[test]
fn dead_letters_are_listed_shown_redriven_and_dropped() {
    // A crowd of two, taken back.
    let log = chain().partitions(2).crowd(2).reorg(1).blocks(1).build();
    let mended = Arc::new(AtomicBool::new(false));
    let picky = Picky(mended.clone());
    let member = Member::start(&log, &picky);
    let list = || json_lines(run(&log, &["dlq", "list", "picky", "--json"]));
    let letters = soon("the letters", || {
        let group = run(&log, &["dlq", "list", "picky", "--json"]);
        let letters = if group.code == Some(0) { json_lines(group) } else { Vec::new() };
        if letters.len() == 4 { Ok(letters) } else { Err(letters) }
    });
    let of = |state: &str| letters.iter().filter(|letter| letter["state"] == state).collect::<Vec<_>>();
    let (rejected, parked) = (of("rejected"), of("parked"));
    assert_eq!((rejected.len(), parked.len()), (2, 2), "{letters:?}");
    assert_eq!(rejected[0]["error"], "unknown\nscript");
    let text = run(&log, &["dlq", "list", "picky"]).succeeded().stdout;
    assert!(text.contains("ATTEMPTS") && text.contains("unknown script"), "{text}");

    let txid = rejected[0]["txid"].as_str().unwrap();
    let shown = json_lines(run(&log, &["dlq", "show", "picky", txid]));
    assert_eq!(shown.len(), 2, "the refused one, and the one behind it");
    assert_eq!(shown[0]["event"]["action"], "CONNECTED");
    assert_eq!(shown[1]["event"]["action"], "DISCONNECTED");
    assert_eq!(shown[0]["event"]["transaction"]["txid"], txid);

    let letter = rejected[1]["letter"].as_str().unwrap();
    assert!(refusal(&log, &["dlq", "retry", "picky", letter]).contains("name the txid"));
    assert!(refusal(&log, &["dlq", "drop", "picky", &"00".repeat(32)]).contains("has no dead letter 0000"));

    // One is dropped, so that what is behind it goes on; the other one is mended and handled again.
    run(&log, &["dlq", "drop", "picky", letter]).succeeded();
    soon("the other transaction is resolved", || if list().len() == 2 { Ok(()) } else { Err(list()) });
    mended.store(true, Ordering::SeqCst);
    let said = json_lines(run(&log, &["dlq", "retry", "picky", txid, "--json"]));
    assert_eq!(
        (&said[0]["letters"], &said[0]["transactions"], &said[0]["members"]),
        (&2.into(), &1.into(), &1.into())
    );
    soon("all are resolved", || if list().is_empty() { Ok(()) } else { Err(list()) });
    member.stop();
    let text = run(&log, &["dlq", "list", "picky"]).succeeded().stdout;
    assert_eq!(text.trim(), "group picky has no dead letters");
}
