//! Consumers on real nodes' logs: through reorganisations, and killed at any moment, they end with the node's own state.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use sluice_consumer::{ChainLog, Position, Projection as _};
use sluice_indexer::{Projector, Settings};
use sluice_test_support::bitcoin::consensus::encode::deserialize_hex;
use sluice_test_support::bitcoin::{Block, OutPoint};
use sluice_test_support::rand::{Rng as _, SeedableRng as _};
use sluice_test_support::rand_chacha::ChaCha8Rng;
use sluice_test_support::serde_json::{Value, json};
use sluice_test_support::sluice_log;
use sluice_test_support::sluice_schemas::{Codec, Topics};
use sluice_test_support::{
    Dir, Disk, FEE, Flavour, Lock, LogKind, Node, Pipeline, Sluice, Traffic, Wallet, parts, sluice_binary,
    soon,
};

/// Kills where `SLUICE_KILLS` says nothing; on Kafka, where a start takes longer, a third of it.
const KILLS: u32 = 21;
/// Coins for the traffic: more than it can spend.
const COINS: usize = 8_000;
/// Blocks of history that a replay goes through.
const HISTORY: usize = 1_000;
/// What no node counts: the output of the genesis block, which cannot be spent.
const GENESIS_SATOSHIS: i64 = 50 * 100_000_000;

fn kills() -> u32 {
    parts::setting("SLUICE_KILLS").map_or(KILLS, |kills| kills.parse().expect("SLUICE_KILLS is a number"))
}

#[test]
fn balances_end_as_the_nodes_own_on_bitcoin_core_and_sqlite() {
    balances_through_reorganisations(Flavour::Btc, LogKind::Sqlite);
}

#[test]
fn balances_end_as_the_nodes_own_on_bitcoin_core_and_kafka() {
    balances_through_reorganisations(Flavour::Btc, LogKind::Kafka);
}

#[test]
fn balances_end_as_the_nodes_own_on_bitcoin_sv_and_sqlite() {
    balances_through_reorganisations(Flavour::Bsv, LogKind::Sqlite);
}

#[test]
fn balances_end_as_the_nodes_own_on_bitcoin_sv_and_kafka() {
    balances_through_reorganisations(Flavour::Bsv, LogKind::Kafka);
}

fn balances_through_reorganisations(flavour: Flavour, kind: LogKind) {
    if !parts::have_node(flavour) || !kind.there() {
        return;
    }
    let (node, mut wallet) = Node::start_funded(flavour, 400);
    // So that the coins are old enough to be spent at the foot of the deepest branch.
    node.mine(60);
    let pipeline = Arc::new(Pipeline::of(&node, kind));
    let producer = pipeline.up();
    pipeline.view().reaches_tip_of(&node);
    let balances = Balances::new(&pipeline, "balances");
    let running = balances.up();
    for depth in [1, 6, 40] {
        let mut paid: Vec<_> = (0..20).map(|_| pay(&node, &mut wallet)).collect();
        node.mine(1);
        balances.reach(&running, &node);
        balances.equal(&node);
        // One of them is double-spent by the other branch, the others return to the mempool and are mined again.
        let rival = Wallet::pay(&paid.swap_remove(0), Lock::Anyone, 50_000);
        node.reorganise(depth, vec![rival]);
        balances.reach(&running, &node);
        balances.equal(&node);
        node.mine(1);
    }
    balances.reach(&running, &node);
    balances.equal(&node);
    assert!(running.stop().success());
    assert!(producer.stop().success());
}

#[test]
fn balances_that_are_killed_again_and_again_end_as_if_built_in_one_go_on_sqlite() {
    killed_again_and_again::<Balances>(Flavour::Btc, LogKind::Sqlite, kills(), 30..700);
}

#[test]
fn balances_that_are_killed_again_and_again_end_as_if_built_in_one_go_on_kafka() {
    killed_again_and_again::<Balances>(Flavour::Bsv, LogKind::Kafka, kills().div_ceil(3), 1_000..5_000);
}

#[test]
fn an_index_that_is_killed_again_and_again_ends_as_if_built_in_one_go_on_sqlite() {
    killed_again_and_again::<Indexer>(Flavour::Bsv, LogKind::Sqlite, kills(), 100..1_500);
}

#[test]
fn an_index_that_is_killed_again_and_again_ends_as_if_built_in_one_go_on_kafka() {
    killed_again_and_again::<Indexer>(Flavour::Btc, LogKind::Kafka, kills().div_ceil(3), 1_000..6_000);
}

