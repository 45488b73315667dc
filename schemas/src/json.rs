//! Events for people and scripts: JSON with the schema's field names, and one line for a terminal.
//!
//! In JSON hashes are hex as nodes display them (bytes reversed), other bytes are hex as they are, times are RFC 3339,
//! and numbers stay integers: money in satoshis. Absent values are null.

use std::fmt::Write;

use bitcoin::hex::DisplayHex;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use crate::event::{
    Action, ChainEvent, Input, MempoolEvent, MempoolKind, Output, Prevout, StatusEvent, Transaction,
    TransactionEvent,
};

/// An event in the forms that people read.
pub trait Human {
    /// JSON, its fields named and ordered as in the schema.
    fn to_json(&self) -> Value;

    /// One line of text, without the line's end.
    fn line(&self) -> String;
}

impl Human for ChainEvent {
    fn to_json(&self) -> Value {
        let range = |r: &crate::PartitionRange| {
            json!({
                "partition": r.partition,
                "first_offset": r.first_offset,
                "records": r.records,
                "count": r.count,
            })
        };
        json!({
            "sequence": self.sequence,
            "action": name(&self.action),
            "hash": self.hash.to_string(),
            "prev_hash": self.prev_hash.to_string(),
            "height": self.height,
            "header": self.header.to_lower_hex_string(),
            "chain_work": self.chain_work.to_lower_hex_string(),
            "time": time(self.time),
            "median_time": time(self.median_time),
            "tx_count": self.tx_count,
            "size": self.size,
            "weight": self.weight,
            "transactions": self.transactions.iter().map(range).collect::<Vec<_>>(),
            "phase": name(&self.phase),
            "observed_at": time(self.observed_at),
            "epoch": self.epoch,
            "network": self.network,
        })
    }

    fn line(&self) -> String {
        let Self { sequence, height, hash, tx_count, size, .. } = self;
        let (action, phase) = (symbol(&self.action), symbol(&self.phase));
        let at = text(self.time);
        format!("#{sequence} {action} {height} {hash} {tx_count} tx {size} bytes {at} {phase}")
    }
}

impl Human for TransactionEvent {
    fn to_json(&self) -> Value {
        json!({
            "sequence": self.sequence,
            "action": name(&self.action),
            "block_hash": self.block_hash.to_string(),
            "height": self.height,
            "block_time": time(self.block_time),
            "position": self.position,
            "transaction": transaction(&self.transaction),
        })
    }

    fn line(&self) -> String {
        let Self { sequence, height, position, .. } = self;
        let sign = match self.action {
            Action::Connected => '+',
            Action::Disconnected => '-',
        };
        format!("#{sequence} {sign}{height}:{position} {}", summary(&self.transaction))
    }
}

impl Human for MempoolEvent {
    fn to_json(&self) -> Value {
        json!({
            "epoch": self.epoch,
            "sequence": self.sequence,
            "chain_sequence": self.chain_sequence,
            "kind": name(&self.kind),
            "txid": self.txid.to_string(),
            "transaction": self.transaction.as_ref().map(transaction),
            "reason": self.reason.as_ref().map(name),
            "block_hash": self.block_hash.map(|hash| hash.to_string()),
            "replaced_by": self.replaced_by.map(|txid| txid.to_string()),
            "first_seen": self.first_seen.map(time),
            "observed_at": time(self.observed_at),
            "source": self.source,
        })
    }

    fn line(&self) -> String {
        let Self { epoch, sequence, txid, source, .. } = self;
        let mut line = format!("{epoch}/{sequence} {}", symbol(&self.kind));
        match (self.kind, &self.transaction) {
            (MempoolKind::Reset, _) => {}
            (_, Some(transaction)) => put(&mut line, &summary(transaction)),
            (_, None) => put(&mut line, &txid.to_string()),
        }
        if let Some(reason) = &self.reason {
            put(&mut line, &symbol(reason));
        }
        if let Some(hash) = self.block_hash {
            put(&mut line, &format!("in {hash}"));
        }
        if let Some(txid) = self.replaced_by {
            put(&mut line, &format!("by {txid}"));
        }
        put(&mut line, &format!("{} {}", text(self.observed_at), printable(source)));
        line
    }
}

