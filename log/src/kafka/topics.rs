//! Topics: made as the event contract wants them, and checked where they are there already.

use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::RDKafkaErrorCode as Code;
use sluice_schemas::TopicSpec;

use super::cluster::{CALL_WAIT, Cluster, is_topic_name};
use super::fault;
use super::listener::Listener;
use crate::{Class, Error, Result, TopicInfo, TopicOutcome};

/// How long the brokers may take to make a topic, or to describe one.
const ADMIN_WAIT: Duration = Duration::from_secs(30);
/// Pause before a new topic is looked for again.
const PROPAGATION_PAUSE: Duration = Duration::from_millis(50);
/// Replicas from which on losing one must not lose what has been confirmed.
const DURABLE_REPLICAS: i32 = 3;
/// Replicas that must have a record before it is confirmed, where there are `DURABLE_REPLICAS`.
const DURABLE_IN_SYNC: i32 = 2;
/// How far a record's time may be ahead of the broker's clock, at least: a block may be two hours ahead of its node's
/// clock, and nodes' clocks differ.
const LEAST_TIMESTAMP_LEAD: Duration = Duration::from_secs(3 * 3600);
/// The broker's limit on the above; brokers before Kafka 3.6 do not know it.
const TIMESTAMP_LEAD: &str = "message.timestamp.after.max.ms";

/// What the cluster has of a topic.
struct Found {
    partitions: i32,
    replicas: i32,
    settings: HashMap<String, String>,
}

impl Found {
    fn number(&self, setting: &str) -> Option<i64> {
        self.settings.get(setting)?.parse().ok()
    }

    fn shown(&self, setting: &str) -> String {
        self.settings.get(setting).cloned().unwrap_or_else(|| "unset".into())
    }
}

struct Admin<'a> {
    cluster: &'a Cluster,
    client: &'a AdminClient<Listener>,
    options: AdminOptions,
}

impl<'a> Admin<'a> {
    fn new(cluster: &'a Cluster) -> Result<Self> {
        let options =
            AdminOptions::new().request_timeout(Some(ADMIN_WAIT)).operation_timeout(Some(ADMIN_WAIT));
        Ok(Self { cluster, client: cluster.admin()?, options })
    }

    /// The topic as it is, or `None`.
    fn find(&self, topic: &str) -> Result<Option<Found>> {
        let Some(metadata) = self.cluster.metadata(topic)? else { return Ok(None) };
        let Some(found) = metadata.topics().first() else { return Ok(None) };
        let replicas = found.partitions().iter().map(|p| p.replicas().len()).min().unwrap_or(0);
        let attempt = format!("describe topic {topic}");
        let settings = self.settings(&ResourceSpecifier::Topic(topic), &attempt, CALL_WAIT)?;
        Ok(Some(Found { partitions: found.partitions().len() as i32, replicas: replicas as i32, settings }))
    }

    /// Settings of a topic or broker. Nothing has none; but rdkafka does not pass on why a broker has told none: for instance,
    /// it may not have heard of a new topic yet.
    fn settings(
        &self,
        of: &ResourceSpecifier<'_>,
        attempt: &str,
        patience: Duration,
    ) -> Result<HashMap<String, String>> {
        let deadline = Instant::now() + patience;
        loop {
            let described = block_on(self.client.describe_configs([of], &self.options))
                .and_then(|all| match all.into_iter().next() {
                    Some(Ok(resource)) => Ok(resource),
                    Some(Err(code)) => Err(KafkaError::Global(code)),
                    None => Err(KafkaError::Global(Code::Unknown)),
                })
                .map_err(|e| fault::failed(attempt.to_owned(), &e))?;
            if !described.entries.is_empty() {
                return Ok(described.entries.into_iter().filter_map(|e| Some((e.name, e.value?))).collect());
            }
            if Instant::now() >= deadline {
                return Err(Error::Store {
                    attempt: attempt.to_owned(),
                    reason: "the broker tells no settings; may this client see them (DescribeConfigs)?"
                        .into(),
                    class: Class::Retry,
                });
            }
            std::thread::sleep(PROPAGATION_PAUSE);
        }
    }

