//! The keys of everybody in the simulated world, and their signatures.

use std::collections::HashMap;

use bitcoin::hashes::{Hash, HashEngine, sha256, sha256d};
use bitcoin::key::TapTweak;
use bitcoin::opcodes::all::OP_RETURN;
use bitcoin::script::{Builder, PushBytesBuf};
use bitcoin::secp256k1::{All, Keypair, Message, Secp256k1, SecretKey};
use bitcoin::sighash::{Prevouts, SighashCache, TapSighashType};
use bitcoin::{CompressedPublicKey, OutPoint, ScriptBuf, Transaction, TxOut, Witness};
use sluice_schemas::Flavour;

/// Keys per world. Few enough that addresses are used again, as people do.
const KEYS: u64 = 60;
/// `SIGHASH_ALL`.
const SIGHASH_ALL: u32 = 0x01;
/// `SIGHASH_ALL | SIGHASH_FORKID` of Bitcoin SV.
const SIGHASH_ALL_FORKID: u32 = 0x41;

/// How an output is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lock {
    Pkh,
    Wpkh,
    Taproot,
}

impl Lock {
    /// Virtual bytes of an input that spends such an output, rounded up.
    fn input_vbytes(self) -> u64 {
        match self {
            Self::Pkh => 149,
            Self::Wpkh => 69,
            Self::Taproot => 58,
        }
    }

    /// Signature operations as Bitcoin Core counts them, of an output and of an input that spends it.
    fn sigop_costs(self) -> (u64, u64) {
        match self {
            Self::Pkh => (4, 0),
            Self::Wpkh => (0, 1),
            Self::Taproot => (0, 0),
        }
    }
}

struct Key {
    secret: SecretKey,
    public: CompressedPublicKey,
    /// The output key's pair, for taproot.
    tweaked: Keypair,
    lock: Lock,
    script: ScriptBuf,
    /// The P2PKH script of the key: what BIP-143 signs for both P2PKH with FORKID and P2WPKH.
    code: ScriptBuf,
}

/// Everybody's keys.
pub(super) struct Wallet {
    secp: Secp256k1<All>,
    flavour: Flavour,
    keys: Vec<Key>,
    by_script: HashMap<ScriptBuf, u16>,
}

impl Wallet {
    /// The keys of the world of `seed`.
    pub(super) fn new(seed: u64, flavour: Flavour) -> Self {
        let secp = Secp256k1::new();
        let keys: Vec<Key> = (0..KEYS).map(|index| Key::new(&secp, seed, index, flavour)).collect();
        let by_script = keys.iter().zip(0..).map(|(key, index)| (key.script.clone(), index)).collect();
        Self { secp, flavour, keys, by_script }
    }

    /// Number of keys.
    pub(super) fn len(&self) -> u64 {
        self.keys.len() as u64
    }

    /// Locking script of a key.
    pub(super) fn script(&self, key: u16) -> &ScriptBuf {
        &self.keys[usize::from(key)].script
    }

    /// Whose script it is.
    pub(super) fn key_of(&self, script: &ScriptBuf) -> Option<u16> {
        self.by_script.get(script).copied()
    }