/// A consumer in a process of its own, with a store of its own.
trait Service {
    type Row: PartialEq;
    fn new(pipeline: &Arc<Pipeline>, name: &str) -> Self;
    /// Starts it.
    fn up(&self) -> Sluice;
    /// Waits until it is at the node's tip.
    fn reach(&self, running: &Sluice, node: &Node);
    /// Sequence that the store is at, -1 where it is empty. While it is down.
    fn sequence(&self) -> i64;
    /// All that is stored. While it is down.
    fn rows(&self) -> Vec<Self::Row>;
}

fn killed_again_and_again<S: Service>(flavour: Flavour, kind: LogKind, kills: u32, life_ms: Range<u64>) {
    if !parts::have_node(flavour) || !kind.there() {
        return;
    }
    let (node, wallet) = Node::start_funded(flavour, COINS);
    node.mine(HISTORY);
    let node = Arc::new(node);
    let pipeline = Arc::new(Pipeline::of(&node, kind));
    let producer = pipeline.up();
    pipeline.view().reaches_tip_of(&node);

    let killed = S::new(&pipeline, "killed");
    let mut rng = ChaCha8Rng::seed_from_u64(u64::from(kills));
    let mut sequences = Vec::new();
    let mut traffic = None;
    for kill in 0..kills {
        // The first half during replay, as far as that takes so long; the second half while the chain goes on.
        if kill == kills / 2 {
            traffic = Some(Traffic::start(Arc::clone(&node), wallet.clone(), 7));
        }
        let running = killed.up();
        std::thread::sleep(Duration::from_millis(rng.random_range(life_ms.clone())));
        running.kill();
        sequences.push(killed.sequence());
    }
    let tally = traffic.expect("there were kills").stop();
    assert!(tally.mined > 0 && tally.reorganisations > 0, "{tally:?}");
    assert!(sequences.is_sorted(), "a kill takes nothing back that was committed: {sequences:?}");
    // More work than any other chain that the node has seen, so that nothing changes any more.
    node.mine(20);
    let whole = S::new(&pipeline, "whole");
    for service in [&killed, &whole] {
        let running = service.up();
        service.reach(&running, &node);
        assert!(running.stop().success());
    }
    assert!(producer.stop().success());
    assert_eq!(killed.sequence(), whole.sequence());
    assert!(killed.rows() == whole.rows(), "all rows are those of one run; it was killed at {sequences:?}");
}

#[test]
fn every_example_says_how_it_is_used() {
    for name in ["print_blocks", "whales", "balances"] {
        let output = std::process::Command::new(example(name)).arg("--help").output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && said.contains("SLUICE_LOG"), "{name}: {said}");
    }
}

#[test]
fn an_index_that_meets_a_full_disk_says_so_and_goes_on_once_there_is_room() {
    if !parts::have_node(Flavour::Bsv) {
        return;
    }
    let node = Node::start(Flavour::Bsv);
    node.mine(10);
    let pipeline = Arc::new(Pipeline::of(&node, LogKind::Sqlite));
    let at = pipeline.dir.join("disk");
    let Some(disk) = Disk::mount("an_index_that_meets_a_full_disk", &at, "size=128m") else { return };
    let producer = pipeline.up();
    let indexer = Indexer { directory: at.join("index"), ..Indexer::new(&pipeline, "full") };
    let running = indexer.up();
    indexer.reach(&running, &node);
    assert!(running.stop().success());
    let before = indexer.sequence();

    let filler = disk.fill();
    // More than what is left of the last page of any file.
    node.mine(200);
    let mut view = pipeline.view();
    view.reaches_tip_of(&node);
    assert!(producer.stop().success());
    for _ in 0..2 {
        let mut ends = indexer.up();
        assert_eq!(ends.wait().code(), Some(1));
        let output = ends.output();
        let errors: Vec<_> = output.lines().filter(|line| line.starts_with("error: ")).collect();
        assert!(matches!(errors[..], [line] if line.contains("No space left")), "one line: {output}");
    }

    std::fs::remove_file(filler).unwrap();
    assert_eq!(indexer.sequence(), before, "nothing of it was taken for done");
    let running = indexer.up();
    indexer.reach(&running, &node);
    assert!(running.stop().success());
    let in_one_go = Indexer::new(&pipeline, "in-one-go");
    let running = in_one_go.up();
    in_one_go.reach(&running, &node);
    assert!(running.stop().success());
    assert!(indexer.rows() == in_one_go.rows(), "it ends as an index that was built in one go");
}

