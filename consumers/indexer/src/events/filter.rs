//! What a client wants to be told.

use std::collections::HashSet;

use axum::http::StatusCode;
use bitcoin::Txid;
use bitcoin::address::{Address, NetworkUnchecked};
use sluice_schemas::{Flavour, Network, Transaction};

use super::check::Refusal;
use crate::ScriptHash;
use crate::announce::TouchedTransaction;

/// Addresses, scripts and transactions that a client may name.
const MAX_NAMED: usize = 100;

/// What a client wants to be told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Filter {
    pub(super) only_blocks: bool,
    scripts: HashSet<ScriptHash>,
    txids: HashSet<Txid>,
}

impl Filter {
    /// From the address that was asked for. What it does not know it refuses: a filter that does nothing is worse.
    pub(super) fn parse(asked: &[(String, String)], network: Option<Network>) -> Result<Self, Refusal> {
        let bad = |reason: String| Err(Refusal::new(StatusCode::BAD_REQUEST, reason));
        let mut filter = Self::default();
        for (name, value) in asked {
            match name.as_str() {
                "cursor" => {}
                "only" if value == "blocks" => filter.only_blocks = true,
                "only" => return bad("only takes: blocks".into()),
                "txid" => match value.parse() {
                    Ok(txid) => drop(filter.txids.insert(txid)),
                    Err(_) => return bad("txid takes 64 hexadecimal digits".into()),
                },
                "scripthash" => match value.parse() {
                    Ok(script) => drop(filter.scripts.insert(script)),
                    Err(error) => return bad(format!("{error}")),
                },
                "address" => {
                    let Some(network) = network else {
                        let reason = "nothing is indexed yet, so that the network is not known";
                        return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, reason));
                    };
                    match script_of_address(value, network) {
                        Some(script) => drop(filter.scripts.insert(script)),
                        None => return bad(format!("address takes one of {}", network.name())),
                    }
                }
                _ => return bad("the parameters are: address, scripthash, txid, only, cursor".into()),
            }
        }
        if filter.scripts.len() + filter.txids.len() > MAX_NAMED {
            return bad(format!("{MAX_NAMED} addresses, scripts and transactions can be named at most"));
        }
        Ok(filter)
    }

    /// Whether anything is left out by what it touches.
    pub(super) fn is_named(&self) -> bool {
        self.has_scripts() || !self.txids.is_empty()
    }

    pub(super) fn has_scripts(&self) -> bool {
        !self.scripts.is_empty()
    }

    /// Whether the client is to be told of a transaction whose scripts are not known.
    pub(super) fn names(&self, txid: &Txid) -> bool {
        !self.is_named() || self.txids.contains(txid)
    }

    pub(super) fn touches(&self, transaction: &TouchedTransaction) -> bool {
        self.names(&transaction.txid)
            || transaction.scripts.iter().any(|script| self.scripts.contains(script))
    }

    /// As `touches`, of a transaction as it is on the log.
    pub(super) fn matches(&self, transaction: &Transaction) -> bool {
        if self.names(&transaction.txid) {
            return true;
        }
        let outputs = transaction.outputs.iter().map(|output| &output.script_pubkey);
        let spent =
            transaction.inputs.iter().filter_map(|input| Some(&input.prevout.as_ref()?.script_pubkey));
        self.has_scripts()
            && outputs.chain(spent).any(|script| self.scripts.contains(&ScriptHash::of(script)))
    }
}

/// The hash of the script that an address of a network stands for.
pub(crate) fn script_of_address(text: &str, network: Network) -> Option<ScriptHash> {
    let address: Address<NetworkUnchecked> = text.parse().ok()?;
    let address = address.require_network(network.bitcoin()).ok()?;
    if network.flavour() == Flavour::Bsv && address.witness_program().is_some() {
        return None;
    }
    Some(ScriptHash::of(address.script_pubkey().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(query: &[(&str, &str)]) -> Result<Filter, Refusal> {
        let owned: Vec<_> =
            query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Filter::parse(&owned, Some(Network::BtcRegtest))
    }

    fn touching(txid: u8, script: u8) -> TouchedTransaction {
        let txid = format!("{txid:02x}").repeat(32).parse().unwrap();
        TouchedTransaction { txid, scripts: Box::new([ScriptHash([script; 32])]) }
    }

    #[test]
    fn without_names_everything_is_told() {
        let filter = parsed(&[("only", "blocks")]).unwrap();
        assert!(filter.only_blocks && !filter.is_named() && filter.touches(&touching(1, 1)));
    }

    #[test]
    fn with_names_only_what_touches_one_of_them_is_told() {
        let (txid, script) = ("01".repeat(32), "02".repeat(32));
        let filter = parsed(&[("txid", &txid), ("scripthash", &script)]).unwrap();
        assert!(filter.touches(&touching(1, 9)) && filter.touches(&touching(9, 2)));
        assert!(!filter.touches(&touching(2, 1)));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let many: Vec<_> = (0..=MAX_NAMED).map(|number| format!("{number:064x}")).collect();
        let many: Vec<_> = many.iter().map(|text| ("txid", text.as_str())).collect();
        let wrong: [&[(&str, &str)]; 6] = [
            &[("only", "mempool")],
            &[("txid", "zz")],
            &[("scripthash", "00")],
            &[("address", "12cbQLTFMXRnSzktFkuoG3eHoMeFtpTu3S")],
            &[("adress", "x")],
            &many,
        ];
        for query in wrong {
            assert!(parsed(query).is_err(), "{query:?}");
        }
        assert!(parsed(&[("address", "mfWxJ45yp2SFn7UciZyNpvDKrzbhyfKrY8"), ("cursor", "x")]).is_ok());
    }
}
