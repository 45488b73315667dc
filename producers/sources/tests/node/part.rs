//! Real nodes to test against, started by the scripts in `tests/parts`.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sluice_schemas::{Flavour, Network};
use sluice_sources::node::{Credentials, NodeConfig, NodeSource};
use sluice_sources::{Error, Feed, Notice};
use tempfile::TempDir;
use url::Url;

/// A node of its own, on regtest, with a wallet that has money; it ends with the test.
pub struct RealNode {
    pub flavour: Flavour,
    dir: TempDir,
    env: HashMap<String, String>,
    address: String,
}

/// Runs a test on both kinds of node, as far as they are here. On a CI machine they must be.
pub fn on_each_node(arguments: &str, test: impl Fn(RealNode)) {
    for flavour in [Flavour::Btc, Flavour::Bsv] {
        on_node(flavour, arguments, &test);
    }
}

pub fn on_node(flavour: Flavour, arguments: &str, test: impl Fn(RealNode)) {
    if is_here(flavour) {
        test(RealNode::start(flavour, arguments));
    } else {
        eprintln!("SKIPPED for {flavour:?}: no node; run tests/parts/get-core.sh and tests/parts/get-bsv.sh");
    }
}

fn is_here(flavour: Flavour) -> bool {
    let (variable, prefix) = match flavour {
        Flavour::Btc => ("SLUICE_TEST_CORE", "core-"),
        Flavour::Bsv => ("SLUICE_TEST_BSV", "bsv-"),
    };
    let set = |name: &str| std::env::var(name).is_ok_and(|value| !value.is_empty());
    // The scripts would build it, which takes a quarter of an hour.
    set(variable) || std::env::var("CI").is_ok_and(|ci| ci == "true") || is_cached(prefix)
}

fn is_cached(prefix: &str) -> bool {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    let cache = cache.map(|cache| cache.join("chainsluice"));
    let cache = std::env::var_os("SLUICE_CACHE").map(PathBuf::from).or(cache);
    let Some(parts) = cache.and_then(|cache| cache.read_dir().ok()) else { return false };
    parts.flatten().any(|part| {
        part.file_name().to_string_lossy().starts_with(prefix) && part.path().join(".complete").exists()
    })
}

impl RealNode {
    fn start(flavour: Flavour, arguments: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let kind = if flavour == Flavour::Btc { "core" } else { "bsv" };
        let mut node = Self { flavour, dir, env: HashMap::new(), address: String::new() };
        node.script(&["start", kind], &[], arguments);
        node.read_env();
        if flavour == Flavour::Btc {
            node.cli(&["-named", "createwallet", "wallet_name=test", "load_on_startup=true"]);
        }
        node.address = node.cli(&["getnewaddress"]);
        node.mine(101);
        node
    }

    fn script(&self, command: &[&str], rest: &[&str], node_arguments: &str) -> String {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/parts/run-node.sh");
        let output = Command::new(script)
            .args(command)
            .arg(self.dir.path())
            .args(rest)
            .env("NODE_ARGS", node_arguments)
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?} {rest:?}: {error}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn read_env(&mut self) {
        let env = std::fs::read_to_string(self.dir.path().join("env")).unwrap();
        let pairs = env.lines().filter_map(|line| line.split_once('='));
        self.env = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    }

    pub fn cli(&self, arguments: &[&str]) -> String {
        self.script(&["cli"], arguments, "")
    }

    pub fn stop(&self) {
        self.script(&["stop"], &[], "");
    }

    pub fn up(&self) {
        self.script(&["up"], &[], "");
    }

    /// Hashes of the new blocks.
    pub fn mine(&self, count: usize) -> Vec<bitcoin::BlockHash> {
        self.mine_to(count, &self.address)
    }

    /// To an address of nobody: another block than the one that was there.
    pub fn mine_elsewhere(&self, count: usize) -> Vec<bitcoin::BlockHash> {
        self.mine_to(count, "mfWxJ45yp2SFn7UciZyNpvDKrzbhyfKrY8")
    }

    fn mine_to(&self, count: usize, address: &str) -> Vec<bitcoin::BlockHash> {
        let hashes = self.cli(&["generatetoaddress", &count.to_string(), address]);
        hashes.split('"').filter_map(|hash| hash.parse().ok()).collect()
    }

    pub fn pay(&self) -> bitcoin::Txid {
        self.cli(&["sendtoaddress", &self.address, "0.5"]).parse().unwrap()
    }

