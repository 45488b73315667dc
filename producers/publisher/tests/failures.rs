//! The publisher on a real log and a running simulator, with failures put in between at every call.

#![allow(clippy::unwrap_used)]

mod flaky;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use flaky::{Chance, FlakyLog, FlakySource};
use sluice_log::Log;
use sluice_log::chain::ChainLog;
use sluice_log::chain::verify::Depth;
use sluice_log::sqlite::SqliteLog;
use sluice_publisher::{Config, Monitor, Publisher};
use sluice_schemas::{Codec, Network, Topics};
use sluice_sources::Source;
use sluice_sources::simulator::{SimulatorConfig, SimulatorSource};

/// Height at which the simulated chain ends, at first.
const END: u64 = 230;
/// So many blocks more it gets, and so often, while the publisher has missed every reorg.
const MORE: u64 = 60;
const EXTENSIONS: u64 = 10;
/// Far longer than any of this takes.
const PATIENCE: Duration = Duration::from_secs(180);

fn simulator(seed: u64, state: &Path, end: u64) -> Arc<dyn Source> {
    let config = SimulatorConfig {
        network: Network::BtcRegtest,
        seed,
        block_interval: Duration::from_millis(60),
        tx_rate: 60.0,
        reorg_rate: 0.4,
        max_reorg_depth: 8,
        blocks: Some(end),
        state: Some(state.to_owned()),
        ..SimulatorConfig::default()
    };
    Arc::new(SimulatorSource::new(config).unwrap())
}

fn config() -> Config {
    Config {
        partitions: 3,
        poll_interval: Duration::from_millis(50),
        min_backoff: Duration::from_millis(1),
        max_backoff: Duration::from_millis(10),
        ..Config::default()
    }
}

fn chain_log(log: Arc<dyn Log>) -> ChainLog {
    ChainLog { log, codec: Codec::single_object(), topics: Topics::of(Network::BtcRegtest) }
}

fn sqlite(dir: &Path) -> Arc<dyn Log> {
    Arc::new(SqliteLog::open(dir.join("log.db").to_str().unwrap()).unwrap())
}

/// Publishes until `done` says so; returns whether it did before patience ran out.
fn publish_until(chain_log: ChainLog, source: Arc<dyn Source>, done: impl Fn(&Monitor) -> bool) -> bool {
    publish(config(), chain_log, source, done)
}

fn publish(
    config: Config,
    chain_log: ChainLog,
    source: Arc<dyn Source>,
    done: impl Fn(&Monitor) -> bool,
) -> bool {
    let monitor = Arc::new(Monitor::default());
    let stop = Arc::new(AtomicBool::new(false));
    let publisher = Publisher::new(config, chain_log, source, monitor.clone(), stop.clone());
    let deadline = Instant::now() + PATIENCE;
    std::thread::scope(|scope| {
        let running = scope.spawn(|| publisher.run());
        let mut reached = false;
        while !reached && Instant::now() < deadline && !running.is_finished() {
            std::thread::sleep(Duration::from_millis(10));
            reached = done(&monitor);
        }
        stop.store(true, Ordering::SeqCst);
        running.join().unwrap().unwrap();
        reached
    })
}

fn is_at_the_end(source: &dyn Source, end: u64, monitor: &Monitor) -> bool {
    let tip = source.tip().unwrap();
    tip.height == end as i32 && monitor.status().tip == Some((tip.height, tip.hash))
}

/// Has a simulated chain published by `publish`, longer and longer until one of its reorgs is on the log: they last for
/// milliseconds, and on a busy machine the publisher comes too late for any one of them.
fn publish_with_a_reorg(seed: u64, log: &Arc<dyn Log>, publish: impl Fn(&Arc<dyn Source>, u64) -> bool) {
    let state = tempfile::tempdir().unwrap();
    for extension in 0..=EXTENSIONS {
        let end = END + extension * MORE;
        let source = simulator(seed, state.path(), end);
        assert!(publish(&source, end), "height {end} was not reached");
        settle(log, &source, end);
        if assert_equal(&chain_log(log.clone()), &*source) > 0 {
            return;
        }
    }
    panic!("no reorg was published in {} blocks", END + EXTENSIONS * MORE);
}

/// The log is sound, ends where the source does, and its mempool view is the source's mempool. Gives the reorgs on it.
fn assert_equal(chain_log: &ChainLog, source: &dyn Source) -> u64 {
    let summary = chain_log.verify(0, Depth::Content, &mut ()).unwrap();
    let tip = source.tip().unwrap();
    let published = summary.tip.unwrap();
    assert_eq!((published.height, published.hash), (tip.height, tip.hash));
    let view = chain_log.mempool_view().unwrap().unwrap();
    let mempool: HashSet<_> = source.mempool().unwrap().txids.into_iter().collect();
    assert_eq!(view.txids, mempool);
    summary.reorgs
}

#[test]
fn failures_of_the_log_at_any_call_lose_nothing_and_double_nothing() {
    for seed in 1..4 {
        let dir = tempfile::tempdir().unwrap();
        let sound = sqlite(dir.path());
        let chance = Chance::new(seed, 0.02);
        publish_with_a_reorg(seed, &sound, |source, end| {
            let flaky = chain_log(Arc::new(FlakyLog::new(sound.clone(), chance.clone())));
            publish_until(flaky, source.clone(), |monitor| is_at_the_end(&**source, end, monitor))
        });
        assert!(chance.failures() > 20, "only {} failures were put in", chance.failures());
    }
}

#[test]
fn failures_and_lies_of_the_source_lose_nothing_and_publish_nothing_wrong() {
    for seed in 4..7 {
        let dir = tempfile::tempdir().unwrap();
        let sound = sqlite(dir.path());
        let chance = Chance::new(seed, 0.1);
        publish_with_a_reorg(seed, &sound, |source, end| {
            let flaky = Arc::new(FlakySource::new(source.clone(), chance.clone()));
            publish_until(chain_log(sound.clone()), flaky, |monitor| is_at_the_end(&**source, end, monitor))
        });
        assert!(chance.failures() > 20, "only {} failures were put in", chance.failures());
    }
}

#[test]
fn a_view_starts_again_in_a_new_epoch_before_its_first_events_are_past_their_retention() {
    let dir = tempfile::tempdir().unwrap();
    let log = sqlite(dir.path());
    publish_with_a_reorg(7, &log, |source, end| {
        let config = Config { view_interval: Duration::from_millis(300), ..config() };
        publish(config, chain_log(log.clone()), source.clone(), |monitor| {
            monitor.status().epoch > 4 && is_at_the_end(&**source, end, monitor)
        })
    });
}

/// A term without failures: it repairs what is left to repair, and its view is that of the quiet source.
fn settle(log: &Arc<dyn Log>, source: &Arc<dyn Source>, end: u64) {
    let in_view = source.mempool().unwrap().txids.len();
    let settled = publish_until(chain_log(log.clone()), source.clone(), |monitor| {
        is_at_the_end(&**source, end, monitor)
            && monitor.status().mempool == in_view
            && monitor.status().mempool_events > 0
    });
    assert!(settled, "the view never came to hold the {in_view} transactions of the source");
}
