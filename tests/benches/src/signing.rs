//! Payments as wallets make them: P2PKH, with real signatures of Bitcoin SV (BIP-143's digest with FORKID).

use bitcoin::absolute::LockTime;
use bitcoin::hashes::{Hash as _, sha256d};
use bitcoin::secp256k1::{All, Message, PublicKey, Secp256k1, SecretKey};
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness, transaction};

/// Who pays and is paid.
const KEYS: u64 = 500;
/// SIGHASH_ALL | SIGHASH_FORKID.
const SIGHASH: u8 = 0x41;
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
    public: PublicKey,
    script: ScriptBuf,
}

/// All keys there are.
pub(crate) struct Keys {
    secp: Secp256k1<All>,
    keys: Vec<Key>,
}

impl Keys {
    pub(crate) fn new() -> Self {
        let secp = Secp256k1::new();
        let keys = (0..KEYS)
            .map(|n| {
                let seed = sha256d::Hash::hash(&n.to_le_bytes());
                let secret = SecretKey::from_slice(seed.as_byte_array()).expect("a hash is below the order");
                let public = secret.public_key(&secp);
                let hash = bitcoin::PublicKey::new(public).pubkey_hash();
                Key { secret, public, script: ScriptBuf::new_p2pkh(&hash) }
            })
            .collect();
        Self { secp, keys }
    }

    /// A locking script, and which key it is of.
    pub(crate) fn script(&self, number: u64) -> (usize, ScriptBuf) {
        let key = (number % KEYS) as usize;
        (key, self.keys[key].script.clone())
    }

    /// Spends one or two coins to two outputs that are ours again.
    pub(crate) fn pay(&self, coins: &[Coin], number: u64) -> (Transaction, Vec<Coin>) {
        let rest = coins.iter().map(|coin| coin.value).sum::<u64>() - FEE;
        let paid = rest / (3 + number % 5);
        let to = [(paid, self.script(number.wrapping_mul(7919))), (rest - paid, self.script(number))];
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
            output: to
                .iter()
                .map(|(value, (_, script))| TxOut {
                    value: Amount::from_sat(*value),
                    script_pubkey: script.clone(),
                })
                .collect(),
        };
        let digest = Digest::of(&tx);
        for (input, coin) in coins.iter().enumerate() {
            tx.input[input].script_sig = self.sign(&digest.of_input(&tx, input, coin, self), coin.key);
        }
        let txid = tx.compute_txid();
        let coins = (0..).zip(&to).map(|(vout, (value, (key, _)))| Coin {
            outpoint: OutPoint { txid, vout },
            value: *value,
            key: *key,
        });
        (tx, coins.collect())
    }

    /// The coins of a transaction that paid to `script(0)`, `script(1)` …
    pub(crate) fn coins(tx: &Transaction) -> Vec<Coin> {
        let txid = tx.compute_txid();
        let coin = |(vout, output): (u32, &TxOut)| Coin {
            outpoint: OutPoint { txid, vout },
            value: output.value.to_sat(),
            key: (u64::from(vout) % KEYS) as usize,
        };
        (0..).zip(&tx.output).map(coin).collect()
    }

    fn sign(&self, digest: &[u8; 32], key: usize) -> ScriptBuf {
        let key = &self.keys[key];
        let signature = self.secp.sign_ecdsa(&Message::from_digest(*digest), &key.secret).serialize_der();
        let public = key.public.serialize();
        let mut script = Vec::with_capacity(108);
        script.push(signature.len() as u8 + 1);
        script.extend_from_slice(&signature);
        script.push(SIGHASH);
        script.push(public.len() as u8);
        script.extend_from_slice(&public);
        script.into()
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
            &serialize(&keys.keys[coin.key].script),
            &coin.value.to_le_bytes(),
            &serialize(&tx.input[input].sequence),
            self.outputs.as_byte_array(),
            &serialize(&tx.lock_time),
            &u32::from(SIGHASH).to_le_bytes(),
        ];
        sha256d::Hash::hash(&parts.concat()).to_byte_array()
    }
}
