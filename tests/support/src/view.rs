//! What a consumer sees of a log.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::{BlockHash, Txid};
use sluice_log::chunk::Joiner;
use sluice_log::{Log, Reader, Record, StartAt};
use sluice_schemas::registry::{self, Registry};
use sluice_schemas::{
    Action, ChainEvent, Codec, Event, MempoolEvent, MempoolKind, StatusEvent, StatusKind, Topics,
};

use crate::node::Node;
use crate::wait::soon;

/// How long a poll waits for a record before it takes the topic's end as reached: the last offsets of Kafka hold none.
const QUIET: Duration = Duration::from_millis(200);

/// A reader of all partitions of a topic, from their start.
struct Follow {
    topic: String,
    reader: Box<dyn Reader>,
    /// Of each partition, what was read and what is still joined.
    partitions: Vec<Partition>,
}

#[derive(Default)]
struct Partition {
    next_offset: i64,
    joiner: Joiner,
}

impl Follow {
    fn topic(log: &dyn Log, topic: &str) -> Option<Self> {
        let partitions = log.topic(topic).ok()??.partitions;
        let from: Vec<_> = (0..partitions)
            .map(|partition| {
                let start = log.bounds(topic, partition).expect("bounds").start;
                StartAt { topic: topic.to_owned(), partition, offset: start }
            })
            .collect();
        let partitions = from.iter().map(|_| Partition::default()).collect();
        Some(Self { topic: topic.to_owned(), reader: log.reader(&from).expect("a reader"), partitions })
    }

    /// The records that came since the last call up to now, chunks joined.
    fn drain(&mut self, log: &dyn Log) -> Vec<Record> {
        let end = |partition| log.bounds(&self.topic, partition).expect("bounds").end;
        let ends: Vec<_> = (0..self.partitions.len() as i32).map(end).collect();
        let mut records = Vec::new();
        while self.partitions.iter().zip(&ends).any(|(partition, end)| partition.next_offset < *end) {
            let more = self.reader.poll(QUIET).expect("records");
            if more.is_empty() {
                break;
            }
            for record in more {
                let partition = &mut self.partitions[record.partition as usize];
                partition.next_offset = record.offset + 1;
                records.extend(partition.joiner.push(record).expect("whole chunks"));
            }
        }
        records
    }
}

/// The mempool view of the newest epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MempoolView {
    /// The epoch.
    pub epoch: i64,
    /// What is in it.
    pub txids: BTreeSet<Txid>,
}

/// A log, followed from its start. Checks that chain events follow one another as they must.
pub struct View {
    log: Arc<dyn Log>,
    codec: Codec,
    /// Names of the topics.
    pub topics: Topics,
    blocks: Option<Follow>,
    mempool: Option<Follow>,
    status: Option<Follow>,
    /// Chain events so far.
    pub chain_events: Vec<ChainEvent>,
    /// Mempool events so far, in no order.
    pub mempool_events: Vec<MempoolEvent>,
    /// Status events so far.
    pub status_events: Vec<StatusEvent>,
    chain: Vec<BlockHash>,
}

impl View {
    /// Opens a log, which may still be empty.
    pub fn open(url: &str, prefix: &str) -> Self {
        Self {
            log: sluice_log::open(url).expect("a log"),
            codec: Codec::single_object(),
            topics: Topics::new(prefix),
            blocks: None,
            mempool: None,
            status: None,
            chain_events: Vec::new(),
            mempool_events: Vec::new(),
            status_events: Vec::new(),
            chain: Vec::new(),
        }
    }

    /// Opens a log whose events carry the ids of a schema registry.
    pub fn open_with_registry(url: &str, prefix: &str, registry: &str) -> Self {
        let mut view = Self::open(url, prefix);
        let registry = Registry::new(registry, registry::Options::default()).expect("its URL");
        view.codec = Codec::with_registry(registry, &view.topics).expect("a registry");
        view
    }

    /// The best chain as published, genesis first.
    ///
    /// # Panics
    /// Where an event does not follow from those before it.
    pub fn chain(&mut self) -> &[BlockHash] {
        if self.blocks.is_none() {
            self.blocks = Follow::topic(&*self.log, &self.topics.blocks);
        }
        for record in drain(&mut self.blocks, &*self.log) {
            let event: ChainEvent = read(&self.codec, &record);
            self.apply(event);
        }
        &self.chain
    }