    /// Virtual bytes of a transaction that spends outputs of `inputs` and pays to `outputs`, a little too many.
    pub(super) fn vbytes<'a>(&self, spent: &[TxOut], outputs: impl Iterator<Item = &'a TxOut>) -> u64 {
        let inputs: u64 =
            spent.iter().filter_map(|out| self.lock_of(&out.script_pubkey)).map(Lock::input_vbytes).sum();
        let outputs: u64 = outputs.map(|out| out.size() as u64).sum();
        20 + inputs + outputs
    }

    /// Cost of the signature operations of a transaction.
    pub(super) fn sigop_cost(&self, spent: &[TxOut], outputs: &[TxOut]) -> u64 {
        let lock = |out: &TxOut| self.lock_of(&out.script_pubkey);
        outputs.iter().filter_map(lock).map(|lock| lock.sigop_costs().0).sum::<u64>()
            + spent.iter().filter_map(lock).map(|lock| lock.sigop_costs().1).sum::<u64>()
    }

    fn lock_of(&self, script: &ScriptBuf) -> Option<Lock> {
        self.key_of(script).map(|key| self.keys[usize::from(key)].lock)
    }

    /// Signs every input; `spent` are the outputs that the inputs spend, all of this wallet.
    pub(super) fn sign(&self, transaction: &mut Transaction, spent: &[TxOut]) {
        let digests = Bip143::new(transaction);
        let unlocked: Vec<(ScriptBuf, Witness)> =
            (0..spent.len()).map(|index| self.unlock(transaction, spent, index, &digests)).collect();
        for (input, (script_sig, witness)) in transaction.input.iter_mut().zip(unlocked) {
            input.script_sig = script_sig;
            input.witness = witness;
        }
    }

    fn unlock(
        &self,
        transaction: &Transaction,
        spent: &[TxOut],
        index: usize,
        digests: &Bip143,
    ) -> (ScriptBuf, Witness) {
        let out = &spent[index];
        let key = self.key_of(&out.script_pubkey).map(|key| &self.keys[usize::from(key)]);
        let key = key.expect("only outputs of this wallet are spent");
        match (key.lock, self.flavour) {
            (Lock::Pkh, Flavour::Bsv) => {
                let digest = digests.digest(transaction, index, &key.code, out, SIGHASH_ALL_FORKID);
                (key.script_sig(self.ecdsa(digest, key, SIGHASH_ALL_FORKID as u8)), Witness::new())
            }
            (Lock::Pkh, Flavour::Btc) => {
                let digest = SighashCache::new(transaction)
                    .legacy_signature_hash(index, &key.code, SIGHASH_ALL)
                    .expect("the index is one of an input");
                (key.script_sig(self.ecdsa(digest.to_byte_array(), key, SIGHASH_ALL as u8)), Witness::new())
            }
            (Lock::Wpkh, _) => {
                let digest = digests.digest(transaction, index, &key.code, out, SIGHASH_ALL);
                let signature = self.ecdsa(digest, key, SIGHASH_ALL as u8);
                let witness = Witness::from_slice(&[signature.as_slice(), &key.public.to_bytes()]);
                (ScriptBuf::new(), witness)
            }
            (Lock::Taproot, _) => {
                let digest = SighashCache::new(transaction)
                    .taproot_key_spend_signature_hash(index, &Prevouts::All(spent), TapSighashType::Default)
                    .expect("the index is one of an input, and every prevout is given");
                let message = Message::from_digest(digest.to_byte_array());
                let signature = self.secp.sign_schnorr_no_aux_rand(&message, &key.tweaked);
                (ScriptBuf::new(), Witness::from_slice(&[signature.serialize()]))
            }
        }
    }

    fn ecdsa(&self, digest: [u8; 32], key: &Key, sighash: u8) -> Vec<u8> {
        let signature = self.secp.sign_ecdsa(&Message::from_digest(digest), &key.secret);
        let mut bytes = signature.serialize_der().to_vec();
        bytes.push(sighash);
        bytes
    }
}

impl Key {
    fn new(secp: &Secp256k1<All>, seed: u64, index: u64, flavour: Flavour) -> Self {
        let secret = secret(seed, index);
        let public = CompressedPublicKey(secret.public_key(secp));
        let pair = secret.keypair(secp);
        let code = ScriptBuf::new_p2pkh(&public.pubkey_hash());
        let (lock, script) = match (flavour, index % 3) {
            (Flavour::Bsv, _) | (Flavour::Btc, 0) => (Lock::Pkh, code.clone()),
            (Flavour::Btc, 1) => (Lock::Wpkh, ScriptBuf::new_p2wpkh(&public.wpubkey_hash())),
            (Flavour::Btc, _) => (Lock::Taproot, ScriptBuf::new_p2tr(secp, pair.x_only_public_key().0, None)),
        };
        Self { secret, public, tweaked: pair.tap_tweak(secp, None).to_keypair(), lock, script, code }
    }

    fn script_sig(&self, signature: Vec<u8>) -> ScriptBuf {
        let signature = PushBytesBuf::try_from(signature).expect("a signature is shorter than 2^32 bytes");
        Builder::new().push_slice(signature).push_slice(self.public.to_bytes()).into_script()
    }
}

fn secret(seed: u64, index: u64) -> SecretKey {
    (0u64..)
        .find_map(|attempt| {
            let mut engine = sha256::Hash::engine();
            engine.input(b"sluice simulator key");
            [seed, index, attempt].iter().for_each(|number| engine.input(&number.to_le_bytes()));
            SecretKey::from_slice(sha256::Hash::from_engine(engine).as_byte_array()).ok()
        })
        .expect("nearly every 32 bytes are a key")
}

