//! The producer's options, checked against each other before anything starts.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sluice_runtime::node::NodeOptions;
use sluice_schemas::Network;
use sluice_sources::Source;
use sluice_sources::node::{NodeConfig, NodeSource, Zmq};
use sluice_sources::simulator::{SimulatorConfig, SimulatorSource};

/// Where chain events come from: a node, or without one the built-in simulator.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Source options")]
pub struct SourceOptions {
    /// The node, if any.
    #[command(flatten)]
    pub node: NodeOptions,

    /// ZMQ addresses of the node, for example tcp://127.0.0.1:28332; may be given several times [default: what the node
    /// says by RPC]
    #[arg(long, env = "SLUICE_ZMQ", value_name = "ENDPOINT", requires = "node", value_delimiter = ',')]
    pub zmq: Vec<String>,

    /// Simulator: seed of everything it makes up; the same seed makes the same chain.
    #[arg(long, env = "SLUICE_SIM_SEED", value_name = "N", default_value_t = 1, conflicts_with = "node")]
    pub sim_seed: u64,

    /// Simulator: time from block to block, for example 500ms or 10s.
    #[arg(long, env = "SLUICE_SIM_BLOCK_INTERVAL", value_name = "DURATION", default_value = "5s",
          value_parser = humantime::parse_duration, conflicts_with = "node")]
    pub sim_block_interval: Duration,

    /// Simulator: transactions per second.
    #[arg(
        long,
        env = "SLUICE_SIM_TX_RATE",
        value_name = "N",
        default_value_t = 5.0,
        conflicts_with = "node"
    )]
    pub sim_tx_rate: f64,

    /// Simulator: share of blocks that start a reorg, 0 to 1.
    #[arg(
        long,
        env = "SLUICE_SIM_REORG_RATE",
        value_name = "SHARE",
        default_value_t = 0.05,
        conflicts_with = "node"
    )]
    pub sim_reorg_rate: f64,

    /// Simulator: height at which the chain ends [default: never]
    #[arg(long, env = "SLUICE_SIM_BLOCKS", value_name = "N", conflicts_with = "node")]
    pub sim_blocks: Option<u64>,
}

/// How the producer works.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Producer options")]
pub struct ProducerOptions {
    /// Partitions of the transactions and mempool topics, when they are created. Cannot be changed later.
    #[arg(long, env = "SLUICE_PARTITIONS", value_name = "N", default_value_t = sluice_schemas::topics::DEFAULT_PARTITIONS,
          value_parser = clap::value_parser!(i32).range(1..=1024))]
    pub partitions: i32,

    /// Leave the mempool out.
    #[arg(long, env = "SLUICE_NO_MEMPOOL")]
    pub no_mempool: bool,

    /// Time from one comparison of the mempool view with the node's mempool to the next.
    #[arg(long, env = "SLUICE_RECONCILE_INTERVAL", value_name = "DURATION", default_value = "60s",
          value_parser = humantime::parse_duration)]
    pub reconcile_interval: Duration,

    /// Time from one heartbeat on the status topic to the next.
    #[arg(long, env = "SLUICE_HEARTBEAT_INTERVAL", value_name = "DURATION", default_value = "10s",
          value_parser = humantime::parse_duration)]
    pub heartbeat_interval: Duration,

    /// Serve /livez, /readyz and /metrics here, for example 127.0.0.1:9100 [default: not at all]
    #[arg(long, env = "SLUICE_HEALTH", value_name = "ADDRESS")]
    pub health: Option<SocketAddr>,
}

/// How a source reaches the node, where one was named.
///
/// # Errors
/// As `NodeOptions::address`.
pub fn node_config(node: &NodeOptions) -> anyhow::Result<Option<NodeConfig>> {
    Ok(node.address()?.map(|address| NodeConfig::new(address.url, address.credentials)))
}

impl SourceOptions {
    /// Opens the source. `data_dir` is where the simulator keeps its place.
    ///
    /// # Errors
    /// Wrong credentials, another network, no such file: one line that names the option.
    pub fn open(&self, network: Option<Network>, data_dir: PathBuf) -> anyhow::Result<Arc<dyn Source>> {
        match node_config(&self.node)? {
            Some(config) => {
                let zmq = if self.zmq.is_empty() { Zmq::Discover } else { Zmq::Endpoints(self.zmq.clone()) };
                // A contradiction to --network is found when the log is opened, as one of options.
                Ok(Arc::new(NodeSource::connect(NodeConfig { zmq, ..config })?))
            }
            None => {
                let network = network.unwrap_or(Network::BtcRegtest);
                let config = SimulatorConfig {
                    network,
                    seed: self.sim_seed,
                    block_interval: self.sim_block_interval,
                    tx_rate: self.sim_tx_rate,
                    reorg_rate: self.sim_reorg_rate,
                    blocks: self.sim_blocks,
                    state: Some(data_dir.join("simulator").join(network.name())),
                    ..SimulatorConfig::default()
                };
                Ok(Arc::new(SimulatorSource::new(config)?))
            }
        }
    }
}
