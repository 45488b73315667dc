//! A member of a group: reads its partitions, hands their events out, and commits what is done.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sluice_log::chain::ChainLog;
use sluice_log::{Class, Committed, GroupReader, Record};
use sluice_runtime::shutdown::Shutdown;
use tracing::{debug, info, warn};

use super::lane::{Lane, Rewound};
use super::settings::{HandlerSettings, MempoolEvents};
use super::side::{Own, Side};
use super::task::Kind;
use super::workers::{Report, Threads, Workers};
use super::{Error, Handler, rerun};
use crate::beside::Follow;
use crate::dlq;
use crate::monitor::Monitor;

/// Ends of events that the member has not heard of yet. More events are never at work.
const MAX_REPORTS: usize = 1 << 16;
/// Nothing more is read while so many events, or bytes of events, wait to be taken up.
const BACKLOG_EVENTS: usize = 10_000;
/// See `BACKLOG_EVENTS`. One read more may come on top.
const BACKLOG_BYTES: usize = 16 << 20;
/// How long a member with nothing to do waits for records; a stop is seen as soon.
const IDLE_WAIT: Duration = Duration::from_millis(100);
/// How long a member with events at work waits for one to end, before it looks for records.
const BUSY_WAIT: Duration = Duration::from_millis(10);
/// How long a member waits for records whose only work is a rerun, which has nothing at hand.
const RERUN_WAIT: Duration = Duration::from_millis(2);
/// How often offsets are committed.
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);
/// How often the dead letter and replay topics are read.
const SIDE_INTERVAL: Duration = Duration::from_millis(100);
/// How often it is looked whether they are there.
const TOPICS_INTERVAL: Duration = Duration::from_secs(1);
/// How long events at work may take to end after a stop. The others come again.
const DRAIN_TIME: Duration = Duration::from_secs(10);
/// How long the log may fail, again and again, before the member stops.
const LOG_PATIENCE: Duration = Duration::from_secs(120);
/// Pause before the log is tried again.
const LOG_PAUSE: Duration = Duration::from_millis(500);

/// Runs a handler as a member of a group until a stop is requested. Blocks; handlers run on the caller's tokio runtime where
/// there is one of several threads, else on threads of their own.
///
/// # Errors
/// What stopped the member. What was done before is committed, the rest comes again.
pub fn run<H: Handler>(
    handler: H,
    chain: &ChainLog,
    group: &str,
    settings: &HandlerSettings,
    stop: &Shutdown,
) -> Result<(), Error> {
    run_watched(handler, chain, group, settings, stop, None)
}

/// As `run`, for whoever watches.
pub(crate) fn run_watched<H: Handler>(
    handler: H,
    chain: &ChainLog,
    group: &str,
    settings: &HandlerSettings,
    stop: &Shutdown,
    monitor: Option<Arc<Monitor>>,
) -> Result<(), Error> {
    settings.check().map_err(|reason| Error::Settings { reason })?;
    dlq::check_group(&chain.topics, group)
        .map_err(|reason| Error::Group { group: group.to_owned(), reason })?;
    let threads = Threads::find()?;
    let member = Member::join(handler, chain, group, settings, &threads);
    let result = member.and_then(|mut member| {
        member.monitor = monitor;
        member.run(stop)
    });
    threads.end();
    result
}

struct Member<H> {
    chain: ChainLog,
    group: String,
    settings: HandlerSettings,
    reader: Box<dyn GroupReader>,
    workers: Workers<H>,
    reports: Receiver<Report>,
    lanes: BTreeMap<(String, i32), Lane>,
    next_lane: u64,
    /// Records that have been read, and are not in a lane yet.
    incoming: VecDeque<Record>,
    /// Whether the lanes are those of the partitions that the last read was of.
    has_followed: bool,
    commit_due: Instant,
    side_due: Instant,
    topics_due: Instant,
    /// Since when every call of the log has failed.
    trouble_since: Option<Instant>,
    monitor: Option<Arc<Monitor>>,
}

impl<H: Handler> Member<H> {
    fn join(
        handler: H,
        chain: &ChainLog,
        group: &str,
        settings: &HandlerSettings,
        threads: &Threads,
    ) -> Result<Self, Error> {
        let topics = &chain.topics;
        let mut read = vec![topics.transactions.as_str()];
        if settings.mempool == MempoolEvents::Handled {
            read.push(&topics.mempool);
        }
        let reader = chain.log.group(group, &read)?;
        info!(group, topics = ?read, "joined a group");
        let (sender, reports) = sync_channel(MAX_REPORTS);
        let workers = Workers {
            handler: Arc::new(handler),
            chain: chain.clone(),
            retry: settings.retry,
            reports: sender,
            tasks: threads.handle(),
        };
        let now = Instant::now();
        Ok(Self {
            chain: chain.clone(),
            group: group.to_owned(),
            settings: settings.clone(),
            reader,
            workers,
            reports,
            lanes: BTreeMap::new(),
            next_lane: 0,
            incoming: VecDeque::new(),
            has_followed: false,
            commit_due: now + COMMIT_INTERVAL,
            side_due: now,
            topics_due: now,
            trouble_since: None,
            monitor: None,
        })
    }

