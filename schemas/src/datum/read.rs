//! Bare data of the current schema to events: field after field.

use bitcoin::hashes::Hash;
use bytes::Bytes;

use super::MAX_LONG_BYTES;
use crate::bytes_field::Script;
use crate::event::{
    Action, ChainEvent, Input, MempoolEvent, MempoolKind, Output, PartitionRange, Phase, Prevout,
    RemovalReason, ScriptType, StatusEvent, StatusKind, Transaction, TransactionEvent,
};

/// In the schema's order.
const REASONS: [RemovalReason; 6] = [
    RemovalReason::Mined,
    RemovalReason::Replaced,
    RemovalReason::Conflicted,
    RemovalReason::Expired,
    RemovalReason::Evicted,
    RemovalReason::Unknown,
];

/// In the schema's order.
const STATUS_KINDS: [StatusKind; 7] = [
    StatusKind::Heartbeat,
    StatusKind::GapDetected,
    StatusKind::GapRepaired,
    StatusKind::SourceUp,
    StatusKind::SourceDown,
    StatusKind::Takeover,
    StatusKind::Reorg,
];

/// In the schema's order.
const SCRIPT_TYPES: [ScriptType; 11] = [
    ScriptType::Nonstandard,
    ScriptType::Pubkey,
    ScriptType::Pubkeyhash,
    ScriptType::Scripthash,
    ScriptType::Multisig,
    ScriptType::Nulldata,
    ScriptType::WitnessV0Keyhash,
    ScriptType::WitnessV0Scripthash,
    ScriptType::WitnessV1Taproot,
    ScriptType::Anchor,
    ScriptType::WitnessUnknown,
];

/// Lengths are checked against what is there before anything is allocated, and every element of an array takes a byte at
/// least: memory is bounded by a small multiple of the datum, whatever it says.
pub(crate) struct Reader<'a> {
    datum: &'a [u8],
    at: usize,
    copy: Bytes,
}

pub(super) type Result<T, E = String> = std::result::Result<T, E>;

/// Reads a bare datum that fills `datum` to its last byte. The scripts of the event are slices of one copy of it.
pub(crate) fn whole<'a, T>(datum: &'a [u8], read: impl FnOnce(&mut Reader<'a>) -> Result<T>) -> Result<T> {
    let mut reader = Reader { datum, at: 0, copy: Bytes::copy_from_slice(datum) };
    let value = read(&mut reader)?;
    match datum.len() - reader.at {
        0 => Ok(value),
        rest => Err(format!("{rest} bytes follow its end")),
    }
}

