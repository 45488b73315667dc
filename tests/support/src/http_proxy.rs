//! Between a node's HTTP port and the producer: spoils the answers it is told to spoil.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// What is done to the bodies of blocks on their way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mangle {
    /// Nothing.
    Nothing,
    /// One bit of the last byte flips: the merkle root no longer fits, or the last lock time.
    FlipLastBit,
    /// The connection breaks after half of the body.
    CutInHalf,
    /// The body ends in good order after half of it: only who counts notices.
    EndAtHalf,
    /// The body of another block, in hexadecimal display order.
    Replace(String),
    /// Bodies come so much later.
    Late(Duration),
    /// Everything is answered with this status and no body.
    Refuse(u16),
    /// Paths that begin like this are unknown: status 404 and no body, as an older node says of a newer path.
    Unknown(&'static str),
}

struct Shared {
    node: String,
    mangle: Mutex<Mangle>,
    mangled: AtomicU32,
    stopped: AtomicBool,
}

/// A proxy of one node.
pub struct HttpProxy {
    address: String,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl HttpProxy {
    /// Passes everything to the node at `address` (host and port).
    pub fn start(address: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let own = listener.local_addr().expect("an address").to_string();
        let shared = Arc::new(Shared {
            node: address.to_owned(),
            mangle: Mutex::new(Mangle::Nothing),
            mangled: AtomicU32::new(0),
            stopped: AtomicBool::new(false),
        });
        let thread = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Self { address: own, shared, thread: Some(thread) }
    }

    /// Its host and port.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// From now on bodies are spoiled like this.
    pub fn set(&self, mangle: Mangle) {
        *self.shared.mangle.lock().expect("no panic with the lock") = mangle;
    }

    /// How many answers were spoiled so far.
    pub fn mangled(&self) -> u32 {
        self.shared.mangled.load(Ordering::SeqCst)
    }
}

impl Drop for HttpProxy {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(&self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        if shared.stopped.load(Ordering::SeqCst) {
            return;
        }
        let Ok(client) = client else { continue };
        let shared = Arc::clone(shared);
        // Ends with its connection, which ends with either side.
        std::thread::spawn(move || drop(serve(client, &shared)));
    }
}

/// One connection: requests one by one, each over a new connection to the node.
fn serve(client: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut requests = BufReader::new(client.try_clone()?);
    let mut answers = client;
    while let Some(request) = Message::read_head(&mut requests)? {
        let mangle = shared.mangle.lock().expect("no panic with the lock").clone();
        let refused = match mangle {
            Mangle::Refuse(status) => Some(status),
            Mangle::Unknown(path) if request.start.contains(&format!(" {path}")) => Some(404),
            _ => None,
        };
        if let Some(status) = refused {
            request.skip_body(&mut requests)?;
            shared.mangled.fetch_add(1, Ordering::SeqCst);
            write!(answers, "HTTP/1.1 {status} Refused\r\nContent-Length: 0\r\n\r\n")?;
            continue;
        }
        let is_body = request.start.contains("/rest/block/") || request.start.contains("/rest/blockpart/");
        let mut start = request.start.clone();
        if let (true, Mangle::Replace(other)) = (is_body, &mangle) {
            let end = start.find(".bin").expect("a body in binary form");
            start.replace_range(end - 64..end, other);
            shared.mangled.fetch_add(1, Ordering::SeqCst);
        }
        if let (true, Mangle::Late(late)) = (is_body, &mangle) {
            std::thread::sleep(*late);
        }
        let node = TcpStream::connect(&shared.node)?;
        let mut to_node = node.try_clone()?;
        write!(to_node, "{start}\r\n")?;
        for header in &request.headers {
            write!(to_node, "{header}\r\n")?;
        }
        write!(to_node, "\r\n")?;
        std::io::copy(&mut (&mut requests).take(request.length), &mut to_node)?;
        let mut from_node = BufReader::new(node);
        let Some(answer) = Message::read_head(&mut from_node)? else { return Ok(()) };
        let ok = answer.start.contains(" 200");
        match mangle {
            Mangle::FlipLastBit | Mangle::CutInHalf | Mangle::EndAtHalf if is_body && ok => {
                let mut body = answer.body(&mut from_node)?;
                shared.mangled.fetch_add(1, Ordering::SeqCst);
                let announced = match mangle {
                    Mangle::EndAtHalf => body.len() / 2,
                    _ => body.len(),
                };
                let sent = match mangle {
                    Mangle::FlipLastBit => body.len(),
                    _ => body.len() / 2,
                };
                if let (Mangle::FlipLastBit, Some(last)) = (&mangle, body.last_mut()) {
                    *last ^= 1;
                }
                write!(answers, "HTTP/1.1 200 OK\r\nContent-Length: {announced}\r\n\r\n")?;
                answers.write_all(&body[..sent])?;
                if sent < announced {
                    return answers.shutdown(std::net::Shutdown::Both);
                }
            }
            _ => {
                let body = answer.body(&mut from_node)?;
                let chunked = |h: &&String| !h.to_lowercase().starts_with("transfer-encoding");
                let length = |h: &&String| !h.to_lowercase().starts_with("content-length");
                write!(answers, "{}\r\n", answer.start)?;
                for header in answer.headers.iter().filter(chunked).filter(length) {
                    write!(answers, "{header}\r\n")?;
                }
                write!(answers, "Content-Length: {}\r\n\r\n", body.len())?;
                answers.write_all(&body)?;
            }
        }
    }
    Ok(())
}

/// The head of a request or an answer.
struct Message {
    start: String,
    headers: Vec<String>,
    length: u64,
    chunked: bool,
}

impl Message {
    fn read_head(from: &mut impl BufRead) -> std::io::Result<Option<Self>> {
        let Some(start) = line(from)? else { return Ok(None) };
        let mut message = Self { start, headers: Vec::new(), length: 0, chunked: false };
        while let Some(header) = line(from)?.filter(|line| !line.is_empty()) {
            if let Some((name, value)) = header.split_once(':') {
                match name.to_lowercase().as_str() {
                    "content-length" => message.length = value.trim().parse().unwrap_or(0),
                    "transfer-encoding" => message.chunked = value.contains("chunked"),
                    _ => {}
                }
            }
            message.headers.push(header);
        }
        Ok(Some(message))
    }

    fn skip_body(&self, from: &mut impl Read) -> std::io::Result<()> {
        std::io::copy(&mut from.take(self.length), &mut std::io::sink()).map(drop)
    }

    fn body(&self, from: &mut impl BufRead) -> std::io::Result<Vec<u8>> {
        let mut body = Vec::new();
        if !self.chunked {
            from.take(self.length).read_to_end(&mut body)?;
            return Ok(body);
        }
        while let Some(size) = line(from)? {
            let size = u64::from_str_radix(size.trim(), 16).unwrap_or(0);
            from.take(size).read_to_end(&mut body)?;
            line(from)?;
            if size == 0 {
                break;
            }
        }
        Ok(body)
    }
}

/// A line without its end, or `None` at the end of the stream.
fn line(from: &mut impl BufRead) -> std::io::Result<Option<String>> {
    let mut bytes = Vec::new();
    if from.read_until(b'\n', &mut bytes)? == 0 {
        return Ok(None);
    }
    Ok(Some(String::from_utf8_lossy(&bytes).trim_end().to_owned()))
}