    fn run(&mut self, stop: &Shutdown) -> Result<(), Error> {
        while !stop.is_requested() {
            match self.step() {
                Ok(()) => self.trouble_since = None,
                Err(Error::Log(error)) if error.class() == Class::Retry => self.bear(error)?,
                Err(error) => {
                    // What is done need not be done again, though this member is not the one to go on.
                    if let Err(error) = self.commit() {
                        warn!(group = self.group, %error, "failed to commit before the stop");
                    }
                    return Err(error);
                }
            }
        }
        self.drain()
    }

    fn bear(&mut self, error: sluice_log::Error) -> Result<(), Error> {
        let since = *self.trouble_since.get_or_insert_with(Instant::now);
        if since.elapsed() > LOG_PATIENCE {
            return Err(error.into());
        }
        warn!(group = self.group, %error, "the log fails, trying again");
        if let Some(monitor) = &self.monitor {
            monitor.troubled(error.to_string());
        }
        std::thread::sleep(LOG_PAUSE);
        Ok(())
    }

    /// Whatever there is to do now. After an error that may pass, nothing is lost, and the next step goes on with it.
    fn step(&mut self) -> Result<(), Error> {
        self.read()?;
        self.look_aside()?;
        let now = Instant::now();
        for lane in self.lanes.values_mut() {
            lane.pump(&self.workers)?;
            lane.flush(&self.workers, epoch_ms())?;
            lane.side.post_progress(epoch_ms(), now, false)?;
        }
        if now >= self.commit_due {
            self.commit_due = now + COMMIT_INTERVAL;
            self.commit()?;
            self.measure();
        }
        let is_busy = self.lanes.values().any(Lane::is_busy);
        let ended = if is_busy { self.hear(BUSY_WAIT)? } else { 0 };
        if let Some(monitor) = self.monitor.as_ref().filter(|_| ended > 0 || !is_busy) {
            monitor.counter().fetch_add(ended, Ordering::Relaxed);
            monitor.shares(self.lanes.len());
        }
        Ok(())
    }

    /// Reads on where there is room, and follows a change of partitions.
    fn read(&mut self) -> Result<(), Error> {
        let waiting =
            self.lanes.values().map(Lane::waiting).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        if self.incoming.is_empty() && waiting.0 < BACKLOG_EVENTS && waiting.1 < BACKLOG_BYTES {
            let is_busy = waiting.0 > 0 || self.lanes.values().any(Lane::is_busy);
            let sends_again = self.lanes.values().any(|lane| lane.side.rerun.is_some());
            let wait = match (is_busy, sends_again) {
                (true, _) => Duration::ZERO,
                (false, true) => RERUN_WAIT,
                (false, false) => IDLE_WAIT,
            };
            self.incoming = self.reader.poll(wait)?.into();
            self.has_followed = false;
        }
        // Before any record is looked at, also of a read before which this failed.
        if !self.has_followed {
            self.follow_assignment()?;
            self.has_followed = true;
        }
        while let Some(record) = self.incoming.pop_front() {
            // Where there is no lane, the partition is another member's, which reads the record itself.
            let Some(lane) = self.lanes.get_mut(&(record.topic.to_string(), record.partition)) else {
                continue;
            };
            if let Err(Rewound(record)) = lane.take(record)? {
                let key = (record.topic.to_string(), record.partition);
                info!(group = self.group, topic = key.0, partition = key.1, "partition came back");
                self.lanes.remove(&key);
                self.incoming.push_front(record);
                self.has_followed = false;
                self.follow_assignment()?;
                self.has_followed = true;
            }
        }
        Ok(())
    }

    /// Drops the lanes of partitions that are no longer this member's, and opens those of new ones.
    fn follow_assignment(&mut self) -> Result<(), Error> {
        let assigned: BTreeSet<_> = self.reader.assignment()?.into_iter().collect();
        self.lanes.retain(|key, _| assigned.contains(key));
        let gained: Vec<_> = assigned.into_iter().filter(|key| !self.lanes.contains_key(key)).collect();
        if gained.is_empty() {
            return Ok(());
        }
        let mut lanes = Vec::new();
        for (topic, partition) in gained {
            let kind = if topic == self.chain.topics.mempool { Kind::Mempool } else { Kind::Transactions };
            let partitions = self.chain.log.topic(&topic)?.map_or(partition + 1, |info| info.partitions);
            let own = Own { group: self.group.clone(), topic: topic.clone(), kind, partition, partitions };
            let side = Side::new(&self.chain, own);
            self.next_lane += 1;
            lanes.push(Lane::new(self.next_lane, &topic, partition, kind, &self.settings, side));
        }
        open_sides(&self.chain, &self.group, lanes.iter_mut())?;
        info!(
            group = self.group,
            gained = lanes.len(),
            partitions = self.lanes.len() + lanes.len(),
            "partitions gained"
        );
        self.lanes.extend(lanes.into_iter().map(|lane| ((lane.topic.to_string(), lane.partition), lane)));
        Ok(())
    }