#[test]
fn an_index_that_cannot_be_written_to_is_refused_in_one_line() {
    let dir = Dir::new("read-only");
    let log = LogKind::Sqlite.url(&dir);
    let pipeline = Pipeline::new(dir, log, &["--sim-block-interval", "20ms", "--sim-blocks", "5"]);
    let at = pipeline.dir.join("disk");
    let Some(disk) = Disk::mount("an_index_that_cannot_be_written_to", &at, "size=128m") else { return };
    let pipeline = Arc::new(pipeline);
    let index = |name: &str| Indexer { directory: at.join(name), ..Indexer::new(&pipeline, name) };
    let mut running = index("old").up();
    running.says("serving");
    assert!(running.stop().success());
    std::fs::create_dir(at.join("empty")).unwrap();
    disk.remount("ro");
    for name in ["old", "empty", "new"] {
        let mut ends = index(name).up();
        assert_eq!(ends.wait().code(), Some(1), "{name}");
        let output = ends.output();
        let errors: Vec<_> = output.lines().filter(|line| line.starts_with("error: ")).collect();
        let directory = at.join(name).display().to_string();
        let is_clear = |line: &str| line.contains(&directory) && line.contains("Read-only file system");
        assert!(matches!(errors[..], [line] if is_clear(line)), "{name}: one line: {output}");
        assert!(!output.contains("panicked"), "{name}: {output}");
    }
    disk.remount("rw");
    let mut running = index("old").up();
    running.says("serving");
    assert!(running.stop().success());
}

/// Path of an example that Cargo built with this test.
fn example(name: &str) -> PathBuf {
    sluice_binary().with_file_name("examples").join(name)
}

fn pay(node: &Node, wallet: &mut Wallet) -> sluice_test_support::Coin {
    let coin = wallet.take();
    let lock = match node.flavour {
        Flavour::Btc if coin.outpoint.vout.is_multiple_of(2) => Lock::AnyoneByWitness,
        _ => Lock::Anyone,
    };
    node.send(&Wallet::pay(&coin, lock, FEE));
    coin
}

/// Starts a binary on a pipeline's log.
fn start(binary: &Path, pipeline: &Pipeline, arguments: &[&str]) -> Sluice {
    let mut all = pipeline.log_options();
    all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    let environment: [(&str, &str); 0] = [];
    Sluice::spawn(binary, &pipeline.dir, "", &all, &environment)
}

/// `sluice-indexer`, and its directory.
struct Indexer {
    pipeline: Arc<Pipeline>,
    group: String,
    directory: PathBuf,
}

