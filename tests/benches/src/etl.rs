//! The reference for exports of a chain: bitcoin-etl.

use std::path::PathBuf;
use std::process::Command;

use crate::process::Process;
use crate::setting::Setting;

/// Blocks that it exports, the last of the chain: it would take most of the time for all.
const BLOCKS: usize = 4;
/// Its workers.
pub(crate) const WORKERS: &str = "4";

/// What it reached.
#[derive(Clone, Debug, Default)]
pub(crate) struct Exported {
    /// Transactions a second.
    pub(crate) rates: Vec<f64>,
    /// Its processor time, microseconds a transaction.
    pub(crate) cpu_us: Vec<f64>,
}

/// Runs `bitcoinetl export_blocks_and_transactions`.
pub(crate) fn measure(setting: &mut Setting) -> Exported {
    if let Some(measured) = &setting.etl {
        return measured.clone();
    }
    let dir = setting.dir().to_owned();
    let runs = setting.runs;
    let chain = setting.chain();
    let url = chain.url();
    let end = chain.counts.len() - 1;
    let start = end - BLOCKS;
    let transactions: u64 = chain.counts[start..end].iter().sum();
    let python = PathBuf::from(std::env::var("SLUICE_TEST_PYTHON").expect("tests/benches/run sets it"));
    let mut measured = Exported::default();
    for _ in 0..runs {
        let mut command = Command::new(python.with_file_name("bitcoinetl"));
        command.args(["export_blocks_and_transactions", "--batch-size", "1", "--max-workers", WORKERS]);
        command.args(["--provider-uri", &url, "--chain", "bitcoin"]);
        command.args(["--start-block", &start.to_string(), "--end-block", &(end - 1).to_string()]);
        command.arg("--blocks-output").arg(dir.join("etl-blocks.json"));
        command.arg("--transactions-output").arg(dir.join("etl-transactions.json"));
        let (took, usage, _) = Process::start(&mut command, &dir.join("etl.log")).wait();
        let exported = std::fs::read_to_string(dir.join("etl-transactions.json")).unwrap().lines().count();
        assert_eq!(exported as u64, transactions, "bitcoin-etl exports all transactions");
        eprintln!("   bitcoin-etl: {transactions} transactions in {took:.1?}, {usage:?}");
        measured.rates.push(transactions as f64 / took.as_secs_f64());
        measured.cpu_us.push(usage.cpu_secs * 1e6 / transactions as f64);
    }
    setting.etl = Some(measured.clone());
    measured
}
