//! The pages, in a real browser.
#![allow(clippy::unwrap_used)] // clippy does not see helper functions as tests

#[allow(dead_code)]
mod browser;
#[allow(dead_code)]
mod served;

use std::path::PathBuf;

use browser::{Browser, DRIVER, Scheme, Script};
use served::Served;
use sluice_consumer_testkit::{TestLog, chain, data, pay, returned, script_of, share, split, sweep, waiting};
use sluice_schemas::{Flavour, RemovalReason};
use sluice_test_support::parts::{have, setting};
use sluice_test_support::{Dir, soon};

const TAB: &str = "\u{e004}";
const ENTER: &str = "\u{e007}";

/// A chain with something of everything, served.
struct Site {
    log: TestLog,
    served: Served,
    folder: Dir,
}

impl Site {
    fn new() -> Self {
        let log = chain()
            .mined_by("alice", [])
            .takeover()
            .blocks(30)
            .mined_by(
                "alice",
                [
                    pay("alice", "bob", 1_250_000_000),
                    split("alice", 14),
                    data("bob", b"hello, <b>world</b>!"),
                ],
            )
            .mined_by("carol", [share("alice", "carol", 40), sweep("bob", "carol")])
            .added([share("carol", "bob", 30), pay("carol", "dave", 7_777)])
            .reorg(2)
            .mined_by("carol", [returned()])
            .blocks(3)
            .gap("hashblock", 3)
            .repaired("hashblock", 3)
            .added([pay("carol", "dave", 123_456_789), share("alice", "bob", 10)])
            .removed(RemovalReason::Evicted)
            .build();
        let folder = Dir::new("pages");
        let served = Served::start(&log.chain, &folder.join("index"), None);
        served.reaches(&log.chain);
        Self { log, served, folder }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.served.address)
    }

    fn address_of(&self, name: &str) -> String {
        let script = script_of(name, Flavour::Btc);
        bitcoin::Address::from_script(&script, self.log.network().bitcoin()).unwrap().to_string()
    }

    /// The transaction with the data, and its block.
    fn told(&self) -> (String, String) {
        for event in self.log.best_chain() {
            for item in self.log.chain.transactions(event).unwrap() {
                let transaction = item.unwrap().transaction;
                if transaction
                    .outputs
                    .iter()
                    .any(|output| output.script_pubkey.windows(5).any(|bytes| bytes == b"hello"))
                {
                    return (transaction.txid.to_string(), event.hash.to_string());
                }
            }
        }
        panic!("the chain has a message")
    }

    /// Where pictures go: with the test, or where a person wants to look at them.
    fn picture(&self, name: &str) -> PathBuf {
        let folder =
            setting("SLUICE_TEST_PICTURES").map_or_else(|| self.folder.path().to_owned(), PathBuf::from);
        std::fs::create_dir_all(&folder).unwrap();
        folder.join(format!("{name}.png"))
    }

    /// That nothing but this server was asked for anything, and that the policy stopped nothing.
    fn is_alone(&self, browser: &Browser) {
        let (asked, here) = (browser.requests(), self.url("/"));
        assert!(!asked.is_empty());
        let elsewhere: Vec<_> =
            asked.iter().filter(|url| !url.starts_with(&here) && !url.starts_with("data:")).collect();
        assert!(elsewhere.is_empty(), "{elsewhere:?}");
        let complaints = browser.complaints();
        // A page that is not found is told of as one.
        let serious: Vec<_> = complaints.iter().filter(|text| !text.contains("404")).collect();
        assert!(serious.is_empty(), "{serious:?}");
    }
}

#[test]
fn blocks_appear_and_a_reorg_is_shown_without_a_reload() {
    if !have(DRIVER) {
        return;
    }
    let mut site = Site::new();
    let browser = Browser::start(Script::Runs);
    browser.open(&site.url("/"));
    browser.reads("#link", |text| text == "live");
    browser.run("window.here = true");
    let height = site.log.tip().height;
    browser.reads("#height", |text| text == height.to_string());

    site.log.play(&chain().mined_by("dave", [waiting()]));
    let tip = site.log.tip().hash.to_string();
    let first = browser.reads("#blocks tbody tr:first-child", |text| text.contains(&tip[tip.len() - 8..]));
    assert!(first.starts_with(&(height + 1).to_string()), "{first}");
    browser.reads("#height", |text| text == (height + 1).to_string());
    browser.reads("#mempool", |text| text == "0");

    site.log.play(&chain().reorg(2).blocks(3));
    browser.reads("#blocks .reorg", |text| text.contains("Reorg") && text.contains(&tip[tip.len() - 8..]));
    browser.reads("#height", |text| text == (height + 2).to_string());
    let gone = browser.run(&format!("return document.getElementById('b{tip}') === null"));
    assert_eq!(gone, true, "a block that left the chain is not in the list of blocks");
    browser.picture(&site.picture("reorg"));
    assert_eq!(browser.run("return window.here"), true, "the page was not loaded again");
    site.is_alone(&browser);
}