    /// A transaction with so many bytes of data.
    pub fn pay_with_data(&self, bytes: usize) -> bitcoin::Txid {
        self.pay_from(&format!(r#""data":"{}","#, "ab".repeat(bytes)), 0, u32::MAX)
    }

    /// One confirmed input, with sequence and lock time as given.
    pub fn pay_at(&self, lock_time: u32, sequence: u32) -> bitcoin::Txid {
        self.pay_from("", lock_time, sequence)
    }

    /// Pays our largest confirmed coin to ourselves, all but a fee.
    fn pay_from(&self, output: &str, lock_time: u32, sequence: u32) -> bitcoin::Txid {
        let unspent: serde_json::Value = serde_json::from_str(&self.cli(&["listunspent", "1"])).unwrap();
        let amount = |coin: &serde_json::Value| coin["amount"].as_f64().unwrap();
        let coins = unspent.as_array().unwrap().iter();
        let coin = coins.max_by(|one, other| amount(one).total_cmp(&amount(other))).unwrap();
        let inputs =
            serde_json::json!([{ "txid": coin["txid"], "vout": coin["vout"], "sequence": sequence }]);
        let outputs = format!(r#"{{{output}"{}":{:.8}}}"#, self.address, amount(coin) - 0.01);
        let raw = self.cli(&["createrawtransaction", &inputs.to_string(), &outputs, &lock_time.to_string()]);
        let method =
            if self.flavour == Flavour::Btc { "signrawtransactionwithwallet" } else { "signrawtransaction" };
        let signed: serde_json::Value = serde_json::from_str(&self.cli(&[method, &raw])).unwrap();
        self.cli(&["sendrawtransaction", signed["hex"].as_str().unwrap()]).parse().unwrap()
    }

    pub fn network(&self) -> Network {
        if self.flavour == Flavour::Btc { Network::BtcRegtest } else { Network::BsvRegtest }
    }

    pub fn zmq_url(&self) -> String {
        self.env["ZMQ_URL"].clone()
    }

    pub fn config(&self) -> NodeConfig {
        let cookie = Credentials::CookieFile(self.env["RPC_COOKIE_FILE"].clone().into());
        let url = Url::parse(&self.env["RPC_URL"]).unwrap();
        // Long, so that what a test hears, it hears by ZMQ.
        NodeConfig { slow_poll: Duration::from_secs(3600), ..NodeConfig::new(url, cookie) }
    }

    pub fn source(&self) -> NodeSource {
        NodeSource::connect(self.config()).unwrap()
    }
}

impl Drop for RealNode {
    fn drop(&mut self) {
        self.stop();
    }
}

/// How long anything may take that a test waits for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Listens until the notices heard so far satisfy the test; errors are passed over.
pub fn hear(feed: &mut dyn Feed, mut enough: impl FnMut(&[Notice]) -> bool) -> Vec<Notice> {
    let until = Instant::now() + PATIENCE;
    let mut heard = Vec::new();
    while !enough(&heard) {
        assert!(Instant::now() < until, "heard only {heard:?}");
        if let Ok(notices) = feed.wait(Duration::from_millis(200)) {
            heard.extend(notices);
        }
    }
    heard
}

/// Tries until it works.
pub fn until_ok<T>(mut attempt: impl FnMut() -> Result<T, Error>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(error) => assert!(Instant::now() < until, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Stands before a node and cuts the first few connections over which more than `after` bytes come back.
pub fn cutting_proxy(node: &Url, after: usize, cuts: usize) -> (Url, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut url = node.clone();
    url.set_port(Some(listener.local_addr().unwrap().port())).unwrap();
    let node: SocketAddr = format!("127.0.0.1:{}", node.port().unwrap()).parse().unwrap();
    let left = Arc::new(AtomicUsize::new(cuts));
    let counter = Arc::clone(&left);
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (client, server) = (client.unwrap(), TcpStream::connect(node).unwrap());
            let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Write);
            });
            let counter = Arc::clone(&counter);
            std::thread::spawn(move || answer(client, server, after, &counter));
        }
    });
    (url, left)
}

fn answer(mut client: TcpStream, mut server: TcpStream, after: usize, cuts: &AtomicUsize) {
    let (mut buffer, mut total) = (vec![0; 16384], 0);
    while let Ok(read @ 1..) = server.read(&mut buffer) {
        total += read;
        let cut = |left: usize| left.checked_sub(1);
        if total > after && cuts.fetch_update(Ordering::SeqCst, Ordering::SeqCst, cut).is_ok() {
            break;
        }
        if client.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = client.shutdown(Shutdown::Both);
    let _ = server.shutdown(Shutdown::Both);
}
