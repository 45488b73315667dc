//! An index of a node's chain, beside that of electrs from the same node: whole processes, from nothing to the tip.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::backfill;
use crate::chain::Chain;
use crate::index;
use crate::log::{Kind, Log};
use crate::process::{self, LOOK, Process, Usage};
use crate::setting::{Setting, binary, disk_bytes};
use crate::table::Line;

const ROW: &str = "index-electrs";
/// How long an index may take.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(5);

/// The node that all of them read.
struct Node {
    /// With user and password.
    url: String,
    /// Host and port.
    address: String,
    pid: u32,
    height: i32,
    transactions: f64,
}

/// What one way to an index took.
struct Taken {
    /// From the start of the first process until the index has the tip.
    took: Duration,
    usage: Usage,
    /// Processor time of the node meanwhile.
    node_secs: f64,
    /// Bytes of the index on disk.
    index_bytes: u64,
}

/// The same, run after run.
type Runs = Vec<Taken>;

pub(crate) fn row(setting: &mut Setting) -> Vec<Line> {
    let chain = setting.core();
    let (url, address, height) = (chain.url(), chain.address().to_owned(), chain.height());
    let node = Node { url, address, pid: chain.pid(), height, transactions: chain.transactions() as f64 };
    let each = chain.bytes as f64 / node.transactions;
    let program = program();
    let [mut theirs, mut up, mut apart, mut indexed]: [Runs; 4] = Default::default();
    let mut log_bytes = Vec::new();
    for _ in 0..setting.runs {
        theirs.push(node.electrs(&program, setting.dir()));

        let log = setting.log(Kind::Sqlite);
        up.push(node.up(&log));
        setting.discard(log);

        let log = setting.log(Kind::Sqlite);
        let published = node.publish(&log);
        let built = Node::index(&log);
        log_bytes.push(node.per(log.bytes() as f64));
        setting.discard(log);
        apart.push(Taken {
            took: published.took + built.took,
            usage: published.usage.then(built.usage),
            index_bytes: built.index_bytes,
            ..published
        });
        indexed.push(built);

        for (what, runs) in [("electrs", &theirs), ("up", &up), ("apart", &apart), ("index", &indexed)] {
            let run = runs.last().expect("pushed above");
            let (rate, bytes) = (node.rate(run), node.per(run.index_bytes as f64));
            eprintln!(
                "   {what}: {rate:.0} tx/s, {bytes:.0} B/tx, {:?}, node {} s",
                run.usage, run.node_secs
            );
        }
    }

    let reference = format!("node → electrs, {:.0} tx of {each:.0} B, whole process", node.transactions);
    let mut lines = vec![
        node.line(reference, &theirs),
        node.line("node → Sqlite and our index, `sluice up`", &up).beside("electrs", &node.rates(&theirs)),
        node.line("node → Sqlite, and then → our index, two processes", &apart)
            .beside("electrs", &node.rates(&theirs)),
        node.line("Sqlite → our index, the second of them", &indexed).beside("electrs", &node.rates(&theirs)),
    ];
    for line in &mut lines[1..] {
        line.reference_cpu_us = node.cpu_us(&theirs);
    }
    let bytes = |runs: &Runs| runs.iter().map(|run| node.per(run.index_bytes as f64)).collect::<Vec<_>>();
    let node_us = |runs: &Runs| runs.iter().map(|run| node.per(run.node_secs * 1e6)).collect::<Vec<_>>();
    lines.push(
        Line::new(ROW, "index on disk, for each transaction", "B", bytes(&indexed))
            .beside("electrs", &bytes(&theirs)),
    );
    lines.push(Line::new(ROW, "log on disk, for each transaction", "B", log_bytes));
    lines.push(
        Line::new(ROW, "processor time of the node for `sluice up`", "µs/tx", node_us(&up))
            .beside("electrs", &node_us(&theirs)),
    );
    lines
}

/// Where electrs is; it is built where it is not.
fn program() -> PathBuf {
    let script = std::env::var("SLUICE_BENCH_GET_ELECTRS").expect("tests/benches/run sets it");
    let output = Command::new(&script).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{script}: {}", output.status);
    String::from_utf8(output.stdout).unwrap().trim().into()
}

impl Node {
    fn rate(&self, taken: &Taken) -> f64 {
        self.transactions / taken.took.as_secs_f64()
    }

    fn rates(&self, runs: &Runs) -> Vec<f64> {
        runs.iter().map(|run| self.rate(run)).collect()
    }

    fn cpu_us(&self, runs: &Runs) -> Vec<f64> {
        runs.iter().map(|run| self.per(run.usage.cpu_secs * 1e6)).collect()
    }

