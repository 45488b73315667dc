//! Progress on a terminal, and logs that do not tear it.

use std::io::{self, Write};
use std::sync::OnceLock;

use indicatif::MultiProgress;

/// The process's progress display. Bars added to it and log lines do not disturb each other.
pub fn progress() -> &'static MultiProgress {
    static PROGRESS: OnceLock<MultiProgress> = OnceLock::new();
    PROGRESS.get_or_init(MultiProgress::new)
}

/// Standard error, with the progress display out of the way while a line is written.
pub(crate) struct Stderr;

impl Write for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        progress().suspend(|| io::stderr().write_all(line))?;
        Ok(line.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
