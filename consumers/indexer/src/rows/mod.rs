//! What a transaction is in the tables: pure, and the same whether it comes or goes.
//!
//! A row is either made by a transaction or taken by it. Connecting a block puts what its transactions make and deletes
//! what they take; disconnecting it deletes what they made and puts back what they took. Nothing else is ever written
//! for the best chain, so that a block and its undo cancel out to the last row.

pub(crate) mod key;
pub(crate) mod row;

use bitcoin::OutPoint;
use sluice_log::chain::Location;
use sluice_schemas::{Flavour, Transaction};

use crate::ScriptHash;
use crate::query::{Activity, Place};
use crate::store::Table;
use key::Key;

/// What a row has to do with its transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It is there because of it.
    Made,
    /// It was there until it came.
    Taken,
}

/// A transaction of a block.
#[derive(Clone, Copy)]
pub(crate) struct Placed<'a> {
    pub(crate) place: Place,
    pub(crate) location: Location,
    pub(crate) transaction: &'a Transaction,
    pub(crate) flavour: Flavour,
}

/// What a transaction itself does not tell.
#[derive(Default)]
pub(crate) struct Context {
    /// For each input; empty for a coinbase.
    pub(crate) spent: Vec<Spent>,
    /// Outputs go into `coins`.
    pub(crate) keeps_coins: bool,
    /// For each output, whether its address is in the index for other reasons too; empty where none is.
    pub(crate) address_stays: Vec<bool>,
    /// For each output, whether an earlier transaction with the same txid (BIP-30) has it unspent; empty where none has.
    pub(crate) output_stays: Vec<bool>,
}

/// What an input spends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spent {
    /// The coin; `None` where neither the node nor the index knows it.
    pub(crate) coin: Option<Coin>,
    /// The node did not tell it, so the index keeps it with the spend.
    pub(crate) untold: bool,
    /// It is, or was until now, in `coins`.
    pub(crate) kept: bool,
    /// It was there before this block, and is again after its undo.
    pub(crate) outlives: bool,
}

/// What an output is worth, and to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Coin {
    pub(crate) script: ScriptHash,
    pub(crate) value: i64,
}

/// Whether an output can be spent at all, and so has a history worth keeping.
pub(crate) fn is_spendable(script_pubkey: &[u8], flavour: Flavour) -> bool {
    const OP_0: u8 = 0x00;
    const OP_RETURN: u8 = 0x6a;
    const MAX_SCRIPT_BYTES: usize = 10_000;
    match flavour {
        Flavour::Btc => script_pubkey.first() != Some(&OP_RETURN) && script_pubkey.len() <= MAX_SCRIPT_BYTES,
        Flavour::Bsv => !script_pubkey.starts_with(&[OP_0, OP_RETURN]),
    }
}

/// Gives every row of a transaction to `put`: table, effect, key, row.
pub(crate) fn rows(
    placed: &Placed<'_>,
    context: &Context,
    put: &mut impl FnMut(Table, Effect, &[u8], &[u8]),
) {
    use Effect::{Made, Taken};
    let Placed { place, location, transaction, flavour } = *placed;
    let mut value = Vec::with_capacity(64);

    row::location(&mut value, &transaction.txid, location);
    put(Table::Places, Made, &Key::place(place), &value);
    put(Table::Txids, Made, &Key::txid_at(&transaction.txid, place), &[]);

    let mut touched = Touched::default();
    for (vout, output) in transaction.outputs.iter().enumerate() {
        if !is_spendable(&output.script_pubkey, flavour) {
            continue;
        }
        let coin = Coin { script: ScriptHash::of(&output.script_pubkey), value: output.value };
        touched.funds(&coin);
        if !context.output_stays.get(vout).copied().unwrap_or(false) {
            let outpoint = OutPoint { txid: transaction.txid, vout: vout as u32 };
            put(
                Table::Unspent,
                Made,
                &Key::unspent(&coin.script, &outpoint),
                row::satoshis(&mut value, coin.value),
            );
            if context.keeps_coins {
                put(Table::Coins, Made, &Key::outpoint(&outpoint), row::coin(&mut value, &coin));
            }
        }
        if let Some(address) = &output.address
            && !context.address_stays.get(vout).copied().unwrap_or(false)
        {
            put(Table::Addresses, Made, address.as_bytes(), &[]);
        }
    }
    for (vin, (input, spent)) in transaction.inputs.iter().zip(&context.spent).enumerate() {
        let outpoint = OutPoint { txid: input.prev_txid, vout: input.prev_vout as u32 };
        let key = Key::outpoint(&outpoint);
        put(Table::Spends, Made, &key, row::spend(&mut value, place, vin as u32, spent));
        let Some(coin) = &spent.coin else { continue };
        touched.spends(coin);
        if spent.outlives {
            put(
                Table::Unspent,
                Taken,
                &Key::unspent(&coin.script, &outpoint),
                row::satoshis(&mut value, coin.value),
            );
            if spent.kept {
                put(Table::Coins, Taken, &key, row::coin(&mut value, coin));
            }
        }
    }
    for (script, activity) in touched.scripts() {
        put(Table::History, Made, &Key::script_at(script, place), row::activity(&mut value, activity));
    }
}

/// What a transaction does to each script, with the help of what its inputs spend.
pub(crate) fn touched(
    transaction: &Transaction,
    spent: &[Spent],
    flavour: Flavour,
) -> Vec<(ScriptHash, Activity)> {
    let mut touched = Touched::default();
    for output in transaction.outputs.iter().filter(|output| is_spendable(&output.script_pubkey, flavour)) {
        touched.funds(&Coin { script: ScriptHash::of(&output.script_pubkey), value: output.value });
    }
    spent.iter().filter_map(|spent| spent.coin.as_ref()).for_each(|coin| touched.spends(coin));
    touched.scripts().to_vec()
}

/// The fee, where it is known what is spent.
pub(crate) fn fee(transaction: &Transaction, spent: &[Spent]) -> Option<i64> {
    let paid_in = spent.iter().map(|spent| Some(spent.coin?.value)).sum::<Option<i64>>()?;
    Some(paid_in - transaction.outputs.iter().map(|output| output.value).sum::<i64>())
}

/// Collects what one transaction does to its scripts.
#[derive(Default)]
struct Touched(Vec<(ScriptHash, Activity)>);

impl Touched {
    fn funds(&mut self, coin: &Coin) {
        let activity = Activity { funded_txo_count: 1, funded_txo_sum: coin.value, ..Activity::default() };
        self.0.push((coin.script, activity));
    }

    fn spends(&mut self, coin: &Coin) {
        let activity = Activity { spent_txo_count: 1, spent_txo_sum: coin.value, ..Activity::default() };
        self.0.push((coin.script, activity));
    }

    /// Each script once.
    fn scripts(&mut self) -> &[(ScriptHash, Activity)] {
        self.0.sort_unstable_by_key(|(script, _)| *script);
        self.0.dedup_by(|(later, activity), (script, sum)| {
            let same = later == script;
            if same {
                sum.add(activity);
            }
            same
        });
        self.0.iter_mut().for_each(|(_, activity)| activity.tx_count = 1);
        &self.0
    }
}