impl Human for StatusEvent {
    fn to_json(&self) -> Value {
        json!({
            "kind": name(&self.kind),
            "source": self.source,
            "epoch": self.epoch,
            "tip_hash": self.tip_hash.map(|hash| hash.to_string()),
            "tip_height": self.tip_height,
            "chain_sequence": self.chain_sequence,
            "source_height": self.source_height,
            "feed": self.feed,
            "from": self.from,
            "to": self.to,
            "recovered": self.recovered,
            "detail": self.detail,
            "observed_at": time(self.observed_at),
        })
    }

    fn line(&self) -> String {
        let Self { epoch, chain_sequence, .. } = self;
        let mut line = text(self.observed_at);
        put(&mut line, &format!("{} {} epoch {epoch}", symbol(&self.kind), printable(&self.source)));
        if let (Some(height), Some(hash)) = (self.tip_height, self.tip_hash) {
            put(&mut line, &format!("tip #{chain_sequence} {height} {hash}"));
        }
        if let Some(height) = self.source_height {
            put(&mut line, &format!("source at {height}"));
        }
        if let Some(feed) = &self.feed {
            put(&mut line, &format!("feed {}", printable(feed)));
        }
        if let (Some(from), Some(to)) = (self.from, self.to) {
            put(&mut line, &format!("{from}..={to}"));
        }
        if let Some(recovered) = self.recovered {
            put(&mut line, &format!("recovered {recovered}"));
        }
        if !self.detail.is_empty() {
            put(&mut line, &printable(&self.detail));
        }
        line
    }
}

impl Transaction {
    /// JSON of the transaction, in the same form as within events.
    pub fn to_json(&self) -> Value {
        transaction(self)
    }
}

fn transaction(tx: &Transaction) -> Value {
    json!({
        "txid": tx.txid.to_string(),
        "wtxid": tx.wtxid.map(|wtxid| wtxid.to_string()),
        "version": tx.version,
        "lock_time": tx.lock_time,
        "size": tx.size,
        "weight": tx.weight,
        "coinbase": tx.coinbase,
        "inputs": tx.inputs.iter().map(input).collect::<Vec<_>>(),
        "outputs": tx.outputs.iter().map(output).collect::<Vec<_>>(),
        "fee": tx.fee,
    })
}

fn input(input: &Input) -> Value {
    let prevout = |p: &Prevout| {
        json!({
            "value": p.value,
            "script_pubkey": p.script_pubkey.to_lower_hex_string(),
            "address": p.address,
            "height": p.height,
        })
    };
    json!({
        "prev_txid": input.prev_txid.to_string(),
        "prev_vout": input.prev_vout,
        "script_sig": input.script_sig.to_lower_hex_string(),
        "sequence": input.sequence,
        "witness": input.witness.iter().map(|item| item.to_lower_hex_string()).collect::<Vec<_>>(),
        "prevout": input.prevout.as_ref().map(prevout),
    })
}

fn output(output: &Output) -> Value {
    json!({
        "value": output.value,
        "script_pubkey": output.script_pubkey.to_lower_hex_string(),
        "script_type": name(&output.script_type),
        "address": output.address,
    })
}

/// A transaction in a few words.
fn summary(tx: &Transaction) -> String {
    let value = tx.outputs.iter().fold(0_i64, |sum, output| sum.saturating_add(output.value));
    let mut line = format!("{} {} in {} out {value} sat", tx.txid, tx.inputs.len(), tx.outputs.len());
    match tx.fee {
        Some(fee) => put(&mut line, &format!("fee {fee}")),
        None if tx.coinbase => put(&mut line, "coinbase"),
        None => {}
    }
    line
}

fn put(line: &mut String, word: &str) {
    // Writing to a String cannot fail.
    let _ = write!(line, " {word}");
}

/// The symbol of an enum, as in the schema.
fn name(symbol: &impl Serialize) -> Value {
    serde_json::to_value(symbol).unwrap_or(Value::Null)
}

fn symbol(symbol: &impl Serialize) -> String {
    name(symbol).as_str().unwrap_or_default().to_owned()
}

/// RFC 3339 in UTC, or the number itself where it is beyond the calendar's years.
fn time(milliseconds: i64) -> Value {
    match Timestamp::from_millisecond(milliseconds) {
        Ok(timestamp) => timestamp.to_string().into(),
        Err(_) => milliseconds.into(),
    }
}

fn text(milliseconds: i64) -> String {
    match time(milliseconds) {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

/// A text from outside on a terminal: no control characters, so that it cannot move the cursor.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
