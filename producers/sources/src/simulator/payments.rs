//! What people do: pay, carry data, replace, spend twice.

use std::sync::Arc;

use bitcoin::{Amount, OutPoint, Sequence, Transaction, TxIn, TxOut, Txid, absolute, transaction};
use sluice_schemas::{Flavour, RemovalReason};

use super::chance::Chance;
use super::coins::Coin;
use super::transaction::SimTransaction;
use super::wallet::data_script;
use super::world::{Event, World};

/// Satoshis below which nobody makes an output.
pub(super) const SMALLEST_OUTPUT: u64 = 1_000;
/// Coins that people keep: with fewer they make change in many parts, with more they gather them.
const USUAL_COINS: usize = 2_000;
/// Unconfirmed transactions in a row: below the 25 that nodes take.
const LONGEST_CHAIN: u8 = 20;
/// Transactions in the mempool, beyond which nobody makes another one.
const MAX_POOL: usize = 20_000;
/// Most transactions that a replacement pushes out.
const MAX_REPLACED: usize = 25;
/// Of a hundred transactions, so many replace another one (Bitcoin Core's rules only).
const REPLACEMENTS_PERCENT: u64 = 4;
/// Of a hundred payments, so many carry data.
const DATA_PERCENT: u64 = 12;
/// Of a hundred payments, so many spend the newest coin, which makes chains.
const CHAINED_PERCENT: u64 = 25;
/// Tries at finding a coin that is not at the end of a long chain.
const COIN_TRIES: usize = 4;

/// What a new transaction is to look like.
struct Shape {
    /// Outputs to people.
    outputs: usize,
    /// All outputs alike, rather than payments and change.
    even: bool,
    data: Option<Vec<u8>>,
}

impl World {
    /// One transaction more, if somebody can make one.
    pub(super) fn pay(&mut self, chance: &mut Chance, events: &mut Vec<Event>) {
        if self.pool.len() >= MAX_POOL.max(2 * self.filled_with()) {
            return;
        }
        if self.flavour == Flavour::Btc && chance.below(100) < REPLACEMENTS_PERCENT {
            self.replace(chance, events);
            return;
        }
        let data = if chance.below(100) < DATA_PERCENT { Some(self.message(chance)) } else { None };
        self.pay_with(data, chance, events);
    }

    /// Fills the mempool as far as blocks are asked to be full.
    pub(super) fn fill(&mut self, chance: &mut Chance, events: &mut Vec<Event>) {
        let Some(fill) = self.config.fill else { return };
        let big = fill.big_transaction_bytes;
        // one that still waits for room is enough
        if big > 0 && !self.mempool().any(|transaction| transaction.raw.len() > big) {
            let mut data = vec![0; fill.big_transaction_bytes];
            chance.fill(&mut data);
            self.pay_with(Some(data), chance, events);
        }
        // replacements and failures don't add to the pool, so the number of tries is bounded, too
        for _ in 0..2 * fill.transactions {
            if self.pool.len() >= fill.transactions {
                break;
            }
            self.pay(chance, events);
        }
    }

    fn filled_with(&self) -> usize {
        self.config.fill.map_or(0, |fill| fill.transactions)
    }

    fn message(&self, chance: &mut Chance) -> Vec<u8> {
        let mut message = format!("chainsluice simulator, step {} ", self.steps).into_bytes();
        let text = message.len();
        let longest = match self.flavour {
            Flavour::Btc => 80 - text as u64,
            Flavour::Bsv => 2_000,
        };
        message.resize(text + chance.below(longest) as usize, 0);
        chance.fill(&mut message[text..]);
        message
    }

    fn pay_with(&mut self, data: Option<Vec<u8>>, chance: &mut Chance, events: &mut Vec<Event>) {
        let usual = USUAL_COINS.max(2 * self.filled_with());
        let (inputs, shape) = match self.coins.len() {
            few if few < usual / 8 => {
                (1, Shape { outputs: chance.between(10, 20) as usize, even: true, data })
            }
            many if many > usual => {
                (chance.between(3, 6), Shape { outputs: chance.between(1, 2) as usize, even: false, data })
            }
            _ => (chance.between(1, 2), Shape { outputs: chance.between(2, 3) as usize, even: false, data }),
        };
        let coins = self.gather(inputs as usize, chance);
        match self.spend(&coins, shape, chance) {
            Some(transaction) => self.admit(transaction, &coins, events),
            None => coins.into_iter().for_each(|coin| self.coins.insert(coin)),
        }
    }

