//! How a publisher works; every bound has its name here.

use std::time::Duration;

/// Settings of a publisher.
#[derive(Clone, Debug)]
pub struct Config {
    /// Partitions of the transactions and mempool topics, when they are created.
    pub partitions: i32,
    /// Whether the mempool is followed.
    pub mempool: bool,
    /// While backfilling, a log transaction is committed once it holds this many encoded bytes.
    pub batch_bytes: usize,
    /// While backfilling, a log transaction is committed once it is this old.
    pub batch_interval: Duration,
    /// A block this near to the source's tip is published as live, in a log transaction of its own.
    pub live_within_blocks: i32,
    /// Further behind than this, the mempool view is suspended: its changes mean little, and a fresh start is cheaper.
    pub suspend_beyond_blocks: i32,
    /// Headers asked for at once.
    pub headers_page: usize,
    /// Without a notice, the source is asked for its tip this often.
    pub poll_interval: Duration,
    /// The mempool view is compared with the source's mempool this often.
    pub reconcile_interval: Duration,
    /// The mempool view starts again in a new epoch after this long, so that the newest epoch is always whole on the log: the
    /// topic keeps its records for seven days.
    pub view_interval: Duration,
    /// Heartbeats on the status topic.
    pub heartbeat_interval: Duration,
    /// Wait after the first failure; doubles up to `max_backoff`.
    pub min_backoff: Duration,
    /// Longest wait after a failure.
    pub max_backoff: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            partitions: sluice_schemas::topics::DEFAULT_PARTITIONS,
            mempool: true,
            batch_bytes: 8 << 20,
            batch_interval: Duration::from_millis(500),
            live_within_blocks: 2,
            suspend_beyond_blocks: 288,
            headers_page: 2000,
            poll_interval: Duration::from_secs(2),
            reconcile_interval: Duration::from_secs(60),
            view_interval: Duration::from_secs(3 * 86_400),
            heartbeat_interval: Duration::from_secs(10),
            min_backoff: Duration::from_millis(200),
            max_backoff: Duration::from_secs(15),
        }
    }
}
