//! A log that goes away while a command is in the middle of something.

use std::time::{Duration, Instant};

use sluice_log::{Class, Result};

/// How long the log may fail, again and again: brokers start again in that time.
const PATIENCE: Duration = Duration::from_secs(120);

/// Bears failures that pass, for a while.
#[derive(Debug)]
pub(crate) struct Patience {
    /// When the log answered last.
    heard: Instant,
}

impl Patience {
    /// Of a log that has just answered.
    pub(crate) fn new() -> Self {
        Self { heard: Instant::now() }
    }

    /// Takes what the log said: its answer, or `None` where it may have one later.
    pub(crate) fn hear<T>(&mut self, said: Result<T>) -> Result<Option<T>> {
        match said {
            Ok(answer) => {
                self.heard = Instant::now();
                Ok(Some(answer))
            }
            Err(error) if error.class() == Class::Retry && self.heard.elapsed() < PATIENCE => Ok(None),
            Err(error) => Err(error),
        }
    }
}
