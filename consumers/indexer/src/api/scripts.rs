//! `/address/…` and `/scripthash/…`: what pays and spends a script.

use super::error::Error;
use super::json::{ScriptStats, Utxo};
use super::out::{Freshness, Out};
use super::params;
use super::serve::Ask;
use super::transactions::{self, PAGE};
use crate::ScriptHash;
use crate::query::Place;

/// Unconfirmed transactions in one list.
const MEMPOOL_PAGE: usize = 50;
/// Addresses in one list.
const ADDRESSES: usize = 10;

/// A script, as the path names it.
pub(super) struct Named<'a> {
    script: ScriptHash,
    address: Option<&'a str>,
    hash: Option<&'a str>,
}

/// By its address.
pub(super) fn address<'a>(ask: &Ask, text: &'a str) -> Result<Named<'a>, Error> {
    Ok(Named { script: params::address(text, ask.network)?, address: Some(text), hash: None })
}

/// By its hash.
pub(super) fn script_hash(text: &str) -> Result<Named<'_>, Error> {
    Ok(Named { script: params::script_hash(text)?, address: None, hash: Some(text) })
}

impl Named<'_> {
    pub(super) fn stats(&self, ask: &Ask, out: &mut Out) -> Result<(), Error> {
        let stats = ask.view.stats(&self.script)?;
        out.json(Freshness::Changing, &ScriptStats::new(self.address, self.hash, &stats))
    }

    /// The unconfirmed ones, then the first page of the confirmed ones.
    pub(super) fn txs(&self, ask: &Ask, out: &mut Out) -> Result<(), Error> {
        self.list(ask, out, MEMPOOL_PAGE, PAGE, None)
    }

    pub(super) fn mempool(&self, ask: &Ask, out: &mut Out) -> Result<(), Error> {
        self.list(ask, out, MEMPOOL_PAGE, 0, None)
    }

    /// A page of the confirmed ones, from the newest or from the one before `last`.
    pub(super) fn chain(&self, ask: &Ask, out: &mut Out, last: Option<&str>) -> Result<(), Error> {
        let after = match last {
            None => None,
            Some(last) => {
                let last = params::txid(last)?;
                match ask.view.locate(&last)? {
                    Some(confirmed) => Some(confirmed.place),
                    // Nothing confirmed comes after an unconfirmed one in the list that it was the last of.
                    None if ask.view.mempool().get(&last).is_some() => {
                        return self.list(ask, out, 0, 0, None);
                    }
                    // Gone, by a reorg or a replacement: an empty page would pass for the end of the history.
                    None => return Err(Error::NotFound("Transaction not found")),
                }
            }
        };
        self.list(ask, out, 0, PAGE, after)
    }

    fn list(
        &self,
        ask: &Ask,
        out: &mut Out,
        unconfirmed: usize,
        confirmed: usize,
        after: Option<Place>,
    ) -> Result<(), Error> {
        let view = &ask.view;
        let pool = view.mempool().of_script(&self.script).take(unconfirmed);
        let pool = pool.map(|entry| Ok((entry.transaction.clone(), None)));
        let history = match confirmed {
            0 => Vec::new(),
            limit => view.history(&self.script, after, limit)?,
        };
        let chain = history.iter().map(|entry| {
            let confirmation = view.confirmation(entry.transaction.place)?;
            Ok((view.read(&entry.transaction)?, confirmation))
        });
        transactions::list(ask, out, Freshness::Changing, pool.chain(chain))
    }

    /// All of them, or none: there is no paging, and a part would pass for the whole.
    pub(super) fn utxo(&self, ask: &Ask, out: &mut Out) -> Result<(), Error> {
        let limit = ask.api.limits.utxos;
        let unspent = ask.view.utxos(&self.script, limit.saturating_add(1))?;
        if unspent.len() > limit {
            return Err(Error::TooMany { limit });
        }
        out.json_array(Freshness::Changing, unspent.into_iter().map(|unspent| Ok(Utxo::from(unspent))))
    }
}

pub(super) fn with_prefix(ask: &Ask, out: &mut Out, prefix: &str) -> Result<(), Error> {
    let addresses = ask.view.address_prefix(params::address_prefix(prefix)?, ADDRESSES)?;
    out.json(Freshness::Changing, &addresses)
}
