//! One block out of bytes that arrive.

use std::io::{self, Read};

use bitcoin::block::Header;
use bitcoin::consensus::deserialize;
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, TxMerkleNode};
use bytes::Bytes;
use sluice_schemas::Flavour;

use crate::Limits;
use crate::merkle::MerkleTree;
use crate::scan::{Progress, Scan};
use crate::tx::{RawTx, TxError};
use crate::wire::{Arriving, array, compact_size, double_sha256};

/// Why bytes are not the block asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// They did not arrive.
    #[error("failed to read the block after {at} bytes: {reason}")]
    Read {
        /// Bytes used up before.
        at: u64,
        /// What the reader said.
        #[source]
        reason: io::Error,
    },
    /// They ended too early.
    #[error("truncated after {bytes} bytes, in {part}")]
    Truncated {
        /// How many there were.
        bytes: u64,
        /// Where they ended.
        part: String,
    },
    /// It is another block.
    #[error("it is block {found}, not {expected}")]
    WrongBlock {
        /// The block asked for.
        expected: BlockHash,
        /// The block that came.
        found: BlockHash,
    },
    /// It has no transactions.
    #[error("it has no transactions")]
    NoTransactions,
    /// The number of transactions takes more bytes than it needs.
    #[error("the number of transactions is not in its shortest form")]
    NonCanonicalCount,
    /// A transaction cannot be read.
    #[error("transaction {position} cannot be read: {reason}")]
    Transaction {
        /// Its index in the block.
        position: u64,
        /// What is wrong with it.
        #[source]
        reason: TxError,
    },
    /// The first transaction is not a coinbase, or another one is.
    #[error("transaction {position} {}", if *.position == 0 { "is not a coinbase" } else { "is a second coinbase" })]
    Coinbase {
        /// Its index in the block.
        position: u64,
    },
    /// The transactions are not those that the header commits to.
    #[error("merkle root is {found}, the header has {expected}")]
    MerkleRoot {
        /// The header's.
        expected: TxMerkleNode,
        /// That of the transactions.
        found: TxMerkleNode,
    },
    /// Transactions are repeated in a way that keeps the merkle root (CVE-2012-2459).
    #[error("transactions are repeated behind the same merkle root")]
    Mutated,
    /// The witnesses are not those that the coinbase commits to (BIP-141).
    #[error("the witnesses are not those that the coinbase commits to")]
    WitnessCommitment,
    /// Bytes follow after the last transaction.
    #[error("bytes follow after its last transaction, at byte {at}")]
    Trailing {
        /// Size of the block.
        at: u64,
    },
    /// The outputs that a transaction spends cannot be read or do not fit to it.
    #[error("outputs spent by transaction {position} cannot be used: {reason}")]
    Spent {
        /// Index of the transaction in the block.
        position: u64,
        /// What is wrong.
        reason: String,
    },
}

/// A block that has been read to its end and is what its header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Number of transactions.
    pub tx_count: u64,
    /// Serialized size in bytes, with witnesses.
    pub size: u64,
    /// Serialized size in bytes, without witnesses.
    pub base_size: u64,
}

impl Summary {
    /// Weight (BIP-141), where the chain has witnesses.
    pub fn weight(&self) -> u64 {
        self.base_size * 3 + self.size
    }
}

/// Reads a block transaction by transaction. Its transactions may be believed when `finish` says so, not before.
#[derive(Debug)]
pub struct BlockReader<R> {
    limits: Limits,
    header: Header,
    tx_count: u64,
    /// Bytes that are being filled up; empty while `chunk` still serves.
    arriving: Arriving<R>,
    /// What is left of the last chunk that held a whole transaction.
    chunk: Bytes,
    next: u64,
    size: u64,
    base_size: u64,
    txids: MerkleTree,
    witnesses: Witnesses,
}

const HEADER_BYTES: usize = 80;