    /// For each transaction.
    fn per(&self, total: f64) -> f64 {
        total / self.transactions
    }

    fn line(&self, what: impl Into<String>, runs: &Runs) -> Line {
        let mut line = Line::new(ROW, what, "tx/s", self.rates(runs));
        line.cpu_us = self.cpu_us(runs);
        line.peak_bytes = runs.iter().map(|run| run.usage.peak_bytes).max().unwrap_or(0);
        line
    }

    fn cpu_secs(&self) -> f64 {
        process::cpu_secs(self.pid)
    }

    /// electrs, until it has all blocks and ends. It waits for no newer ones, serves nobody, and leaves the mempool out.
    fn electrs(&self, program: &Path, dir: &Path) -> Taken {
        let dir = dir.join("electrs");
        std::fs::create_dir_all(&dir).unwrap();
        let (settings, index) = (dir.join("electrs.toml"), dir.join("db"));
        std::fs::write(&settings, format!("auth = \"{}\"\n", Chain::credentials())).unwrap();
        let mut command = Command::new(program);
        command.args(["--skip-default-conf-files", "--network", "regtest", "--log-filters", "INFO"]);
        command.arg("--conf").arg(&settings).arg("--db-dir").arg(&index);
        command.args(["--daemon-rpc-addr", &self.address]);
        command.args(["--sync-once", "--ignore-mempool", "--disable-electrum-rpc"]);
        // The chain was made once: its tip may be old, which a node takes for its initial download.
        command.arg("--skip-block-download-wait");
        let before = self.cpu_secs();
        let (took, usage, said) = Process::start(&mut command, &dir.join("electrs.log")).wait();
        let node_secs = self.cpu_secs() - before;
        assert!(said.contains(&format!("height={}: indexed", self.height)), "it has the tip\n{said}");
        let taken = Taken { took, usage, node_secs, index_bytes: disk_bytes(&index) };
        std::fs::remove_dir_all(&dir).unwrap();
        taken
    }

    /// Both at once: until the API tells the tip. Processor time is counted until the process has ended.
    fn up(&self, log: &Log) -> Taken {
        let before = self.cpu_secs();
        let mut command = Command::new(binary("sluice"));
        command.args(log.options()).args(["up", "--node", &self.url, "--no-mempool"]);
        command.args(["--json", "--listen", "127.0.0.1:0"]);
        let mut up = Process::start(&mut command, &log.dir.join("up.log"));
        let mut tip = None;
        let took = loop {
            up.usage();
            tip = tip.or_else(|| Some(format!("{}blocks/tip/height", page(&up.output())?)));
            if tip.as_deref().and_then(height).is_some_and(|height| height >= self.height) {
                break up.began.elapsed();
            }
            assert!(up.began.elapsed() < PATIENCE, "it has not got to the tip\n{}", up.output());
            std::thread::sleep(LOOK);
        };
        let node_secs = self.cpu_secs() - before;
        Taken { took, usage: up.end(), node_secs, index_bytes: index_bytes(log) }
    }

    /// The log alone: until it has the tip.
    fn publish(&self, log: &Log) -> Taken {
        let before = self.cpu_secs();
        let mut command = Command::new(binary("sluice-producer"));
        command.args(log.options()).args(["--node", &self.url, "--no-mempool"]);
        let producer = Process::start(&mut command, &log.dir.join("producer.log"));
        let began = producer.began;
        let watched = backfill::watch(producer, began, log, self.height, self.transactions as u64);
        let took = Duration::from_secs_f64(self.transactions / watched.whole);
        Taken { took, usage: watched.usage, node_secs: self.cpu_secs() - before, index_bytes: 0 }
    }

    /// The index of a log, which needs no node.
    fn index(log: &Log) -> Taken {
        let built = index::build(log);
        Taken { took: built.took, usage: built.usage, node_secs: 0.0, index_bytes: index_bytes(log) }
    }
}

fn index_bytes(log: &Log) -> u64 {
    disk_bytes(&log.dir.join("data").join("index"))
}

/// Where `sluice up` says that it serves.
fn page(said: &str) -> Option<&str> {
    let (_, rest) = said.split_once("\"page\":\"")?;
    rest.split_once('"').map(|(page, _)| page)
}

/// The height that the index tells; `None` while it has no block.
fn height(url: &str) -> Option<i32> {
    let request = ureq::get(url).config().timeout_global(Some(ANSWER)).build();
    request.call().ok()?.body_mut().read_to_string().ok()?.trim().parse().ok()
}
