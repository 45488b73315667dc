//! A client of `/events`, and what it makes of them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;
use sluice_consumer::Cursor;
use sluice_schemas::Action;
use sluice_test_support::soon;

/// How long a read may wait before the test looks at what else happens.
const LOOK: Duration = Duration::from_millis(200);

/// An event as it came.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) data: Value,
}

/// A connection to `/events`.
pub(crate) struct Stream {
    pub(crate) reader: BufReader<TcpStream>,
    pub(crate) status: u16,
    partial: Event,
    line: Vec<u8>,
}

impl Stream {
    pub(crate) fn open(address: SocketAddr, query: &str, last_id: Option<&str>) -> Self {
        Self::over(TcpStream::connect(address).unwrap(), query, last_id)
    }

    pub(crate) fn over(mut socket: TcpStream, query: &str, last_id: Option<&str>) -> Self {
        socket.set_read_timeout(Some(LOOK)).unwrap();
        socket.write_all(request(query, last_id).as_bytes()).unwrap();
        let mut stream =
            Self { reader: BufReader::new(socket), status: 0, partial: Event::default(), line: Vec::new() };
        let mut head = Vec::new();
        while head.last().is_none_or(|line: &String| !line.is_empty()) {
            if let Some(line) = stream.next_line() {
                head.push(line.expect("a whole head"));
            }
        }
        stream.status = head[0].split(' ').nth(1).unwrap().parse().unwrap();
        stream
    }

    /// The next line; `None` where none came in time, `Some(None)` at the end.
    fn next_line(&mut self) -> Option<Option<String>> {
        match self.reader.read_until(b'\n', &mut self.line) {
            Ok(0) => Some(None),
            Ok(_) if !self.line.ends_with(b"\n") => Some(None),
            Ok(_) => {
                Some(Some(String::from_utf8(std::mem::take(&mut self.line)).unwrap().trim_end().to_owned()))
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// The next event; `None` where none came in time, `Some(None)` at the end.
    pub(crate) fn next(&mut self) -> Option<Option<Event>> {
        loop {
            let Some(line) = self.next_line()? else { return Some(None) };
            match line.split_once(':').map(|(name, value)| (name, value.trim_start())) {
                Some(("id", id)) => id.clone_into(&mut self.partial.id),
                Some(("event", name)) => name.clone_into(&mut self.partial.name),
                Some(("data", data)) => self.partial.data = serde_json::from_str(data).unwrap(),
                Some(("", _)) => {}
                None if line.is_empty() && self.partial != Event::default() => {
                    return Some(Some(std::mem::take(&mut self.partial)));
                }
                None if line.is_empty() => {}
                _ => panic!("{line:?} is no line of an event"),
            }
        }
    }

    /// The next event, which must come.
    pub(crate) fn must(&mut self) -> Event {
        soon("an event", || self.next().ok_or("silence")).expect("the stream goes on")
    }

    pub(crate) fn body(mut self) -> String {
        let mut body = String::new();
        while let Err(error) = self.reader.read_to_string(&mut body) {
            assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
        }
        body
    }
}

/// HTTP/1.0, so that the answer comes as it is and not in chunks.
pub(crate) fn request(query: &str, last_id: Option<&str>) -> String {
    let id = last_id.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
    format!("GET /events{query} HTTP/1.0\r\nHost: test\r\n{id}\r\n")
}

/// What a client makes of the events it is told.
#[derive(Debug, Default)]
pub(crate) struct Fold {
    pub(crate) last_id: Option<String>,
    /// Action and block of every event, in order.
    pub(crate) blocks: Vec<(Action, String)>,
    pub(crate) mempool: BTreeSet<String>,
    /// Every transaction that came.
    pub(crate) seen: BTreeSet<String>,
    /// Whether one may leave that never came.
    is_filtered: bool,
    /// With a filter: transactions of blocks, by how often they were connected less how often disconnected.
    pub(crate) confirmed: BTreeMap<String, i32>,
}

impl Fold {
    pub(crate) fn filtered() -> Self {
        Self { is_filtered: true, ..Self::default() }
    }

    pub(crate) fn take(&mut self, event: &Event) {
        let text = |name: &str| event.data[name].as_str().unwrap().to_owned();
        match event.name.as_str() {
            "" | "dropped" => {}
            "connected" => self.block(event, Action::Connected, 1),
            "disconnected" => self.block(event, Action::Disconnected, -1),
            "reset" => self.mempool.clear(),
            "added" => {
                assert!(self.mempool.insert(text("txid")), "{event:?} came twice");
                self.seen.insert(text("txid"));
            }
            "removed" if self.is_filtered => drop(self.mempool.remove(&text("txid"))),
            "removed" => assert!(self.mempool.remove(&text("txid")), "{event:?} was not there"),
            name => panic!("{name}?"),
        }
        assert!(event.id.parse::<Cursor>().is_ok(), "{event:?} has no cursor");
        self.last_id = Some(event.id.clone());
    }

    fn block(&mut self, event: &Event, action: Action, by: i32) {
        self.blocks.push((action, event.data["hash"].as_str().unwrap().to_owned()));
        for txid in event.data["transactions"].as_array().into_iter().flatten() {
            *self.confirmed.entry(txid.as_str().unwrap().to_owned()).or_default() += by;
        }
    }
}