    /// How many replicas a topic gets where nothing is said: from the URL, or as the brokers have it.
    fn default_replicas(&self) -> Result<Option<i32>> {
        if let Some(replicas) = self.cluster.options().replication_factor {
            return Ok(Some(replicas));
        }
        let metadata = self
            .cluster
            .patiently(|| "list the brokers".into(), |client, wait| client.fetch_metadata(None, wait))?;
        let Some(broker) = metadata.brokers().first() else { return Ok(None) };
        // Some services do not let a client see a broker's settings; then the brokers' own default has to do.
        let settings =
            self.settings(&ResourceSpecifier::Broker(broker.id()), "describe a broker", Duration::ZERO).ok();
        Ok(settings.and_then(|s| s.get("default.replication.factor")?.parse().ok()))
    }

    fn create(&self, spec: &TopicSpec) -> Result<TopicOutcome> {
        let options = self.cluster.options();
        let replicas = self.default_replicas()?;
        let in_sync = options
            .min_insync_replicas
            .or_else(|| replicas.filter(|n| *n >= DURABLE_REPLICAS).map(|_| DURABLE_IN_SYNC));
        let forever = spec.retention.millis() < 0;
        let mut settings = vec![
            ("cleanup.policy", "delete".to_owned()),
            ("compression.type", "producer".to_owned()),
            ("retention.ms", spec.retention.millis().to_string()),
            ("max.message.bytes", options.batch_bytes().to_string()),
            ("message.timestamp.type", "CreateTime".to_owned()),
            (TIMESTAMP_LEAD, i64::MAX.to_string()),
        ];
        if forever {
            settings.push(("retention.bytes", "-1".to_owned()));
        }
        if let Some(in_sync) = in_sync {
            settings.push(("min.insync.replicas", in_sync.to_string()));
        }
        let mut outcome = self.create_once(spec, &settings);
        if matches!(outcome, Err(Code::InvalidConfig)) {
            settings.retain(|(name, _)| *name != TIMESTAMP_LEAD);
            outcome = self.create_once(spec, &settings);
        }
        match outcome {
            Ok(()) => Ok(TopicOutcome::Created),
            // Another process was first.
            Err(Code::TopicAlreadyExists) => Ok(TopicOutcome::Present),
            Err(code) => Err(fault::failed(format!("create topic {}", spec.name), &KafkaError::Global(code))),
        }
    }

    fn create_once(&self, spec: &TopicSpec, settings: &[(&str, String)]) -> Result<(), Code> {
        let replicas = self.cluster.options().replication_factor.unwrap_or(-1);
        let topic = NewTopic {
            name: &spec.name,
            num_partitions: spec.partitions,
            replication: TopicReplication::Fixed(replicas),
            config: settings.iter().map(|(name, value)| (*name, value.as_str())).collect(),
        };
        let results = block_on(self.client.create_topics([&topic], &self.options))
            .map_err(|e| e.rdkafka_error_code().unwrap_or(Code::OperationTimedOut))?;
        match results.into_iter().next() {
            Some(Ok(_)) => Ok(()),
            Some(Err((_, code))) => Err(code),
            None => Err(Code::Unknown),
        }
    }

    /// Waits until every broker that we ask knows the new topic.
    fn wait_for(&self, spec: &TopicSpec) -> Result<Found> {
        let deadline = Instant::now() + CALL_WAIT;
        loop {
            match self.find(&spec.name) {
                Ok(Some(found)) if found.partitions >= spec.partitions => return Ok(found),
                Ok(Some(found)) if Instant::now() >= deadline => return Ok(found),
                Err(error) if error.class() != Class::Retry || Instant::now() >= deadline => {
                    return Err(error);
                }
                Ok(None) if Instant::now() >= deadline => {
                    return Err(Error::Store {
                        attempt: format!("create topic {}", spec.name),
                        reason: "the brokers do not know it yet".into(),
                        class: Class::Retry,
                    });
                }
                _ => std::thread::sleep(PROPAGATION_PAUSE),
            }
        }
    }

