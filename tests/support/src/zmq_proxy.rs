//! Between a node's ZMQ socket and the producer: loses the messages it is told to lose.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often the proxy looks whether it should end.
const TICK: Duration = Duration::from_millis(50);

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes on.
    Passed,
    /// It is lost.
    Lost,
}

type Judge = dyn FnMut(&str, &[u8], u32) -> Fate + Send;

/// A proxy of one node's messages.
pub struct ZmqProxy {
    endpoint: String,
    judge: Arc<Mutex<Box<Judge>>>,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl ZmqProxy {
    /// Passes everything that `node` publishes.
    pub fn start(node: &str) -> Self {
        let context = zmq::Context::new();
        let from = context.socket(zmq::SUB).expect("a socket");
        from.set_rcvhwm(0).expect("no limit");
        from.set_subscribe(b"").expect("all topics");
        from.connect(node).expect("the node");
        let to = context.socket(zmq::PUB).expect("a socket");
        to.set_sndhwm(0).expect("no limit");
        to.set_linger(0).expect("no lingering");
        to.bind("tcp://127.0.0.1:*").expect("a free port");
        let endpoint = to.get_last_endpoint().expect("an endpoint").expect("UTF-8");
        let judge: Arc<Mutex<Box<Judge>>> = Arc::new(Mutex::new(Box::new(|_, _, _| Fate::Passed)));
        let stopped = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (judge, stopped) = (Arc::clone(&judge), Arc::clone(&stopped));
            move || pass(&from, &to, &judge, &stopped)
        });
        Self { endpoint, judge, stopped, thread: Some(thread) }
    }

    /// For `--zmq`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// From now on `judge` decides, by topic, body and the node's number of each message.
    pub fn set(&self, judge: impl FnMut(&str, &[u8], u32) -> Fate + Send + 'static) {
        *self.judge.lock().expect("the proxy did not panic") = Box::new(judge);
    }
}

impl Drop for ZmqProxy {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn pass(from: &zmq::Socket, to: &zmq::Socket, judge: &Mutex<Box<Judge>>, stopped: &AtomicBool) {
    while !stopped.load(Ordering::Relaxed) {
        if from.poll(zmq::POLLIN, TICK.as_millis() as i64).expect("a socket") == 0 {
            continue;
        }
        let frames = from.recv_multipart(0).expect("a message");
        let [topic, body, number] = &frames[..] else { continue };
        let number = u32::from_le_bytes(number[..].try_into().expect("4 bytes"));
        let topic = String::from_utf8_lossy(topic);
        let fate = judge.lock().expect("the judge did not panic")(&topic, body, number);
        if fate == Fate::Passed {
            to.send_multipart(&frames, 0).expect("a message");
        }
    }
}
