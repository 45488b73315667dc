//! What a ZMQ message says, and whether one before it is missing. Pure: bytes in, findings out.

use bitcoin::Txid;
use bitcoin::hashes::Hash;
use bytes::Bytes;
use serde::Deserialize;
use sluice_body::{RawTx, parse_transaction};
use sluice_schemas::{Flavour, RemovalReason};

use super::wire::DisplayHash;

/// The topics that are of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Topic {
    /// Bitcoin Core: blocks and mempool changes, numbered.
    Sequence,
    /// Bitcoin Core: the tip.
    HashBlock,
    /// Bitcoin Core: transactions, for their bytes only.
    RawTx,
    /// Bitcoin SV: each block connected.
    HashBlock2,
    /// Bitcoin SV: transactions that came in.
    RawTx2,
    /// The same without their bytes.
    HashTx2,
    /// Bitcoin SV: transactions that left, with the reason.
    DiscardedFromMempool,
    /// Bitcoin SV: transactions that left for a block, or in a reorganisation.
    RemovedFromMempoolBlock,
}

impl Topic {
    /// As the node names it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Sequence => "sequence",
            Self::HashBlock => "hashblock",
            Self::RawTx => "rawtx",
            Self::HashBlock2 => "hashblock2",
            Self::RawTx2 => "rawtx2",
            Self::HashTx2 => "hashtx2",
            Self::DiscardedFromMempool => "discardedfrommempool",
            Self::RemovedFromMempoolBlock => "removedfrommempoolblock",
        }
    }

    /// Which topics share a connection. Those whose order among themselves matters stay together.
    pub(super) fn lanes(flavour: Flavour) -> &'static [&'static [Self]] {
        match flavour {
            Flavour::Btc => &[&[Self::Sequence, Self::HashBlock], &[Self::RawTx]],
            Flavour::Bsv => &[
                &[Self::HashBlock2],
                &[Self::RawTx2, Self::HashTx2, Self::DiscardedFromMempool],
                &[Self::RemovedFromMempoolBlock],
            ],
        }
    }

    /// Whether a message that is lost is worth a word: the bytes of Bitcoin Core's transactions can be asked for.
    pub(super) fn must_be_complete(self) -> bool {
        self != Self::RawTx
    }
}

/// What a message says.
#[derive(Clone, Debug)]
pub(super) enum Message {
    TipChanged,
    Added {
        txid: Txid,
        sequence: Option<u64>,
        tx: Option<RawTx>,
    },
    Removed {
        txid: Txid,
        sequence: Option<u64>,
        reason: Option<RemovalReason>,
        by: Option<Txid>,
    },
    /// The bytes of a transaction that may have been added, or be part of a block.
    Bytes {
        txid: Txid,
        raw: Bytes,
    },
    /// Nothing that anybody waits for.
    Nothing,
}

/// A message cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

/// Reads the body of a message.
pub(super) fn read(topic: Topic, body: Vec<u8>) -> Result<Message, Unreadable> {
    match topic {
        Topic::HashBlock | Topic::HashBlock2 => {
            display_hash(&body).map(|_| Message::TipChanged).ok_or(Unreadable)
        }
        Topic::Sequence => numbered(&body).ok_or(Unreadable),
        Topic::HashTx2 => {
            let txid = display_hash(&body).ok_or(Unreadable)?;
            Ok(Message::Added { txid, sequence: None, tx: None })
        }
        Topic::RawTx => {
            let tx = parse_transaction(body.into(), Flavour::Btc).map_err(|_| Unreadable)?;
            Ok(Message::Bytes { txid: tx.txid, raw: tx.raw })
        }
        Topic::RawTx2 => {
            let tx = parse_transaction(body.into(), Flavour::Bsv).map_err(|_| Unreadable)?;
            if tx.is_coinbase() {
                return Ok(Message::Nothing);
            }
            Ok(Message::Added { txid: tx.txid, sequence: None, tx: Some(tx) })
        }
        Topic::DiscardedFromMempool | Topic::RemovedFromMempoolBlock => {
            let removal: Removal = serde_json::from_slice(&body).map_err(|_| Unreadable)?;
            Ok(removal.message())
        }
    }
}

/// For fuzzing: reads `bytes` as the body of a message of each topic.
///
/// # Panics
/// Never; a panic is a bug.
pub fn fuzz(bytes: &[u8]) {
    let topics = [Flavour::Btc, Flavour::Bsv].map(Topic::lanes);
    for topic in topics.into_iter().flatten().copied().flatten() {
        let _ = read(*topic, bytes.to_vec());
    }
}

fn display_hash(bytes: &[u8]) -> Option<Txid> {
    let mut hash: [u8; 32] = bytes.try_into().ok()?;
    hash.reverse();
    Some(Txid::from_byte_array(hash))
}

/// Hash, kind, and for the mempool's kinds its sequence number.
fn numbered(body: &[u8]) -> Option<Message> {
    let (hash, rest) = body.split_at_checked(32)?;
    let (kind, number) = rest.split_first()?;
    let sequence = || Some(u64::from_le_bytes(number.try_into().ok()?));
    match kind {
        b'C' | b'D' if number.is_empty() => Some(Message::TipChanged),
        b'A' => Some(Message::Added { txid: display_hash(hash)?, sequence: Some(sequence()?), tx: None }),
        b'R' => Some(Message::Removed {
            txid: display_hash(hash)?,
            sequence: Some(sequence()?),
            reason: None,
            by: None,
        }),
        _ => None,
    }
}

#[derive(Deserialize)]
struct Removal {
    txid: DisplayHash<Txid>,
    #[serde(default)]
    reason: String,
    #[serde(default, rename = "collidedWith")]
    collided_with: Option<Other>,
}

