//! The pages, as `sluice up` serves them, in a real browser.
#![allow(clippy::unwrap_used)] // clippy does not see helper functions as tests

mod browser;
mod site;
mod trouble;

use bitcoin::hashes::Hash as _;
use bitcoin::{Amount, PubkeyHash, ScriptBuf, TxOut};
use browser::{Browser, DRIVER, Scheme, Script};
use site::Site;
use sluice_consumer_testkit::{TestLog, chain, data, pay, returned, script_of, share, split, sweep, waiting};
use sluice_schemas::{Flavour, RemovalReason};
use sluice_test_support::parts::{have, have_node};
use sluice_test_support::{Coin, Dir, Lock, Node, Wallet, sluice, soon};

const TAB: &str = "\u{e004}";
const ENTER: &str = "\u{e007}";
/// Most bytes that a page may have, whatever it tells of.
const SMALL: usize = 150_000;

/// A chain with something of everything.
fn something_of_everything() -> TestLog {
    chain()
        .mined_by("alice", [])
        .takeover()
        .blocks(30)
        .mined_by(
            "alice",
            [pay("alice", "bob", 1_250_000_000), split("alice", 14), data("bob", b"hello, <b>world</b>!")],
        )
        .mined_by("carol", [share("alice", "carol", 40), sweep("bob", "carol")])
        .added([share("carol", "bob", 30), pay("carol", "dave", 7_777)])
        .reorg(2)
        .mined_by("carol", [returned()])
        .blocks(3)
        .gap("hashblock", 3)
        .repaired("hashblock", 3)
        .gap("rawtx", 2)
        .added([pay("carol", "dave", 123_456_789), share("alice", "bob", 10)])
        .removed(RemovalReason::Evicted)
        .build()
}

fn address_of(log: &TestLog, name: &str) -> String {
    let script = script_of(name, Flavour::Btc);
    bitcoin::Address::from_script(&script, log.network().bitcoin()).unwrap().to_string()
}

/// The transaction with the data, and its block.
fn told(log: &TestLog) -> (String, String) {
    for event in log.best_chain() {
        for item in log.chain.transactions(event).unwrap() {
            let transaction = item.unwrap().transaction;
            let says = |script: &[u8]| script.windows(5).any(|bytes| bytes == b"hello");
            if transaction.outputs.iter().any(|output| says(&output.script_pubkey)) {
                return (transaction.txid.to_string(), event.hash.to_string());
            }
        }
    }
    panic!("the chain has a message")
}

#[test]
fn blocks_appear_and_reorgs_are_shown_without_a_reload() {
    if !have(DRIVER) {
        return;
    }
    let options = ["--sim-block-interval", "400ms", "--sim-tx-rate", "20", "--sim-reorg-rate", "0.4"];
    let site = Site::simulated(&options);
    let browser = Browser::start(Script::Runs);
    soon("the first block", || {
        let page = site.get("/");
        if page.status == 200 { Ok(()) } else { Err(page.text()) }
    });
    browser.open(&site.url("/"));
    browser.reads("#link", |text| text == "live");
    browser.run("window.here = true");
    let height = |text: &str| text.replace(',', "").parse::<i64>().unwrap_or(0);
    let first = height(&browser.text("#height"));
    browser.reads("#height", |text| height(text) > first + 2);
    let row = browser.reads("#blocks tbody tr:first-child", |text| !text.is_empty());
    assert!(height(row.split_whitespace().next().unwrap()) > first, "the newest block is first: {row}");
    browser.reads("#blocks .reorg", |text| text.contains("Reorg") && text.contains("left the chain"));
    let lost = browser.run("return document.querySelector('#blocks .reorg a').pathname.split('/').pop()");
    let listed = format!("return document.getElementById('b' + {lost}) !== null");
    assert_eq!(browser.run(&listed), false, "a block that left the chain is not in the list of blocks");
    assert_eq!(browser.run("return window.here"), true, "the page was not loaded again");
    browser.picture("live");
    browser.open(&site.url("/pipeline"));
    let shown = browser.text("main");
    assert!(shown.contains("Producer") && shown.contains("current"), "{shown}");
    browser.open(&site.url(&format!("/explorer/block/{}", lost.as_str().unwrap())));
    assert!(browser.text("h1 + .badge").contains("left the chain"));
    site.is_alone(&browser);
}

