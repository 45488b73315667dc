//! Markers, which end a transaction in each of its partitions, and where they are missing.
//!
//! Kafka answers a commit when it is decided, and writes the markers that make it visible a moment later. Brokers of Kafka
//! 4.3.1 take a partition that has no leader at that moment for one that was deleted, and leave its marker out for good:
//! `KRaftMetadataCache.getPartitionLeaderEndpoint`, since it is Java, gives nothing where it gave `Node.noNode` before, and
//! `TransactionMarkerChannelManager.addTxnMarkersToBrokerQueue` passes over such a partition. Readers then wait at the
//! transaction's first record, and whatever ends the next transaction of the same producer there ends this one, too: an
//! abort would take away what was committed. So a commit is looked for, and what misses its marker gets one, by a
//! transaction of a record without a value.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::{Offset, TopicPartitionList};
use tracing::debug;

use super::cluster::Cluster;
use super::fault;
use super::ledger::End;
use super::listener::Listener;
use crate::{Result, StartAt};

/// How long a commit waits for its markers.
const MARKER_WAIT: Duration = Duration::from_secs(5);
/// Pauses between two looks at the markers: the first, and the longest.
pub(super) const MARKER_PAUSE: (Duration, Duration) = (Duration::from_micros(500), Duration::from_millis(20));
/// How long one look may take.
const LOOK: Duration = Duration::from_secs(1);

/// What readers see of a transaction in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    /// It has ended.
    Ended,
    /// They wait, at this offset.
    Waits(i64),
    /// The partition's leader does not answer.
    Silent,
}

/// Looks at all of these partitions, by one request to each broker.
pub(super) fn look(client: &BaseConsumer<Listener>, ends: &[End]) -> Vec<Sight> {
    let found = last_offsets(client, ends.iter().map(|(topic, partition, _)| (&**topic, *partition)), LOOK)
        .inspect_err(|error| debug!(%error, "failed to look for the markers of a commit"))
        .unwrap_or_default();
    let sight = |(topic, partition, end): &End| match found.find_partition(topic, *partition)?.offset() {
        Offset::Offset(stable) if stable >= *end => Some(Sight::Ended),
        Offset::Offset(stable) => Some(Sight::Waits(stable)),
        _ => None,
    };
    ends.iter().map(|end| sight(end).unwrap_or(Sight::Silent)).collect()
}

/// Waits until readers can see these partitions up to these offsets. (A next transaction would have to wait for the markers
/// anyway.) Gives the partitions where it has waited in vain.
pub(super) fn wait_until_visible(client: &BaseConsumer<Listener>, mut ends: Vec<End>) -> Vec<End> {
    let deadline = Instant::now() + MARKER_WAIT;
    let (mut pause, longest) = MARKER_PAUSE;
    while !ends.is_empty() {
        let mut sights = look(client, &ends).into_iter();
        ends.retain(|_| sights.next() != Some(Sight::Ended));
        if Instant::now() >= deadline {
            break;
        }
        if !ends.is_empty() {
            std::thread::sleep(pause);
            pause = longest.min(pause * 2);
        }
    }
    ends
}

/// Where readers of these partitions wait. Patient as `Log::unfinished`.
pub(super) fn unfinished(cluster: &Cluster, partitions: &[(&str, i32)]) -> Result<Vec<StartAt>> {
    if partitions.is_empty() {
        return Ok(Vec::new());
    }
    let attempt = || "look for transactions without an end".to_owned();
    let mut config = cluster.options().client();
    config.set("isolation.level", "read_uncommitted");
    let uncommitted: BaseConsumer<Listener> =
        config.create_with_context(Listener::default()).map_err(|error| fault::failed(attempt(), &error))?;
    let deadline = Instant::now() + MARKER_WAIT;
    loop {
        // In this order, for both grow.
        let ends = cluster.patiently(attempt, |_, wait| {
            let found = last_offsets(&uncommitted, partitions.iter().copied(), wait)?;
            found.elements().iter().try_for_each(|element| element.error())?;
            Ok(found)
        })?;
        let unfinished = cluster.patiently(attempt, |client, wait| {
            let stable = last_offsets(client, partitions.iter().copied(), wait)?;
            let mut unfinished = Vec::new();
            for element in stable.elements() {
                element.error()?;
                let (topic, partition) = (element.topic(), element.partition());
                let end = ends.find_partition(topic, partition).map(|end| end.offset());
                if let (Offset::Offset(offset), Some(Offset::Offset(end))) = (element.offset(), end)
                    && offset < end
                {
                    unfinished.push(StartAt { topic: topic.to_owned(), partition, offset });
                }
            }
            Ok(unfinished)
        })?;
        if unfinished.is_empty() || Instant::now() >= deadline {
            return Ok(unfinished);
        }
        std::thread::sleep(MARKER_PAUSE.1);
    }
}

/// The offsets after what this client can see.
fn last_offsets<'a>(
    client: &BaseConsumer<Listener>,
    of: impl IntoIterator<Item = (&'a str, i32)>,
    wait: Duration,
) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for (topic, partition) in of {
        // To ListOffsets, the end is one more timestamp.
        list.add_partition_offset(topic, partition, Offset::End)?;
    }
    client.offsets_for_times(list, wait)
}