impl Reader<'_> {
    pub(crate) fn chain_event(&mut self) -> Result<ChainEvent> {
        Ok(ChainEvent {
            sequence: self.long()?,
            action: self.action()?,
            hash: self.hash()?,
            prev_hash: self.hash()?,
            height: self.int()?,
            header: self.fixed()?,
            chain_work: self.fixed()?,
            time: self.long()?,
            median_time: self.long()?,
            tx_count: self.long()?,
            size: self.long()?,
            weight: self.optional(Self::long)?,
            transactions: self.array(|reader| {
                Ok(PartitionRange {
                    partition: reader.int()?,
                    first_offset: reader.long()?,
                    records: reader.long()?,
                    count: reader.long()?,
                })
            })?,
            phase: self.symbol("phase", &[Phase::Backfill, Phase::Live])?,
            observed_at: self.long()?,
            epoch: self.long()?,
            network: self.text()?,
        })
    }

    pub(crate) fn mempool_event(&mut self) -> Result<MempoolEvent> {
        Ok(MempoolEvent {
            epoch: self.long()?,
            sequence: self.long()?,
            chain_sequence: self.long()?,
            kind: self.symbol("kind", &[MempoolKind::Reset, MempoolKind::Added, MempoolKind::Removed])?,
            txid: self.hash()?,
            transaction: self.optional(Self::transaction)?,
            reason: self.optional(|reader| reader.symbol("reason", &REASONS))?,
            block_hash: self.optional(Self::hash)?,
            replaced_by: self.optional(Self::hash)?,
            first_seen: self.optional(Self::long)?,
            observed_at: self.long()?,
            source: self.text()?,
        })
    }

    pub(crate) fn status_event(&mut self) -> Result<StatusEvent> {
        Ok(StatusEvent {
            kind: self.symbol("kind", &STATUS_KINDS)?,
            source: self.text()?,
            epoch: self.long()?,
            tip_hash: self.optional(Self::hash)?,
            tip_height: self.optional(Self::int)?,
            chain_sequence: self.long()?,
            source_height: self.optional(Self::int)?,
            feed: self.optional(Self::text)?,
            from: self.optional(Self::long)?,
            to: self.optional(Self::long)?,
            recovered: self.optional(Self::long)?,
            detail: self.text()?,
            observed_at: self.long()?,
        })
    }

    pub(crate) fn transaction_event(&mut self) -> Result<TransactionEvent> {
        Ok(TransactionEvent {
            sequence: self.long()?,
            action: self.action()?,
            block_hash: self.hash()?,
            height: self.int()?,
            block_time: self.long()?,
            position: self.long()?,
            transaction: self.transaction()?,
        })
    }

    fn transaction(&mut self) -> Result<Transaction> {
        Ok(Transaction {
            txid: self.hash()?,
            wtxid: self.optional(Self::hash)?,
            version: self.int()?,
            lock_time: self.long()?,
            size: self.long()?,
            weight: self.optional(Self::long)?,
            coinbase: match self.fixed()? {
                [0] => false,
                [1] => true,
                [other] => return Err(format!("{other} is no boolean")),
            },
            inputs: self.array(Self::input)?,
            outputs: self.array(Self::output)?,
            fee: self.optional(Self::long)?,
        })
    }

    fn input(&mut self) -> Result<Input> {
        Ok(Input {
            prev_txid: self.hash()?,
            prev_vout: self.long()?,
            script_sig: self.script()?,
            sequence: self.long()?,
            witness: self.array(Self::script)?,
            prevout: self.optional(|reader| {
                Ok(Prevout {
                    value: reader.long()?,
                    script_pubkey: reader.script()?,
                    address: reader.optional(Self::text)?,
                    height: reader.optional(Self::int)?,
                })
            })?,
        })
    }

    fn output(&mut self) -> Result<Output> {
        Ok(Output {
            value: self.long()?,
            script_pubkey: self.script()?,
            script_type: self.symbol("script type", &SCRIPT_TYPES)?,
            address: self.optional(Self::text)?,
        })
    }

    fn action(&mut self) -> Result<Action> {
        self.symbol("action", &[Action::Connected, Action::Disconnected])
    }

    /// A symbol of an enum, by its place in the schema.
    fn symbol<T: Copy>(&mut self, what: &str, symbols: &[T]) -> Result<T> {
        let index = self.long()?;
        let symbol = usize::try_from(index).ok().and_then(|index| symbols.get(index));
        symbol.copied().ok_or_else(|| format!("{index} is no {what}"))
    }

    fn hash<H: Hash<Bytes = [u8; 32]>>(&mut self) -> Result<H> {
        self.fixed().map(H::from_byte_array)
    }

    #[inline]
    pub(super) fn long(&mut self) -> Result<i64> {
        let mut number = 0u64;
        for index in 0..MAX_LONG_BYTES {
            let Some(&digit) = self.datum.get(self.at) else { return Err(self.cut_off()) };
            self.at += 1;
            // Of the tenth digit, one bit is left.
            if index == MAX_LONG_BYTES - 1 && digit > 1 {
                break;
            }
            number |= u64::from(digit & 0x7f) << (7 * index);
            if digit < 0x80 {
                return Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed());
            }
        }
        Err(format!("the number before byte {} does not fit into 64 bits", self.at))
    }

    #[inline]
    fn int(&mut self) -> Result<i32> {
        let number = self.long()?;
        i32::try_from(number).map_err(|_| format!("{number} does not fit into 32 bits"))
    }

    #[inline]
    pub(super) fn fixed<const N: usize>(&mut self) -> Result<[u8; N]> {
        let Some(bytes) = self.datum[self.at..].first_chunk() else { return Err(self.cut_off()) };
        self.at += N;
        Ok(*bytes)
    }

    /// Where bytes with their length before them begin and end.
    #[inline]
    pub(super) fn sized(&mut self) -> Result<std::ops::Range<usize>> {
        let length = self.long()?;
        let end = usize::try_from(length).ok().and_then(|length| self.at.checked_add(length));
        match end.filter(|end| *end <= self.datum.len()) {
            Some(end) => Ok(std::mem::replace(&mut self.at, end)..end),
            None => Err(format!("{length} bytes cannot follow byte {}", self.at)),
        }
    }

    fn script(&mut self) -> Result<Script> {
        let range = self.sized()?;
        Ok(Script(if range.is_empty() { Bytes::new() } else { self.copy.slice(range) }))
    }

    pub(super) fn text(&mut self) -> Result<String> {
        let range = self.sized()?;
        let text = std::str::from_utf8(&self.datum[range]);
        text.map(str::to_owned).map_err(|error| format!("a text is {error}"))
    }

    #[inline]
    fn optional<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T>) -> Result<Option<T>> {
        match self.long()? {
            0 => Ok(None),
            1 => read(self).map(Some),
            other => Err(format!("{other} is no branch of a union")),
        }
    }

    fn array<T>(&mut self, mut read: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let mut items = Vec::new();
        while let Some(count) = self.block()? {
            // An item may take more memory than bytes: what is not there yet is not believed further.
            items.reserve_exact(count.min(BELIEVED_ITEMS));
            for _ in 0..count {
                items.push(read(self)?);
            }
        }
        Ok(items)
    }

    /// The items of an array or map, one by one.
    pub(super) fn blocks(&mut self, mut read: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        while let Some(count) = self.block()? {
            for _ in 0..count {
                read(self)?;
            }
        }
        Ok(())
    }

    /// The count of a block of items, which is negative where the bytes of the block follow; the last block is empty. An
    /// item takes a byte at least.
    fn block(&mut self) -> Result<Option<usize>> {
        let mut count = self.long()?;
        if count < 0 {
            count = count.saturating_neg();
            self.long()?;
        }
        match usize::try_from(count) {
            Ok(0) => Ok(None),
            Ok(items) if items <= self.datum.len() - self.at => Ok(Some(items)),
            _ => Err(format!("{count} items cannot follow byte {}", self.at)),
        }
    }

    pub(super) fn skip(&mut self, bytes: usize) -> Result<()> {
        if bytes > self.datum.len() - self.at {
            return Err(self.cut_off());
        }
        self.at += bytes;
        Ok(())
    }

    pub(super) fn cut_off(&self) -> String {
        format!("it is cut off after {} bytes", self.datum.len())
    }
}

/// Items of an array that memory is reserved for before they have been read.
const BELIEVED_ITEMS: usize = 1_024;