#[test]
fn search_finds_heights_hashes_transactions_and_addresses_with_and_without_javascript() {
    if !have(DRIVER) {
        return;
    }
    let site = Site::at_rest(12);
    let hash = site.get("/block-height/7").text();
    let txid = site.get(&format!("/block/{hash}/txid/0")).text();
    let output = site.json(&format!("/tx/{txid}"))["vout"][0].clone();
    let address = output["scriptpubkey_address"].as_str().unwrap();
    for script in [Script::Runs, Script::Off] {
        let browser = Browser::start(script);
        browser.open(&site.url("/"));
        let shows_link = browser.run("return !document.getElementById('link').hidden");
        assert_eq!(shows_link, script == Script::Runs, "without the script nothing claims to be live");
        assert!(browser.text("#blocks tbody tr").starts_with("12"));
        for (typed, path) in [
            ("7", format!("/explorer/block/{hash}")),
            (&hash, format!("/explorer/block/{hash}")),
            (&txid, format!("/explorer/tx/{txid}")),
            (&format!("  {address} "), format!("/explorer/address/{address}")),
            (&address[..20], format!("/explorer/address/{address}")),
        ] {
            browser.submit("#q", typed);
            soon("the page", || {
                let at = browser.path();
                if at == path { Ok(()) } else { Err(at) }
            });
            browser.reads("h1", |text| !text.is_empty());
        }
        for typed in ["99999999", &"07".repeat(32), "<script>alert(1)</script>"] {
            browser.submit("#q", typed);
            browser.reads("main", |text| text.contains("Not found") && text.contains(typed));
        }
        browser.open(&site.url("/pipeline"));
        assert!(browser.text("main").contains("Producer"));
        site.is_alone(&browser);
    }
}

#[test]
fn everything_can_be_reached_by_keyboard() {
    if !have(DRIVER) {
        return;
    }
    let site = Site::at_rest(3);
    let browser = Browser::start(Script::Runs);
    browser.open(&site.url("/"));
    let focus = |browser: &Browser| {
        let body = "const at = document.activeElement; return at.innerText || at.id || at.tagName";
        browser.run(body).as_str().unwrap().to_owned()
    };
    browser.press(&[TAB]);
    assert_eq!(focus(&browser), "To the content");
    browser.press(&[ENTER, TAB]);
    // The first link of the content is a block's.
    let mut links = Vec::new();
    while links.len() < 4 && focus(&browser) != "3" {
        links.push(focus(&browser));
        browser.press(&[TAB]);
    }
    assert_eq!(focus(&browser), "3", "after {links:?}");
    let outline = browser.run("return getComputedStyle(document.activeElement).outlineStyle");
    assert_eq!(outline, "solid", "where the keyboard is can be seen");
    browser.press(&[ENTER]);
    browser.reads("h1", |text| text == "Block 3");
    browser.press(&["/"]);
    assert_eq!(focus(&browser), "q");
    browser.press(&["1", ENTER]);
    browser.reads("h1", |text| text == "Block 1");
    site.is_alone(&browser);
}

#[test]
fn an_empty_log_is_told_of_and_its_first_blocks_appear_by_themselves() {
    if !have(DRIVER) {
        return;
    }
    let dir = Dir::new("pages");
    let data = dir.path().display().to_string();
    sluice(&["topics", "--data-dir", &data, "--network", "btc-regtest"]).succeeded();
    let site = Site::start_in(dir, "indexer", &["--network", "btc-regtest"]);
    assert_eq!(site.get("/").status, 503);
    let browser = Browser::start(Script::Runs);
    browser.open(&site.url("/pipeline"));
    browser.reads("h1", |text| text == "No blocks yet");
    browser.picture("empty");
    let _producer = site.joined_by_producer(&["--sim-block-interval", "200ms"]);
    browser.reads("h1", |text| text == "Pipeline");
    browser.reads(".stages tbody", |text| text.contains("Index"));
    site.is_alone(&browser);
}

