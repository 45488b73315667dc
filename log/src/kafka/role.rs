//! Leadership: a consumer group of all candidates over one topic of one partition. Who has the partition, leads.
//!
//! The assignor is sticky, so that a candidate that joins does not take the lead from the one that has it. The brokers
//! give the partition to another when the leader is silent for `role-session-timeout`; librdkafka takes it from the
//! leader at the same time, and also when the leader does not ask for that long. Should two processes ever believe that
//! they lead, the transactional id still admits one writer only.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};

use super::cluster::Cluster;
use super::consumer::{self, Trouble};
use super::listener::Listener;
use super::{fault, topics};
use crate::{Candidate, Class, Error, Result};

/// Prefix of the groups of candidates.
const GROUP_PREFIX: &str = "sluice.role.";
/// Suffix of the topics whose one partition is the role. Their names begin with the role's prefix, as access lists want.
const TOPIC_SUFFIX: &str = ".role";
/// Heartbeats within one session.
const HEARTBEATS: u32 = 4;
/// Nothing is ever read from the topic.
const QUEUE_KIBIBYTES: usize = 64;
/// How often a waiting candidate looks at its assignment.
const POLL: Duration = Duration::from_millis(100);
/// Events taken in by one call at most.
const MAX_EVENTS: usize = 1_000;

/// Whether a group is one of candidates.
pub(super) fn is_group(group: &str) -> bool {
    group.starts_with(GROUP_PREFIX)
}

/// Stands for a role.
pub(super) struct KafkaCandidate {
    consumer: BaseConsumer<Listener>,
    role: String,
}

impl KafkaCandidate {
    pub(super) fn new(cluster: &Cluster, role: &str) -> Result<Self> {
        let attempt = || format!("stand for role {role}");
        let topic: String = role
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' })
            .collect();
        let topic = format!("{topic}{TOPIC_SUFFIX}");
        topics::ensure_role(cluster, &topic)?;
        let session = cluster.options().role_session_timeout;
        let consumer: BaseConsumer<Listener> = consumer::config(cluster.options(), QUEUE_KIBIBYTES)
            .set("group.id", format!("{GROUP_PREFIX}{role}"))
            .set("auto.offset.reset", "latest")
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", session.as_millis().to_string())
            .set("heartbeat.interval.ms", (session / HEARTBEATS).as_millis().to_string())
            .set("max.poll.interval.ms", session.as_millis().to_string())
            .create_with_context(Listener::default())
            .map_err(|e| fault::failed(attempt(), &e))?;
        consumer.subscribe(&[&topic]).map_err(|e| fault::failed(attempt(), &e))?;
        Ok(Self { consumer, role: role.to_owned() })
    }

    fn has_partition(&self) -> Result<bool> {
        let attempt = || format!("look whether this process is {}", self.role);
        let mine = self.consumer.assignment().map_err(|e| fault::failed(attempt(), &e))?;
        Ok(mine.count() > 0 && !self.consumer.assignment_lost())
    }

    /// Takes in what has happened; the first event may take `wait` to come.
    fn serve(&self, wait: Duration) -> Result<()> {
        let mut wait = wait;
        for _ in 0..MAX_EVENTS {
            let before = self.has_partition()?;
            match self.consumer.poll(wait) {
                Some(Ok(_)) => {}
                Some(Err(error)) => match Trouble::of(error) {
                    Trouble::Error(error) => {
                        return Err(fault::failed(format!("stand for role {}", self.role), &error));
                    }
                    Trouble::Passes | Trouble::OutOfRange | Trouble::Damaged(_) => {}
                },
                // A rebalance is an event, too, that ends a poll with nothing.
                None if before == self.has_partition()? => return Ok(()),
                None => {}
            }
            wait = Duration::ZERO;
        }
        Ok(())
    }
}

impl Candidate for KafkaCandidate {
    fn leads(&mut self, wait: Duration) -> Result<bool> {
        let deadline = Instant::now() + wait;
        self.serve(Duration::ZERO)?;
        while !self.has_partition()? {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                if let Some(reason) = self.consumer.context().refusal() {
                    let attempt = format!("stand for role {}", self.role);
                    return Err(Error::Store { attempt, reason, class: Class::Fatal });
                }
                return Ok(false);
            }
            self.serve(left.min(POLL))?;
        }
        Ok(true)
    }
}

/// Makes a candidate.
pub(super) fn campaign(cluster: &Arc<Cluster>, role: &str) -> Result<KafkaCandidate> {
    KafkaCandidate::new(cluster, role)
}
