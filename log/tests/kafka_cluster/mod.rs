//! Kafka clusters for tests.

#![allow(dead_code)]

use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Tells the names of one test run from those of another.
pub(crate) fn run_id() -> &'static str {
    static ID: OnceLock<String> = OnceLock::new();
    ID.get_or_init(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        format!("t{}-{}", now.as_millis(), std::process::id())
    })
}

/// Waits for an answer to an administrator.
pub(crate) fn answer<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return value;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Values that no compression makes small.
pub(crate) fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    (0..bytes)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect()
}

/// Says loudly that a test is not run; in CI that is a failure.
fn skipped(why: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "nothing may be skipped in CI, but {why}");
    eprintln!("SKIPPED: {why}");
}

/// The brokers that most tests share, or `None` after having said so loudly.
pub(crate) fn shared_brokers() -> Option<String> {
    static SHARED: OnceLock<Option<(String, Option<Cluster>)>> = OnceLock::new();
    let shared = SHARED.get_or_init(|| match std::env::var("SLUICE_TEST_KAFKA") {
        Ok(brokers) => Some((brokers, None)),
        Err(_) => {
            let cluster = Cluster::start(&[])?;
            Some((cluster.env("KAFKA_BOOTSTRAP"), Some(cluster)))
        }
    });
    if shared.is_none() {
        skipped("there is no Kafka: set SLUICE_TEST_KAFKA, or let tests/parts/run-kafka.sh start one");
    }
    shared.as_ref().map(|(brokers, _)| brokers.clone())
}

/// A cluster of a test's own.
pub(crate) struct Cluster {
    script: PathBuf,
    folder: PathBuf,
    /// Ends the cluster when its standard input does: at drop, and also when this process is killed.
    guard: Child,
}

impl Cluster {
    /// Starts a cluster with settings of the script, or gives `None`.
    pub(crate) fn start(settings: &[(&str, &str)]) -> Option<Self> {
        let given = std::env::var_os("SLUICE_TEST_KAFKA_RUN").map(PathBuf::from);
        let own = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/parts/run-kafka.sh"));
        let script = given.unwrap_or_else(own);
        if !script.exists() {
            return None;
        }
        let folder = tempfile::Builder::new().prefix("sluice-kafka-").tempdir().unwrap().keep();
        let guard = Command::new("sh")
            .arg("-c")
            .arg(
                r#"cat >/dev/null; for node in 1 2 3; do "$0" kill "$1" "$node"; done >/dev/null 2>&1; rm -rf "$1""#,
            )
            .args([&script, &folder])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let cluster = Self { script, folder, guard };
        let mut command = cluster.command("start", &[]);
        let started = command.envs(settings.iter().copied()).stdout(Stdio::null()).status().unwrap();
        started.success().then_some(cluster)
    }

    /// Like `start`, and says loudly where there is none.
    pub(crate) fn start_or_skip(settings: &[(&str, &str)]) -> Option<Self> {
        let cluster = Self::start(settings);
        if cluster.is_none() {
            skipped("no Kafka could be started by tests/parts/run-kafka.sh");
        }
        cluster
    }

    fn command(&self, what: &str, args: &[&str]) -> Command {
        let mut command = Command::new(&self.script);
        command.arg(what).arg(&self.folder).args(args).stdin(Stdio::null());
        command
    }

    /// Runs a command of the script: `kill`, `up`, `tool` ….
    #[track_caller]
    pub(crate) fn run(&self, what: &str, args: &[&str]) {
        let output = self.command(what, args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{what} {args:?}: {said}{}",
            String::from_utf8_lossy(&output.stdout)
        );
    }

    /// Stops a node where it is, and lets it go on: `-STOP`, `-CONT`.
    #[track_caller]
    pub(crate) fn signal(&self, node: &str, signal: &str) {
        let output = self.command("pid", &[node]).output().unwrap();
        let pid = String::from_utf8(output.stdout).unwrap();
        let sent = Command::new("kill").args([signal, pid.trim()]).status().unwrap();
        assert!(sent.success(), "{signal} to node {node}");
    }

    /// A value that the script's `env` prints.
    #[track_caller]
    pub(crate) fn env(&self, name: &str) -> String {
        let output = self.command("env", &[]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        value.unwrap_or_else(|| panic!("no {name} in {text}")).to_owned()
    }
}

/// Lines of a broker's log that are shown where a test fails.
const SHOWN_LINES: usize = 60;

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for node in 1..=3 {
                let log = self.folder.join(format!("node{node}/server.log"));
                let Ok(log) = std::fs::read_to_string(&log) else { continue };
                let lines: Vec<_> = log.lines().collect();
                eprintln!("--- broker {node} said last:");
                lines[lines.len().saturating_sub(SHOWN_LINES)..].iter().for_each(|line| eprintln!("{line}"));
            }
        }
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}
