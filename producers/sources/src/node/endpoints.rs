//! Where a node's ZMQ messages come from, and which of them to take.

use serde::Deserialize;
use serde_json::json;
use sluice_schemas::Flavour;
use url::Url;

use super::message::Topic;
use super::rpc::Rpc;
use crate::{Error, Result};

/// Where ZMQ messages come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Zmq {
    /// Where the node says, on the host at which RPC was reached.
    Discover,
    /// At these endpoints (`tcp://HOST:PORT`, `ipc://PATH`), each topic at one of them.
    Endpoints(Vec<String>),
    /// Nowhere: the best block is asked for instead.
    Off,
}

/// Topics taken over one connection. A node drops what exceeds 1000 messages per connection, whatever their topic; so a
/// topic that may flood is kept apart from those that must not be lost with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lane {
    pub(super) endpoint: String,
    pub(super) topics: Vec<Topic>,
}

#[derive(Deserialize)]
struct Published {
    /// Bitcoin Core's name for it, `pubhashblock`; Bitcoin SV calls it `notification`.
    #[serde(rename = "type", alias = "notification")]
    name: String,
    address: String,
}

/// The lanes to open; none where ZMQ is off or the node publishes nothing of use.
pub(super) fn lanes(rpc: &Rpc, zmq: &Zmq, url: &Url, flavour: Flavour) -> Result<Vec<Lane>> {
    let wanted = Topic::lanes(flavour);
    match zmq {
        Zmq::Off => Ok(Vec::new()),
        Zmq::Endpoints(endpoints) => Ok(endpoints
            .iter()
            .flat_map(|endpoint| {
                wanted.iter().map(|topics| Lane { endpoint: endpoint.clone(), topics: topics.to_vec() })
            })
            .collect()),
        Zmq::Discover => {
            let method = match flavour {
                Flavour::Btc => "getzmqnotifications",
                Flavour::Bsv => "activezmqnotifications",
            };
            match rpc.call::<Vec<Published>>(method, json!([])) {
                Ok(published) => Ok(discovered(&published, url, flavour)),
                // Built without ZMQ.
                Err(Error::Refused { .. }) => Ok(Vec::new()),
                Err(error) => Err(error),
            }
        }
    }
}

fn discovered(published: &[Published], url: &Url, flavour: Flavour) -> Vec<Lane> {
    let endpoint_of = |topic: Topic| {
        let of = published.iter().find(|published| published.name.strip_prefix("pub") == Some(topic.name()));
        of.map(|published| on_host_of(&published.address, url))
    };
    let full = endpoint_of(Topic::RawTx2).is_some();
    let mut lanes: Vec<Lane> = Vec::new();
    for topics in Topic::lanes(flavour) {
        let first_of_lane = lanes.len();
        for topic in topics.iter().copied().filter(|topic| !(full && *topic == Topic::HashTx2)) {
            let Some(endpoint) = endpoint_of(topic) else { continue };
            match lanes[first_of_lane..].iter_mut().find(|lane| lane.endpoint == endpoint) {
                Some(lane) => lane.topics.push(topic),
                None => lanes.push(Lane { endpoint, topics: vec![topic] }),
            }
        }
    }
    lanes
}

/// A node tells the address it listens on (`tcp://0.0.0.0:28332`); where we are, it is the host that RPC is reached at.
fn on_host_of(address: &str, url: &Url) -> String {
    let port = address.strip_prefix("tcp://").and_then(|rest| rest.rsplit_once(':'));
    match (port, url.host_str()) {
        (Some((_, port)), Some(host)) => format!("tcp://{host}:{port}"),
        _ => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(names: &[(&str, &str)]) -> Vec<Published> {
        let published =
            |(name, address): &(&str, &str)| Published { name: (*name).into(), address: (*address).into() };
        names.iter().map(published).collect()
    }

    #[test]
    fn endpoints_are_looked_for_on_the_host_of_rpc() {
        let url = Url::parse("http://node.example:8332").unwrap();
        for (told, used) in [
            ("tcp://0.0.0.0:28332", "tcp://node.example:28332"),
            ("tcp://*:28332", "tcp://node.example:28332"),
            ("tcp://[::]:28332", "tcp://node.example:28332"),
            ("ipc:///tmp/node", "ipc:///tmp/node"),
        ] {
            assert_eq!(on_host_of(told, &url), used);
        }
        let url = Url::parse("http://[::1]:8332").unwrap();
        assert_eq!(on_host_of("tcp://127.0.0.1:28332", &url), "tcp://[::1]:28332");
    }

    #[test]
    fn topics_that_may_flood_have_a_connection_of_their_own() {
        let url = Url::parse("http://127.0.0.1:8332").unwrap();
        let all = "tcp://127.0.0.1:1";
        let core =
            published(&[("pubrawtx", all), ("pubhashblock", all), ("pubsequence", all), ("pubhashtx", all)]);
        let lane = |topics: &[Topic]| Lane { endpoint: all.into(), topics: topics.to_vec() };
        assert_eq!(
            discovered(&core, &url, Flavour::Btc),
            [lane(&[Topic::Sequence, Topic::HashBlock]), lane(&[Topic::RawTx])]
        );
        let sv = published(&[
            ("pubhashblock2", all),
            ("pubrawtx2", all),
            ("pubhashtx2", all),
            ("pubdiscardedfrommempool", all),
            ("pubremovedfrommempoolblock", all),
            ("pubinvalidtx", all),
        ]);
        let lanes = discovered(&sv, &url, Flavour::Bsv);
        let expected = [
            lane(&[Topic::HashBlock2]),
            lane(&[Topic::RawTx2, Topic::DiscardedFromMempool]),
            lane(&[Topic::RemovedFromMempoolBlock]),
        ];
        assert_eq!(lanes, expected);
    }

    #[test]
    fn hashes_are_taken_where_there_are_no_bodies() {
        let url = Url::parse("http://127.0.0.1:8332").unwrap();
        let sv = published(&[("pubhashtx2", "tcp://127.0.0.1:1"), ("pubhashblock2", "tcp://127.0.0.1:2")]);
        let lanes = discovered(&sv, &url, Flavour::Bsv);
        assert_eq!(lanes[0], Lane { endpoint: "tcp://127.0.0.1:2".into(), topics: vec![Topic::HashBlock2] });
        assert_eq!(lanes[1], Lane { endpoint: "tcp://127.0.0.1:1".into(), topics: vec![Topic::HashTx2] });
        assert_eq!(discovered(&[], &url, Flavour::Bsv), []);
    }
}
