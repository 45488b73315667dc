//! The events of letters, read where they are.

use std::time::Duration;

use sluice_log::{Error, Log, PointReader, Record, Result};

/// How long the log may take to give one.
const PATIENCE: Duration = Duration::from_secs(30);

/// Reads letters of one dead letter topic by their place.
pub(crate) struct Shelf {
    topic: String,
    reader: Box<dyn PointReader>,
}

impl Shelf {
    pub(crate) fn open(log: &dyn Log, topic: String) -> Result<Self> {
        Ok(Self { reader: log.point_reader(&topic)?, topic })
    }

    /// The whole record that starts at an offset.
    pub(crate) fn record_at(&mut self, partition: i32, offset: i64) -> Result<Record> {
        let found = self.reader.read_at(partition, offset, PATIENCE)?;
        found.ok_or_else(|| Error::NoSuchEvent { topic: self.topic.clone(), partition, offset })
    }
}