/// The parts of a BIP-143 digest that the inputs of a transaction share.
struct Bip143 {
    prevouts: sha256d::Hash,
    sequences: sha256d::Hash,
    outputs: sha256d::Hash,
}

impl Bip143 {
    fn new(transaction: &Transaction) -> Self {
        let mut prevouts = sha256d::Hash::engine();
        let mut sequences = sha256d::Hash::engine();
        let mut outputs = sha256d::Hash::engine();
        for input in &transaction.input {
            outpoint(&mut prevouts, &input.previous_output);
            sequences.input(&input.sequence.0.to_le_bytes());
        }
        transaction.output.iter().for_each(|out| outputs.input(&bitcoin::consensus::serialize(out)));
        Self {
            prevouts: sha256d::Hash::from_engine(prevouts),
            sequences: sha256d::Hash::from_engine(sequences),
            outputs: sha256d::Hash::from_engine(outputs),
        }
    }

    /// The digest that input `index` signs; `sighash` may be one that the `bitcoin` crate does not know (FORKID).
    fn digest(
        &self,
        transaction: &Transaction,
        index: usize,
        code: &ScriptBuf,
        out: &TxOut,
        sighash: u32,
    ) -> [u8; 32] {
        let input = &transaction.input[index];
        let mut engine = sha256d::Hash::engine();
        engine.input(&transaction.version.0.to_le_bytes());
        engine.input(self.prevouts.as_byte_array());
        engine.input(self.sequences.as_byte_array());
        outpoint(&mut engine, &input.previous_output);
        engine.input(&bitcoin::consensus::serialize(code));
        engine.input(&out.value.to_sat().to_le_bytes());
        engine.input(&input.sequence.0.to_le_bytes());
        engine.input(self.outputs.as_byte_array());
        engine.input(&transaction.lock_time.to_consensus_u32().to_le_bytes());
        engine.input(&sighash.to_le_bytes());
        sha256d::Hash::from_engine(engine).to_byte_array()
    }
}

fn outpoint(engine: &mut impl HashEngine, outpoint: &OutPoint) {
    engine.input(outpoint.txid.as_byte_array());
    engine.input(&outpoint.vout.to_le_bytes());
}

/// An output script that carries data and can never be spent.
pub(super) fn data_script(flavour: Flavour, data: Vec<u8>) -> ScriptBuf {
    let data = PushBytesBuf::try_from(data).expect("data is shorter than 2^32 bytes");
    let builder = match flavour {
        Flavour::Btc => Builder::new(),
        // since the Genesis upgrade only OP_FALSE makes an output unspendable
        Flavour::Bsv => Builder::new().push_int(0),
    };
    builder.push_opcode(OP_RETURN).push_slice(data).into_script()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::sighash::EcdsaSighashType;
    use bitcoin::{Amount, Sequence, TxIn, absolute, transaction};

    #[test]
    fn the_bip143_digest_is_the_one_of_the_bitcoin_crate() {
        let wallet = Wallet::new(3, Flavour::Btc);
        let spent = TxOut { value: Amount::from_sat(5_000), script_pubkey: wallet.script(1).clone() };
        let transaction = Transaction {
            version: transaction::Version::TWO,
            lock_time: absolute::LockTime::from_consensus(17),
            input: vec![TxIn { sequence: Sequence(9), ..TxIn::default() }],
            output: vec![TxOut { value: Amount::from_sat(4_000), script_pubkey: wallet.script(0).clone() }],
        };
        let ours =
            Bip143::new(&transaction).digest(&transaction, 0, &wallet.keys[1].code, &spent, SIGHASH_ALL);
        let theirs = SighashCache::new(&transaction)
            .p2wpkh_signature_hash(0, &spent.script_pubkey, spent.value, EcdsaSighashType::All)
            .unwrap();
        assert_eq!(ours, theirs.to_byte_array());
    }

    #[test]
    fn a_bsv_world_locks_with_public_key_hashes_only() {
        let wallet = Wallet::new(3, Flavour::Bsv);
        assert!((0..60).all(|key| wallet.script(key).is_p2pkh()));
    }
}
