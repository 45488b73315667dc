//! Single transactions, read by their locations: what answers `/tx/:txid`.

use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use sluice_log::chain::Location;

use crate::backfill;
use crate::log::Kind;
use crate::process::Process;
use crate::setting::Setting;
use crate::table::{Line, Target};

/// Transactions asked for a second, whether the earlier ones have been answered or not.
const RATE: u32 = 1_000;
/// For so long, in each run.
const ASKING: Duration = Duration::from_secs(10);
/// At first, not counted: connections are made.
const WARM_UP: Duration = Duration::from_secs(2);
/// Threads that ask.
const THREADS: u32 = 16;

pub(crate) fn row(setting: &mut Setting, kind: Kind) -> Vec<Line> {
    let row = match kind {
        Kind::Sqlite => "lookup-sqlite",
        Kind::Kafka => "lookup-kafka",
    };
    let log = backfill::filled(setting, kind);
    let mut runs: Vec<[f64; 2]> = Vec::new();
    let (mut cpu_us, mut peak_bytes) = (Vec::new(), 0);
    for _ in 0..setting.runs {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("lookup").args(log.options());
        let (_, usage, said) = Process::start(&mut command, &log.dir.join("lookup.log")).wait();
        let last = said.lines().last().unwrap_or_default();
        let [p50, p99, cpu] = last.split(' ').collect::<Vec<_>>()[..] else { panic!("{said}") };
        eprintln!("   ms p50 {p50} p99 {p99}, {cpu} µs of processor each");
        runs.push([p50.parse().unwrap(), p99.parse().unwrap()]);
        cpu_us.push(cpu.parse().unwrap());
        peak_bytes = peak_bytes.max(usage.peak_bytes);
    }
    let of = |index: usize| runs.iter().map(|run| run[index]).collect::<Vec<f64>>();
    let what = format!("{kind:?}: {RATE} single transactions a second, anywhere, p50");
    let mut lines = vec![
        Line::new(row, what, "ms", of(0)),
        Line::new(row, "p99", "ms", of(1)).target(Target::AtMost(5.0)),
    ];
    (lines[0].cpu_us, lines[0].peak_bytes) = (cpu_us, peak_bytes);
    lines
}

#[derive(clap::Args)]
pub(crate) struct Lookup {
    #[arg(long)]
    log: String,
    #[arg(long)]
    prefix: String,
    #[arg(long)]
    data_dir: String,
    /// How many may be read at the same time.
    #[arg(long, default_value_t = 4)]
    readers: usize,
}

impl Lookup {
    /// Asks, and says milliseconds at p50 and p99, and microseconds of this process's time for each.
    pub(crate) fn run(self) {
        let _ = self.data_dir;
        let chain = crate::log::open(&self.log, &self.prefix);
        let mut locations: Vec<Location> = Vec::new();
        let mut scan = chain.scan(0).unwrap();
        while scan.next_event().unwrap().is_some() {
            let mut transactions = scan.transactions().unwrap();
            while let Some(found) = transactions.next_located() {
                locations.push(found.unwrap().0);
            }
        }
        drop(scan);
        let store = chain.transaction_store(self.readers);
        let before = crate::process::own_cpu_secs();
        let (began, milliseconds) = (Instant::now(), Mutex::new(Vec::new()));
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (store, locations, milliseconds) = (&store, &locations, &milliseconds);
                scope.spawn(move || {
                    let mut state = 0x9e37_79b9_7f4a_7c15 ^ u64::from(thread + 1);
                    for n in (thread..).step_by(THREADS as usize) {
                        let due = Duration::from_secs(1) * n / RATE;
                        if due > WARM_UP + ASKING {
                            break;
                        }
                        std::thread::sleep(due.saturating_sub(began.elapsed()));
                        state ^= state << 13;
                        state ^= state >> 7;
                        state ^= state << 17;
                        let location = locations[(state % locations.len() as u64) as usize];
                        store.transaction_at(location).unwrap();
                        if due > WARM_UP {
                            milliseconds.lock().unwrap().push((began.elapsed() - due).as_secs_f64() * 1e3);
                        }
                    }
                });
            }
        });
        let asked = f64::from(RATE) * (WARM_UP + ASKING).as_secs_f64();
        let cpu = (crate::process::own_cpu_secs() - before) * 1e6 / asked;
        let mut milliseconds = milliseconds.into_inner().unwrap();
        milliseconds.sort_by(f64::total_cmp);
        let [p50, p99] = [0.5, 0.99].map(|share| crate::latency::percentile(&milliseconds, share));
        println!("{p50:.3} {p99:.3} {cpu:.1}");
    }
}
