//! From the wire to the event contract.

use sluice_schemas::{Flavour, Input, Network, Output, Prevout, Transaction};

use crate::address::address;
use crate::script::script_type;
use crate::spent::Spent;
use crate::tx::RawTx;

/// The transaction as the event contract has it. Scripts are slices of `tx.raw`, not copies.
///
/// `spent` are the outputs that its inputs spend, in order (for a coinbase none). Where they are not as many as the
/// inputs, they are taken for unknown: a fee is right or null.
///
/// It takes more memory than the raw form: some 70 bytes per output and 200 per input beside the bytes themselves.
pub fn transaction(tx: &RawTx, network: Network, spent: Option<&[Spent]>) -> Transaction {
    let coinbase = tx.is_coinbase();
    let spent = spent.filter(|spent| !coinbase && spent.len() == tx.input_count());
    let mut witnesses = tx.witnesses();
    let inputs = tx.inputs().enumerate().map(|(n, input)| Input {
        prev_txid: input.outpoint.txid,
        prev_vout: i64::from(input.outpoint.vout),
        script_sig: tx.slice(input.script_sig),
        sequence: i64::from(input.sequence),
        witness: witnesses.next().unwrap_or_default(),
        prevout: spent.map(|spent| prevout(&spent[n], network)),
    });
    let inputs: Vec<Input> = inputs.collect();
    let mut paid: Option<i64> = Some(0);
    let mut outputs = Vec::with_capacity(tx.output_count());
    for output in tx.outputs() {
        paid = paid.and_then(|paid| paid.checked_add(output.value));
        let script_pubkey = tx.slice(output.script_pubkey);
        outputs.push(Output {
            value: output.value,
            script_type: script_type(&script_pubkey, network.flavour()),
            address: address(&script_pubkey, network),
            script_pubkey,
        });
    }
    let fee = spent.and_then(|spent| {
        let taken = spent.iter().try_fold(0i64, |sum, output| sum.checked_add(output.value))?;
        taken.checked_sub(paid?)
    });
    Transaction {
        txid: tx.txid,
        wtxid: tx.has_witness().then_some(tx.wtxid),
        version: tx.version(),
        lock_time: i64::from(tx.lock_time()),
        size: tx.size() as i64,
        weight: (network.flavour() == Flavour::Btc).then(|| tx.weight() as i64),
        coinbase,
        inputs,
        outputs,
        fee,
    }
}

fn prevout(spent: &Spent, network: Network) -> Prevout {
    Prevout {
        value: spent.value,
        address: address(&spent.script_pubkey, network),
        script_pubkey: spent.script_pubkey.clone(),
        height: spent.height,
    }
}
