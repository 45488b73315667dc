//! Transaction events, field after field in the order of the current schema: the hot path of a backfill and of a
//! replay. The other kinds go through serde.
//!
//! Golden bytes of fastavro and arbitrary events of apache-avro hold both halves to the schema (`tests/`).

use bitcoin::hashes::Hash;
use bytes::Bytes;

use crate::bytes_field::Script;
use crate::event::{Action, Input, Output, Prevout, ScriptType, Transaction, TransactionEvent};

/// Appends the bare datum.
pub(crate) fn write(event: &TransactionEvent, out: &mut Vec<u8>) {
    long(event.sequence, out);
    long(event.action as i64, out);
    out.extend_from_slice(event.block_hash.as_byte_array());
    long(i64::from(event.height), out);
    long(event.block_time, out);
    long(event.position, out);
    transaction(&event.transaction, out);
}

fn transaction(tx: &Transaction, out: &mut Vec<u8>) {
    out.extend_from_slice(tx.txid.as_byte_array());
    optional(tx.wtxid.as_ref(), out, |wtxid, out| out.extend_from_slice(wtxid.as_byte_array()));
    long(i64::from(tx.version), out);
    long(tx.lock_time, out);
    long(tx.size, out);
    optional(tx.weight, out, long);
    out.push(u8::from(tx.coinbase));
    array(&tx.inputs, out, input);
    array(&tx.outputs, out, output);
    optional(tx.fee, out, long);
}

fn input(input: &Input, out: &mut Vec<u8>) {
    out.extend_from_slice(input.prev_txid.as_byte_array());
    long(input.prev_vout, out);
    bytes(&input.script_sig, out);
    long(input.sequence, out);
    array(&input.witness, out, |item, out| bytes(item, out));
    optional(input.prevout.as_ref(), out, |prevout, out| {
        long(prevout.value, out);
        bytes(&prevout.script_pubkey, out);
        address(prevout.address.as_ref(), out);
        optional(prevout.height, out, |height, out| long(i64::from(height), out));
    });
}

fn output(output: &Output, out: &mut Vec<u8>) {
    long(output.value, out);
    bytes(&output.script_pubkey, out);
    long(output.script_type as i64, out);
    address(output.address.as_ref(), out);
}

fn address(address: Option<&String>, out: &mut Vec<u8>) {
    optional(address, out, |address, out| bytes(address.as_bytes(), out));
}

/// Zigzag, then seven bits a byte, the lowest first.
#[inline]
fn long(number: i64, out: &mut Vec<u8>) {
    let mut rest = (number << 1 ^ number >> 63).cast_unsigned();
    if rest < 0x80 {
        return out.push(rest as u8);
    }
    let mut digits = [0; MAX_LONG_BYTES];
    let mut length = 0;
    while rest >= 0x80 {
        digits[length] = rest as u8 | 0x80;
        rest >>= 7;
        length += 1;
    }
    digits[length] = rest as u8;
    out.extend_from_slice(&digits[..=length]);
}

/// Bytes of the longest long.
const MAX_LONG_BYTES: usize = 10;

#[inline]
fn bytes(bytes: &[u8], out: &mut Vec<u8>) {
    long(bytes.len() as i64, out);
    out.extend_from_slice(bytes);
}

/// A union of null and something.
#[inline]
fn optional<T>(value: Option<T>, out: &mut Vec<u8>, write: impl FnOnce(T, &mut Vec<u8>)) {
    match value {
        None => out.push(0),
        Some(value) => {
            out.push(2);
            write(value, out);
        }
    }
}

/// One block of all items, and the empty block that ends an array.
#[inline]
fn array<T>(items: &[T], out: &mut Vec<u8>, write: impl Fn(&T, &mut Vec<u8>)) {
    if !items.is_empty() {
        long(items.len() as i64, out);
        items.iter().for_each(|item| write(item, out));
    }
    out.push(0);
}

