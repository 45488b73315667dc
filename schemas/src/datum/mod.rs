//! Bare Avro data. The current schemas are read and written field after field: the hot path of a backfill and of a replay.
//!
//! Golden bytes of fastavro and arbitrary events of apache-avro hold both halves to the schemas (`tests/`).

mod check;
mod read;
mod write;

use crate::event::{ChainEvent, Event, EventKind, MempoolEvent, StatusEvent, TransactionEvent};

pub(crate) use check::check;

/// Keeps `Event` to the events of the contract.
pub trait Sealed {}

impl Sealed for ChainEvent {}
impl Sealed for TransactionEvent {}
impl Sealed for MempoolEvent {}
impl Sealed for StatusEvent {}

/// Bytes of the longest long.
const MAX_LONG_BYTES: usize = 10;

impl Event for ChainEvent {
    const KIND: EventKind = EventKind::Chain;

    fn write_datum(&self, out: &mut Vec<u8>) {
        write::chain_event(self, out);
    }

    fn read_datum(datum: &[u8]) -> Result<Self, String> {
        read::whole(datum, |reader| reader.chain_event())
    }
}

impl Event for TransactionEvent {
    const KIND: EventKind = EventKind::Transaction;

    fn write_datum(&self, out: &mut Vec<u8>) {
        write::transaction_event(self, out);
    }

    fn read_datum(datum: &[u8]) -> Result<Self, String> {
        read::whole(datum, |reader| reader.transaction_event())
    }
}

impl Event for MempoolEvent {
    const KIND: EventKind = EventKind::Mempool;

    fn write_datum(&self, out: &mut Vec<u8>) {
        write::mempool_event(self, out);
    }

    fn read_datum(datum: &[u8]) -> Result<Self, String> {
        read::whole(datum, |reader| reader.mempool_event())
    }
}

impl Event for StatusEvent {
    const KIND: EventKind = EventKind::Status;

    fn write_datum(&self, out: &mut Vec<u8>) {
        write::status_event(self, out);
    }

    fn read_datum(datum: &[u8]) -> Result<Self, String> {
        read::whole(datum, |reader| reader.status_event())
    }
}
