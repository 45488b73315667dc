//! Generated blocks as streams.

use std::io::{self, Read};
use std::sync::Arc;

use bitcoin::block::Header;
use bitcoin::consensus::serialize;
use bitcoin::hashes::{Hash, HashEngine, sha256d};
use bitcoin::{TxOut, VarInt};

use super::merkle::Merkle;
use super::plan::{Piece, Plan, Transactions};

/// What data is made of, again and again.
const PATTERN_BYTES: usize = 64 << 10;
/// Bytes of small transactions made in one go.
const BATCH_BYTES: usize = 64 << 10;

/// The bytes that fill transactions: the same for all.
pub(super) fn pattern() -> Arc<[u8]> {
    (0..PATTERN_BYTES as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// Merkle root and size of a block: the first pass.
pub(super) fn measure(plan: &Plan, pattern: &[u8]) -> (sha256d::Hash, u64) {
    let mut transactions = Transactions::new(plan.clone());
    let mut merkle = Merkle::default();
    let mut size = 80 + serialize(&VarInt(plan.count())).len() as u64;
    while let Some(Piece { before, data, after }) = transactions.next() {
        size += before.len() as u64 + data + after.len() as u64;
        let mut engine = sha256d::Hash::engine();
        engine.input(before);
        let mut left = data;
        while left > 0 {
            let some = left.min(pattern.len() as u64);
            engine.input(&pattern[..some as usize]);
            left -= some;
        }
        engine.input(after);
        merkle.push(sha256d::Hash::from_engine(engine));
    }
    (merkle.root().expect("there is a coinbase"), size)
}

/// A block's bytes: the second pass.
pub(super) struct BodyStream {
    transactions: Transactions,
    pattern: Arc<[u8]>,
    /// Bytes that are ready, and how many of them were read.
    ready: Vec<u8>,
    read: usize,
    /// Data that comes after what is ready, and how much of it was read.
    data: u64,
    data_read: u64,
    /// What comes after the data.
    after: Vec<u8>,
}

impl BodyStream {
    pub(super) fn new(plan: Plan, header: &Header, pattern: Arc<[u8]>) -> Self {
        let mut ready = serialize(header);
        ready.extend(serialize(&VarInt(plan.count())));
        Self {
            transactions: Transactions::new(plan),
            pattern,
            ready,
            read: 0,
            data: 0,
            data_read: 0,
            after: Vec::new(),
        }
    }

    fn refill(&mut self) {
        self.ready.clear();
        self.read = 0;
        (self.data, self.data_read) = (0, 0);
        self.ready.append(&mut self.after);
        while self.ready.len() < BATCH_BYTES {
            let Some(Piece { before, data, after }) = self.transactions.next() else { break };
            self.ready.extend_from_slice(before);
            if data > 0 {
                self.data = data;
                self.after.extend_from_slice(after);
                break;
            }
            self.ready.extend_from_slice(after);
        }
    }
}

impl Read for BodyStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.read == self.ready.len() && self.data_read == self.data {
            self.refill();
        }
        if self.read < self.ready.len() {
            let some = buffer.len().min(self.ready.len() - self.read);
            buffer[..some].copy_from_slice(&self.ready[self.read..self.read + some]);
            self.read += some;
            return Ok(some);
        }
        let at = (self.data_read % self.pattern.len() as u64) as usize;
        let left = usize::try_from(self.data - self.data_read).unwrap_or(usize::MAX);
        let some = buffer.len().min(left).min(self.pattern.len() - at);
        buffer[..some].copy_from_slice(&self.pattern[at..at + some]);
        self.data_read += some as u64;
        Ok(some)
    }
}

/// What a block spends, as Bitcoin Core's `/rest/spenttxouts/HASH.bin`.
pub(super) struct SpentStream {
    plan: Plan,
    next: u64,
    ready: Vec<u8>,
    read: usize,
}

impl SpentStream {
    pub(super) fn new(plan: Plan) -> Self {
        let ready = serialize(&VarInt(plan.count()));
        Self { plan, next: 0, ready, read: 0 }
    }

    fn refill(&mut self) {
        self.ready.clear();
        self.read = 0;
        while self.next < self.plan.count() && self.ready.len() < BATCH_BYTES {
            let spent: Vec<TxOut> = self.plan.spends(self.next).into_iter().collect();
            self.ready.extend(serialize(&spent));
            self.next += 1;
        }
    }
}

impl Read for SpentStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.read == self.ready.len() {
            self.refill();
        }
        let some = buffer.len().min(self.ready.len() - self.read);
        buffer[..some].copy_from_slice(&self.ready[self.read..self.read + some]);
        self.read += some;
        Ok(some)
    }
}
