//! Real nodes accept every block, on every branch, and end up with the same tip and the same coins.
//!
//! Looks for `bitcoind` in the folders `SLUICE_TEST_CORE` and `SLUICE_TEST_BSV`, then where `tests/parts/get-core.sh` and
//! `get-bsv.sh` leave it. Skipped loudly without it, but never where `CI` is set.

use std::env;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bitcoin::hex::DisplayHex;
use serde_json::{Value, json};
use sluice_schemas::{Flavour, Network};
use sluice_sources::simulator::{BlockFill, Event, Place, SimulatorConfig, World};
use tempfile::TempDir;

use crate::ledger::Ledger;
use crate::world::lively;

/// `sluice:sluice-secret`
const AUTHORIZATION: &str = "Basic c2x1aWNlOnNsdWljZS1zZWNyZXQ=";
const START_LIMIT: Duration = Duration::from_secs(60);

struct Node {
    process: Child,
    url: String,
    _folder: TempDir,
}

impl Node {
    fn start(flavour: Flavour) -> Option<Self> {
        let Some(program) = program(flavour) else {
            assert!(env::var_os("CI").is_none(), "no bitcoind for {flavour:?}; see tests/parts");
            eprintln!(
                "\n*** SKIPPED: no bitcoind for {flavour:?}; run tests/parts/get-core.sh or get-bsv.sh ***\n"
            );
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new(program);
        command.args(["-regtest", "-server", "-listen=0", "-dnsseed=0", "-printtoconsole=0"]);
        command.args([
            "-rpcuser=sluice",
            "-rpcpassword=sluice-secret",
            "-rpcbind=127.0.0.1",
            "-rpcallowip=127.0.0.1",
        ]);
        command.arg(format!("-rpcport={port}")).arg(format!("-datadir={}", folder.path().display()));
        if flavour == Flavour::Bsv {
            command.args(["-excessiveblocksize=10000000000", "-maxstackmemoryusageconsensus=0"]);
            command.args(["-minminingtxfee=0.00000001", "-genesisactivationheight=1"]);
        }
        let process =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut node = Self { process, url: format!("http://127.0.0.1:{port}"), _folder: folder };
        let start = Instant::now();
        while node.try_call("getblockcount", json!([])).is_none() {
            assert!(start.elapsed() < START_LIMIT, "the node does not answer");
            assert_eq!(node.process.try_wait().unwrap(), None, "the node runs");
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(node)
    }

    fn try_call(&self, method: &str, params: Value) -> Option<Value> {
        let body = json!({ "id": 1, "method": method, "params": params }).to_string();
        let request = ureq::post(&self.url).header("Authorization", AUTHORIZATION);
        let mut response = request.config().http_status_as_error(false).build().send(body).ok()?;
        let text = response.body_mut().with_config().limit(100 << 20).read_to_string().ok()?;
        let answer: Value = serde_json::from_str(&text).ok()?;
        answer["error"].is_null().then(|| answer["result"].clone())
    }

    fn call(&self, method: &str, params: Value) -> Value {
        self.try_call(method, params).unwrap_or_else(|| panic!("{method} failed"))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn program(flavour: Flavour) -> Option<PathBuf> {
    let (variable, prefix, inner) = match flavour {
        Flavour::Btc => ("SLUICE_TEST_CORE", "core-", "bin/bitcoind"),
        Flavour::Bsv => ("SLUICE_TEST_BSV", "bsv-", "bitcoind"),
    };
    // The program itself, or the folder that holds it.
    if let Some(path) = env::var_os(variable).map(PathBuf::from) {
        return Some(if path.is_dir() { path.join("bitcoind") } else { path });
    }
    let base = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let base = base.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache")))?.join("chainsluice");
    let cache = env::var_os("SLUICE_CACHE").map_or(base, PathBuf::from);
    let entries = std::fs::read_dir(cache).ok()?.filter_map(Result::ok);
    entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path().join(inner))
        .find(|program| program.is_file())
}

/// Every block of the world up to `height`, in the order in which they were mined, is taken by a real node.
fn accepts(config: &SimulatorConfig, height: i32) {
    let Some(node) = Node::start(config.network.flavour()) else { return };
    let mut world = World::new(config).unwrap();
    let mut ledger = Ledger::new(config.network);
    while world.height() < height {
        for event in world.step() {
            let Event::Mined { block, place } = event else { continue };
            let answer = node.call("submitblock", json!([block.body().to_lower_hex_string()]));
            ledger.learn(block.hash, block.body(), block.spent());
            match place {
                Place::Branch => {
                    assert!(answer.is_null() || answer == "inconclusive", "{answer} at {}", block.height)
                }
                Place::Tip { disconnected } => {
                    assert!(answer.is_null(), "{answer} at height {} after {disconnected}", block.height);
                    assert_eq!(node.call("getbestblockhash", json!([])), block.hash.to_string());
                    ledger.go_to(block.hash);
                }
            }
        }
    }
    let set = node.call("gettxoutsetinfo", json!([]));
    let (count, value) = ledger.unspent();
    assert_eq!(set["bestblock"], world.tip().to_string());
    assert_eq!(set["txouts"], count);
    let satoshis = (set["total_amount"].as_f64().unwrap() * 1e8).round() as u64;
    assert_eq!(satoshis, value);
}

#[test]
fn bitcoin_core_accepts_every_block_on_every_branch() {
    accepts(&lively(Network::BtcRegtest), 420);
}

#[test]
fn bitcoin_sv_accepts_every_block_on_every_branch() {
    accepts(&lively(Network::BsvRegtest), 420);
}

#[test]
fn bitcoin_core_accepts_full_blocks() {
    let fill = Some(BlockFill { transactions: 9_000, big_transaction_bytes: 200_000 });
    accepts(&SimulatorConfig { fill, ..lively(Network::BtcRegtest) }, 163);
}

#[test]
fn bitcoin_sv_accepts_full_blocks() {
    let fill = Some(BlockFill { transactions: 9_000, big_transaction_bytes: 3_000_000 });
    accepts(&SimulatorConfig { fill, ..lively(Network::BsvRegtest) }, 163);
}
