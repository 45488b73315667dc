//! Who has what.

use bitcoin::absolute::LockTime;
use bitcoin::consensus::{deserialize, serialize};
use bitcoin::hashes::Hash;
use bitcoin::script::Builder;
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness};
use sluice_body::Spent;
use sluice_schemas::{Flavour, Network, Transaction as TransactionFields};

use crate::transaction::{FEE, What, data_script, script_of};

/// What stands for a signature, and for a public key.
const SIGNATURE: [u8; 71] = [0x30; 71];
const PUBLIC_KEY: [u8; 33] = [0x02; 33];

/// An output that is not spent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coin {
    /// Where it is.
    pub outpoint: OutPoint,
    /// Satoshis.
    pub value: u64,
    /// Who has it.
    pub script_pubkey: ScriptBuf,
    /// Height of the block that made it; that of the next block while it is in no block.
    pub height: i32,
}

/// The unspent outputs of a chain, oldest first.
#[derive(Clone, Debug)]
pub(crate) struct Coins {
    pub(crate) network: Network,
    pub(crate) prevouts: bool,
    pub(crate) list: Vec<Coin>,
}

impl Coins {
    pub(crate) fn flavour(&self) -> Flavour {
        self.network.flavour()
    }

    pub(crate) fn of<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a Coin> + use<'a> {
        let script = script_of(name, self.flavour());
        self.list.iter().filter(move |coin| coin.script_pubkey == script)
    }

    pub(crate) fn balance(&self, name: &str) -> u64 {
        self.of(name).map(|coin| coin.value).sum()
    }

    /// The transaction that a script asks for; `None` where its payer cannot pay it.
    pub(crate) fn draft(&self, what: &What) -> Option<Transaction> {
        let balance = |from: &str| self.balance(from);
        let script = |name: &str| script_of(name, self.flavour());
        match what {
            What::Pay { from, to, satoshis } => {
                let has = balance(from);
                assert!(
                    has >= satoshis + FEE,
                    "{from} has {has} satoshis, not {satoshis} and the fee of {FEE}"
                );
                Some(self.payment(from, *satoshis, script(to)))
            }
            What::Share { from, to, percent } => {
                let most = balance(from).checked_sub(FEE)?;
                let satoshis = (most / 100 * percent).clamp(1, most.max(1));
                (most > 0).then(|| self.payment(from, satoshis, script(to)))
            }
            What::Sweep { from, to } => {
                let satoshis = balance(from).checked_sub(FEE)?;
                Some(self.payment(from, satoshis, script(to)))
            }
            What::Split { from, outputs } => {
                let coin = self.of(from).find(|coin| coin.value >= FEE + outputs)?;
                let value = (coin.value - FEE) / outputs;
                let output = TxOut { value: Amount::from_sat(value), script_pubkey: script(from) };
                Some(self.spend(&[coin], vec![output; *outputs as usize]))
            }
            What::Data { from, data } => {
                let coin = self.of(from).find(|coin| coin.value > FEE)?;
                let carrier = TxOut { value: Amount::ZERO, script_pubkey: data_script(data, self.flavour()) };
                let rest = TxOut { value: Amount::from_sat(coin.value - FEE), script_pubkey: script(from) };
                Some(self.spend(&[coin], vec![carrier, rest]))
            }
            What::Returned | What::Waiting => None,
        }
    }

    fn payment(&self, from: &str, satoshis: u64, script_pubkey: ScriptBuf) -> Transaction {
        let mut taken = Vec::new();
        let mut sum = 0;
        for coin in self.of(from) {
            if sum >= satoshis + FEE {
                break;
            }
            sum += coin.value;
            taken.push(coin);
        }
        let mut outputs = vec![TxOut { value: Amount::from_sat(satoshis), script_pubkey }];
        if sum > satoshis + FEE {
            let value = Amount::from_sat(sum - satoshis - FEE);
            outputs.push(TxOut { value, script_pubkey: script_of(from, self.flavour()) });
        }
        self.spend(&taken, outputs)
    }

    pub(crate) fn spend(&self, coins: &[&Coin], output: Vec<TxOut>) -> Transaction {
        let (script_sig, witness) = match self.flavour() {
            Flavour::Btc => (ScriptBuf::new(), Witness::from_slice(&[&SIGNATURE[..], &PUBLIC_KEY])),
            Flavour::Bsv => {
                let keys = Builder::new().push_slice(SIGNATURE).push_slice(PUBLIC_KEY);
                (keys.into_script(), Witness::new())
            }
        };
        let input = |coin: &&Coin| TxIn {
            previous_output: coin.outpoint,
            script_sig: script_sig.clone(),
            sequence: Sequence::MAX,
            witness: witness.clone(),
        };
        Transaction {
            version: Version::TWO,
            lock_time: LockTime::ZERO,
            input: coins.iter().map(input).collect(),
            output,
        }
    }

    /// Makes a transaction come true in a block of this height, and gives it as events have it; `None` where a coin that
    /// it spends is not there.
    pub(crate) fn take(&mut self, transaction: &Transaction, height: i32) -> Option<TransactionFields> {
        let mut spent = Vec::new();
        if !transaction.is_coinbase() {
            for input in &transaction.input {
                spent.push(self.list.iter().position(|coin| coin.outpoint == input.previous_output)?);
            }
        }
        let coins: Vec<_> = spent.iter().map(|index| &self.list[*index]).collect();
        let fields = fields(transaction, self.network, self.prevouts.then_some(&coins[..]));
        spent.sort_unstable();
        spent.iter().rev().for_each(|index| drop(self.list.remove(*index)));
        self.list.extend(made_by(transaction, fields.txid, height));
        Some(fields)
    }
}

/// The outputs of a transaction that can be spent.
pub(crate) fn made_by(transaction: &Transaction, txid: Txid, height: i32) -> impl Iterator<Item = Coin> {
    let outputs = (0..).zip(&transaction.output);
    outputs.filter(|(_, output)| output.value > Amount::ZERO).map(move |(vout, output)| Coin {
        outpoint: OutPoint { txid, vout },
        value: output.value.to_sat(),
        script_pubkey: output.script_pubkey.clone(),
        height,
    })
}

/// A transaction as events have it. `coins` are what it spends, where that is to be told.
pub(crate) fn fields(
    transaction: &Transaction,
    network: Network,
    coins: Option<&[&Coin]>,
) -> TransactionFields {
    let raw = sluice_body::parse_transaction(serialize(transaction).into(), network.flavour())
        .expect("a transaction of our own making");
    let spent = |coin: &&Coin| Spent {
        value: coin.value as i64,
        script_pubkey: coin.script_pubkey.to_bytes().into(),
        height: Some(coin.height),
    };
    let spent: Option<Vec<_>> = coins.map(|coins| coins.iter().map(spent).collect());
    sluice_body::transaction(&raw, network, spent.as_deref())
}

/// A transaction from its event.
pub(crate) fn raw(fields: &TransactionFields) -> Transaction {
    deserialize(&fields.to_raw()).expect("a transaction of our own making")
}

/// A coinbase. `number` makes it differ from all others.
pub(crate) fn coinbase(height: i32, number: u64, value: u64, script_pubkey: ScriptBuf) -> Transaction {
    let script_sig = Builder::new().push_int(height.into()).push_slice(number.to_le_bytes()).into_script();
    let previous_output = OutPoint { txid: Txid::all_zeros(), vout: u32::MAX };
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn { previous_output, script_sig, sequence: Sequence::MAX, witness: Witness::new() }],
        output: vec![TxOut { value: Amount::from_sat(value), script_pubkey }],
    }
}
