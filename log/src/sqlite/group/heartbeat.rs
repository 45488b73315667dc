//! The heartbeat of a member, on a thread of its own: a consumer busy with what it has read stays a member.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::super::Shared;
use super::super::fault::fatal;
use super::{beat, expel, now_ms};
use crate::Result;

/// Heartbeats within one deadline.
const PER_DEADLINE: u32 = 3;

/// A consumer that does not come back from its work for so long is taken for stuck (Kafka's default, too).
const MAX_POLL_INTERVAL: Duration = Duration::from_secs(300);

/// Beats until dropped.
pub(super) struct Heartbeat {
    last_poll: Arc<Mutex<Instant>>,
    /// Closed to end the thread.
    end: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Heartbeat {
    pub(super) fn start(shared: Arc<Shared>, group: String, member: i64) -> Result<Self> {
        let last_poll = Arc::new(Mutex::new(Instant::now()));
        let (end, ended) = sync_channel(0);
        let thread = std::thread::Builder::new()
            .name("group-heartbeat".into())
            .spawn({
                let last_poll = last_poll.clone();
                move || run(&shared, &group, member, &last_poll, &ended)
            })
            .map_err(|error| fatal("start the heartbeat of a group's member", error.to_string()))?;
        Ok(Self { last_poll, end: Some(end), thread: Some(thread) })
    }

    /// Says that the consumer is not stuck.
    pub(super) fn polled(&self) {
        *self.last_poll.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.end.take();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the heartbeat of a group's member panicked");
        }
    }
}

fn run(shared: &Shared, group: &str, member: i64, last_poll: &Mutex<Instant>, ended: &Receiver<()>) {
    while ended.recv_timeout(shared.groups.deadline / PER_DEADLINE) == Err(RecvTimeoutError::Timeout) {
        let is_stuck = last_poll.lock().unwrap_or_else(PoisonError::into_inner).elapsed() > MAX_POLL_INTERVAL;
        let beaten = shared.groups.write("keep the membership of a group", |tx| {
            let now = now_ms();
            if !is_stuck {
                beat(tx, member, now)?;
            }
            expel(tx, group, now)
        });
        match beaten {
            Ok(true) => shared.bell.ring(),
            Ok(false) => {}
            Err(error) => tracing::warn!(group, %error, "heartbeat missed"),
        }
    }
}
