//! Which chain a node follows, by its own word.

use bitcoin::BlockHash;
use serde::Deserialize;
use serde_json::json;
use sluice_schemas::Network;

use super::rpc::Rpc;
use super::wire::DisplayHash;
use crate::{Error, Result};

/// Who the node is.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) network: Network,
    pub(super) agent: String,
}

/// Asks the node, and refuses one that is not of the network expected.
pub(super) fn ask(rpc: &Rpc, source_id: &str, expected: Option<Network>) -> Result<Identity> {
    #[derive(Deserialize)]
    struct Chain {
        chain: String,
    }
    #[derive(Deserialize)]
    struct Agent {
        subversion: String,
    }
    let chain: Chain = rpc.call("getblockchaininfo", json!([]))?;
    let agent: Agent = rpc.call("getnetworkinfo", json!([]))?;
    let genesis: DisplayHash<BlockHash> = rpc.call("getblockhash", json!([0]))?;
    let network = judge(&chain.chain, &agent.subversion, genesis.0, expected)
        .map_err(|reason| Error::Refused { source_id: source_id.to_owned(), reason })?;
    Ok(Identity { network, agent: agent.subversion })
}

fn judge(chain: &str, agent: &str, genesis: BlockHash, expected: Option<Network>) -> Result<Network, String> {
    let network = match (agent, chain) {
        (agent, "main") if is_core(agent) => Network::BtcMainnet,
        (agent, "testnet4") if is_core(agent) => Network::BtcTestnet4,
        (agent, "signet") if is_core(agent) => Network::BtcSignet,
        (agent, "regtest") if is_core(agent) => Network::BtcRegtest,
        (agent, "main") if is_sv(agent) => Network::BsvMainnet,
        (agent, "test") if is_sv(agent) => Network::BsvTestnet,
        (agent, "regtest") if is_sv(agent) => Network::BsvRegtest,
        _ if is_core(agent) || is_sv(agent) => {
            return Err(format!("the node ({agent}) follows chain {chain:?}, which is not known here"));
        }
        _ => return Err(format!("the node calls itself {agent:?}: neither Bitcoin Core nor Bitcoin SV")),
    };
    if let Some(expected) = expected.filter(|expected| *expected != network) {
        return Err(format!("the node ({agent}) is of network {network}, but {expected} is expected"));
    }
    if genesis != network.genesis() {
        return Err(format!("the node says it is of {network}, but its genesis block is {genesis}"));
    }
    Ok(network)
}

fn is_core(agent: &str) -> bool {
    agent.starts_with("/Satoshi:")
}

fn is_sv(agent: &str) -> bool {
    agent.starts_with("/Bitcoin SV:")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_known_by_its_agent_and_chain() {
        for (chain, agent, network) in [
            ("main", "/Satoshi:31.0.0/", Network::BtcMainnet),
            ("main", "/Bitcoin SV:1.0.13/", Network::BsvMainnet),
            ("test", "/Bitcoin SV:1.0.13/", Network::BsvTestnet),
            ("regtest", "/Satoshi:31.0.0(my node)/", Network::BtcRegtest),
            ("testnet4", "/Satoshi:31.0.0/", Network::BtcTestnet4),
        ] {
            assert_eq!(judge(chain, agent, network.genesis(), None), Ok(network));
            assert_eq!(judge(chain, agent, network.genesis(), Some(network)), Ok(network));
        }
    }

    #[test]
    fn a_node_of_another_network_is_refused_naming_both() {
        let genesis = Network::BsvRegtest.genesis();
        let reason = judge("regtest", "/Bitcoin SV:1.0.13/", genesis, Some(Network::BtcMainnet)).unwrap_err();
        assert!(reason.contains("bsv-regtest") && reason.contains("btc-mainnet"), "{reason}");
    }

    #[test]
    fn a_node_of_an_unknown_kind_or_chain_is_refused() {
        let genesis = Network::BtcMainnet.genesis();
        for (chain, agent) in [
            ("main", "/Bitcoin Cash Node:28.0.0/"),
            ("test", "/Satoshi:31.0.0/"),
            ("stn", "/Bitcoin SV:1.0.13/"),
        ] {
            assert!(judge(chain, agent, genesis, None).unwrap_err().contains(agent));
        }
        let another = Network::BtcRegtest.genesis();
        assert!(judge("main", "/Satoshi:31.0.0/", another, None).unwrap_err().contains("genesis"));
    }
}