#[test]
fn search_finds_heights_hashes_transactions_and_addresses() {
    if !have(DRIVER) {
        return;
    }
    let site = Site::new();
    let browser = Browser::start(Script::Runs);
    let (txid, hash) = site.told();
    let address = site.address_of("carol");
    let height = site.log.best_chain().find(|event| event.hash.to_string() == hash).unwrap().height;
    browser.open(&site.url("/"));
    for (typed, path) in [
        (height.to_string(), format!("/explorer/block/{hash}")),
        (hash.clone(), format!("/explorer/block/{hash}")),
        (txid.clone(), format!("/explorer/tx/{txid}")),
        (format!("  {address} "), format!("/explorer/address/{address}")),
        (address[..14].to_owned(), format!("/explorer/address/{address}")),
    ] {
        browser.submit("#q", &typed);
        browser.reads("h1", |text| !text.is_empty());
        soon("the page", || {
            let at = browser.path();
            if at == path { Ok(()) } else { Err(at) }
        });
    }
    for (typed, words) in [
        ("99999999", "Not found"),
        (&"07".repeat(32), "Not found"),
        ("<script>alert(1)</script>", "Not found"),
    ] {
        browser.submit("#q", typed);
        browser.reads("main", |text| text.contains(words) && text.contains(typed));
    }
    site.is_alone(&browser);
}

#[test]
fn everything_can_be_reached_by_keyboard() {
    if !have(DRIVER) {
        return;
    }
    let site = Site::new();
    let browser = Browser::start(Script::Runs);
    browser.open(&site.url("/"));
    let focus = |browser: &Browser| {
        let body = "return document.activeElement.innerText || document.activeElement.id || document.activeElement.tagName";
        browser.run(body).as_str().unwrap().to_owned()
    };
    browser.press(&[TAB]);
    assert_eq!(focus(&browser), "To the content");
    browser.press(&[ENTER, TAB]);
    // The first link of the content is a block's.
    let tip = site.log.tip();
    let mut links = Vec::new();
    while links.len() < 4 && focus(&browser) != tip.height.to_string() {
        links.push(focus(&browser));
        browser.press(&[TAB]);
    }
    assert_eq!(focus(&browser), tip.height.to_string(), "after {links:?}");
    browser.press(&[ENTER]);
    browser.reads("h1", |text| text == format!("Block {}", tip.height));
    browser.press(&["/"]);
    assert_eq!(focus(&browser), "q");
    browser.press(&["1", ENTER]);
    browser.reads("h1", |text| text == "Block 1");
    site.is_alone(&browser);
}

#[test]
fn without_javascript_everything_but_the_live_parts_is_there() {
    if !have(DRIVER) {
        return;
    }
    let site = Site::new();
    let browser = Browser::start(Script::Off);
    browser.open(&site.url("/"));
    let tip = site.log.tip();
    assert!(browser.text("#blocks tbody tr").starts_with(&tip.height.to_string()));
    assert_eq!(
        browser.run("return document.getElementById('link').hidden"),
        true,
        "nothing claims to be live"
    );
    let (txid, _) = site.told();
    browser.submit("#q", &txid);
    let shown = browser.reads("main", |text| text.contains("Journey"));
    assert!(shown.contains("hello, <b>world</b>!"), "data is shown as text: {shown}");
    for path in ["/pipeline", &format!("/explorer/address/{}", site.address_of("carol"))] {
        browser.open(&site.url(path));
        assert!(!browser.text("h1").is_empty());
    }
    site.is_alone(&browser);
}

#[test]
fn pages_are_as_wide_as_the_screen_and_legible_in_both_schemes() {
    if !have(DRIVER) {
        return;
    }
    let site = Site::new();
    let browser = Browser::start(Script::Runs);
    let (txid, hash) = site.told();
    let stale = site.log.chain.event_at_sequence(33).unwrap().unwrap().event.hash;
    let paths = [
        ("home", "/".to_owned()),
        ("block", format!("/explorer/block/{hash}")),
        ("stale", format!("/explorer/block/{stale}")),
        ("transaction", format!("/explorer/tx/{txid}")),
        ("address", format!("/explorer/address/{}", site.address_of("carol"))),
        ("pipeline", "/pipeline".to_owned()),
        ("nothing", format!("/explorer/tx/{}", "07".repeat(32))),
    ];
    for (screen, width, scheme) in [
        ("light", 1200, Scheme::Light),
        ("dark", 1200, Scheme::Dark),
        ("phone", 390, Scheme::Light),
        ("phone-dark", 390, Scheme::Dark),
    ] {
        browser.screen(width, scheme);
        for (name, path) in &paths {
            browser.open(&site.url(path));
            browser.reads("h1", |text| !text.is_empty());
            let wide = browser.run(&format!("return document.documentElement.scrollWidth - {width}"));
            assert!(wide.as_i64().unwrap() <= 0, "{name} is {wide} wider than the screen of {width}");
            let poor = browser.run(POOR_CONTRAST);
            assert_eq!(poor.as_array().unwrap().len(), 0, "{name} in {screen}: {poor}");
            browser.picture(&site.picture(&format!("{name}-{screen}")));
        }
    }
    site.is_alone(&browser);
}

/// Texts whose contrast with what is behind them is below WCAG's 4.5 to 1.
const POOR_CONTRAST: &str = r"
    const parts = (colour) => colour.match(/[\d.]+/g).map(Number);
    const light = (colour) => {
        const [r, g, b] = parts(colour).map((part) => part / 255)
            .map((part) => (part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = (element) => {
        for (let at = element; at; at = at.parentElement) {
            const colour = getComputedStyle(at).backgroundColor;
            const [, , , alpha = 1] = parts(colour);
            if (alpha === 1) return colour;
        }
        return 'rgb(255, 255, 255)';
    };
    return [...document.querySelectorAll('body *')]
        .filter((element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim()))
        .filter((element) => element.getClientRects().length && !element.closest('svg, .new'))
        .filter((element) => {
            const [a, b] = [light(getComputedStyle(element).color), light(behind(element))];
            return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) < 4.5;
        })
        .map((element) => element.outerHTML.slice(0, 120));
";
