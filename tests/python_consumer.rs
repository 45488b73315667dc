//! A consumer in Python rebuilds the node's chain from the topics, with nothing but Kafka's client and Avro.
#![allow(clippy::unwrap_used)]

mod rebuilt;

use rebuilt::Schemas;
use sluice_test_support::Flavour;

const PYTHON: &str = "SLUICE_TEST_PYTHON";
const CONSUMER: &str = "tests/python/consume.py";

#[test]
fn python_rebuilds_the_chain_of_bitcoin_sv_with_the_schemas_at_hand() {
    rebuilt::by(PYTHON, CONSUMER, Flavour::Bsv, Schemas::AtHand);
}

#[test]
fn python_rebuilds_the_chain_of_bitcoin_core_with_a_schema_registry() {
    rebuilt::by(PYTHON, CONSUMER, Flavour::Btc, Schemas::Registry);
}