    /// Takes up to `count` coins by chance.
    fn gather(&mut self, count: usize, chance: &mut Chance) -> Vec<Coin> {
        let mut coins = Vec::with_capacity(count);
        if chance.below(100) < CHAINED_PERCENT {
            coins.extend(self.coins.newest());
        }
        for _ in 0..count + COIN_TRIES {
            if coins.len() >= count {
                break;
            }
            coins.extend(self.coins.draw(chance));
        }
        let (short, long): (Vec<Coin>, Vec<Coin>) =
            coins.into_iter().partition(|coin| coin.depth < LONGEST_CHAIN);
        long.into_iter().for_each(|coin| self.coins.insert(coin));
        short
    }

    /// A signed transaction that spends the coins; `None` when they are worth too little.
    fn spend(&self, coins: &[Coin], shape: Shape, chance: &mut Chance) -> Option<Arc<SimTransaction>> {
        let total: u64 = coins.iter().map(|coin| coin.value).sum();
        let spent: Vec<TxOut> = coins.iter().map(|coin| self.locked(coin.key, coin.value)).collect();
        let mut output: Vec<TxOut> = (0..shape.outputs)
            .map(|_| TxOut { value: Amount::ZERO, script_pubkey: self.somebody(chance) })
            .collect();
        if let Some(data) = shape.data {
            output.push(TxOut { value: Amount::ZERO, script_pubkey: data_script(self.flavour, data) });
        }
        let per_kilobyte = match self.flavour {
            Flavour::Btc => chance.between(1_000, 20_000),
            Flavour::Bsv => chance.between(50, 500),
        };
        let fee = self.wallet.vbytes(&spent, output.iter()) * per_kilobyte / 1_000 + 1;
        let mut left = total.checked_sub(fee + SMALLEST_OUTPUT * shape.outputs as u64)?;
        let share = left / shape.outputs as u64;
        for out in &mut output[..shape.outputs - 1] {
            let more = if shape.even { share } else { chance.below(left / 2 + 1) };
            out.value = Amount::from_sat(SMALLEST_OUTPUT + more);
            left -= more;
        }
        output[shape.outputs - 1].value = Amount::from_sat(SMALLEST_OUTPUT + left);
        let sequence = if chance.one_in(3) {
            Sequence::ENABLE_LOCKTIME_NO_RBF
        } else {
            Sequence::ENABLE_RBF_NO_LOCKTIME
        };
        let inputs = coins.iter().map(|coin| coin.outpoint);
        Some(Arc::new(self.signed(inputs, sequence, output, spent)))
    }

    fn signed(
        &self,
        inputs: impl Iterator<Item = OutPoint>,
        sequence: Sequence,
        output: Vec<TxOut>,
        spent: Vec<TxOut>,
    ) -> SimTransaction {
        let input =
            inputs.map(|previous_output| TxIn { previous_output, sequence, ..TxIn::default() }).collect();
        let mut transaction = Transaction {
            version: transaction::Version::TWO,
            lock_time: absolute::LockTime::ZERO,
            input,
            output,
        };
        self.wallet.sign(&mut transaction, &spent);
        SimTransaction::new(transaction, spent)
    }

    fn locked(&self, key: u16, value: u64) -> TxOut {
        TxOut { value: Amount::from_sat(value), script_pubkey: self.wallet.script(key).clone() }
    }

    /// Takes a transaction into the mempool; its coins are no longer among the coins.
    fn admit(&mut self, transaction: Arc<SimTransaction>, coins: &[Coin], events: &mut Vec<Event>) {
        let depth = coins.iter().map(|coin| coin.depth).max().unwrap_or(0).saturating_add(1);
        self.pay_out(&transaction, depth);
        self.pool.push(transaction.clone());
        self.changes += 1;
        events.push(Event::Added { transaction, sequence: self.changes });
    }

