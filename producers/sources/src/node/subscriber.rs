//! Listens to a node's ZMQ sockets on a thread of its own, so that they are read however busy everybody else is.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use sluice_body::RawTx;
use tracing::{info, warn};
use zmq::{Context, PollItem, Socket, SocketEvent};

use super::endpoints::Lane;
use super::inbox::Inbox;
use super::message::{self, Finding, Message, Numbers};
use crate::Notice;

/// Messages that libzmq keeps for us, per lane; the thread takes them faster than a node sends.
const RECEIVE_HIGH_WATER_MARK: i32 = 20_000;
const RECEIVE_BUFFER_BYTES: i32 = 4 << 20;
/// Messages taken of one lane before the others have their turn.
const MESSAGES_PER_TURN: usize = 1000;
/// How long it takes at most to notice that it shall stop.
const POLL: Duration = Duration::from_millis(100);
/// Waits between attempts to connect: the first, and the longest.
const RECONNECT: Duration = Duration::from_millis(100);
const MAX_RECONNECT: Duration = Duration::from_secs(2);
/// A connection that is silent this long is probed by TCP, in seconds.
const KEEPALIVE_IDLE_SECONDS: i32 = 30;
/// How long opening waits for the connections.
const OPEN_WAIT: Duration = Duration::from_secs(5);
/// A publisher does not confirm a subscription. It takes it in right after the handshake; what we read by RPC afterwards
/// must be no older than the first message.
const SUBSCRIPTION_WAIT: Duration = Duration::from_millis(100);

/// A running thread; it ends when this is dropped.
pub(super) struct Subscriber {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    connected: AtomicUsize,
}

/// Where a subscriber puts what it hears.
pub(super) struct Outlets {
    pub(super) inbox: Arc<Inbox>,
    /// Transactions that the node may have announced without taking them into its mempool.
    pub(super) unsettled: Option<Sender<RawTx>>,
}

struct OpenLane {
    lane: Lane,
    socket: Socket,
    monitor: Socket,
    numbers: Vec<Numbers>,
    connected: bool,
    /// Whether what comes next may not follow what came before.
    doubtful: bool,
    /// When to tell of that: not before the subscription stands again.
    tell_at: Option<Instant>,
}

impl Subscriber {
    /// Connects, and waits a while until it has.
    ///
    /// # Errors
    /// Where an endpoint is not one, or the process has no sockets or threads left.
    pub(super) fn open(lanes: Vec<Lane>, source_id: &str, outlets: Outlets) -> io::Result<Self> {
        let context = Context::new();
        let lanes = lanes.into_iter().enumerate().map(|(n, lane)| OpenLane::open(&context, n, lane));
        let mut lanes = lanes.collect::<Result<Vec<_>, zmq::Error>>()?;
        let shared = Arc::new(Shared::default());
        let (wanted, thread_shared, source_id) = (lanes.len(), Arc::clone(&shared), source_id.to_owned());
        let thread = std::thread::Builder::new().name("node-zmq".into()).spawn(move || {
            listen(&mut lanes, &source_id, &thread_shared, &outlets);
        })?;
        let subscriber = Self { shared, thread: Some(thread) };
        let until = Instant::now() + OPEN_WAIT;
        while subscriber.shared.connected.load(Ordering::Acquire) < wanted && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(SUBSCRIPTION_WAIT);
        Ok(subscriber)
    }

    /// Whether anything may be heard.
    pub(super) fn is_connected(&self) -> bool {
        self.shared.connected.load(Ordering::Acquire) > 0
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // A panic has been reported on its own thread.
            let _ = thread.join();
        }
    }
}

impl OpenLane {
    fn open(context: &Context, n: usize, lane: Lane) -> zmq::Result<Self> {
        let socket = context.socket(zmq::SUB)?;
        socket.set_rcvhwm(RECEIVE_HIGH_WATER_MARK)?;
        socket.set_rcvbuf(RECEIVE_BUFFER_BYTES)?;
        socket.set_linger(0)?;
        socket.set_ipv6(true)?;
        socket.set_reconnect_ivl(RECONNECT.as_millis() as i32)?;
        socket.set_reconnect_ivl_max(MAX_RECONNECT.as_millis() as i32)?;
        socket.set_tcp_keepalive(1)?;
        socket.set_tcp_keepalive_idle(KEEPALIVE_IDLE_SECONDS)?;
        let events = SocketEvent::HANDSHAKE_SUCCEEDED.to_raw() | SocketEvent::DISCONNECTED.to_raw();
        let address = format!("inproc://monitor-{n}");
        socket.monitor(&address, i32::from(events))?;
        let monitor = context.socket(zmq::PAIR)?;
        monitor.connect(&address)?;
        for topic in &lane.topics {
            socket.set_subscribe(topic.name().as_bytes())?;
        }
        socket.connect(&lane.endpoint)?;
        let numbers = vec![Numbers::default(); lane.topics.len()];
        Ok(Self { lane, socket, monitor, numbers, connected: false, doubtful: false, tell_at: None })
    }
}

