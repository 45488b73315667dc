//! The log on a Kafka cluster.
use super::*;
/// A log on Kafka.
pub struct KafkaLog;
impl KafkaLog {
    /// Connects to the brokers of `url`.
    pub fn connect(url: &str) -> Result<Self> {
        let _ = url;
        unimplemented!()
    }
}