    fn pay_out(&mut self, transaction: &SimTransaction, depth: u8) {
        for (out, vout) in transaction.transaction.output.iter().zip(0..) {
            if let Some(key) = self.wallet.key_of(&out.script_pubkey) {
                let outpoint = OutPoint { txid: transaction.txid, vout };
                self.coins.insert(Coin { outpoint, value: out.value.to_sat(), key, depth });
            }
        }
    }

    /// Puts a transaction of the mempool out, and all that depend on it, children first; what they spent are coins again.
    fn evict(&mut self, txid: &Txid) -> Vec<Txid> {
        let evicted = self.pool.with_descendants(txid);
        for transaction in &evicted {
            self.pool.remove(&transaction.txid);
            for vout in 0..transaction.transaction.output.len() as u32 {
                self.coins.remove(&OutPoint { txid: transaction.txid, vout });
            }
            for (input, out) in transaction.transaction.input.iter().zip(&transaction.spent) {
                let key =
                    self.wallet.key_of(&out.script_pubkey).expect("only outputs of the wallet are spent");
                let depth = u8::from(self.pool.contains(&input.previous_output.txid));
                let value = out.value.to_sat();
                self.coins.insert(Coin { outpoint: input.previous_output, value, key, depth });
            }
        }
        evicted.iter().map(|transaction| transaction.txid).collect()
    }

    /// Replaces a transaction by one that pays a higher fee and the last recipient less (BIP-125).
    fn replace(&mut self, chance: &mut Chance, events: &mut Vec<Event>) {
        let Some(old) = self.pool.pick(chance).cloned() else { return };
        let replaced = self.pool.with_descendants(&old.txid);
        if replaced.len() > MAX_REPLACED {
            return;
        }
        let fees: u64 = replaced.iter().map(|transaction| transaction.fee()).sum();
        let fee = fees + old.raw.len() as u64 * chance.between(1, 5);
        let mut output = old.transaction.output.clone();
        let Some(last) = output.iter_mut().rev().find(|out| out.value > Amount::ZERO) else { return };
        let Some(value) = last.value.to_sat().checked_sub(fee - old.fee()) else { return };
        if value < SMALLEST_OUTPUT {
            return;
        }
        last.value = Amount::from_sat(value);
        let inputs = old.transaction.input.iter().map(|input| input.previous_output);
        let sequence = old.transaction.input[0].sequence;
        let new = Arc::new(self.signed(inputs.clone(), sequence, output, old.spent.clone()));

        for txid in self.evict(&old.txid) {
            self.changes += 1;
            let (sequence, reason, by) = (self.changes, RemovalReason::Replaced, new.txid);
            events.push(Event::Removed { txid, sequence, reason, by });
        }
        let coins: Vec<Coin> = inputs.filter_map(|outpoint| self.coins.remove(&outpoint)).collect();
        self.admit(new, &coins, events);
    }

    /// A transaction for a block that spends what `victim` spends, which leaves the mempool with all its descendants.
    pub(super) fn rival(
        &mut self,
        victim: &SimTransaction,
        chance: &mut Chance,
        conflicts: &mut Vec<(Txid, Txid)>,
    ) -> Option<Arc<SimTransaction>> {
        let confirmed = |input: &&TxIn| !self.pool.contains(&input.previous_output.txid);
        let outpoint = victim.transaction.input.iter().find(confirmed)?.previous_output;
        let at = victim.transaction.input.iter().position(|input| input.previous_output == outpoint)?;
        let (value, key) =
            (victim.spent[at].value.to_sat(), self.wallet.key_of(&victim.spent[at].script_pubkey)?);
        let coin = Coin { outpoint, value, key, depth: 0 };
        let rival = self.spend(&[coin], Shape { outputs: 1, even: false, data: None }, chance)?;
        if rival.txid == victim.txid {
            return None;
        }
        conflicts.extend(self.evict(&victim.txid).into_iter().map(|txid| (txid, rival.txid)));
        self.coins.remove(&outpoint);
        self.pay_out(&rival, 0);
        Some(rival)
    }
}
