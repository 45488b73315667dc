//! The binaries as built.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::dir::Dir;
use crate::parts;
use crate::wait::soon;

/// How long a command that ends by itself may take.
const COMMAND_PATIENCE: Duration = Duration::from_secs(300);
/// Lines of a process's output that a failed test shows.
const SHOWN_LINES: usize = 40;

/// Path of the `sluice` binary that Cargo built for this test.
pub fn sluice_binary() -> PathBuf {
    binary("sluice")
}

/// Path of the `sluice-producer` binary, beside it.
pub fn producer_binary() -> PathBuf {
    binary("sluice-producer")
}

fn binary(name: &str) -> PathBuf {
    if let Some(dir) = parts::setting("SLUICE_TEST_BIN_DIR") {
        return PathBuf::from(dir).join(name);
    }
    let test = std::env::current_exe().expect("the test runs from a file");
    test.parent().and_then(Path::parent).expect("target/PROFILE/deps").join(name)
}

/// A process that runs until it is told to stop.
#[derive(Debug)]
pub struct Sluice {
    child: Child,
    output: PathBuf,
    arguments: Vec<String>,
}

impl Sluice {
    /// Starts a command of a binary that runs until it is stopped. Its output is kept in `dir`.
    pub fn spawn<S: AsRef<str>, E: AsRef<OsStr>>(
        binary: &Path,
        dir: &Dir,
        command: &str,
        arguments: &[S],
        environment: &[(E, E)],
    ) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let output = dir.join(&format!("sluice-{number}.log"));
        let file = File::create(&output).expect("a file in the test's directory");
        let arguments: Vec<_> = arguments.iter().map(|a| a.as_ref().to_owned()).collect();
        let mut process = Command::new(binary);
        if !command.is_empty() {
            process.arg(command);
        }
        // What is asked of `sluice up` is the producer, where a test does not say otherwise; and two never share a port.
        process.env("SLUICE_ONLY", "producer").env("SLUICE_LISTEN", "127.0.0.1:0");
        process.args(&arguments).envs(environment.iter().map(|(name, value)| (name, value)));
        process.stdin(Stdio::null()).stdout(file.try_clone().expect("a handle")).stderr(file);
        let child = process.spawn().unwrap_or_else(|e| panic!("{}: {e}", binary.display()));
        // For tests/run, should this process be killed before it can clean up.
        let pid_file = dir.join(&format!("sluice-{number}.pid"));
        std::fs::write(pid_file, child.id().to_string()).expect("a file in the test's directory");
        Self { child, output, arguments }
    }

    /// Everything it said so far.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.output).expect("its output")).into_owned()
    }

    /// How much it said so far, in bytes.
    pub fn output_bytes(&self) -> u64 {
        std::fs::metadata(&self.output).expect("its output").len()
    }

    /// Waits until its output has `text`.
    pub fn says(&mut self, text: &str) {
        soon(&format!("{text:?} in the output"), || {
            let said = self.output();
            if said.contains(text) { Ok(()) } else { self.alive().and(Err(last_lines(&said, 5))) }
        });
    }

    /// That it has not ended by itself.
    fn alive(&mut self) -> Result<(), String> {
        match self.child.try_wait().expect("it is our child") {
            None => Ok(()),
            Some(status) => panic!("sluice {:?} ended: {status}\n{}", self.arguments, self.tail()),
        }
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_none()
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        self.child.wait().expect("it is our child");
    }

    /// SIGTERM, and waits for the end.
    pub fn stop(self) -> ExitStatus {
        self.stopped().0
    }

    /// As `stop`, and everything that it said.
    pub fn stopped(mut self) -> (ExitStatus, String) {
        self.signal("-TERM");
        (self.wait(), self.output())
    }

    /// Sends a signal, as `kill` names it.
    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status().expect("kill");
        assert!(sent.success(), "kill {signal} {pid}");
    }

    /// Waits until it ends by itself.
    pub fn wait(&mut self) -> ExitStatus {
        soon("the process to end", || match self.child.try_wait().expect("it is our child") {
            Some(status) => Ok(status),
            None => Err(self.tail()),
        })
    }

    /// Peak resident memory so far, in bytes.
    pub fn peak_memory_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).expect("a peak");
        let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().expect("a number");
        kib * 1024
    }

    fn tail(&self) -> String {
        last_lines(&self.output(), SHOWN_LINES)
    }
}

impl Drop for Sluice {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- sluice {:?} said last:\n{}\n---", self.arguments, self.tail());
        }
    }
}

/// A command that ended by itself.
#[derive(Debug)]
pub struct Finished {
    /// Exit code; `None` where a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Finished {
    /// That it exited with 0.
    ///
    /// # Panics
    /// With what it said, where it did not.
    pub fn succeeded(self) -> Self {
        assert_eq!(self.code, Some(0), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }
}

/// Runs `sluice` with arguments until it ends by itself.
///
/// # Panics
/// Where it does not end.
pub fn sluice<S: AsRef<OsStr>>(arguments: &[S]) -> Finished {
    sluice_with::<_, &str>(arguments, &[])
}

/// As `sluice`, with more in the environment.
///
/// # Panics
/// Where it does not end.
pub(crate) fn sluice_with<S: AsRef<OsStr>, E: AsRef<OsStr>>(
    arguments: &[S],
    environment: &[(E, E)],
) -> Finished {
    let mut command = Command::new(sluice_binary());
    finish(command.args(arguments).envs(environment.iter().map(|(name, value)| (name, value))))
}

/// Runs a command until it ends by itself.
fn finish(command: &mut Command) -> Finished {
    let files = Dir::new("command");
    let (out, err) = (files.join("out"), files.join("err"));
    command.stdin(Stdio::null());
    command.stdout(File::create(&out).expect("a file")).stderr(File::create(&err).expect("a file"));
    let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let end = Instant::now() + COMMAND_PATIENCE;
    let read = |path: &Path| String::from_utf8_lossy(&std::fs::read(path).expect("output")).into_owned();
    let status = loop {
        if let Some(status) = child.try_wait().expect("it is our child") {
            break status;
        }
        if Instant::now() >= end {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{command:?} did not end; it said:\n{}\n{}", read(&out), read(&err));
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    Finished { code: status.code(), stdout: read(&out), stderr: read(&err) }
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
