//! A real Kafka.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::dir::Dir;
use crate::node::run;
use crate::parts;

/// A killed member of a group is replaced sooner than by default, so that tests need not wait for that.
const SHORT_SESSIONS: &str = "group-session-timeout=5s";

/// The stores that the same test runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogKind {
    /// The embedded log.
    Sqlite,
    /// The Kafka that this run shares.
    Kafka,
}

impl LogKind {
    /// The log's URL; `dir` is where an embedded one lives.
    pub fn url(self, dir: &Dir) -> String {
        match self {
            Self::Sqlite => format!("sqlite:{}", dir.join("log.db").display()),
            Self::Kafka => format!("{}?{SHORT_SESSIONS}", Kafka::shared()),
        }
    }

    /// Whether a test on it can run.
    pub fn there(self) -> bool {
        match self {
            Self::Sqlite => true,
            Self::Kafka => parts::have("SLUICE_TEST_KAFKA"),
        }
    }
}

/// A topic prefix that no other test of this run has.
pub fn unique_prefix(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{name}.{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// One broker of this test's own, to be killed.
#[derive(Debug)]
pub struct Kafka {
    dir: Dir,
    bootstrap: String,
}

impl Kafka {
    /// URL of the Kafka that this run shares.
    pub fn shared() -> String {
        format!("kafka://{}", parts::setting("SLUICE_TEST_KAFKA").expect("SLUICE_TEST_KAFKA is set"))
    }

    /// Starts one with these further settings of the broker.
    pub fn start(settings: &str) -> Self {
        Self::launch(settings, "0")
    }

    /// Starts one that has a door with TLS and a login, too: user `alice` with password `alice-secret`.
    pub fn start_secured() -> Self {
        Self::launch("", "1")
    }

    fn launch(settings: &str, secure: &str) -> Self {
        let dir = Dir::new("kafka");
        let file = dir.join("extra.properties");
        std::fs::write(&file, settings).expect("a file in the test's directory");
        let mut command = Command::new(script());
        command.arg("start").arg(dir.path()).env("EXTRA_PROPS", file);
        command.env("HEAP", "384m").env("SECURE", secure);
        let printed = run(&mut command);
        let bootstrap = printed.trim().trim_start_matches("bootstrap.servers=").to_owned();
        Self { dir, bootstrap }
    }

    /// URL of its log.
    pub fn url(&self) -> String {
        format!("kafka://{}", self.bootstrap)
    }

    /// URL of its log behind TLS and a login by SCRAM, without the password.
    pub fn secured_url(&self) -> String {
        let printed = run(Command::new(script()).arg("env").arg(self.dir.path()));
        let said = |name: &str| {
            let value = printed.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            value.unwrap_or_else(|| panic!("no {name} in {printed}")).to_owned()
        };
        let (brokers, ca) = (said("KAFKA_SASL_SSL"), said("KAFKA_CA"));
        format!("kafka://{brokers}?security=sasl_tls&ca-file={ca}&user=alice&sasl-mechanism=SCRAM-SHA-512")
    }

    /// Ends the broker at once.
    pub fn kill(&self) {
        run(Command::new(script()).arg("kill").arg(self.dir.path()).arg("1"));
    }

    /// Starts it again with its data.
    pub fn up(&self) {
        run(Command::new(script()).arg("up").arg(self.dir.path()).arg("1"));
    }

    /// Sets a topic's setting, as an operator does.
    pub fn set_topic(&self, topic: &str, setting: &str) {
        let mut command = Command::new(script());
        command.arg("tool").arg(self.dir.path()).arg("kafka.admin.ConfigCommand");
        command.args(["--bootstrap-server", &self.bootstrap, "--alter", "--entity-type", "topics"]);
        run(command.args(["--entity-name", topic, "--add-config", setting]));
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        let _ = Command::new(script()).arg("kill").arg(self.dir.path()).arg("1").status();
    }
}

fn script() -> PathBuf {
    parts::path("SLUICE_TEST_KAFKA_RUN")
}
