//! A real Bitcoin node on regtest.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::process::Command;
use std::str::FromStr as _;

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::hashes::Hash as _;
use bitcoin::{Block, BlockHash, Transaction, Txid};
use serde_json::{Value, json};
use sluice_schemas::Flavour;

use crate::block::{Branch, Salt, block_on};
use crate::dir::Dir;
use crate::parts;
use crate::rpc::{CallError, Rpc};
use crate::wallet::Wallet;

/// Where `generatetoaddress` pays to; nobody spends it.
const MINER: &str = "mfWxJ45yp2SFn7UciZyNpvDKrzbhyfKrY8";
/// Blocks until a coinbase may be spent.
const MATURITY: usize = 100;
/// User and password that `run-node.sh` gives a node.
const USER: &str = "sluice";
const PASSWORD: &str = "sluice-secret";
/// The same for a node that makes a cookie beside: salt, and HMAC-SHA256 of the password with it.
const RPC_AUTH: &str =
    "-rpcauth=sluice:736c75696365$68797bdd91325f16eb52fc27a304ad8f4a7130990173a897894242d80bc59728";

/// A block to build on.
#[derive(Clone, Debug)]
pub struct Parent {
    /// Its hash.
    pub hash: BlockHash,
    /// Its height.
    pub height: i32,
    /// Times of it and up to ten before it, ascending by height.
    pub times: Vec<u32>,
}

/// A node with its data in a directory of its own.
#[derive(Debug)]
pub struct Node {
    dir: Dir,
    /// Its kind.
    pub flavour: Flavour,
    rpc: Rpc,
    settings: HashMap<String, String>,
}

impl Node {
    /// Starts a node with an empty chain.
    pub fn start(flavour: Flavour) -> Self {
        Self::start_with(flavour, "")
    }

    /// Starts a node with more arguments.
    pub fn start_with(flavour: Flavour, arguments: &str) -> Self {
        Self::launch(flavour, "password", arguments)
    }

    /// Starts a node that makes a cookie, another at each start.
    pub fn start_with_cookie(flavour: Flavour) -> Self {
        Self::launch(flavour, "cookie", RPC_AUTH)
    }

    fn launch(flavour: Flavour, auth: &str, arguments: &str) -> Self {
        let kind = match flavour {
            Flavour::Btc => "core",
            Flavour::Bsv => "bsv",
        };
        let dir = Dir::new(kind);
        let mut command = Command::new(script());
        command.args(["start", kind]).arg(dir.path());
        command.env("RPC_AUTH", auth).env("NODE_ARGS", arguments);
        let printed = run(&mut command);
        let settings: HashMap<_, _> = printed
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect();
        let rpc = Rpc::new(&settings["RPC_URL"], USER, PASSWORD);
        Self { dir, flavour, rpc, settings }
    }

    /// Starts a node and gives it `coins` coins that can be spent, on a chain a little longer than the maturity.
    pub fn start_funded(flavour: Flavour, coins: usize) -> (Self, Wallet) {
        let node = Self::start(flavour);
        let wallet = node.fund(coins);
        (node, wallet)
    }

    /// Mines coinbases with many outputs, and as many blocks on them as it takes to spend them.
    pub fn fund(&self, coins: usize) -> Wallet {
        /// Outputs of one coinbase.
        const EACH: usize = 400;
        let mut tip = self.tip();
        let mut blocks = Vec::new();
        for _ in 0..coins.div_ceil(EACH) {
            let block = block_on(&tip, vec![], coins.min(EACH), Salt::fresh());
            tip = tip.child(&block);
            blocks.push(block);
        }
        let wallet = Wallet::of_coinbases(&blocks);
        self.submit_all(&blocks);
        self.submit_all(&Branch::grow(&tip, MATURITY, vec![]).blocks);
        // A block with a fresh time, by the node itself, ends its initial download.
        self.mine(1);
        wallet
    }

    /// Host and port of its RPC, without scheme.
    pub fn rpc_address(&self) -> &str {
        self.settings["RPC_URL"].trim_start_matches("http://")
    }

    /// For `--node`: with user and password.
    pub fn url(&self) -> String {
        self.url_at(self.rpc_address())
    }

    /// As `url`, but at another address, say a proxy's.
    pub fn url_at(&self, address: &str) -> String {
        format!("http://{USER}:{PASSWORD}@{address}")
    }

    /// Its cookie file.
    pub fn cookie(&self) -> &str {
        &self.settings["RPC_COOKIE_FILE"]
    }

    /// Where it publishes its ZMQ messages.
    pub fn zmq(&self) -> &str {
        &self.settings["ZMQ_URL"]
    }

    /// Ends it at once, as a power cut would.
    pub fn kill(&self) {
        self.control("kill");
    }

    /// Ends it in good order.
    pub fn stop(&self) {
        self.control("stop");
    }

    /// Starts it again with its data.
    pub fn up(&self) {
        self.control("up");
    }

    fn control(&self, verb: &str) {
        run(Command::new(script()).arg(verb).arg(self.dir.path()));
    }

    /// Calls a method.
    pub fn try_call(&self, method: &str, params: Value) -> Result<Value, CallError> {
        self.rpc.try_call(method, params)
    }

    /// Calls a method that must succeed.
    ///
    /// # Panics
    /// With what the node said instead.
    pub fn call(&self, method: &str, params: Value) -> Value {
        self.try_call(method, params).unwrap_or_else(|e| panic!("{method}: {e}"))
    }

