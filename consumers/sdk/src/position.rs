//! Where on the log a consumer stands.

use std::fmt;
use std::str::FromStr;

use bitcoin::BlockHash;
use bitcoin::hashes::Hash;
use sluice_schemas::ChainEvent;

/// A block by height and hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlockRef {
    /// Height, genesis is 0.
    pub height: i32,
    /// Hash.
    pub hash: BlockHash,
}

/// A place in the mempool view: the last change applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MempoolPosition {
    /// The producer's term.
    pub epoch: i64,
    /// Sequence in that epoch.
    pub sequence: i64,
}

/// A place on the log: everything up to and with it has been applied. Stored by a consumer together with what it made of
/// the events, in one atomic write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// Sequence of the last chain event applied.
    pub sequence: i64,
    /// The tip after it. After a `DISCONNECTED` that is the parent of the block it names.
    pub tip: BlockRef,
    /// The last mempool change applied, for those who store their mempool view.
    pub mempool: Option<MempoolPosition>,
}

impl Position {
    /// The position after a chain event, with the mempool position unchanged.
    pub fn after(event: &ChainEvent, mempool: Option<MempoolPosition>) -> Self {
        let (height, hash) = event.tip();
        Self { sequence: event.sequence, tip: BlockRef { height, hash }, mempool }
    }

    /// For people and other programs to come back to this place.
    pub fn cursor(&self) -> Cursor {
        Cursor { sequence: self.sequence, hash: self.tip.hash, mempool: self.mempool }
    }

    /// Fixed-size form for a store: big-endian sequence and height, hash, and the mempool position where there is one.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(8 + 4 + 32 + 16);
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend(self.tip.height.to_be_bytes());
        bytes.extend(self.tip.hash.to_byte_array());
        if let Some(MempoolPosition { epoch, sequence }) = self.mempool {
            bytes.extend(epoch.to_be_bytes());
            bytes.extend(sequence.to_be_bytes());
        }
        bytes
    }

    /// Reads what `to_bytes` wrote; `None` for anything else.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (sequence, rest) = bytes.split_first_chunk()?;
        let (height, rest) = rest.split_first_chunk()?;
        let (hash, rest) = rest.split_first_chunk()?;
        let mempool = match rest.split_first_chunk() {
            None if rest.is_empty() => None,
            None => return None,
            Some((epoch, rest)) => Some(MempoolPosition {
                epoch: i64::from_be_bytes(*epoch),
                sequence: i64::from_be_bytes(rest.try_into().ok()?),
            }),
        };
        Some(Self {
            sequence: i64::from_be_bytes(*sequence),
            tip: BlockRef { height: i32::from_be_bytes(*height), hash: BlockHash::from_byte_array(*hash) },
            mempool,
        })
    }
}

/// A position for anything outside: an HTTP answer, an SSE `Last-Event-ID`. One opaque word.
///
/// Whoever comes back with a cursor to a branch that has been disconnected since is given the undo first: the log goes on
/// from its sequence, and holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// Sequence of the last chain event seen.
    pub sequence: i64,
    /// The tip after it.
    pub hash: BlockHash,
    /// The last mempool change seen, if any.
    pub mempool: Option<MempoolPosition>,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.sequence, self.hash)?;
        match self.mempool {
            Some(MempoolPosition { epoch, sequence }) => write!(f, ".{epoch}.{sequence}"),
            None => Ok(()),
        }
    }
}

/// The text is no cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor: take one from an earlier answer as it is")]
pub struct NotACursor;

impl FromStr for Cursor {
    type Err = NotACursor;

    fn from_str(text: &str) -> Result<Self, NotACursor> {
        fn number(part: Option<&str>) -> Result<i64, NotACursor> {
            let digits = part.filter(|part| part.bytes().all(|byte| byte.is_ascii_digit()));
            digits.and_then(|digits| digits.parse().ok()).ok_or(NotACursor)
        }
        let mut parts = text.split('.');
        let sequence = number(parts.next())?;
        let hash = parts.next().and_then(|part| part.parse().ok()).ok_or(NotACursor)?;
        let mempool = match parts.next() {
            None => None,
            epoch => Some(MempoolPosition { epoch: number(epoch)?, sequence: number(parts.next())? }),
        };
        match parts.next() {
            None => Ok(Self { sequence, hash, mempool }),
            Some(_) => Err(NotACursor),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(mempool: Option<MempoolPosition>) -> Position {
        let tip = BlockRef { height: 7, hash: BlockHash::from_byte_array([7; 32]) };
        Position { sequence: 41, tip, mempool }
    }

    #[test]
    fn a_position_survives_its_stored_form() {
        for mempool in [None, Some(MempoolPosition { epoch: 3, sequence: 99 })] {
            let bytes = position(mempool).to_bytes();
            assert_eq!(Position::from_bytes(&bytes), Some(position(mempool)));
            assert_eq!(Position::from_bytes(&bytes[..bytes.len() - 1]), None);
            assert_eq!(Position::from_bytes(&[&bytes[..], &[0; 17]].concat()), None);
        }
    }

    #[test]
    fn a_cursor_survives_its_text() {
        for mempool in [None, Some(MempoolPosition { epoch: 3, sequence: 99 })] {
            let cursor = position(mempool).cursor();
            assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        let hash = "07".repeat(32);
        let wrong = ["", "41", "41.", "x.00", "-1.00", "41.00.3", "+1.00"].map(str::to_owned);
        let almost = [format!("41.{hash}.3"), format!("41.{hash}.3.9.9"), format!("+41.{hash}")];
        for text in wrong.iter().chain(&almost) {
            assert_eq!(text.parse::<Cursor>(), Err(NotACursor), "{text}");
        }
    }
}