/// Every kind of page on a chain with something of everything.
fn pages_of(log: &TestLog) -> Vec<(&'static str, String)> {
    let (txid, hash) = told(log);
    let stale = log.chain.event_at_sequence(33).unwrap().unwrap().event.hash;
    let waiting = log.mempool()[0];
    let coinbase = log.chain.transactions(log.tip()).unwrap().next().unwrap().unwrap().transaction.txid;
    vec![
        ("home", "/".to_owned()),
        ("older", "/?from=25".to_owned()),
        ("block", format!("/explorer/block/{hash}")),
        ("stale", format!("/explorer/block/{stale}")),
        ("transaction", format!("/explorer/tx/{txid}")),
        ("coinbase", format!("/explorer/tx/{coinbase}")),
        ("waiting", format!("/explorer/tx/{waiting}")),
        ("address", format!("/explorer/address/{}", address_of(log, "carol"))),
        ("unknown", format!("/explorer/address/{}", address_of(log, "nobody"))),
        ("pipeline", "/pipeline".to_owned()),
        ("search", "/explorer/search?q=bcrt1".to_owned()),
        ("nothing", format!("/explorer/tx/{}", "07".repeat(32))),
    ]
}

#[test]
fn pages_fit_the_screen_and_are_legible_in_both_schemes() {
    if !have(DRIVER) {
        return;
    }
    let log = something_of_everything();
    let site = Site::over(&log);
    let browser = Browser::start(Script::Runs);
    for (screen, width, scheme) in [
        ("light", 1200, Scheme::Light),
        ("dark", 1200, Scheme::Dark),
        ("phone", 390, Scheme::Light),
        ("phone-dark", 390, Scheme::Dark),
        ("wide", 2400, Scheme::Light),
    ] {
        browser.screen(width, scheme);
        for (name, path) in &pages_of(&log) {
            browser.open(&site.url(path));
            browser.picture(&format!("{name}-{screen}"));
            let wide = browser.run(&format!("return document.documentElement.scrollWidth - {width}"));
            assert!(wide.as_i64().unwrap() <= 0, "{name} is {wide} wider than the screen of {width}");
            let cut = browser.run(CUT_OFF);
            assert_eq!(cut.as_array().unwrap().len(), 0, "{name} on {screen}: {cut}");
            let poor = browser.run(POOR_CONTRAST);
            assert_eq!(poor.as_array().unwrap().len(), 0, "{name} in {screen}: {poor}");
        }
    }
    site.is_alone(&browser);
}

#[test]
fn whoever_hears_a_page_is_told_what_is_what() {
    if !have(DRIVER) {
        return;
    }
    let log = something_of_everything();
    let site = Site::over(&log);
    let browser = Browser::start(Script::Runs);
    let mut titles = std::collections::HashSet::new();
    for (name, path) in &pages_of(&log) {
        browser.open(&site.url(path));
        let wrong = browser.run(INAUDIBLE);
        assert_eq!(wrong.as_array().unwrap().len(), 0, "{name}: {wrong}");
        let title = browser.run("return document.title");
        titles.insert(title.as_str().unwrap().to_owned());
    }
    // The two pages of blocks are called the same.
    assert_eq!(titles.len(), pages_of(&log).len() - 1, "{titles:?}");
}

#[test]
fn a_page_says_where_a_transaction_or_block_is_now() {
    let mut log = something_of_everything();
    let (lost, kept) = (log.mempool()[0], log.mempool()[1]);
    let site = Site::over(&log);
    let page = |path: String| site.get(&path).text();
    assert!(page(format!("/explorer/tx/{lost}")).contains("in the mempool"));

    // Mined, and taken back by a reorg into the mempool; then one of the two is put out of it.
    log.play(&chain().mined_by("dave", [waiting()]));
    site.reaches(&log);
    let mined_in = log.tip().hash;
    assert!(page(format!("/explorer/tx/{lost}")).contains("1 confirmation<"));
    assert!(page("/".into()).contains("nothing is waiting"), "the mempool is empty");
    log.play(&chain().reorg(1).blocks(2).added([returned()]));
    site.reaches(&log);
    let block = page(format!("/explorer/block/{mined_in}"));
    assert!(block.contains("left the chain") && block.contains("another block"), "{block}");
    let shown = page(format!("/explorer/tx/{lost}"));
    assert!(shown.contains("in the mempool") && shown.contains("Taken back"), "{shown}");
    log.play(&chain().removed(RemovalReason::Expired));
    site.reaches(&log);
    assert!(!log.mempool().contains(&lost) && log.mempool().contains(&kept));
    let shown = page(format!("/explorer/tx/{lost}"));
    assert!(
        shown.contains(">gone<") && shown.contains("It left the mempool: it waited for too long"),
        "{shown}"
    );

    let nobody = page(format!("/explorer/address/{}", address_of(&log, "nobody")));
    assert!(nobody.contains("Nothing on this chain or in its mempool pays or spends it"), "{nobody}");
    let malformed = site.get("/explorer/address/nonsense");
    assert!(malformed.status == 400 && malformed.text().contains("is no address of this network"));
}