    /// Reads the topics beside, and opens those that have been made since.
    fn look_aside(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        if now >= self.topics_due {
            self.topics_due = now + TOPICS_INTERVAL;
            open_sides(&self.chain, &self.group, self.lanes.values_mut())?;
        }
        if now >= self.side_due {
            self.side_due = now + SIDE_INTERVAL;
            self.lanes.values_mut().try_for_each(|lane| lane.side.follow())?;
        }
        Ok(())
    }

    /// Waits for an event to end, takes in all that have, and says how many.
    fn hear(&mut self, wait: Duration) -> Result<u64, Error> {
        let mut ended = 0;
        let mut next = self.reports.recv_timeout(wait).ok();
        while let Some(Report { lane, job, verdict }) = next {
            if let Some(lane) = self.lanes.values_mut().find(|candidate| candidate.number == lane) {
                lane.ended(job, verdict, &self.workers)?;
            }
            ended += 1;
            next = self.reports.try_recv().ok();
        }
        Ok(ended)
    }

    /// Commits what is done.
    fn commit(&mut self) -> Result<(), Error> {
        let ready: Vec<_> = self
            .lanes
            .iter_mut()
            .filter_map(|((topic, partition), lane)| {
                let offset = lane.tracker.take_ready()?;
                Some(Committed { topic: topic.clone(), partition: *partition, offset })
            })
            .collect();
        if ready.is_empty() {
            return Ok(());
        }
        let Err(error) = self.reader.commit(&ready) else { return Ok(()) };
        for Committed { topic, partition, offset } in ready {
            if let Some(lane) = self.lanes.get_mut(&(topic, partition)) {
                lane.tracker.not_committed(offset);
            }
        }
        match error {
            // The next read tells which partitions have gone; the others are committed after it.
            sluice_log::Error::NotAssigned { .. } => {
                debug!(group = self.group, %error, "partitions move");
                Ok(())
            }
            error => Err(error.into()),
        }
    }

    fn measure(&self) {
        let letters: usize = self.lanes.values().map(|lane| lane.side.letters.len()).sum();
        metrics::gauge!("sluice_handler_partitions").set(self.lanes.len() as f64);
        metrics::gauge!("sluice_handler_dead_letters").set(letters as f64);
    }

    /// Takes up nothing more, waits for what is at work, and commits.
    fn drain(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + DRAIN_TIME;
        self.lanes.values_mut().for_each(Lane::close);
        while self.lanes.values().any(Lane::is_busy) && Instant::now() < deadline {
            self.hear(BUSY_WAIT)?;
        }
        let left = self.lanes.values().filter(|lane| lane.is_busy()).count();
        if left > 0 {
            warn!(group = self.group, partitions = left, "events still at work are given up, and come again");
        }
        let now = Instant::now();
        for lane in self.lanes.values_mut() {
            lane.flush(&self.workers, epoch_ms())?;
            lane.side.post_progress(epoch_ms(), now, true)?;
        }
        self.commit()?;
        info!(group = self.group, "left the group");
        Ok(())
    }
}

/// Reads the dead letter and replay topics, where they are there, for the lanes that do not yet.
fn open_sides<'a>(
    chain: &ChainLog,
    group: &str,
    lanes: impl Iterator<Item = &'a mut Lane>,
) -> Result<(), Error> {
    let mut lanes: Vec<_> = lanes.filter(|lane| !lane.side.has_dlq() || !lane.side.has_replay()).collect();
    let dlq = dlq::topic(&chain.topics, group);
    let without: Vec<_> =
        lanes.iter().filter(|lane| !lane.side.has_dlq()).map(|lane| (lane.partition, None)).collect();
    if !without.is_empty() && chain.log.topic(&dlq)?.is_some() {
        let opened = Follow::open(&*chain.log, &dlq, &without)?;
        for (lane, follow) in lanes.iter_mut().filter(|lane| !lane.side.has_dlq()).zip(opened) {
            lane.side.open_dlq(follow)?;
        }
    }
    let replay = rerun::topic(&chain.topics, group);
    let is_without = |lane: &&mut &mut Lane| !lane.side.has_replay() && lane.kind == Kind::Transactions;
    let mut lanes: Vec<_> = lanes.iter_mut().filter(is_without).collect();
    if !lanes.is_empty() && chain.log.topic(&replay)?.is_some() {
        let from: Vec<_> = lanes.iter().map(|lane| (lane.partition, None)).collect();
        for (lane, follow) in lanes.iter_mut().zip(Follow::open(&*chain.log, &replay, &from)?) {
            lane.side.open_replay(follow)?;
        }
    }
    Ok(())
}

/// Milliseconds since 1970.
fn epoch_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
