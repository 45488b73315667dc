//! Options that every consumer process has.

use std::net::SocketAddr;
use std::time::Duration;

use sluice_log::chain::ChainLog;
use sluice_runtime::start::Start;

use crate::consumer::Consumer;

/// How a consumer works, for `#[command(flatten)]`.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Consumer options")]
pub struct ConsumerOptions {
    /// Name under which this consumer is known to the log and to `sluice status`. Members of one group share one state;
    /// replicas with stores of their own need names of their own [default: the program's]
    #[arg(long, env = "SLUICE_GROUP", value_name = "NAME")]
    pub group: Option<String>,

    /// Where to begin at the first start: genesis, tip, a block height, or a time (UTC, as blocks have it). Later starts go
    /// on where the stored position is.
    #[arg(long, env = "SLUICE_START", default_value = "genesis", value_name = "genesis|tip|HEIGHT|TIME")]
    pub start: Start,

    /// Still ready (/readyz) with this many blocks behind the log.
    #[arg(long, env = "SLUICE_READY_LAG", value_name = "BLOCKS", default_value_t = DEFAULT_READY_LAG_BLOCKS,
          value_parser = clap::value_parser!(i64).range(0..))]
    pub ready_lag: i64,

    /// Not live any more (/livez) after this long without progress in a block or an answer of the log.
    #[arg(long, env = "SLUICE_STUCK_AFTER", value_name = "DURATION", default_value = "5m",
          value_parser = humantime::parse_duration)]
    pub stuck_after: Duration,

    /// Recompute each block's merkle root from its transactions; stop at one that is wrong.
    #[arg(long, env = "SLUICE_VERIFY_BLOCKS")]
    pub verify_blocks: bool,

    /// Serve /livez, /readyz and /metrics here, for example 127.0.0.1:9101 [default: not at all]
    #[arg(long, env = "SLUICE_HEALTH", value_name = "ADDRESS")]
    pub health: Option<SocketAddr>,
}

/// Blocks behind at which a consumer is still ready.
pub(crate) const DEFAULT_READY_LAG_BLOCKS: i64 = 2;
/// Time without progress after which a consumer counts as stuck.
pub(crate) const DEFAULT_STUCK_AFTER: Duration = Duration::from_secs(300);

impl ConsumerOptions {
    /// The consumer that the options ask for; `group` is its name where they give none.
    pub fn consumer(&self, chain: ChainLog, group: &str) -> Consumer {
        Consumer::new(chain, self.group.as_deref().unwrap_or(group))
            .start(self.start)
            .health(self.ready_lag, self.stuck_after)
            .verify_blocks(self.verify_blocks)
    }
}