/// Outputs of the largest transaction: more than 4 MB of them.
const OUTPUTS: u32 = 125_000;

/// Pays nobody in particular, each output somebody else.
fn to_many(coin: &Coin) -> bitcoin::Transaction {
    let somebody = |number: u32| {
        let mut hash = [0; 20];
        hash[..4].copy_from_slice(&number.to_be_bytes());
        ScriptBuf::new_p2pkh(&PubkeyHash::from_byte_array(hash))
    };
    let output = |number| TxOut { value: Amount::from_sat(1_000), script_pubkey: somebody(number) };
    Wallet::spend(&[*coin], (0..OUTPUTS).map(output).collect())
}

/// Splits a coin into many, and spends them all.
fn from_many(coin: &Coin) -> [bitcoin::Transaction; 2] {
    let output = TxOut { value: Amount::from_sat(100_000), script_pubkey: Lock::Anyone.script_pubkey() };
    let split = Wallet::spend(&[*coin], vec![output.clone(); 3_000]);
    let merged = Wallet::spend(&Coin::of(&split), vec![output]);
    [split, merged]
}

#[test]
fn pages_of_what_bitcoin_sv_allows_stay_small() {
    if !have_node(Flavour::Bsv) || !have(DRIVER) {
        return;
    }
    let (node, mut wallet) = Node::start_funded(Flavour::Bsv, 4);
    let site = Site::start(
        "producer,indexer",
        &["--node", &node.url(), "--zmq", node.zmq(), "--reconcile-interval", "1s"],
    );
    let text = b"All work and no play makes Jack a dull boy. ".repeat(30_000);
    let stored = Wallet::store(&wallet.take(), &text, 1_000_000);
    let many = to_many(&wallet.take());
    let [split, merged] = from_many(&wallet.take());
    let [stored_txid, many_txid, split_txid, merged_txid] =
        [&stored, &many, &split, &merged].map(|tx| node.send(tx));
    let is_small = |path: String| {
        let page = site.get(&path);
        assert!(
            page.status == 200 && page.body.len() < SMALL,
            "{path}: {}, {} bytes",
            page.status,
            page.body.len()
        );
        page.text()
    };
    let shown = || {
        let page = is_small(format!("/explorer/tx/{stored_txid}"));
        assert!(page.contains("All work and no play") && page.contains("(1.3 MB)"), "{page}");
        let whole = site.get(&format!("/explorer/tx/{stored_txid}/script/0"));
        assert_eq!(whole.body, stored.output[0].script_pubkey.to_bytes(), "all of it is a link away");
        let page = is_small(format!("/explorer/tx/{many_txid}"));
        assert!(page.contains("125,000 outputs") && page.contains("124,992 others"), "{page}");
        let last = is_small(format!("/explorer/tx/{many_txid}?outputs={}", OUTPUTS - 50));
        assert!(last.contains(&format!("outputs={}#", OUTPUTS - 100)) && !last.contains(">Next<"), "{last}");
        is_small(format!("/explorer/tx/{split_txid}"));
        let page = is_small(format!("/explorer/tx/{merged_txid}?inputs=2950"));
        assert!(
            page.contains("3,000 inputs") && !page.contains("unknown"),
            "what it spends is looked up: {page}"
        );
    };
    soon("the mempool", || {
        let waiting = site.json("/mempool")["count"].as_u64();
        if waiting == Some(4) { Ok(()) } else { Err(waiting) }
    });
    shown();
    let block = node.mine(1)[0];
    soon("the block", || {
        let tip = site.get("/blocks/tip/hash").text();
        if tip == block.to_string() { Ok(()) } else { Err(tip) }
    });
    shown();
    let page = is_small(format!("/explorer/block/{block}"));
    for txid in [&stored_txid, &many_txid, &split_txid, &merged_txid] {
        assert!(page.contains(&txid.to_string()), "{page}");
    }
    assert!(page.contains(">…<"), "what comes after the largest is only named: {page}");
    is_small("/".into());

    let browser = Browser::start(Script::Runs);
    for (screen, width) in [("light", 1200), ("phone", 390)] {
        browser.screen(width, Scheme::Light);
        for (name, path) in [
            ("data", format!("/explorer/tx/{stored_txid}")),
            ("outputs", format!("/explorer/tx/{many_txid}")),
            ("inputs", format!("/explorer/tx/{merged_txid}?inputs=2950")),
            ("large", format!("/explorer/block/{block}")),
        ] {
            browser.open(&site.url(&path));
            let wide = browser.run(&format!("return document.documentElement.scrollWidth - {width}"));
            assert!(wide.as_i64().unwrap() <= 0, "{name} is {wide} wider than the screen of {width}");
            browser.picture(&format!("bsv-{name}-{screen}"));
        }
    }
    // The node goes away while somebody looks.
    browser.open(&site.url("/"));
    assert_eq!(browser.text("#banners"), "");
    node.kill();
    browser.reads("#banners", |text| text.contains("cannot reach its source"));
    browser.picture("bsv-down");
    let pipeline = site.get("/pipeline").text();
    assert!(pipeline.contains(">down<"), "{pipeline}");
    site.is_alone(&browser);
}

