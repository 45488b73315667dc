//! Stands by, leads, and starts over: the one code path of a first start, a crash, and a failover.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sluice_log::Candidate;
use sluice_log::chain::ChainLog;
use sluice_sources::Source;
use tracing::{info, warn};

use crate::config::Config;
use crate::error::{Error, Recovery, Result};
use crate::lead::Lead;
use crate::leader::Leader;
use crate::monitor::{Monitor, State};

/// How long one look at the leadership takes while standing by.
const STAND_BY_TICK: Duration = Duration::from_millis(200);

/// Publishes a source's chain and mempool on a log.
pub struct Publisher {
    config: Config,
    chain_log: ChainLog,
    source: Arc<dyn Source>,
    monitor: Arc<Monitor>,
    stop: Arc<AtomicBool>,
}

impl Publisher {
    /// Sets a publisher up; `stop` ends it.
    pub fn new(
        config: Config,
        chain_log: ChainLog,
        source: Arc<dyn Source>,
        monitor: Arc<Monitor>,
        stop: Arc<AtomicBool>,
    ) -> Self {
        Self { config, chain_log, source, monitor, stop }
    }

    /// Runs until it is stopped. Waits while another producer of the same log leads, and takes over from it.
    ///
    /// # Errors
    /// What needs a person: another network, a broken header rule, a log that contradicts itself. Trouble that may
    /// pass is waited for instead.
    pub fn run(&self) -> Result<()> {
        let mut failures = 0;
        let mut has_led = false;
        while !self.stopped() {
            let started = Instant::now();
            match self.term(&mut has_led) {
                Ok(()) | Err(Error::Stopped) => return Ok(()),
                Err(error) => {
                    match error.recovery() {
                        // What was lowered since can be raised again; what was too low at the start is a mistake.
                        Recovery::Stop if has_led && error.is_size_limit() => refused(&error),
                        Recovery::Stop => return Err(error),
                        Recovery::WaitForLog => refused(&error),
                        Recovery::StandBy => warn!(%error, "another producer took over, standing by"),
                        Recovery::RetrySource | Recovery::TakeOverAgain => {
                            warn!(error = %full(&error), "taking over again after a failure");
                        }
                    }
                    self.monitor.update(|status| {
                        status.state = State::StandingBy;
                        status.trouble = Some(full(&error));
                    });
                    // Only failures in a row make the wait grow.
                    failures = if started.elapsed() > self.config.max_backoff * 2 { 0 } else { failures + 1 };
                    self.sleep(backoff(&self.config, failures));
                }
            }
        }
        Ok(())
    }

    /// One candidacy and, once elected, one lead.
    fn term(&self, has_led: &mut bool) -> Result<()> {
        self.chain_log.log.ensure_topics(&self.chain_log.topics.specs(self.config.partitions))?;
        let role = format!("{}.producer", self.chain_log.topics.prefix);
        let mut candidate = self.chain_log.log.campaign(&role)?;
        if self.elected(&mut *candidate)? {
            info!(log = self.chain_log.log.url(), source = self.source.id(), "leading, taking over the log");
            let mut leader = Leader::take_over(
                &self.config,
                &self.chain_log,
                self.source.clone(),
                &self.monitor,
                &self.stop,
                Lead::keep(candidate, self.monitor.clone())?,
            )?;
            *has_led = true;
            leader.lead()?;
        }
        Ok(())
    }

    fn elected(&self, candidate: &mut dyn Candidate) -> Result<bool> {
        let mut told = false;
        while !self.stopped() {
            self.monitor.progressed();
            if candidate.leads(STAND_BY_TICK)? {
                return Ok(true);
            }
            if !told {
                info!(log = self.chain_log.log.url(), "another producer leads, standing by");
                told = true;
            }
            self.monitor.update(|status| status.state = State::StandingBy);
        }
        Ok(false)
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    fn sleep(&self, time: Duration) {
        let end = Instant::now() + time;
        while !self.stopped() && Instant::now() < end {
            self.monitor.progressed();
            std::thread::sleep(Duration::from_millis(20).min(time));
        }
    }
}

fn refused(error: &Error) {
    warn!(error = %full(error), "the log refuses what is to be published, trying again until it takes it");
}

/// The wait after so many failures in a row.
pub(crate) fn backoff(config: &Config, failures: u32) -> Duration {
    config.min_backoff.saturating_mul(1 << failures.clamp(1, 16).saturating_sub(1)).min(config.max_backoff)
}

/// An error with its causes, on one line.
pub(crate) fn full(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_its_bound() {
        let config = Config::default();
        assert_eq!(backoff(&config, 1), config.min_backoff);
        assert_eq!(backoff(&config, 2), config.min_backoff * 2);
        assert_eq!(backoff(&config, 1000), config.max_backoff);
    }
}