    /// Its best block.
    pub fn tip(&self) -> Parent {
        self.try_tip().unwrap_or_else(|e| panic!("tip: {e}"))
    }

    /// Its best block, if it answers.
    pub fn try_tip(&self) -> Result<Parent, CallError> {
        let height = self.try_call("getblockcount", json!([]))?.as_i64().expect("a number") as i32;
        self.try_block_at(height)
    }

    /// The block of its best chain at a height.
    pub fn block_at(&self, height: i32) -> Parent {
        self.try_block_at(height).unwrap_or_else(|e| panic!("block at {height}: {e}"))
    }

    /// The block of its best chain at a height, if it answers.
    pub fn try_block_at(&self, height: i32) -> Result<Parent, CallError> {
        let heights = (height - 10).max(0)..=height;
        let hashes = self.rpc.try_batch("getblockhash", heights.map(|h| json!([h])).collect())?;
        let headers = self.rpc.try_batch("getblockheader", hashes.iter().map(|h| json!([h])).collect())?;
        let times = headers.iter().map(|h| h["time"].as_u64().expect("a time") as u32).collect();
        let hash = hash_of(hashes.last().expect("at least one"));
        Ok(Parent { hash, height, times })
    }

    /// Hash of its best block.
    pub fn tip_hash(&self) -> BlockHash {
        hash_of(&self.call("getbestblockhash", json!([])))
    }

    /// Hashes of its best chain, genesis first.
    pub fn best_chain(&self) -> Vec<BlockHash> {
        let height = self.call("getblockcount", json!([])).as_i64().expect("a number");
        let params = (0..=height).map(|h| json!([h])).collect();
        let hashes =
            self.rpc.try_batch("getblockhash", params).unwrap_or_else(|e| panic!("getblockhash: {e}"));
        hashes.iter().map(hash_of).collect()
    }

    /// Ids of a block's transactions, in its order.
    pub fn txids(&self, hash: &BlockHash) -> Vec<Txid> {
        let block = self.call("getblock", json!([hash.to_string(), 1]));
        block["tx"].as_array().expect("transactions").iter().map(txid_of).collect()
    }

    /// Ids of the transactions in its mempool.
    pub fn mempool(&self) -> BTreeSet<Txid> {
        self.call("getrawmempool", json!([])).as_array().expect("an array").iter().map(txid_of).collect()
    }

    /// Sends a transaction.
    ///
    /// # Panics
    /// With what the node said instead of taking it.
    pub fn send(&self, tx: &Transaction) -> Txid {
        self.try_send(tx).unwrap_or_else(|e| panic!("sendrawtransaction: {e}"))
    }

    /// Sends a transaction, at whatever fee.
    pub fn try_send(&self, tx: &Transaction) -> Result<Txid, CallError> {
        let any_fee = match self.flavour {
            Flavour::Btc => json!(0),
            Flavour::Bsv => json!(true),
        };
        let txid = self.try_call("sendrawtransaction", json!([serialize_hex(tx), any_fee]))?;
        Ok(txid_of(&txid))
    }

    /// Mines blocks of what is in the mempool.
    pub fn mine(&self, blocks: usize) -> Vec<BlockHash> {
        let mined = self.call("generatetoaddress", json!([blocks, MINER]));
        mined.as_array().expect("hashes").iter().map(hash_of).collect()
    }

    /// Mines one block, if the node answers.
    pub fn try_mine(&self) -> Result<(), CallError> {
        self.try_call("generatetoaddress", json!([1, MINER])).map(drop)
    }

    /// Gives it blocks; each must be taken, as a part of the best chain or beside it.
    ///
    /// # Panics
    /// With what the node said about the block that it refused.
    pub fn submit_all(&self, blocks: &[Block]) {
        for block in blocks {
            let said = self.try_submit(block).unwrap_or_else(|e| panic!("submitblock: {e}"));
            assert!(matches!(said.as_deref(), None | Some("inconclusive")), "submitblock: {said:?}");
        }
    }

    /// Gives it a block; what it said, `None` where it took it.
    pub fn try_submit(&self, block: &Block) -> Result<Option<String>, CallError> {
        let said = self.try_call("submitblock", json!([serialize_hex(block)]))?;
        Ok(said.as_str().map(str::to_owned))
    }

    /// Replaces the last `depth` blocks by one block more, the first of which has `transactions`.
    pub fn reorganise(&self, depth: usize, transactions: Vec<Transaction>) -> Branch {
        let tip = self.tip();
        let branch = Branch::grow(&self.block_at(tip.height - depth as i32), depth + 1, transactions);
        self.submit_all(&branch.blocks);
        assert_eq!(self.tip_hash(), branch.tip_hash(), "the longer branch wins");
        branch
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = Command::new(script()).arg("kill").arg(self.dir.path()).status();
    }
}

fn script() -> PathBuf {
    parts::path("SLUICE_TEST_RUN_NODE")
}

/// Runs a command that must succeed and gives its standard output.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn hash_of(value: &Value) -> BlockHash {
    let hash = value.as_str().unwrap_or_else(|| panic!("{value} is no hash"));
    BlockHash::from_str(hash).unwrap_or_else(|_| BlockHash::all_zeros())
}

fn txid_of(value: &Value) -> Txid {
    Txid::from_str(value.as_str().unwrap_or_else(|| panic!("{value} is no txid"))).expect("64 digits")
}
