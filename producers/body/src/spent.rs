//! The outputs that a block spends, as Bitcoin Core tells them (`/rest/spenttxouts/HASH.bin`).

use std::io::Read;

use bytes::Bytes;
use sluice_schemas::Script;

use crate::Limits;
use crate::block::Error;
use crate::tx::RawTx;
use crate::wire::{Arriving, array, compact_size};

/// An output that is spent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spent {
    /// Satoshis.
    pub value: i64,
    /// Locking script.
    pub script_pubkey: Script,
    /// Height of the block that made it, where known.
    pub height: Option<i32>,
}

/// Reads the outputs spent by a block, transaction by transaction; the coinbase's are none.
#[derive(Debug)]
pub struct SpentReader<R> {
    limits: Limits,
    arriving: Arriving<R>,
    at: usize,
    /// Transactions, once their number is known.
    count: Option<u64>,
    next: u64,
}

const VALUE_BYTES: usize = 8;

impl<R: Read> SpentReader<R> {
    /// Reads nothing yet.
    pub fn new(read: R, limits: Limits) -> Self {
        Self { limits, arriving: Arriving::new(read), at: 0, count: None, next: 0 }
    }

    /// The outputs that the next transaction spends, in the order of its inputs; `None` after the last transaction.
    pub fn next_tx(&mut self) -> Result<Option<Vec<Spent>>, Error> {
        let count = match self.count {
            Some(count) => count,
            None => {
                let count = self.compact_size()?;
                *self.count.insert(count)
            }
        };
        if self.next == count {
            return Ok(None);
        }
        let outputs = self.compact_size()?;
        let mut spent = Vec::new();
        let mut bytes = 0u64;
        for _ in 0..outputs {
            self.need(VALUE_BYTES)?;
            let value = i64::from_le_bytes(array(&self.arriving.bytes, self.at));
            self.at += VALUE_BYTES;
            let length = self.compact_size()?;
            bytes = bytes.saturating_add(length).saturating_add(size_of::<Spent>() as u64);
            if bytes > self.limits.max_spent_bytes {
                return Err(self.failed(format!("they have more than {} bytes", self.limits.max_spent_bytes)));
            }
            let length = length as usize;
            self.need(length)?;
            let script = Bytes::copy_from_slice(&self.arriving.bytes[self.at..self.at + length]);
            self.at += length;
            spent.push(Spent { value, script_pubkey: Script(script), height: None });
        }
        self.next += 1;
        Ok(Some(spent))
    }

    /// The outputs that `tx`, the next transaction of the block, spends.
    ///
    /// # Errors
    /// Where there are none left, or not as many as it has inputs.
    pub fn next_for(&mut self, tx: &RawTx) -> Result<Vec<Spent>, Error> {
        let wanted = if tx.is_coinbase() { 0 } else { tx.input_count() };
        let position = self.next;
        let failed = |reason| Error::Spent { position, reason };
        let spent = self.next_tx()?.ok_or_else(|| failed("there are none left".into()))?;
        if spent.len() != wanted {
            return Err(failed(format!("they are {}, for {wanted} inputs", spent.len())));
        }
        Ok(spent)
    }

    /// Checks that nothing is left over.
    pub fn finish(mut self) -> Result<(), Error> {
        while self.next_tx()?.is_some() {}
        if self.at < self.arriving.bytes.len() || self.fill()? > 0 {
            return Err(self.failed("bytes follow after the last".into()));
        }
        Ok(())
    }

    fn compact_size(&mut self) -> Result<u64, Error> {
        loop {
            match compact_size(&self.arriving.bytes, self.at) {
                Ok(Some((number, next))) => {
                    self.at = next;
                    return Ok(number);
                }
                Ok(None) => self.need(self.arriving.bytes.len() - self.at + 1)?,
                Err(_) => return Err(self.failed("a count or length is not in its shortest form".into())),
            }
        }
    }

    /// Waits until `bytes` more have arrived.
    fn need(&mut self, bytes: usize) -> Result<(), Error> {
        while self.arriving.bytes.len() - self.at < bytes {
            self.arriving.bytes.drain(..std::mem::take(&mut self.at));
            if self.fill()? == 0 {
                return Err(self.failed("they are truncated".into()));
            }
        }
        Ok(())
    }

    fn fill(&mut self) -> Result<usize, Error> {
        self.arriving.fill().map_err(|error| self.failed(error.to_string()))
    }

    fn failed(&self, reason: String) -> Error {
        Error::Spent { position: self.next, reason }
    }
}