    fn check(&self, spec: &TopicSpec, found: &Found) -> Result<()> {
        let options = self.cluster.options();
        let unlike = |setting: &'static str, found: String, wanted: String| {
            Err(Error::TopicMismatch { topic: spec.name.clone(), setting, found, wanted })
        };
        if found.partitions != spec.partitions {
            return unlike("partitions", found.partitions.to_string(), spec.partitions.to_string());
        }
        let retention = spec.retention.millis();
        if found.number("retention.ms") != Some(retention) {
            return unlike("retention.ms", found.shown("retention.ms"), retention.to_string());
        }
        if retention < 0 && found.number("retention.bytes").is_some_and(|bytes| bytes >= 0) {
            return unlike("retention.bytes", found.shown("retention.bytes"), "-1".into());
        }
        if found.shown("cleanup.policy") != "delete" {
            return unlike("cleanup.policy", found.shown("cleanup.policy"), "delete".into());
        }
        if found.settings.get("message.timestamp.type").is_some_and(|t| t != "CreateTime") {
            return unlike(
                "message.timestamp.type",
                found.shown("message.timestamp.type"),
                "CreateTime".into(),
            );
        }
        let lead = LEAST_TIMESTAMP_LEAD.as_millis() as i64;
        if found.number(TIMESTAMP_LEAD).is_some_and(|found| found < lead) {
            return unlike(TIMESTAMP_LEAD, found.shown(TIMESTAMP_LEAD), format!("at least {lead}"));
        }
        let batch = options.batch_bytes() as i64;
        if found.number("max.message.bytes").is_some_and(|found| found < batch) {
            return unlike(
                "max.message.bytes",
                found.shown("max.message.bytes"),
                format!("at least {batch}"),
            );
        }
        if let Some(wanted) = options.replication_factor
            && found.replicas != wanted
        {
            return unlike("replication factor", found.replicas.to_string(), wanted.to_string());
        }
        let Some(in_sync) = found.number("min.insync.replicas") else { return Ok(()) };
        let replicas = i64::from(found.replicas);
        let least = match options.min_insync_replicas {
            Some(wanted) => i64::from(wanted),
            None if found.replicas >= DURABLE_REPLICAS => i64::from(DURABLE_IN_SYNC),
            None => 1,
        };
        if in_sync < least || in_sync > replicas {
            let wanted = format!("from {least} to its {replicas} replicas");
            return unlike("min.insync.replicas", in_sync.to_string(), wanted);
        }
        Ok(())
    }
}

/// Creates the missing topics and checks all of them.
pub(super) fn ensure(cluster: &Cluster, specs: &[TopicSpec]) -> Result<Vec<TopicOutcome>> {
    let admin = Admin::new(cluster)?;
    let mut present = Vec::with_capacity(specs.len());
    for spec in specs {
        if !is_topic_name(&spec.name) {
            return Err(Error::Store {
                attempt: format!("create topic {:?}", spec.name),
                reason: "Kafka's topic names have 1 to 249 letters, digits, dots, dashes and underscores"
                    .into(),
                class: Class::Fatal,
            });
        }
        let found = admin.find(&spec.name)?;
        if let Some(found) = &found {
            admin.check(spec, found)?;
        }
        present.push(found.is_some());
    }
    // Nothing is created beside a mismatch.
    let ensure_one = |(spec, present): (&TopicSpec, bool)| {
        if present {
            return Ok(TopicOutcome::Present);
        }
        let outcome = admin.create(spec)?;
        admin.check(spec, &admin.wait_for(spec)?)?;
        Ok(outcome)
    };
    specs.iter().zip(present).map(ensure_one).collect()
}

/// A topic's settings, or `None`.
pub(super) fn find(cluster: &Cluster, name: &str) -> Result<Option<TopicInfo>> {
    let found = Admin::new(cluster)?.find(name)?;
    Ok(found.map(|found| TopicInfo {
        name: name.to_owned(),
        partitions: found.partitions,
        retention_ms: found.number("retention.ms").unwrap_or(-1),
    }))
}

/// Creates a topic of one partition that only marks a role, where it is missing.
pub(super) fn ensure_role(cluster: &Cluster, name: &str) -> Result<()> {
    if cluster.partitions(name)?.is_some() {
        return Ok(());
    }
    let admin = Admin::new(cluster)?;
    let spec =
        TopicSpec { name: name.to_owned(), partitions: 1, retention: sluice_schemas::Retention::Days(1) };
    match admin.create_once(&spec, &[("cleanup.policy", "delete".to_owned())]) {
        Ok(()) | Err(Code::TopicAlreadyExists) => admin.wait_for(&spec).map(drop),
        Err(code) => Err(fault::failed(format!("create topic {name}"), &KafkaError::Global(code))),
    }
}

/// Waits on this thread for a future that another thread completes.
fn block_on<T>(future: impl Future<Output = KafkaResult<T>>) -> KafkaResult<T> {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(result) => return result,
            Poll::Pending => std::thread::park(),
        }
    }
}
