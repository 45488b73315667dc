//! Coins that anyone can spend, so that transactions need no keys.

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash as _;
use bitcoin::script::Builder;
use bitcoin::{
    Amount, Block, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, WScriptHash, Witness, opcodes,
    transaction,
};

/// Satoshis paid per transaction unless said otherwise: plenty for a small one on both networks.
pub const FEE: u64 = 2_000;

/// Who can spend an output: anyone, in two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock {
    /// A bare `OP_1`.
    Anyone,
    /// A witness program of a bare `OP_1` (Bitcoin Core).
    AnyoneByWitness,
}

impl Lock {
    fn witness_script() -> ScriptBuf {
        Builder::new().push_opcode(opcodes::OP_TRUE).into_script()
    }

    /// The locking script.
    pub fn script_pubkey(self) -> ScriptBuf {
        match self {
            Self::Anyone => Builder::new().push_opcode(opcodes::OP_TRUE).into_script(),
            Self::AnyoneByWitness => {
                ScriptBuf::new_p2wsh(&WScriptHash::hash(Self::witness_script().as_bytes()))
            }
        }
    }

    fn witness(self) -> Witness {
        match self {
            Self::Anyone => Witness::new(),
            Self::AnyoneByWitness => Witness::from_slice(&[Self::witness_script().as_bytes()]),
        }
    }
}

/// An output of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coin {
    /// Where it is.
    pub outpoint: OutPoint,
    /// Satoshis.
    pub value: u64,
    /// Its script.
    pub lock: Lock,
}

impl Coin {
    /// The coins that a transaction made for us.
    pub fn of(tx: &Transaction) -> Vec<Self> {
        let txid = tx.compute_txid();
        let ours = |output: &TxOut| {
            [Lock::Anyone, Lock::AnyoneByWitness]
                .into_iter()
                .find(|lock| lock.script_pubkey() == output.script_pubkey)
        };
        (0..)
            .zip(&tx.output)
            .filter_map(|(vout, output)| {
                let lock = ours(output)?;
                Some(Self { outpoint: OutPoint { txid, vout }, value: output.value.to_sat(), lock })
            })
            .collect()
    }
}

/// Coins to spend.
#[derive(Clone, Debug, Default)]
pub struct Wallet {
    /// Unspent, as far as the wallet knows.
    pub coins: Vec<Coin>,
}

impl Wallet {
    /// The coinbase outputs of blocks.
    pub fn of_coinbases<'a>(blocks: impl IntoIterator<Item = &'a Block>) -> Self {
        Self { coins: blocks.into_iter().flat_map(|block| Coin::of(&block.txdata[0])).collect() }
    }

    /// Takes a coin out.
    ///
    /// # Panics
    /// Where none is left.
    pub fn take(&mut self) -> Coin {
        self.coins.pop().expect("the wallet has coins left")
    }

    /// Spends a coin, half to each of two new ones.
    pub fn pay(coin: &Coin, lock: Lock, fee: u64) -> Transaction {
        let half = (coin.value - fee) / 2;
        Self::spend(&[*coin], vec![output(half, lock.script_pubkey()), output(half, lock.script_pubkey())])
    }

    /// Spends a coin to data, and the rest to a new coin.
    pub fn store(coin: &Coin, data: &[u8], fee: u64) -> Transaction {
        // OP_FALSE OP_RETURN with a push of any size: PushBytes of the bitcoin crate ends at 4 GiB.
        let mut script = vec![0x00, 0x6a, 0x4e];
        script.extend_from_slice(&(data.len() as u32).to_le_bytes());
        script.extend_from_slice(data);
        let rest = output(coin.value - fee, Lock::Anyone.script_pubkey());
        Self::spend(&[*coin], vec![output(0, ScriptBuf::from_bytes(script)), rest])
    }

    /// Spends coins to outputs.
    pub fn spend(coins: &[Coin], outputs: Vec<TxOut>) -> Transaction {
        let input = |coin: &Coin| TxIn {
            previous_output: coin.outpoint,
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: coin.lock.witness(),
        };
        Transaction {
            version: transaction::Version::ONE,
            lock_time: LockTime::ZERO,
            input: coins.iter().map(input).collect(),
            output: outputs,
        }
    }
}

fn output(value: u64, script_pubkey: ScriptBuf) -> TxOut {
    TxOut { value: Amount::from_sat(value), script_pubkey }
}