impl<R: Read> BlockReader<R> {
    /// Reads the header and the number of transactions.
    ///
    /// # Errors
    /// `Error::WrongBlock` where the header is not that of `expected`.
    pub fn new(read: R, expected: BlockHash, limits: Limits) -> Result<Self, Error> {
        let mut arriving = Arriving::new(read);
        let (tx_count, head) = loop {
            match compact_size(&arriving.bytes, HEADER_BYTES) {
                Ok(Some(found)) => break found,
                Ok(None) => {}
                Err(_) => return Err(Error::NonCanonicalCount),
            }
            if fill(&mut arriving, 0)? == 0 {
                return Err(Error::Truncated {
                    bytes: arriving.bytes.len() as u64,
                    part: "the header".into(),
                });
            }
        };
        let header_bytes: [u8; HEADER_BYTES] = array(&arriving.bytes, 0);
        let found = BlockHash::from_byte_array(double_sha256(&[&header_bytes]));
        if found != expected {
            return Err(Error::WrongBlock { expected, found });
        }
        if tx_count == 0 {
            return Err(Error::NoTransactions);
        }
        let header = deserialize(&header_bytes).expect("any 80 bytes are a header");
        let mut chunk = Bytes::from(std::mem::take(&mut arriving.bytes));
        let _ = chunk.split_to(head);
        Ok(Self {
            limits,
            header,
            tx_count,
            arriving,
            chunk,
            next: 0,
            size: head as u64,
            base_size: head as u64,
            txids: MerkleTree::default(),
            witnesses: Witnesses::default(),
        })
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// How many transactions the block says it has.
    pub fn tx_count(&self) -> u64 {
        self.tx_count
    }

    /// The next transaction, or `None` after the last.
    pub fn next_tx(&mut self) -> Result<Option<RawTx>, Error> {
        if self.next == self.tx_count {
            return Ok(None);
        }
        let position = self.next;
        let failed = |reason| Error::Transaction { position, reason };
        let max = self.limits.max_tx_bytes;
        let mut scan = Scan::new(self.limits.flavour);
        let end = loop {
            let bytes = if self.arriving.bytes.is_empty() { &self.chunk[..] } else { &self.arriving.bytes };
            match scan.advance(bytes).map_err(failed)? {
                Progress::Done(end) if end as u64 <= max => break end,
                Progress::Done(end) => return Err(failed(TxError::TooLarge { bytes: end as u64, max })),
                Progress::Need(bytes) if bytes > max => return Err(failed(TxError::TooLarge { bytes, max })),
                Progress::Need(_) => self.fill()?,
            }
        };
        if !self.arriving.bytes.is_empty() {
            self.chunk = std::mem::take(&mut self.arriving.bytes).into();
        }
        let tx = RawTx::new(self.chunk.split_to(end), scan.layout);
        if tx.is_coinbase() != (position == 0) {
            return Err(Error::Coinbase { position });
        }
        self.next += 1;
        self.size += tx.size();
        self.base_size += tx.base_size;
        self.txids.push(tx.txid.to_byte_array());
        if self.limits.flavour == Flavour::Btc {
            self.witnesses.push(&tx);
        }
        Ok(Some(tx))
    }

    /// Reads what is left and checks the whole: that nothing is missing, nothing left over, and that the transactions
    /// are those of the header.
    pub fn finish(mut self) -> Result<Summary, Error> {
        while self.next_tx()?.is_some() {}
        if !self.chunk.is_empty() || fill(&mut self.arriving, self.size)? > 0 {
            return Err(Error::Trailing { at: self.size });
        }
        let root = self.txids.root().expect("a block without transactions is refused at its start");
        let found = TxMerkleNode::from_byte_array(root);
        if found != self.header.merkle_root {
            return Err(Error::MerkleRoot { expected: self.header.merkle_root, found });
        }
        if self.txids.is_mutated() {
            return Err(Error::Mutated);
        }
        if !self.witnesses.are_committed() {
            return Err(Error::WitnessCommitment);
        }
        Ok(Summary { tx_count: self.tx_count, size: self.size, base_size: self.base_size })
    }

    fn fill(&mut self) -> Result<(), Error> {
        if self.arriving.bytes.is_empty() {
            self.arriving.bytes.reserve_exact(self.chunk.len() + crate::wire::CHUNK_BYTES + 64);
            self.arriving.bytes.extend_from_slice(&std::mem::take(&mut self.chunk));
        }
        if fill(&mut self.arriving, self.size)? > 0 {
            return Ok(());
        }
        let bytes = self.size + self.arriving.bytes.len() as u64;
        Err(Error::Truncated { bytes, part: format!("transaction {} of {}", self.next, self.tx_count) })
    }
}

fn fill<R: Read>(arriving: &mut Arriving<R>, at: u64) -> Result<usize, Error> {
    arriving.fill().map_err(|reason| Error::Read { at, reason })
}

/// What is needed to check the witnesses of a block against its coinbase (BIP-141). The merkle root does not cover them.
#[derive(Debug, Default)]
struct Witnesses {
    any: bool,
    wtxids: MerkleTree,
    /// Commitment and reserved value, where the coinbase has both.
    commitment: Option<([u8; 32], [u8; 32])>,
    first_pushed: bool,
}

/// OP_RETURN, a push of 36 bytes, and the commitment's own mark.
const COMMITMENT_MARK: [u8; 6] = [0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];

impl Witnesses {
    fn push(&mut self, tx: &RawTx) {
        self.any |= tx.has_witness();
        if self.first_pushed {
            return self.wtxids.push(tx.wtxid.to_byte_array());
        }
        self.first_pushed = true;
        self.wtxids.push([0; 32]);
        let reserved = tx.witnesses().next().filter(|witness| witness.len() == 1);
        let reserved = reserved.and_then(|witness| <[u8; 32]>::try_from(&witness[0][..]).ok());
        let marked = tx.outputs().filter(|output| output.script_pubkey.len() >= 38);
        let marked =
            marked.filter(|output| tx.raw[output.script_pubkey.clone()].starts_with(&COMMITMENT_MARK));
        let committed = marked.last().map(|output| array(&tx.raw, output.script_pubkey.start + 6));
        self.commitment = committed.zip(reserved);
    }

    /// A block without any witness has nothing to check: before the soft fork there was no commitment.
    fn are_committed(&self) -> bool {
        !self.any
            || self.commitment.is_some_and(|(committed, reserved)| {
                self.wtxids.root().is_some_and(|root| double_sha256(&[&root, &reserved]) == committed)
            })
    }
}