    fn apply(&mut self, event: ChainEvent) {
        assert_eq!(event.sequence, self.chain_events.len() as i64, "sequences are gap-free");
        match event.action {
            Action::Connected => {
                assert_eq!(event.height, self.chain.len() as i32, "a block is one above the tip");
                if let Some(tip) = self.chain.last() {
                    assert_eq!(event.prev_hash, *tip, "a block is connected to the tip");
                }
                self.chain.push(event.hash);
            }
            Action::Disconnected => {
                assert_eq!(self.chain.pop(), Some(event.hash), "the tip is disconnected first");
                assert_eq!(event.height, self.chain.len() as i32);
            }
        }
        self.chain_events.push(event);
    }

    /// The mempool as published in the newest epoch.
    pub fn mempool(&mut self) -> MempoolView {
        if self.mempool.is_none() {
            self.mempool = Follow::topic(&*self.log, &self.topics.mempool);
        }
        for record in drain(&mut self.mempool, &*self.log) {
            self.mempool_events.push(read(&self.codec, &record));
        }
        fold(&self.mempool_events)
    }

    /// Status events so far, in order.
    pub fn status(&mut self) -> &[StatusEvent] {
        if self.status.is_none() {
            self.status = Follow::topic(&*self.log, &self.topics.status);
        }
        for record in drain(&mut self.status, &*self.log) {
            self.status_events.push(read(&self.codec, &record));
        }
        &self.status_events
    }

    /// Status events of one kind.
    pub fn status_of(&mut self, kind: StatusKind) -> Vec<StatusEvent> {
        self.status().iter().filter(|event| event.kind == kind).cloned().collect()
    }

    /// Waits until the log's tip is the node's.
    pub fn reaches_tip_of(&mut self, node: &Node) {
        soon("the log to have the node's tip", || {
            let wanted = node.tip_hash();
            let tip = self.chain().last().copied();
            if tip == Some(wanted) { Ok(()) } else { Err((self.chain.len(), tip, wanted)) }
        });
    }

    /// Waits until the mempool view is the node's mempool.
    pub fn reaches_mempool_of(&mut self, node: &Node) {
        soon("the mempool view to be the node's mempool", || {
            let (view, wanted) = (self.mempool().txids, node.mempool());
            let missing: Vec<_> = wanted.difference(&view).take(3).collect();
            let phantom: Vec<_> = view.difference(&wanted).take(3).collect();
            if view == wanted {
                return Ok(());
            }
            Err(format!(
                "{} in view, {} in node; missing {missing:?}…, too many {phantom:?}…",
                view.len(),
                wanted.len()
            ))
        });
    }

    /// Waits for both, and checks that the chains are the same from genesis on.
    pub fn equals(&mut self, node: &Node) {
        self.reaches_tip_of(node);
        assert_eq!(self.chain(), node.best_chain(), "the chain as published is the node's");
        self.reaches_mempool_of(node);
    }
}

/// What came on a topic, which may not be there yet.
fn drain(follow: &mut Option<Follow>, log: &dyn Log) -> Vec<Record> {
    follow.as_mut().map(|follow| follow.drain(log)).unwrap_or_default()
}

/// Replays the newest epoch.
fn fold(events: &[MempoolEvent]) -> MempoolView {
    let Some(epoch) = events.iter().map(|e| e.epoch).max() else { return MempoolView::default() };
    let mut newest: Vec<_> = events.iter().filter(|e| e.epoch == epoch).collect();
    newest.sort_by_key(|e| e.sequence);
    let mut txids = BTreeSet::new();
    for event in newest {
        match event.kind {
            MempoolKind::Reset => txids.clear(),
            MempoolKind::Added => assert!(txids.insert(event.txid), "{} was added twice", event.txid),
            MempoolKind::Removed => assert!(txids.remove(&event.txid), "{} was not there", event.txid),
        }
    }
    MempoolView { epoch, txids }
}

fn read<E: Event>(codec: &Codec, record: &Record) -> E {
    codec
        .decode(&record.value)
        .unwrap_or_else(|e| panic!("{}/{} offset {}: {e}", record.topic, record.partition, record.offset))
}
