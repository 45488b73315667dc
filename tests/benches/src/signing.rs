//! Payments as wallets make them, with real signatures of BIP-143's digest: P2WPKH on Bitcoin, P2PKH with FORKID on
//! Bitcoin SV.

use bitcoin::absolute::LockTime;
use bitcoin::hashes::{Hash as _, sha256d};
use bitcoin::secp256k1::{All, Message, Secp256k1, SecretKey};
use bitcoin::{
    Amount, CompressedPublicKey, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness,
    transaction,
};
use sluice_test_support::Flavour;

/// Who pays and is paid on Bitcoin SV.
const BSV_KEYS: u64 = 500;
/// Who pays and is paid on Bitcoin. So many, since rows of an index share what addresses they share: an address has a few
/// outputs, as most addresses have.
const BTC_KEYS: u64 = 300_000;
/// SIGHASH_ALL.
const SIGHASH_ALL: u8 = 0x01;
/// SIGHASH_ALL | SIGHASH_FORKID.
const SIGHASH_ALL_FORKID: u8 = 0x41;
/// Satoshis.
const FEE: u64 = 60;

/// An output that one of our keys can spend.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Coin {
    pub(crate) outpoint: OutPoint,
    pub(crate) value: u64,
    key: usize,
}

struct Key {
    secret: SecretKey,
    public: CompressedPublicKey,
    script: ScriptBuf,
    /// What is signed in place of the locking script.
    code: ScriptBuf,
}

/// All keys there are.
pub(crate) struct Keys {
    secp: Secp256k1<All>,
    flavour: Flavour,
    keys: Vec<Key>,
}

impl Keys {
    pub(crate) fn new(flavour: Flavour) -> Self {
        let secp = Secp256k1::new();
        let count = match flavour {
            Flavour::Btc => BTC_KEYS,
            Flavour::Bsv => BSV_KEYS,
        };
        let keys = (0..count)
            .map(|n| {
                let seed = sha256d::Hash::hash(&n.to_le_bytes());
                let secret = SecretKey::from_slice(seed.as_byte_array()).expect("a hash is below the order");
                let public = CompressedPublicKey(secret.public_key(&secp));
                let code = ScriptBuf::new_p2pkh(&public.pubkey_hash());
                let script = match flavour {
                    Flavour::Btc => ScriptBuf::new_p2wpkh(&public.wpubkey_hash()),
                    Flavour::Bsv => code.clone(),
                };
                Key { secret, public, script, code }
            })
            .collect();
        Self { secp, flavour, keys }
    }

    /// A locking script, and which key it is of.
    pub(crate) fn script(&self, number: u64) -> (usize, ScriptBuf) {
        let key = self.key(number);
        (key, self.keys[key].script.clone())
    }

    fn key(&self, number: u64) -> usize {
        (number % self.keys.len() as u64) as usize
    }

    /// Spends one or two coins to two outputs that are ours again.
    pub(crate) fn pay(&self, coins: &[Coin], number: u64) -> (Transaction, Vec<Coin>) {
        let rest = coins.iter().map(|coin| coin.value).sum::<u64>() - FEE;
        let paid = rest / (3 + number % 5);
        let to = [(paid, self.script(number.wrapping_mul(7919))), (rest - paid, self.script(number))];
        let output = |(value, (_, script)): &(u64, (usize, ScriptBuf))| TxOut {
            value: Amount::from_sat(*value),
            script_pubkey: script.clone(),
        };
        let tx = self.spend(coins, to.iter().map(output).collect());
        let txid = tx.compute_txid();
        let coins = (0..).zip(&to).map(|(vout, (value, (key, _)))| Coin {
            outpoint: OutPoint { txid, vout },
            value: *value,
            key: *key,
        });
        (tx, coins.collect())
    }

    /// Spends coins to outputs.
    pub(crate) fn spend(&self, coins: &[Coin], output: Vec<TxOut>) -> Transaction {
        let input = |coin: &Coin| TxIn {
            previous_output: coin.outpoint,
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::new(),
        };
        let mut tx = Transaction {
            version: transaction::Version::TWO,
            lock_time: LockTime::ZERO,
            input: coins.iter().map(input).collect(),
            output,
        };
        let digest = Digest::of(&tx);
        for (input, coin) in coins.iter().enumerate() {
            let digest = digest.of_input(&tx, input, coin, self);
            self.unlock(&mut tx.input[input], &digest, &self.keys[coin.key]);
        }
        tx
    }

    /// The coins of a transaction that paid to `script(0)`, `script(1)` …
    pub(crate) fn coins(&self, tx: &Transaction) -> Vec<Coin> {
        let txid = tx.compute_txid();
        let coin = |(vout, output): (u32, &TxOut)| Coin {
            outpoint: OutPoint { txid, vout },
            value: output.value.to_sat(),
            key: self.key(vout.into()),
        };
        (0..).zip(&tx.output).map(coin).collect()
    }

    /// What is signed: everything.
    fn sighash(&self) -> u8 {
        match self.flavour {
            Flavour::Btc => SIGHASH_ALL,
            Flavour::Bsv => SIGHASH_ALL_FORKID,
        }
    }

    fn unlock(&self, input: &mut TxIn, digest: &[u8; 32], key: &Key) {
        let signature = self.secp.sign_ecdsa(&Message::from_digest(*digest), &key.secret).serialize_der();
        let signature = [&signature[..], &[self.sighash()]].concat();
        let public = key.public.to_bytes();
        match self.flavour {
            Flavour::Btc => input.witness = Witness::from_slice(&[&signature[..], &public[..]]),
            Flavour::Bsv => {
                let mut script = Vec::with_capacity(108);
                for part in [&signature[..], &public[..]] {
                    script.push(part.len() as u8);
                    script.extend_from_slice(part);
                }
                input.script_sig = script.into();
            }
        }
    }
}

/// The parts of the digest that all inputs share.
struct Digest {
    prevouts: sha256d::Hash,
    sequences: sha256d::Hash,
    outputs: sha256d::Hash,
}

impl Digest {
    fn of(tx: &Transaction) -> Self {
        use bitcoin::consensus::serialize;
        let all = |parts: Vec<Vec<u8>>| sha256d::Hash::hash(&parts.concat());
        Self {
            prevouts: all(tx.input.iter().map(|input| serialize(&input.previous_output)).collect()),
            sequences: all(tx.input.iter().map(|input| serialize(&input.sequence)).collect()),
            outputs: all(tx.output.iter().map(serialize).collect()),
        }
    }

    fn of_input(&self, tx: &Transaction, input: usize, coin: &Coin, keys: &Keys) -> [u8; 32] {
        use bitcoin::consensus::serialize;
        let parts: [&[u8]; 10] = [
            &serialize(&tx.version),
            self.prevouts.as_byte_array(),
            self.sequences.as_byte_array(),
            &serialize(&coin.outpoint),
            &serialize(&keys.keys[coin.key].code),
            &coin.value.to_le_bytes(),
            &serialize(&tx.input[input].sequence),
            self.outputs.as_byte_array(),
            &serialize(&tx.lock_time),
            &u32::from(keys.sighash()).to_le_bytes(),
        ];
        sha256d::Hash::hash(&parts.concat()).to_byte_array()
    }
}