fn listen(lanes: &mut [OpenLane], source_id: &str, shared: &Shared, outlets: &Outlets) {
    let opened = Instant::now();
    while !shared.stop.load(Ordering::Acquire) {
        let sockets = lanes.iter().flat_map(|lane| [&lane.monitor, &lane.socket]);
        let mut items: Vec<PollItem<'_>> = sockets.map(|socket| socket.as_poll_item(zmq::POLLIN)).collect();
        if let Err(error) = zmq::poll(&mut items, POLL.as_millis() as i64) {
            warn!(source = source_id, %error, "failed to wait for ZMQ messages");
            std::thread::sleep(POLL);
        }
        for lane in lanes.iter_mut() {
            // A connection that stands only after opening has given up waiting may have missed something.
            lane.doubtful |= !lane.connected && opened.elapsed() > OPEN_WAIT;
            lane.watch(source_id, shared, outlets);
            for _ in 0..MESSAGES_PER_TURN {
                match lane.socket.recv_multipart(zmq::DONTWAIT) {
                    Ok(frames) => lane.hear(frames, source_id, outlets),
                    Err(_) => break,
                }
            }
        }
    }
}

impl OpenLane {
    /// Follows the state of the connection.
    fn watch(&mut self, source_id: &str, shared: &Shared, outlets: &Outlets) {
        while let Ok(frames) = self.monitor.recv_multipart(zmq::DONTWAIT) {
            let event =
                frames.first().and_then(|frame| frame.first_chunk()).map(|event| u16::from_le_bytes(*event));
            let connected = event == Some(SocketEvent::HANDSHAKE_SUCCEEDED.to_raw());
            if connected == self.connected {
                continue;
            }
            self.connected = connected;
            let endpoint = &self.lane.endpoint;
            if !connected {
                shared.connected.fetch_sub(1, Ordering::AcqRel);
                self.doubtful = true;
                self.tell_at = None;
                warn!(source = source_id, endpoint, "lost the connection to the node's ZMQ");
                continue;
            }
            shared.connected.fetch_add(1, Ordering::AcqRel);
            info!(source = source_id, endpoint, topics = ?self.lane.topics, "connected to the node's ZMQ");
            if std::mem::take(&mut self.doubtful) {
                self.numbers.iter_mut().for_each(Numbers::reconnected);
                self.tell_at = Some(Instant::now() + SUBSCRIPTION_WAIT);
            }
        }
        if self.tell_at.take_if(|at| Instant::now() >= *at).is_some() {
            let mut topics = self.lane.topics.iter();
            if let Some(topic) = topics.find(|topic| topic.must_be_complete()) {
                outlets.inbox.finding(Notice::Restarted { feed: topic.name() });
                outlets.inbox.finding(Notice::TipChanged);
            }
        }
    }

    /// Takes in one message: topic, body, number.
    fn hear(&mut self, frames: Vec<Vec<u8>>, source_id: &str, outlets: &Outlets) {
        let Ok([name, body, number]) = <[Vec<u8>; 3]>::try_from(frames) else { return };
        let Ok(number) = number.try_into().map(u32::from_le_bytes) else { return };
        // A subscription is to all topics that begin with its name.
        let Some(n) = self.lane.topics.iter().position(|topic| topic.name().as_bytes() == name) else {
            return;
        };
        let topic = self.lane.topics[n];
        let (feed, finding) = (topic.name(), self.numbers[n].observe(number));
        let inbox = &outlets.inbox;
        if topic.must_be_complete() {
            match finding {
                Finding::Complete => {}
                Finding::Lost { from, to } => inbox.finding(Notice::Gap { feed, from, to }),
                Finding::Restarted => inbox.finding(Notice::Restarted { feed }),
            }
        }
        let number = u64::from(number);
        match message::read(topic, body) {
            Ok(Message::Nothing) => {}
            Ok(Message::Bytes { txid, raw }) => inbox.body(txid, raw),
            Ok(Message::TipChanged) => inbox.message(feed, number, Notice::TipChanged),
            Ok(Message::Removed { txid, sequence, reason, by }) => {
                inbox.message(feed, number, Notice::Removed { txid, sequence, reason, by });
            }
            Ok(Message::Added { txid, sequence, tx: None }) => {
                inbox.message(feed, number, Notice::Added { txid, sequence, raw: None });
            }
            Ok(Message::Added { txid, sequence, tx: Some(tx) }) => {
                if let Some(tx) = hand_over(tx, outlets.unsettled.as_ref()) {
                    inbox.message(feed, number, Notice::Added { txid, sequence, raw: Some(tx.raw) });
                }
            }
            Err(message::Unreadable) => {
                warn!(source = source_id, topic = feed, number, "a ZMQ message cannot be read");
                inbox.finding(Notice::Gap { feed, from: number, to: number });
            }
        }
    }
}

/// Gives a transaction that is perhaps not final to those who ask the node about it; gives it back where it is final, or
/// nobody has time to ask.
fn hand_over(tx: RawTx, unsettled: Option<&Sender<RawTx>>) -> Option<RawTx> {
    let may_wait = tx.lock_time() != 0 && tx.inputs().any(|input| input.sequence != u32::MAX);
    match unsettled {
        Some(unsettled) if may_wait => unsettled.try_send(tx).err().map(|refused| refused.into_inner()),
        _ => Some(tx),
    }
}
