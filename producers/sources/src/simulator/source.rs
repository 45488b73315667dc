//! The simulator as a source: lets the world go on as time goes by.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bitcoin::blockdata::constants::genesis_block;
use bitcoin::{BlockHash, Txid};
use bytes::Bytes;
use sluice_schemas::Network;
use tracing::info;

use super::block::SimBlock;
use super::config::SimulatorConfig;
use super::feed::{Queue, SimulatorFeed, notice};
use super::store::Store;
use super::transaction::SimTransaction;
use super::world::{Event, FIRST_LIVE_HEIGHT, Place, World};
use crate::{Body, Error, Feed, Headers, Result, Snapshot, Source, Tip};

/// Steps in one go; a caller waits no longer than these take.
const MAX_STEPS: u64 = 4_096;
/// Steps for which a new world looks for the chain that its caller knows.
const MAX_SEARCH_STEPS: u64 = 1_000_000;
/// Steps of such a search between two saved worlds.
const SAVE_EVERY: u64 = 50_000;

/// A chain of its own, no node needed. See the [module](super).
pub struct SimulatorSource {
    id: String,
    network: Network,
    shared: Arc<Shared>,
}

/// What the source and its feeds share.
pub(super) struct Shared {
    inner: Mutex<Inner>,
    changed: Condvar,
}

pub(super) struct Inner {
    id: String,
    world: World,
    store: Store,
    /// When the world began, in the time of this process.
    origin: Instant,
    /// Whether the world began with this process, and nobody has yet asked for a chain.
    untold: bool,
    /// Why nothing goes any more.
    broken: Option<String>,
    pub(super) feeds: HashMap<u64, Queue>,
    next_feed: u64,
}

impl SimulatorSource {
    /// Opens or begins a world.
    ///
    /// # Errors
    /// [`Error::Refused`] for settings that cannot be and for a folder of another world, [`Error::Unreachable`] while
    /// another process uses the folder.
    pub fn new(config: SimulatorConfig) -> Result<Self> {
        let id = format!("simulator:{}", config.seed);
        let inner = Inner::open(&id, &config)?;
        info!(source = %id, height = inner.world.height(), tip = %inner.world.tip(), "simulator ready");
        let shared = Shared { inner: Mutex::new(inner), changed: Condvar::new() };
        Ok(Self { id, network: config.network, shared: Arc::new(shared) })
    }

