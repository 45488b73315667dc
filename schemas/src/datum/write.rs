//! Events to bare data: field after field, in the order of the current schema.

use bitcoin::hashes::Hash;

use crate::event::{ChainEvent, Input, MempoolEvent, Output, StatusEvent, Transaction, TransactionEvent};

pub(crate) fn chain_event(event: &ChainEvent, out: &mut Vec<u8>) {
    long(event.sequence, out);
    long(event.action as i64, out);
    out.extend_from_slice(event.hash.as_byte_array());
    out.extend_from_slice(event.prev_hash.as_byte_array());
    long(i64::from(event.height), out);
    out.extend_from_slice(&event.header);
    out.extend_from_slice(&event.chain_work);
    long(event.time, out);
    long(event.median_time, out);
    long(event.tx_count, out);
    long(event.size, out);
    optional(event.weight, out, long);
    array(&event.transactions, out, |range, out| {
        long(i64::from(range.partition), out);
        long(range.first_offset, out);
        long(range.records, out);
        long(range.count, out);
    });
    long(event.phase as i64, out);
    long(event.observed_at, out);
    long(event.epoch, out);
    bytes(event.network.as_bytes(), out);
}

pub(crate) fn mempool_event(event: &MempoolEvent, out: &mut Vec<u8>) {
    long(event.epoch, out);
    long(event.sequence, out);
    long(event.chain_sequence, out);
    long(event.kind as i64, out);
    out.extend_from_slice(event.txid.as_byte_array());
    optional(event.transaction.as_ref(), out, transaction);
    optional(event.reason, out, |reason, out| long(reason as i64, out));
    optional(event.block_hash.as_ref(), out, hash);
    optional(event.replaced_by.as_ref(), out, hash);
    optional(event.first_seen, out, long);
    long(event.observed_at, out);
    bytes(event.source.as_bytes(), out);
}

pub(crate) fn status_event(event: &StatusEvent, out: &mut Vec<u8>) {
    long(event.kind as i64, out);
    bytes(event.source.as_bytes(), out);
    long(event.epoch, out);
    optional(event.tip_hash.as_ref(), out, hash);
    optional(event.tip_height, out, |height, out| long(i64::from(height), out));
    long(event.chain_sequence, out);
    optional(event.source_height, out, |height, out| long(i64::from(height), out));
    optional(event.feed.as_ref(), out, |feed, out| bytes(feed.as_bytes(), out));
    optional(event.from, out, long);
    optional(event.to, out, long);
    optional(event.recovered, out, long);
    bytes(event.detail.as_bytes(), out);
    long(event.observed_at, out);
}

fn hash<H: Hash<Bytes = [u8; 32]>>(hash: &H, out: &mut Vec<u8>) {
    out.extend_from_slice(hash.as_byte_array());
}

pub(crate) fn transaction_event(event: &TransactionEvent, out: &mut Vec<u8>) {
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
    optional(tx.wtxid.as_ref(), out, hash);
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
    let mut digits = [0; super::MAX_LONG_BYTES];
    let mut length = 0;
    while rest >= 0x80 {
        digits[length] = rest as u8 | 0x80;
        rest >>= 7;
        length += 1;
    }
    digits[length] = rest as u8;
    out.extend_from_slice(&digits[..=length]);
}

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
