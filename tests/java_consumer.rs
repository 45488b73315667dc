//! A consumer in Java rebuilds the node's chain from the topics, with nothing but Kafka's client and Avro.
#![allow(clippy::unwrap_used)]

mod rebuilt;

use rebuilt::Schemas;
use sluice_test_support::Flavour;

const JAVA: &str = "SLUICE_TEST_JAVA";
const CONSUMER: &str = "tests/java/Reader.java";

#[test]
fn java_rebuilds_the_chain_of_bitcoin_core_with_the_schemas_at_hand() {
    rebuilt::by(JAVA, CONSUMER, Flavour::Btc, Schemas::AtHand);
}

#[test]
fn java_rebuilds_the_chain_of_bitcoin_sv_with_a_schema_registry() {
    rebuilt::by(JAVA, CONSUMER, Flavour::Bsv, Schemas::Registry);
}