/// Texts that do not fit into what they are in. Hashes and addresses are cut on purpose, and their ends stay.
const CUT_OFF: &str = r"
    return [...document.querySelectorAll('main *')]
        .filter((element) => !element.closest('svg, .head, .hidden') && element.getClientRects().length)
        .filter((element) => element.clientWidth > 0 && element.scrollWidth > element.clientWidth + 1)
        .map((element) => element.outerHTML.slice(0, 120));
";

/// What a screen reader would not tell of, or tell wrongly.
const INAUDIBLE: &str = r"
    const wrong = [];
    const demand = (holds, what) => { if (!holds) wrong.push(what); };
    const all = (selector) => [...document.querySelectorAll(selector)];
    demand(document.documentElement.lang === 'en', 'language');
    demand(/ · Chainsluice$/.test(document.title), 'title');
    demand(all('h1').length === 1, 'one main heading');
    ['header', 'main', 'footer', '[role=search]'].forEach((part) => demand(all(part).length === 1, part));
    all('nav').forEach((nav) => demand(nav.ariaLabel, 'nav without name'));
    all('section:not(.notice)').forEach((section) =>
        demand(document.getElementById(section.getAttribute('aria-labelledby'))?.innerText, 'section without name'));
    all('table').forEach((table) => demand(table.caption?.textContent, 'table without caption'));
    all('th').forEach((cell) => demand(cell.scope && cell.textContent.trim(), 'header cell: ' + cell.outerHTML));
    all('input').forEach((input) => demand(input.labels.length, 'input without label'));
    all('a, button').forEach((link) => demand(link.textContent.trim(), 'link without words'));
    all('svg[role=img], progress').forEach((part) => demand(part.ariaLabel, part.tagName + ' without name'));
    all('img').forEach((img) => demand(img.hasAttribute('alt'), 'img'));
    const levels = all('h1, h2, h3').map((heading) => Number(heading.tagName[1]));
    levels.forEach((level, index) => demand(index === 0 ? level === 1 : level <= levels[index - 1] + 1, 'levels ' + levels));
    const ids = all('[id]').map((element) => element.id);
    demand(new Set(ids).size === ids.length, 'an id twice: ' + ids);
    return wrong;
";

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