/// Reads a bare datum that fills `datum` to its last byte. The scripts of the event are slices of one copy of it.
pub(crate) fn read(datum: &[u8]) -> Result<TransactionEvent, String> {
    let mut reader = Reader { datum, at: 0, copy: Bytes::copy_from_slice(datum) };
    let event = reader.event()?;
    match datum.len() - reader.at {
        0 => Ok(event),
        rest => Err(format!("{rest} bytes follow its end")),
    }
}

/// Lengths are checked against what is there before anything is allocated, and every element of an array takes a byte at
/// least: memory is bounded by a small multiple of the datum, whatever it says.
struct Reader<'a> {
    datum: &'a [u8],
    at: usize,
    copy: Bytes,
}

type Result<T, E = String> = std::result::Result<T, E>;

impl Reader<'_> {
    fn event(&mut self) -> Result<TransactionEvent> {
        Ok(TransactionEvent {
            sequence: self.long()?,
            action: match self.long()? {
                0 => Action::Connected,
                1 => Action::Disconnected,
                other => return Err(format!("{other} is no action")),
            },
            block_hash: Hash::from_byte_array(self.fixed()?),
            height: self.int()?,
            block_time: self.long()?,
            position: self.long()?,
            transaction: self.transaction()?,
        })
    }

    fn transaction(&mut self) -> Result<Transaction> {
        Ok(Transaction {
            txid: Hash::from_byte_array(self.fixed()?),
            wtxid: self.optional(|reader| reader.fixed().map(Hash::from_byte_array))?,
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
            prev_txid: Hash::from_byte_array(self.fixed()?),
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
            script_type: self.script_type()?,
            address: self.optional(Self::text)?,
        })
    }

    fn script_type(&mut self) -> Result<ScriptType> {
        Ok(match self.long()? {
            0 => ScriptType::Nonstandard,
            1 => ScriptType::Pubkey,
            2 => ScriptType::Pubkeyhash,
            3 => ScriptType::Scripthash,
            4 => ScriptType::Multisig,
            5 => ScriptType::Nulldata,
            6 => ScriptType::WitnessV0Keyhash,
            7 => ScriptType::WitnessV0Scripthash,
            8 => ScriptType::WitnessV1Taproot,
            9 => ScriptType::Anchor,
            10 => ScriptType::WitnessUnknown,
            other => return Err(format!("{other} is no script type")),
        })
    }

    #[inline]
    fn long(&mut self) -> Result<i64> {
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
    fn fixed<const N: usize>(&mut self) -> Result<[u8; N]> {
        let Some(bytes) = self.datum[self.at..].first_chunk() else { return Err(self.cut_off()) };
        self.at += N;
        Ok(*bytes)
    }

    /// Where bytes with their length before them begin and end.
    #[inline]
    fn sized(&mut self) -> Result<std::ops::Range<usize>> {
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

    fn text(&mut self) -> Result<String> {
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

    /// Blocks of items: a count, which is negative where the bytes of the block follow; the last block is empty.
    fn array<T>(&mut self, mut read: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let mut items = Vec::new();
        loop {
            let mut count = self.long()?;
            if count < 0 {
                count = count.saturating_neg();
                self.long()?;
            }
            if count == 0 {
                return Ok(items);
            }
            let rest = (self.datum.len() - self.at) as i64;
            if count > rest {
                return Err(format!("{count} items cannot follow byte {}", self.at));
            }
            // An item may take more memory than bytes: what is not there yet is not believed further.
            items.reserve_exact((count as usize).min(BELIEVED_ITEMS));
            for _ in 0..count {
                items.push(read(self)?);
            }
        }
    }

    fn cut_off(&self) -> String {
        format!("it is cut off after {} bytes", self.datum.len())
    }
}

/// Items of an array that memory is reserved for before they have been read.
const BELIEVED_ITEMS: usize = 1_024;
