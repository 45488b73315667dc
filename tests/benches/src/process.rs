//! A process that is measured.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Clock ticks a second in /proc (Linux has said 100 for as long as it has had /proc).
const TICKS: f64 = 100.0;
/// How long what must happen in a process may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);
/// How often a process is looked at.
pub(crate) const LOOK: Duration = Duration::from_millis(10);

/// What a process took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) cpu_secs: f64,
    /// Peak of resident memory.
    pub(crate) peak_bytes: u64,
}

impl Usage {
    /// What this took, and then another one.
    pub(crate) fn then(self, other: Self) -> Self {
        Self { cpu_secs: self.cpu_secs + other.cpu_secs, peak_bytes: self.peak_bytes.max(other.peak_bytes) }
    }
}

/// A running process, killed on drop.
pub(crate) struct Process {
    child: Child,
    output: PathBuf,
    peak_bytes: u64,
    pub(crate) began: Instant,
}

impl Process {
    /// Starts it; everything it says goes to `output`.
    pub(crate) fn start(command: &mut Command, output: &Path) -> Self {
        let file = File::create(output).unwrap();
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        let began = Instant::now();
        let child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        Self { child, output: output.to_owned(), peak_bytes: 0, began }
    }

    pub(crate) fn output(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.output).unwrap()).into_owned()
    }

    /// What it took so far.
    ///
    /// # Panics
    /// With what it said, where it has ended.
    pub(crate) fn usage(&mut self) -> Usage {
        if let Some(status) = self.child.try_wait().unwrap() {
            panic!("it ended: {status}\n{}", self.output());
        }
        self.look();
        Usage { cpu_secs: cpu_secs(self.child.id()), peak_bytes: self.peak_bytes }
    }

    fn look(&mut self) {
        self.peak_bytes = self.peak_bytes.max(self.memory("VmHWM:").unwrap_or(0));
    }

    /// Resident memory now.
    pub(crate) fn resident_bytes(&self) -> u64 {
        self.memory("VmRSS:").expect("it runs")
    }

    /// A line of its status; `None` once it has ended.
    fn memory(&self, name: &str) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().unwrap();
        Some(kib * 1024)
    }

    /// Waits until it has ended by itself, which it must do well. Processor time includes that of its children.
    pub(crate) fn wait(mut self) -> (Duration, Usage, String) {
        let before = of_children();
        let status = loop {
            self.look();
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None => std::thread::sleep(LOOK),
            }
        };
        let took = self.began.elapsed();
        assert!(status.success(), "{status}\n{}", self.output());
        let usage = Usage { cpu_secs: of_children() - before, peak_bytes: self.peak_bytes };
        (took, usage, self.output())
    }

    /// SIGTERM, and waits for the end.
    pub(crate) fn stop(mut self) {
        self.terminate();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and waits for the end, which must be a good one. What it took until then.
    pub(crate) fn end(self) -> Usage {
        self.terminate();
        let (_, usage, _) = self.wait();
        usage
    }

    fn terminate(&self) {
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Processor time of this process.
pub(crate) fn own_cpu_secs() -> f64 {
    cpu_secs(std::process::id())
}

/// Processor time of a process so far.
pub(crate) fn cpu_secs(pid: u32) -> f64 {
    ticks(&std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap(), [13, 14])
}

/// Processor time of all children that have ended.
fn of_children() -> f64 {
    ticks(&std::fs::read_to_string("/proc/self/stat").unwrap(), [15, 16])
}

/// The sum of two fields of a stat line, counted from 0, in seconds.
fn ticks(stat: &str, fields: [usize; 2]) -> f64 {
    // The name of the program, field 1, may have spaces.
    let (_, rest) = stat.rsplit_once(") ").unwrap();
    let rest: Vec<&str> = rest.split(' ').collect();
    fields.iter().map(|field| rest[field - 2].parse::<f64>().unwrap()).sum::<f64>() / TICKS
}
