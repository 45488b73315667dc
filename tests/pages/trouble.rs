//! Pages that may be old say so, and why.

use std::time::Duration;

use sluice_schemas::Flavour;
use sluice_test_support::parts::{have, have_node};
use sluice_test_support::{HttpProxy, Kafka, Mangle, Node, soon};

use crate::browser::{Browser, DRIVER, Script};
use crate::site::Site;
use crate::{pages_of, something_of_everything};

#[test]
fn each_page_says_that_the_producer_is_silent_and_none_does_where_it_is_not() {
    // What a script makes is as old as its blocks.
    let log = something_of_everything();
    let site = Site::over(&log);
    for (name, path) in pages_of(&log) {
        let page = site.get(&path).text();
        assert!(page.contains("The producer has said nothing for"), "{name}: {page}");
    }
    assert!(site.get("/pipeline").text().contains(">silent<"));
    let alive = Site::at_rest(3);
    for path in ["/", "/pipeline", "/explorer/search?q=3"] {
        let page = alive.get(path).text();
        assert!(!page.contains("class=\"banner"), "{path}: {page}");
    }
}

#[test]
fn a_log_that_cannot_be_read_is_told_of_until_it_can_be_read_again() {
    if !have("SLUICE_TEST_KAFKA_RUN") || !have(DRIVER) {
        return;
    }
    let kafka = Kafka::start("");
    let chain = ["--sim-blocks", "5", "--sim-block-interval", "20ms", "--sim-reorg-rate", "0"];
    let site = Site::simulated(&[&["--log", &kafka.url()], &chain[..]].concat());
    soon("the end of the chain", || {
        let at = site.get("/blocks/tip/height").text();
        if at == "5" { Ok(()) } else { Err(at) }
    });
    let browser = Browser::start(Script::Runs);
    browser.open(&site.url("/"));
    assert_eq!(browser.text("#banners"), "");
    kafka.kill();
    browser.reads("#banners", |text| text.contains("The event log cannot be read, for the first time"));
    browser.picture("unreadable");
    assert_eq!(browser.text("#height"), "5", "what the index has is shown");
    for path in ["/pipeline", "/explorer/search?q=bcrt1", "/explorer/tx/nonsense"] {
        let page = site.get(path).text();
        assert!(page.contains("The event log cannot be read"), "{path}: {page}");
    }
    kafka.up();
    browser.reads("#banners", str::is_empty);
    site.is_alone(&browser);
}

#[test]
fn a_producer_that_catches_up_is_told_of_with_how_far_it_is() {
    if !have_node(Flavour::Bsv) || !have(DRIVER) {
        return;
    }
    let node = Node::start(Flavour::Bsv);
    node.mine(300);
    let proxy = HttpProxy::start(node.rpc_address());
    proxy.set(Mangle::Late(Duration::from_secs(1)));
    let browser = Browser::start(Script::Runs);
    let from = node.url_at(proxy.address());
    let options = ["--node", &from, "--zmq", node.zmq(), "--heartbeat-interval", "500ms"];
    let site = Site::start("producer,indexer", &options);
    browser.open(&site.url("/"));
    // The page comes by itself once there is a block.
    browser.reads("#banners", |text| text.contains("The producer is catching up. Height "));
    let told = browser.text("#banners");
    assert!(told.contains(" of 300 is on the log ("), "{told}");
    browser.picture("catching-up");
    let page = site.get("/pipeline").text();
    assert!(page.contains("The producer is catching up"), "{page}");
    proxy.set(Mangle::Nothing);
    browser.reads("#height", |text| text == "300");
    browser.reads("#banners", str::is_empty);
    site.is_alone(&browser);
}