impl Service for Indexer {
    type Row = (&'static str, Vec<u8>, Vec<u8>);

    fn new(pipeline: &Arc<Pipeline>, name: &str) -> Self {
        let group = format!("{}.{name}", pipeline.prefix);
        Self { pipeline: pipeline.clone(), group, directory: pipeline.dir.join(&format!("{name}.index")) }
    }

    fn up(&self) -> Sluice {
        let directory = self.directory.display().to_string();
        let binary = sluice_binary().with_file_name("sluice-indexer");
        let options = ["--index", &directory, "--group", &self.group, "--listen", "127.0.0.1:0"];
        start(&binary, &self.pipeline, &options)
    }

    fn reach(&self, running: &Sluice, node: &Node) {
        let tip = node.tip_hash().to_string();
        soon("the index at the node's tip", || {
            let said = running.output();
            let page = said.split("http://127.0.0.1:").nth(1).and_then(|rest| rest.split('/').next());
            let url = format!("http://127.0.0.1:{}/blocks/tip/hash", page.ok_or_else(|| said.clone())?);
            let answer = ureq::get(&url).call().map_err(|error| error.to_string())?;
            match answer.into_body().read_to_string() {
                Ok(found) if found == tip => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
    }

    fn sequence(&self) -> i64 {
        if !self.directory.exists() {
            return -1;
        }
        self.open().position().unwrap().map_or(-1, |position| position.sequence)
    }

    fn rows(&self) -> Vec<Self::Row> {
        self.open().index().dump().unwrap()
    }
}

impl Indexer {
    fn open(&self) -> Projector {
        let log = sluice_log::open(&self.pipeline.log).unwrap();
        let topics = Topics::new(&self.pipeline.prefix);
        let chain = ChainLog { log, codec: Codec::single_object(), topics };
        Projector::open(chain, &self.directory, Settings::default()).unwrap()
    }
}

/// The example `balances`, and its database.
struct Balances {
    pipeline: Arc<Pipeline>,
    group: String,
    path: PathBuf,
}

/// An output as `balances` has it: txid, vout, script, satoshis, spent.
type Row = (Vec<u8>, i64, Vec<u8>, i64, bool);

impl Service for Balances {
    type Row = Row;

    fn new(pipeline: &Arc<Pipeline>, name: &str) -> Self {
        // Groups are the log's, which tests share.
        let group = format!("{}.{name}", pipeline.prefix);
        Self { pipeline: pipeline.clone(), group, path: pipeline.dir.join(&format!("{name}.db")) }
    }

    fn up(&self) -> Sluice {
        let db = self.path.display().to_string();
        start(&example("balances"), &self.pipeline, &["--db", &db, "--group", &self.group])
    }

    fn reach(&self, _: &Sluice, node: &Node) {
        let tip = node.tip_hash();
        soon("the balances at the node's tip", || match self.position() {
            Some(position) if position.tip.hash == tip => Ok(()),
            other => Err(other),
        });
    }

    fn sequence(&self) -> i64 {
        self.position().map_or(-1, |position| position.sequence)
    }

    fn rows(&self) -> Vec<Row> {
        let db = self.open();
        let mut query = db.prepare("SELECT * FROM outputs ORDER BY txid, vout").unwrap();
        let row =
            |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?));
        query.query_map([], row).unwrap().collect::<Result<_, _>>().unwrap()
    }
}

impl Balances {
    fn open(&self) -> Connection {
        let db = Connection::open_with_flags(&self.path, OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap();
        db.busy_timeout(Duration::from_secs(10)).unwrap();
        db
    }

    fn position(&self) -> Option<Position> {
        if !Path::new(&self.path).exists() {
            return None;
        }
        let bytes: Vec<u8> =
            self.open().query_row("SELECT bytes FROM position", [], |row| row.get(0)).ok()?;
        Some(Position::from_bytes(&bytes).unwrap())
    }

    /// Satoshis by script, of all who have any.
    fn by_script(&self) -> BTreeMap<String, i64> {
        let db = self.open();
        let mut query = db.prepare("SELECT script, satoshis FROM balances WHERE satoshis > 0").unwrap();
        query
            .query_map([], |row| Ok((row.get::<_, String>(0)?.to_lowercase(), row.get(1)?)))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap()
    }

    /// That they are what the node's blocks make, and what the node itself says.
    fn equal(&self, node: &Node) {
        let found = self.by_script();
        assert_eq!(found, recomputed(node), "balances by script");
        let all: i64 = found.values().sum();
        let said = node.call("gettxoutsetinfo", json!([]));
        assert_eq!(all - GENESIS_SATOSHIS, satoshis(&said["total_amount"]), "all that is unspent");
        if node.flavour == Flavour::Btc {
            for (script, held) in found.iter().filter(|(script, _)| !is_genesis(script)) {
                let said = node.call("scantxoutset", json!(["start", [format!("raw({script})")]]));
                assert_eq!(*held, satoshis(&said["total_amount"]), "balance of {script}");
            }
        }
    }
}

/// Balances by script, from the node's blocks.
fn recomputed(node: &Node) -> BTreeMap<String, i64> {
    let mut unspent = BTreeMap::new();
    for hash in node.best_chain() {
        let raw = node.call("getblock", json!([hash.to_string(), 0]));
        let block: Block = deserialize_hex(raw.as_str().unwrap()).unwrap();
        for tx in &block.txdata {
            let txid = tx.compute_txid();
            tx.input.iter().for_each(|input| drop(unspent.remove(&input.previous_output)));
            let made = (0..).zip(&tx.output).filter(|(_, output)| output.value.to_sat() > 0);
            unspent.extend(made.map(|(vout, output)| (OutPoint { txid, vout }, output.clone())));
        }
    }
    let mut balances = BTreeMap::new();
    for output in unspent.into_values() {
        *balances.entry(output.script_pubkey.to_hex_string()).or_default() += output.value.to_sat() as i64;
    }
    balances
}

/// An amount as a node writes it, in coins.
fn satoshis(coins: &Value) -> i64 {
    (coins.as_f64().unwrap_or_else(|| panic!("{coins} is no amount")) * 1e8).round() as i64
}

/// The public key that the genesis block pays to.
fn is_genesis(script: &str) -> bool {
    script.starts_with("4104678afdb0fe55482719")
}
