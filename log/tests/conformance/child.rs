//! Other processes: the test binary, started again.

use std::io::{BufRead, BufReader};
use std::process::{ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use sluice_log::Log;

use super::{Fixture, new};

const JOB: &str = "SLUICE_LOG_TEST_JOB";
const URL: &str = "SLUICE_LOG_TEST_URL";
const ARGS: &str = "SLUICE_LOG_TEST_ARGS";

/// A running child, killed on drop.
pub(crate) struct Child {
    process: std::process::Child,
    stdout: BufReader<ChildStdout>,
}

impl Child {
    /// Starts a job on the fixture's log.
    pub(crate) fn spawn(job: &str, fixture: &impl Fixture, args: &[&str]) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        Self::start(&mut command, job, fixture, args)
    }

    /// Starts a job by a command that ends in running this test binary with its arguments.
    pub(crate) fn start(command: &mut Command, job: &str, fixture: &impl Fixture, args: &[&str]) -> Self {
        let mut process = command
            .args(["--exact", "child_process", "--nocapture", "--test-threads=1"])
            .env(JOB, job)
            .env(URL, fixture.url())
            .env(ARGS, args.join("\n"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(process.stdout.take().unwrap());
        Self { process, stdout }
    }

    /// Waits until the child says `word`.
    #[track_caller]
    pub(crate) fn expect(&mut self, word: &str) {
        let mut line = String::new();
        while self.stdout.read_line(&mut line).unwrap() > 0 {
            if line.trim_end().ends_with(word) {
                return;
            }
            line.clear();
        }
        panic!("the child ended without saying {word:?}");
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Waits until the child has ended well.
    #[track_caller]
    pub(crate) fn finish(mut self) {
        let mut rest = String::new();
        while self.stdout.read_line(&mut rest).unwrap() > 0 {}
        let status = self.process.wait().unwrap();
        assert!(status.success(), "{status}: {rest}");
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Does the job that the environment names, if it names one.
pub(crate) fn run() {
    let Ok(job) = std::env::var(JOB) else { return };
    let log = sluice_log::open(&std::env::var(URL).unwrap()).unwrap();
    let args = std::env::var(ARGS).unwrap();
    let args: Vec<&str> = args.lines().collect();
    match job.as_str() {
        "member" => member(&log, args[0], args[1]),
        "leader" => leader(&log, args[0]),
        "open transaction" => open_transaction(&log, args[0], args[1]),
        "commits" => commits(&log, args[0], args[1], args[2]),
        "read" => read(&log, args[0], args[1].parse().unwrap()),
        "fill" => fill(&log, args[0], args[1]),
        other => panic!("there is no job {other:?}"),
    }
}

fn member(log: &Arc<dyn Log>, group: &str, topic: &str) {
    let mut member = log.group(group, &[topic]).unwrap();
    let mut said = false;
    loop {
        member.poll(Duration::from_millis(100)).unwrap();
        if !said && !member.assignment().unwrap().is_empty() {
            println!("joined");
            said = true;
        }
    }
}

fn leader(log: &Arc<dyn Log>, role: &str) {
    let mut candidate = log.campaign(role).unwrap();
    let mut said = false;
    loop {
        if candidate.leads(Duration::from_millis(200)).unwrap() && !said {
            println!("leads");
            said = true;
        }
    }
}

/// Sends without end, and never commits.
fn open_transaction(log: &Arc<dyn Log>, id: &str, topic: &str) {
    let mut writer = log.writer(id).unwrap();
    let large = "x".repeat(500_000);
    writer.begin().unwrap();
    for _ in 0..80 {
        writer.send(&new(topic, 0, &large)).unwrap();
    }
    println!("sent");
    loop {
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Commits the next numbers to both topics, without end.
fn commits(log: &Arc<dyn Log>, id: &str, a: &str, b: &str) {
    let mut writer = log.writer(id).unwrap();
    // As a producer does: the position is what is on the log.
    let mut next = super::crash::numbers(&**log, a).len();
    println!("commits");
    loop {
        let number = next.to_string();
        writer.begin().unwrap();
        writer.send(&new(a, 0, &number)).unwrap();
        writer.send(&new(b, 0, &number)).unwrap();
        // A transaction every now and then is a large one.
        if next % 64 == 63 {
            let ballast = "y".repeat(900_000);
            for _ in 0..40 {
                writer.send(&new(b, 1, &ballast)).unwrap();
            }
        }
        writer.commit().unwrap();
        next += 1;
    }
}

/// Reads numbers up to `end`.
fn read(log: &Arc<dyn Log>, topic: &str, end: usize) {
    let mut reader = log.reader(&[super::start(topic, 0)]).unwrap();
    println!("reads");
    let mut next = 0;
    while next < end {
        let records = reader.poll(super::PATIENCE).unwrap();
        assert!(!records.is_empty());
        for record in records {
            assert_eq!(record.value, next.to_string().as_bytes());
            next += 1;
        }
    }
}

/// Fills the disk, or what it takes for it.
fn fill(log: &Arc<dyn Log>, id: &str, topic: &str) {
    let mut writer = log.writer(id).unwrap();
    super::append(&mut *writer, topic, 0, &["before"]);
    writer.begin().unwrap();
    let large = "x".repeat(800_000);
    let mut sends = (0..1000).map(|_| writer.send(&new(topic, 0, &large)));
    let error = sends.find_map(Result::err).expect("the disk is full");
    // The same call, and the commit, may be tried again, and nothing is lost by it.
    for error in [error, writer.send(&new(topic, 0, &large)).unwrap_err(), writer.commit().unwrap_err()] {
        println!("{error}");
        assert_eq!(error.class(), sluice_log::Class::Retry, "{error}");
    }
    super::assert_values(&**log, topic, 0, &["before"]);
    writer.abort().unwrap();
    super::append(&mut *writer, topic, 0, &["after"]);
}
