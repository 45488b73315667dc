//! Memory that a block of a gigabyte takes.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;
use sluice_test_support::{Flavour, Node, Wallet};

use crate::log::{Kind, Log, Progress};
use crate::process::{LOOK, Process};
use crate::setting::{Setting, binary};
use crate::table::{Line, Target};

/// Data of the largest transaction.
const LARGEST_BYTES: usize = 110_000_000;
/// Data of each of the others, and how many there are: a gigabyte in all.
const OTHER_BYTES: usize = 10_000_000;
const OTHERS: usize = 90;
/// What a producer takes beside three times the largest transaction.
const BASE_BYTES: usize = 256_000_000;
/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(600);

pub(crate) fn row(setting: &mut Setting) -> Vec<Line> {
    let node = Node::start_with(Flavour::Bsv, "-maxmempool=4000 -blockmaxsize=4000000000");
    let mut wallet = node.fund(100);
    for size in std::iter::once(LARGEST_BYTES).chain([OTHER_BYTES; OTHERS]) {
        node.send(&Wallet::store(&wallet.take(), &vec![0x5a; size], size as u64 / 100));
    }
    node.mine(1);
    let tip = node.call("getblock", json!([node.tip_hash().to_string(), 1]));
    assert!(tip["size"].as_u64().unwrap() > 1_000_000_000, "all are in one block");
    let height = node.tip().height;
    let mut lines = Vec::new();
    for kind in [Kind::Sqlite, Kind::Kafka] {
        let log = setting.log(kind);
        let (peak, rate) = publish(&node, &log, height);
        setting.discard(log);
        let allowed = (BASE_BYTES + 3 * LARGEST_BYTES) as f64 / 1e6;
        let mut line =
            Line::new("huge", format!("{kind:?}: 1 GB block, peak memory"), "MB", vec![peak as f64 / 1e6])
                .target(Target::AtMost(allowed));
        line.peak_bytes = peak;
        lines.push(line);
        lines.push(Line::new("huge", "the same, speed", "MB/s", vec![rate]));
    }
    lines
}

/// Peak of memory, and megabytes a second.
fn publish(node: &Node, log: &Log, height: i32) -> (u64, f64) {
    let mut command = Command::new(binary("sluice-producer"));
    command.args(log.options()).args(["--node", &node.url(), "--no-mempool"]);
    let mut producer = Process::start(&mut command, &log.dir.join("producer.log"));
    let mut progress = Progress::of(log);
    let mut from = Instant::now();
    loop {
        let usage = producer.usage();
        if progress.has_grown() {
            progress.update();
            if progress.height >= height {
                let megabytes = (LARGEST_BYTES + OTHERS * OTHER_BYTES) as f64 / 1e6;
                let rate = megabytes / from.elapsed().as_secs_f64();
                producer.stop();
                return (usage.peak_bytes, rate);
            }
            from = Instant::now();
        }
        assert!(from.elapsed() < PATIENCE, "at {}\n{}", progress.height, producer.output());
        std::thread::sleep(LOOK);
    }
}