    /// The world now, with the lock held that keeps it from going on.
    fn now(&self) -> Result<MutexGuard<'_, Inner>> {
        let mut inner = self.shared.lock();
        let before = inner.world.steps();
        inner.advance(Instant::now())?;
        if inner.world.steps() != before {
            self.shared.changed.notify_all();
        }
        Ok(inner)
    }
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        // a panic in the middle of a step leaves `broken` set
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn wait<'a>(&self, inner: MutexGuard<'a, Inner>, wait: Duration) -> MutexGuard<'a, Inner> {
        self.changed.wait_timeout(inner, wait).unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Inner {
    fn open(id: &str, config: &SimulatorConfig) -> Result<Self> {
        let refused = |reason: String| Error::Refused { source_id: id.to_owned(), reason };
        let place =
            config.state.as_ref().map_or("a temporary file".to_owned(), |dir| dir.display().to_string());
        let mut store = Store::open(config.state.as_deref()).map_err(|error| match error.kind() {
            // The other process may end: who stands by for it waits.
            io::ErrorKind::ResourceBusy => Error::Unreachable {
                attempt: format!("open {place}"),
                source_id: id.to_owned(),
                reason: error.to_string(),
            },
            _ => refused(format!("failed to open {place}: {error}")),
        })?;
        let saved = store.saved().map_err(|error| refused(format!("failed to read {place}: {error}")))?;
        let untold = saved.is_none();
        let world = match saved {
            None => World::new(config).map_err(&refused)?,
            Some(bytes) => World::load(config, &bytes, |hash| store.block(hash))
                .map_err(|error| refused(format!("cannot go on with the world in {place}: {error}")))?,
        };
        store.make_tip(world.tip());
        let origin = Instant::now();
        let (feeds, id) = (HashMap::new(), id.to_owned());
        let mut inner = Self { id, world, store, origin, untold, broken: None, feeds, next_feed: 0 };
        if untold {
            inner.begin()?;
        }
        inner.catch_up()?;
        Ok(inner)
    }

    /// An empty store gets its genesis block.
    fn begin(&mut self) -> Result<()> {
        let genesis = genesis_block(self.world.config.network.bitcoin());
        let block = SimBlock {
            hash: genesis.block_hash(),
            height: 0,
            header: genesis.header,
            transactions: vec![Arc::new(SimTransaction::new(genesis.txdata[0].clone(), Vec::new()))],
        };
        let written = self.store.clear().and_then(|()| self.store.append(&block));
        self.written(written)?;
        self.store.make_tip(block.hash);
        Ok(())
    }

    /// Takes the steps of the blocks that are there from the start.
    fn catch_up(&mut self) -> Result<()> {
        let height = self.world.config.history.max(FIRST_LIVE_HEIGHT as u64);
        while (self.world.height() as u64) < height && self.world.next_at().is_some() {
            self.step()?;
        }
        self.save()?;
        self.set_origin(Instant::now());
        Ok(())
    }

    fn set_origin(&mut self, now: Instant) {
        self.origin = now.checked_sub(self.world.elapsed()).unwrap_or(now);
    }

    /// Takes the steps that are due, and tells when the next is.
    pub(super) fn advance(&mut self, now: Instant) -> Result<Option<Instant>> {
        let mut mined = false;
        for _ in 0..MAX_STEPS {
            let Some(due) = self.due() else { break };
            if due > now {
                break;
            }
            mined |= self.step()?;
        }
        if mined {
            self.save()?;
        }
        if let Some(due) = self.due()
            && due <= now
        {
            // more is asked for than can be done: the world's time stands still rather than piling up work
            self.origin += now - due;
        }
        Ok(self.due())
    }

    fn due(&self) -> Option<Instant> {
        self.world.next_at().map(|at| self.origin + at)
    }

    /// Takes one step; whether a block was mined, and so there is something to save.
    fn step(&mut self) -> Result<bool> {
        if let Some(reason) = &self.broken {
            return Err(Error::Refused { source_id: self.id.clone(), reason: reason.clone() });
        }
        self.broken = Some("a step was not finished; start again".to_owned());
        let events = self.world.step();
        self.broken = None;
        let mut mined = false;
        for event in &events {
            if let Event::Mined { block, place } = event {
                mined = true;
                let written = self.store.append(block);
                self.written(written)?;
                if let Place::Tip { .. } = place {
                    self.store.make_tip(block.hash);
                }
            }
        }
        for notice in events.iter().filter_map(notice) {
            self.feeds.values_mut().for_each(|queue| queue.push(notice.clone()));
        }
        Ok(mined)
    }

    fn save(&mut self) -> Result<()> {
        let saved = self.store.save(&self.world.save());
        self.written(saved)
    }

    /// What could not be written is gone from memory, too: only a new start can go on.
    fn written(&mut self, result: io::Result<()>) -> Result<()> {
        let Err(error) = result else { return Ok(()) };
        let reason = format!("failed to write blocks: {error}; start again when it is mended");
        self.broken = Some(reason.clone());
        Err(Error::Refused { source_id: self.id.clone(), reason })
    }

    /// Lets a world that has just begun go on until it has a block that its caller knows from an earlier run. If there
    /// is none within bounds, it begins again: the caller knows another world.
    fn search(&mut self, known: &BlockHash) -> Result<()> {
        info!(source = %self.id, %known, "looking for the chain of an earlier run");
        let until = self.world.steps() + MAX_SEARCH_STEPS;
        while self.store.entry(known).is_none() {
            if self.world.steps() >= until || self.world.next_at().is_none() {
                info!(source = %self.id, %known, "not a chain of this world");
                self.world = World::new(&self.world.config).map_err(|reason| self.refused(reason))?;
                self.begin()?;
                return self.catch_up();
            }
            self.step()?;
            if self.world.steps().is_multiple_of(SAVE_EVERY) {
                self.save()?;
            }
        }
        self.catch_up()
    }

    fn refused(&self, reason: String) -> Error {
        Error::Refused { source_id: self.id.clone(), reason }
    }
}

impl Source for SimulatorSource {
    fn id(&self) -> &str {
        &self.id
    }

    fn network(&self) -> Network {
        self.network
    }

    fn tip(&self) -> Result<Tip> {
        let inner = self.now()?;
        Ok(Tip { hash: inner.world.tip(), height: inner.world.height() })
    }

    fn headers(&self, locator: &[BlockHash], max: usize) -> Result<Headers> {
        let mut inner = self.now()?;
        if inner.untold
            && let Some(newest) = locator.first()
        {
            inner.untold = false;
            if inner.store.entry(newest).is_none() {
                inner.search(newest)?;
                self.shared.changed.notify_all();
            }
        }
        let after = locator.iter().find_map(|hash| Some((*hash, inner.store.best_height(hash)?)));
        let from = after.map_or(0, |(_, height)| height + 1);
        Ok(Headers {
            after: after.map(|(hash, _)| hash),
            headers: inner.store.best_from(from).take(max).collect(),
        })
    }

    fn body(&self, hash: &BlockHash) -> Result<Body> {
        let inner = self.shared.lock();
        let Some(entry) = inner.store.entry(hash) else {
            return Err(Error::NoSuchBlock { source_id: self.id.clone(), hash: *hash });
        };
        let (body, spent) = (inner.store.body(entry), inner.store.spent(entry));
        Ok(Body { size: Some(body.size()), bytes: Box::new(body), spent: Some(Box::new(spent)) })
    }

    fn feed(&self) -> Result<Box<dyn Feed>> {
        let mut inner = self.now()?;
        let number = inner.next_feed;
        inner.next_feed += 1;
        inner.feeds.insert(number, Queue::default());
        Ok(Box::new(SimulatorFeed { shared: self.shared.clone(), number }))
    }

    fn mempool(&self) -> Result<Snapshot> {
        let inner = self.now()?;
        let txids = inner.world.mempool().map(|transaction| transaction.txid).collect();
        Ok(Snapshot { txids, sequence: Some(inner.world.sequence()) })
    }

    fn transactions(&self, txids: &[Txid]) -> Result<Vec<Option<Bytes>>> {
        let inner = self.shared.lock();
        Ok(txids.iter().map(|txid| inner.world.transaction(txid).map(|found| found.raw.clone())).collect())
    }
}
