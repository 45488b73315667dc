//! Topic names, keys, partitions, and what each topic must be set to.

use crate::event::EventKind;
use crate::network::Network;

/// The names of one log's topics.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Topics {
    /// The common prefix, for example `btc.mainnet`.
    pub prefix: String,
    /// `<prefix>.blocks`
    pub blocks: String,
    /// `<prefix>.transactions`
    pub transactions: String,
    /// `<prefix>.mempool`
    pub mempool: String,
    /// `<prefix>.status`
    pub status: String,
}

impl Topics {
    /// Names under a prefix.
    pub fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
            blocks: format!("{prefix}.blocks"),
            transactions: format!("{prefix}.transactions"),
            mempool: format!("{prefix}.mempool"),
            status: format!("{prefix}.status"),
        }
    }

    /// Names under the default prefix of a network.
    pub fn of(network: Network) -> Self {
        Self::new(&network.topic_prefix())
    }

    /// Name of the topic of a kind of event.
    pub fn name(&self, kind: EventKind) -> &str {
        match kind {
            EventKind::Chain => &self.blocks,
            EventKind::Transaction => &self.transactions,
            EventKind::Mempool => &self.mempool,
            EventKind::Status => &self.status,
        }
    }

    /// Settings of all topics; `partitions` is for transactions and mempool.
    pub fn specs(&self, partitions: i32) -> Vec<TopicSpec> {
        EventKind::ALL
            .into_iter()
            .map(|kind| TopicSpec {
                name: self.name(kind).to_owned(),
                partitions: match kind {
                    EventKind::Chain | EventKind::Status => 1,
                    EventKind::Transaction | EventKind::Mempool => partitions,
                },
                retention: match kind {
                    EventKind::Chain | EventKind::Transaction => Retention::Forever,
                    EventKind::Mempool | EventKind::Status => Retention::Days(7),
                },
            })
            .collect()
    }
}

/// Default number of partitions of transactions and mempool.
pub const DEFAULT_PARTITIONS: i32 = 12;

/// What a topic must be set to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    /// Name.
    pub name: String,
    /// Number of partitions.
    pub partitions: i32,
    /// How long records are kept.
    pub retention: Retention,
}

/// How long a topic keeps its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// Never deleted.
    Forever,
    /// Deleted some time after this many days.
    Days(u32),
}

impl Retention {
    /// As Kafka's `retention.ms`: -1 is forever.
    pub fn millis(self) -> i64 {
        match self {
            Self::Forever => -1,
            Self::Days(days) => i64::from(days) * 86_400_000,
        }
    }
}

/// The partition of a key, as Kafka's Java client chooses it: murmur2, so that Kafka Streams can join on txid.
pub fn partition(key: &[u8], partitions: i32) -> i32 {
    let positive = (murmur2(key) & 0x7fff_ffff) as i32;
    positive % partitions
}

/// Kafka's murmur2 (`org.apache.kafka.common.utils.Utils.murmur2`), 32 bit, seed 0x9747b28c.
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut h: u32 = 0x9747_b28c ^ data.len() as u32;
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]).wrapping_mul(M);
        k ^= k >> 24;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let tail = words.remainder();
    if !tail.is_empty() {
        for (i, byte) in tail.iter().enumerate() {
            h ^= u32::from(*byte) << (8 * i);
        }
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    h ^ (h >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Vectors of Kafka's own `UtilsTest.testMurmur2`.
    #[test]
    fn murmur2_equals_the_java_clients() {
        for (key, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()) as i32, hash, "{key}");
        }
    }
}
