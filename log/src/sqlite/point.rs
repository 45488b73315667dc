//! Single records, by their offsets.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::Shared;
use super::fault::store;
use super::reader::Cursor;
use crate::chunk::{self, Joiner};
use crate::{PointReader, Record, Result, StartAt};

/// Reads single records of a topic.
pub(super) struct Point {
    shared: Arc<Shared>,
    topic: String,
    /// The partitions that have been read from.
    cursors: HashMap<i32, Cursor>,
}

impl Point {
    pub(super) fn new(shared: Arc<Shared>, topic: &str) -> Self {
        Self { shared, topic: topic.to_owned(), cursors: HashMap::new() }
    }
}

impl PointReader for Point {
    fn read_at(&mut self, partition: i32, offset: i64, _: Duration) -> Result<Option<Record>> {
        let conn = self.shared.connection()?;
        let attempt = || format!("read {}/{partition} at offset {offset}", self.topic);
        // One snapshot, so that retention cannot come in between.
        let tx = conn.unchecked_transaction().map_err(store(attempt()))?;
        if !self.cursors.contains_key(&partition) {
            let start = StartAt { topic: self.topic.clone(), partition, offset };
            self.cursors.insert(partition, Cursor::open(&tx, &start)?);
        }
        let Some(cursor) = self.cursors.get_mut(&partition) else { return Ok(None) };
        cursor.seek(offset);
        let mut joiner = Joiner::default();
        // A chunk has a batch of its own.
        while let Some(record) = cursor.next_record(&tx)? {
            if !joiner.is_partial() && chunk::is_continuation(&record) {
                return Ok(None);
            }
            if let Some(whole) = joiner.push(record)? {
                return Ok(Some(whole));
            }
        }
        Ok(None)
    }
}
