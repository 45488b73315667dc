//! The outputs that can be spent, confirmed or not.

use std::collections::HashMap;

use bitcoin::OutPoint;

use super::chance::Chance;

/// An output that can be spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Coin {
    pub(super) outpoint: OutPoint,
    /// Satoshis.
    pub(super) value: u64,
    /// Who can spend it.
    pub(super) key: u16,
    /// Unconfirmed transactions in a row before it, as far as known.
    pub(super) depth: u8,
}

/// All coins, in an order that depends on what happened only: chance picks by position.
#[derive(Default)]
pub(super) struct Coins {
    list: Vec<Coin>,
    at: HashMap<OutPoint, usize>,
}

impl Coins {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// All, in their order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Coin> {
        self.list.iter()
    }

    /// Adds a coin, last.
    pub(super) fn insert(&mut self, coin: Coin) {
        debug_assert!(!self.at.contains_key(&coin.outpoint));
        self.at.insert(coin.outpoint, self.list.len());
        self.list.push(coin);
    }

    /// Takes a coin; the last one moves to its place.
    pub(super) fn remove(&mut self, outpoint: &OutPoint) -> Option<Coin> {
        let at = self.at.remove(outpoint)?;
        let coin = self.list.swap_remove(at);
        if let Some(moved) = self.list.get(at) {
            self.at.insert(moved.outpoint, at);
        }
        Some(coin)
    }

    /// Takes one by chance.
    pub(super) fn draw(&mut self, chance: &mut Chance) -> Option<Coin> {
        let at = chance.below(self.list.len() as u64) as usize;
        let outpoint = self.list.get(at)?.outpoint;
        self.remove(&outpoint)
    }

    /// Takes the newest.
    pub(super) fn newest(&mut self) -> Option<Coin> {
        let outpoint = self.list.last()?.outpoint;
        self.remove(&outpoint)
    }

    /// Notes that the transaction of a coin was confirmed.
    pub(super) fn confirm(&mut self, outpoint: &OutPoint) {
        if let Some(&at) = self.at.get(outpoint) {
            self.list[at].depth = 0;
        }
    }
}