#[derive(Deserialize)]
struct Other {
    txid: DisplayHash<Txid>,
}

impl Removal {
    fn message(self) -> Message {
        let reason = match self.reason.as_str() {
            // The block says so itself.
            "included-in-block" => return Message::Nothing,
            "collision-in-block-tx" => Some(RemovalReason::Conflicted),
            "expired" => Some(RemovalReason::Expired),
            "mempool-sizelimit-exceeded" => Some(RemovalReason::Evicted),
            _ => None,
        };
        Message::Removed {
            txid: self.txid.0,
            sequence: None,
            reason,
            by: self.collided_with.map(|other| other.txid.0),
        }
    }
}

/// What the number of a message says of those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    Complete,
    /// These are missing.
    Lost {
        from: u64,
        to: u64,
    },
    /// The numbers began again.
    Restarted,
}

/// Follows the numbers of one topic.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Numbers {
    expected: Option<u32>,
    /// The connection was lost and is back: that the numbers begin again is no news.
    reconnected: bool,
}

impl Numbers {
    /// Judges the number of the next message.
    pub(super) fn observe(&mut self, number: u32) -> Finding {
        let expected = self.expected.replace(number.wrapping_add(1));
        let reconnected = std::mem::take(&mut self.reconnected);
        match expected {
            None => Finding::Complete,
            Some(expected) if number == expected => Finding::Complete,
            Some(expected) if number > expected => {
                Finding::Lost { from: u64::from(expected), to: u64::from(number) - 1 }
            }
            Some(_) if reconnected => Finding::Complete,
            Some(_) => Finding::Restarted,
        }
    }

    /// The connection is back; somebody has been told already.
    pub(super) fn reconnected(&mut self) {
        self.reconnected = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TXID: &str = "a11f000000000000000000000000000000000000000000000000000000000066";
    const OTHER: &str = "f06e000000000000000000000000000000000000000000000000000000000065";

    fn txid(display: &str) -> Txid {
        display.parse().unwrap()
    }

    #[test]
    fn a_hole_in_the_numbers_is_told_exactly() {
        let mut numbers = Numbers::default();
        let observed: Vec<_> = [7, 8, 12, 13].into_iter().map(|number| numbers.observe(number)).collect();
        assert_eq!(observed[0], Finding::Complete, "the first number is where we came in");
        assert_eq!(observed[1..], [Finding::Complete, Finding::Lost { from: 9, to: 11 }, Finding::Complete]);
    }

    #[test]
    fn a_fall_of_the_numbers_is_a_restart_and_no_gap() {
        let mut numbers = Numbers::default();
        let observed: Vec<_> = [7, 0, 1, 1].into_iter().map(|number| numbers.observe(number)).collect();
        assert_eq!(observed[1..], [Finding::Restarted, Finding::Complete, Finding::Restarted]);
    }

    #[test]
    fn a_restart_that_was_told_of_at_the_reconnect_is_not_told_again() {
        let mut numbers = Numbers::default();
        numbers.observe(7);
        numbers.reconnected();
        assert_eq!(numbers.observe(2), Finding::Complete);
        assert_eq!(numbers.observe(1), Finding::Restarted);
        numbers.reconnected();
        assert_eq!(numbers.observe(5), Finding::Lost { from: 2, to: 4 });
    }

    #[test]
    fn numbers_begin_again_after_the_largest_without_a_gap() {
        let mut numbers = Numbers::default();
        numbers.observe(u32::MAX);
        assert_eq!(numbers.observe(0), Finding::Complete);
    }

    #[test]
    fn bitcoin_core_numbers_its_mempool_changes() {
        let hash = hex::decode(TXID).unwrap();
        let body = |tail: &[u8]| [&hash[..], tail].concat();
        let read = |tail: &[u8]| read(Topic::Sequence, body(tail));
        assert!(matches!(read(b"C"), Ok(Message::TipChanged)));
        assert!(matches!(read(b"D"), Ok(Message::TipChanged)));
        assert!(matches!(read(b"A\x05\0\0\0\0\0\0\0"),
            Ok(Message::Added { txid: t, sequence: Some(5), tx: None }) if t == txid(TXID)));
        assert!(matches!(read(b"R\x06\0\0\0\0\0\0\0"),
            Ok(Message::Removed { txid: t, sequence: Some(6), reason: None, .. }) if t == txid(TXID)));
        for unreadable in [&b""[..], b"A", b"A\x05", b"X", b"Cx"] {
            assert_eq!(read(unreadable).unwrap_err(), Unreadable, "{unreadable:?}");
        }
    }

    #[test]
    fn bitcoin_sv_says_why_a_transaction_left() {
        let removed = |reason: &str| {
            let json = format!(
                r#"{{"txid": "{TXID}","reason": "{reason}","collidedWith": {{"txid": "{OTHER}","size": 61,"hex": "02"}}}}"#
            );
            read(Topic::DiscardedFromMempool, json.into_bytes()).unwrap()
        };
        for (reason, expected) in [
            ("collision-in-block-tx", Some(RemovalReason::Conflicted)),
            ("expired", Some(RemovalReason::Expired)),
            ("mempool-sizelimit-exceeded", Some(RemovalReason::Evicted)),
            ("something-new", None),
        ] {
            assert!(matches!(removed(reason), Message::Removed { txid: t, reason: r, by: Some(by), .. }
                if t == txid(TXID) && r == expected && by == txid(OTHER)));
        }
        assert!(matches!(removed("included-in-block"), Message::Nothing));
        assert!(read(Topic::DiscardedFromMempool, b"{}".to_vec()).is_err());
    }
}
