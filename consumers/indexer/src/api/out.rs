//! An answer in the making, written by a blocking thread: small ones are sent whole, large ones part by part as they are
//! written, so that an answer of any size takes the same little memory.

use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use http_body::Frame;
use serde::Serialize;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::error::Error;
use super::gate::Gate;

/// An answer up to this size is sent whole, with its length and `ETag`; of a larger one, parts of this size are.
pub(super) const PART_BYTES: usize = 256 << 10;
/// Parts that may wait for a client to take them.
const PARTS_WAITING: usize = 2;

/// What kind of bytes an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Media {
    Json,
    Text,
    Binary,
}

/// How long an answer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Freshness {
    /// Forever.
    Immutable,
    /// It may be kept, but must be asked for again each time: what has not changed is answered with 304.
    Changing,
    /// It must not be kept.
    Once,
}

/// What is known of an answer before its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) media: Media,
    pub(super) freshness: Freshness,
    /// Bytes to come, where they are known; for large answers.
    pub(super) length: Option<u64>,
    /// What stands for the content, where something does; a hash of the bytes stands for those of small answers.
    pub(super) tag: Option<String>,
}

/// What comes first of an answer.
pub(super) enum First {
    /// All of it.
    Whole(Head, Vec<u8>),
    /// Its beginning is on the way.
    Begun(Head, Parts),
}

/// Takes an answer's bytes.
pub(super) struct Out {
    head: Head,
    buffer: Vec<u8>,
    first: Option<oneshot::Sender<Result<First, Error>>>,
    parts: Option<mpsc::Sender<io::Result<Bytes>>>,
    streams: Gate,
    /// Given back when the answer turns out to be a stream, which has places of its own.
    place: Option<OwnedSemaphorePermit>,
    runtime: Handle,
    deadline: Instant,
    /// How long a part may wait for the client before it is given up.
    stall: Duration,
}

impl Out {
    /// To be used on a blocking thread of `runtime`.
    pub(super) fn new(
        first: oneshot::Sender<Result<First, Error>>,
        place: OwnedSemaphorePermit,
        streams: Gate,
        runtime: Handle,
        deadline: Instant,
        stall: Duration,
    ) -> Self {
        let head = Head { media: Media::Text, freshness: Freshness::Once, length: None, tag: None };
        let (first, place) = (Some(first), Some(place));
        Self { head, buffer: Vec::new(), first, parts: None, streams, place, runtime, deadline, stall }
    }

    /// Says what is going to be written. Has no effect after the first part is sent.
    pub(super) fn head(&mut self, media: Media, freshness: Freshness) -> &mut Head {
        (self.head.media, self.head.freshness) = (media, freshness);
        &mut self.head
    }

    /// A line of text.
    pub(super) fn text(&mut self, freshness: Freshness, text: impl std::fmt::Display) -> Result<(), Error> {
        self.head(Media::Text, freshness);
        Ok(write!(self, "{text}")?)
    }

    /// A JSON value.
    pub(super) fn json(&mut self, freshness: Freshness, value: &impl Serialize) -> Result<(), Error> {
        self.head(Media::Json, freshness);
        Ok(serde_json::to_writer(self, value)?)
    }

    /// A JSON array of values that come one by one.
    pub(super) fn json_array<T: Serialize>(
        &mut self,
        freshness: Freshness,
        values: impl Iterator<Item = Result<T, Error>>,
    ) -> Result<(), Error> {
        self.head(Media::Json, freshness);
        let mut separator = b"[";
        for value in values {
            let value = value?;
            self.write_all(separator)?;
            serde_json::to_writer(&mut *self, &value)?;
            separator = b",";
            self.in_time()?;
        }
        if separator == b"[" {
            self.write_all(b"[")?;
        }
        Ok(self.write_all(b"]")?)
    }

    /// Whether there is still somebody who waits, and time. To be asked now and then by what takes long.
    pub(super) fn in_time(&self) -> Result<(), Error> {
        match &self.first {
            Some(first) if first.is_closed() => Err(Error::Gone),
            Some(_) if Instant::now() >= self.deadline => Err(Error::TimedOut),
            _ => Ok(()),
        }
    }

    /// Ends the answer.
    pub(super) fn finish(mut self, result: Result<(), Error>) {
        if self.first.is_some() {
            // Whoever has the answer may ask for the next at once.
            self.place = None;
        }
        match (self.first.take(), result) {
            (Some(first), Ok(())) => {
                let whole = First::Whole(self.head.clone(), std::mem::take(&mut self.buffer));
                let _ = first.send(Ok(whole));
            }
            (Some(first), Err(error)) => drop(first.send(Err(error))),
            (None, Ok(())) => drop(self.send_part()),
            (None, Err(error)) => {
                // The status is sent already: the client learns of it by the connection that breaks off.
                if !matches!(error, Error::Gone) {
                    tracing::warn!(%error, "an answer broke off");
                }
                self.buffer.clear();
                if let Some(parts) = &self.parts {
                    let broken = Err(io::Error::other("the answer broke off"));
                    let _ = self.runtime.block_on(tokio::time::timeout(self.stall, parts.send(broken)));
                }
            }
        }
    }

    fn begin(&mut self) -> io::Result<()> {
        let Some(first) = self.first.take() else { return Ok(()) };
        let place = match self.streams.try_enter() {
            Ok(place) => place,
            Err(busy) => {
                let _ = first.send(Err(busy));
                return Err(gone());
            }
        };
        self.place = Some(place);
        let (sender, receiver) = mpsc::channel(PARTS_WAITING);
        self.parts = Some(sender);
        let begun = First::Begun(self.head.clone(), Parts(receiver));
        first.send(Ok(begun)).map_err(|_| gone())
    }

    fn send_part(&mut self) -> io::Result<()> {
        self.begin()?;
        if self.buffer.is_empty() {
            return Ok(());
        }
        let Some(parts) = &self.parts else { return Err(gone()) };
        let part = Bytes::from(std::mem::replace(&mut self.buffer, Vec::with_capacity(PART_BYTES)));
        match self.runtime.block_on(tokio::time::timeout(self.stall, parts.send(Ok(part)))) {
            Ok(Ok(())) => Ok(()),
            _ => Err(gone()),
        }
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() >= PART_BYTES {
            self.send_part()?;
        }
        let taken = bytes.len().min(PART_BYTES - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn gone() -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}

/// The parts of a large answer.
pub(super) struct Parts(mpsc::Receiver<io::Result<Bytes>>);

impl Parts {
    pub(super) fn into_body(self) -> Body {
        Body::new(self)
    }
}

impl HttpBody for Parts {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(context).map(|part| part.map(|part| part.map(Frame::data)))
    }
}
