//! A world as bytes, to go on with after a restart.

use std::io;
use std::sync::Arc;

use bitcoin::consensus::{Decodable, Encodable, encode};
use bitcoin::{BlockHash, OutPoint, Transaction};
use sluice_schemas::Network;

use super::block::SimBlock;
use super::coins::Coin;
use super::config::SimulatorConfig;
use super::transaction::SimTransaction;
use super::world::{Immature, World};

const FORMAT: u64 = 1;

/// Why a saved world cannot be gone on with.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("it is of format {0}, not {FORMAT}")]
    Format(u64),
    #[error("it is of network {saved}, not {wanted}")]
    OtherNetwork { saved: String, wanted: Network },
    #[error("it is of seed {saved}, not {wanted}")]
    OtherSeed { saved: u64, wanted: u64 },
    #[error("it is damaged")]
    Damaged(#[from] encode::Error),
    #[error("{0}")]
    Settings(String),
    #[error("failed to read the newest blocks")]
    Blocks(#[from] io::Error),
}

impl World {
    /// Everything but the bodies of the recent blocks.
    pub(super) fn save(&self) -> Vec<u8> {
        let mut out = Writer(Vec::new());
        out.number(FORMAT);
        out.put(&self.config.network.name().as_bytes().to_vec());
        out.number(self.config.seed);
        out.number(self.config.start_time.into());
        out.number(self.config.interval());
        out.number(self.config.payment_interval().unwrap_or(u64::MAX));
        for number in [self.steps, self.mined, self.changes, self.now, self.next_payment, self.next_block] {
            out.number(number);
        }
        out.put(&self.tip);
        out.put(&self.height);
        out.number(self.times.len() as u64);
        self.times.iter().for_each(|time| out.put(time));
        out.number(self.recent.len() as u64);
        self.recent.iter().for_each(|block| out.put(&block.hash));
        out.number(self.immature.len() as u64);
        for immature in &self.immature {
            out.put(&immature.height);
            out.coin(&immature.coin);
        }
        out.number(self.coins.len() as u64);
        self.coins.iter().for_each(|coin| out.coin(coin));
        out.number(self.pool.next_number());
        out.number(self.pool.len() as u64);
        for (number, transaction) in self.pool.iter() {
            out.number(number);
            out.put(&transaction.transaction);
            out.put(&transaction.spent);
        }
        out.0
    }

    /// Goes on with a saved world. The settings may be others than before, but for network and seed; the time of the
    /// start stays what it was. `block` reads one of the recent blocks.
    pub(super) fn load(
        config: &SimulatorConfig,
        bytes: &[u8],
        mut block: impl FnMut(&BlockHash) -> io::Result<SimBlock>,
    ) -> Result<Self, Error> {
        let mut from = bytes;
        match u64::consensus_decode(&mut from)? {
            FORMAT => {}
            other => return Err(Error::Format(other)),
        }
        let network = String::from_utf8_lossy(&Vec::<u8>::consensus_decode(&mut from)?).into_owned();
        if network != config.network.name() {
            return Err(Error::OtherNetwork { saved: network, wanted: config.network });
        }
        let seed = number(&mut from)?;
        if seed != config.seed {
            return Err(Error::OtherSeed { saved: seed, wanted: config.seed });
        }
        let mut world = Self::new(config).map_err(Error::Settings)?;
        world.config.start_time = number(&mut from)? as u32;
        let schedule = (number(&mut from)?, number(&mut from)?);
        world.steps = number(&mut from)?;
        world.mined = number(&mut from)?;
        world.changes = number(&mut from)?;
        world.now = number(&mut from)?;
        let due = (number(&mut from)?, number(&mut from)?);
        let new_schedule = (config.interval(), config.payment_interval().unwrap_or(u64::MAX));
        (world.next_payment, world.next_block) = if schedule == new_schedule {
            due
        } else {
            (world.now.saturating_add(new_schedule.1), world.now.saturating_add(new_schedule.0))
        };
        world.tip = Decodable::consensus_decode(&mut from)?;
        world.height = Decodable::consensus_decode(&mut from)?;
        world.times.clear();
        for _ in 0..number(&mut from)? {
            world.times.push_back(Decodable::consensus_decode(&mut from)?);
        }
        for _ in 0..number(&mut from)? {
            world.recent.push_back(Arc::new(block(&BlockHash::consensus_decode(&mut from)?)?));
        }
        for _ in 0..number(&mut from)? {
            let height = Decodable::consensus_decode(&mut from)?;
            world.immature.push_back(Immature { height, coin: coin(&mut from)? });
        }
        for _ in 0..number(&mut from)? {
            world.coins.insert(coin(&mut from)?);
        }
        let next = number(&mut from)?;
        world.pool = super::pool::Pool::from_number(0);
        for _ in 0..number(&mut from)? {
            let place = number(&mut from)?;
            let transaction = Transaction::consensus_decode(&mut from)?;
            let spent = Decodable::consensus_decode(&mut from)?;
            world.pool.place(place, Arc::new(SimTransaction::new(transaction, spent)));
        }
        world.pool.number_from(next);
        Ok(world)
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn put(&mut self, value: &impl Encodable) {
        value.consensus_encode(&mut self.0).expect("a vector takes all bytes");
    }

    fn number(&mut self, number: u64) {
        self.put(&number);
    }

    fn coin(&mut self, coin: &Coin) {
        self.put(&coin.outpoint);
        self.number(coin.value);
        self.put(&coin.key);
        self.put(&coin.depth);
    }
}

fn number(from: &mut &[u8]) -> Result<u64, encode::Error> {
    u64::consensus_decode(from)
}

fn coin(from: &mut &[u8]) -> Result<Coin, encode::Error> {
    Ok(Coin {
        outpoint: OutPoint::consensus_decode(from)?,
        value: number(from)?,
        key: Decodable::consensus_decode(from)?,
        depth: Decodable::consensus_decode(from)?,
    })
}
