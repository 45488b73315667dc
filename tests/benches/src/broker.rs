//! A real Kafka, and the tools that come with it.

use std::path::PathBuf;
use std::process::Command;

use crate::process::{Process, Usage};

/// Memory of the broker.
const HEAP: &str = "1g";

/// One broker of our own.
pub(crate) struct Broker {
    dir: PathBuf,
    bootstrap: String,
}

/// What a tool of Kafka reached.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Performance {
    /// Records a second, as the tool says: without its start.
    pub(crate) records: f64,
    pub(crate) usage: Usage,
}

fn script() -> Command {
    Command::new(std::env::var("SLUICE_TEST_KAFKA_RUN").expect("tests/benches/run sets it"))
}

impl Broker {
    pub(crate) fn start(dir: PathBuf) -> Self {
        let output = script().arg("start").arg(&dir).env("HEAP", HEAP).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let said = String::from_utf8(output.stdout).unwrap();
        let bootstrap = said.trim().trim_start_matches("bootstrap.servers=").to_owned();
        Self { dir, bootstrap }
    }

    pub(crate) fn url(&self) -> String {
        format!("kafka://{}", self.bootstrap)
    }

    fn tool(&self, class: &str, arguments: &[&str]) -> (Usage, String) {
        let mut command = script();
        command
            .arg("tool")
            .arg(&self.dir)
            .arg(class)
            .args(["--bootstrap-server", &self.bootstrap])
            .args(arguments);
        let (_, usage, said) = Process::start(&mut command, &self.dir.join("tool.log")).wait();
        (usage, said)
    }

    /// Kafka's own `ProducerPerformance` into a new topic with as many partitions as ours.
    pub(crate) fn producer_performance(&self, records: u64, bytes: u64, compression: &str) -> Performance {
        let topic = format!("reference-{compression}");
        let create = ["--create", "--topic", &topic, "--partitions", "12"];
        self.tool("org.apache.kafka.tools.TopicCommand", &create);
        let (count, size) = (records.to_string(), bytes.to_string());
        let compression = format!("compression.type={compression}");
        let arguments = [
            &["--topic", &topic, "--num-records", &count, "--record-size", &size, "--throughput", "-1"][..],
            &["--command-property", "acks=all", &compression],
        ];
        let (usage, said) = self.tool("org.apache.kafka.tools.ProducerPerformance", &arguments.concat());
        // `400000 records sent, 81234.5 records/sec (54.21 MB/sec), …`
        let last =
            said.lines().rfind(|line| line.contains("records sent")).unwrap_or_else(|| panic!("{said}"));
        let records = last.split(", ").nth(1).and_then(|rate| rate.split(' ').next());
        let records = records.unwrap().replace(',', "").parse().unwrap();
        self.delete_topics(&topic);
        Performance { records, usage }
    }

    /// Kafka's own `ConsumerPerformance`, read committed as we read.
    pub(crate) fn consumer_performance(&self, topic: &str, records: u64) -> Performance {
        let records = records.to_string();
        let arguments = ["--topic", topic, "--num-records", &records, "--timeout", "60000"];
        let isolation = ["--command-property", "isolation.level=read_committed"];
        let (usage, said) =
            self.tool("org.apache.kafka.tools.ConsumerPerformance", &[&arguments[..], &isolation].concat());
        // start, end, MB, MB/s, records, records/s, rebalance ms, fetch ms, fetch MB/s, fetch records/s
        let last =
            said.lines().rfind(|line| line.split(',').count() == 10).unwrap_or_else(|| panic!("{said}"));
        let records = last.split(',').next_back().unwrap().trim().parse().unwrap();
        Performance { records, usage }
    }

    pub(crate) fn delete_topics(&self, prefix: &str) {
        let topics = format!("{prefix}.*");
        self.tool("org.apache.kafka.tools.TopicCommand", &["--delete", "--topic", &topics]);
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = script().arg("kill").arg(&self.dir).arg("1").status();
    }
}
