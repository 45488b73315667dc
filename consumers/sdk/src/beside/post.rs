//! Appends to the topics beside the chain's.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sluice_log::{AppendedRange, Class, Error, Log, NewRecord, Result, Writer};

/// How long an append is tried again and again.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(200);

/// A record to append.
#[derive(Clone, Debug)]
pub(crate) struct Parcel {
    /// Partition.
    pub(crate) partition: i32,
    /// Milliseconds since 1970.
    pub(crate) timestamp: i64,
    /// Key.
    pub(crate) key: Vec<u8>,
    /// Value.
    pub(crate) value: bytes::Bytes,
    /// Headers.
    pub(crate) headers: Vec<(&'static str, String)>,
}

/// A writer of one transactional id, opened when it is first needed.
///
/// The records it is for say the same when they are there twice. So it needs no certainty about a failed commit: it appends
/// once more.
pub(crate) struct Post {
    log: Arc<dyn Log>,
    transactional_id: String,
    writer: Option<Box<dyn Writer>>,
}

impl Post {
    pub(crate) fn new(log: Arc<dyn Log>, transactional_id: String) -> Self {
        Self { log, transactional_id, writer: None }
    }

    /// Takes over as the writer, which ends what an earlier one, killed perhaps, has left open.
    pub(crate) fn take_over(&mut self) -> Result<()> {
        self.writer = Some(self.log.writer(&self.transactional_id)?);
        Ok(())
    }

    /// Appends records together, and says where they are.
    ///
    /// # Errors
    /// What the log said last, after a minute of trying.
    pub(crate) fn send(&mut self, topic: &str, parcels: &[Parcel]) -> Result<Vec<AppendedRange>> {
        let started = Instant::now();
        loop {
            let error = match self.try_send(topic, parcels) {
                Ok(ranges) => return Ok(ranges),
                Err(error) => error,
            };
            // A writer after an error may be of no more use, and taking over again never harms.
            self.writer = None;
            let passes = matches!(error.class(), Class::Retry | Class::Abort | Class::Fenced);
            if !passes || started.elapsed() > PATIENCE {
                return Err(error);
            }
            tracing::warn!(topic, %error, "failed to append, trying again");
            std::thread::sleep(PAUSE);
        }
    }

    fn try_send(&mut self, topic: &str, parcels: &[Parcel]) -> Result<Vec<AppendedRange>> {
        if self.writer.is_none() {
            self.take_over()?;
        }
        let Some(writer) = &mut self.writer else {
            return Err(Error::Fenced { transactional_id: self.transactional_id.clone() });
        };
        writer.begin()?;
        for parcel in parcels {
            let headers: Vec<(&str, &[u8])> =
                parcel.headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
            writer.send(&NewRecord {
                topic,
                partition: parcel.partition,
                timestamp: parcel.timestamp,
                key: &parcel.key,
                value: &parcel.value,
                headers: &headers,
            })?;
        }
        let ranges = writer.mark()?;
        writer.commit()?;
        Ok(ranges)
    }
}
