//! The pages as a user has them: `sluice up` in a process of its own.

use sluice_consumer_testkit::TestLog;
use sluice_test_support::serde_json::{self, Value};
use sluice_test_support::{Dir, Sluice, sluice_binary, soon};

use crate::browser::Browser;

/// What a page answered.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }
}

/// A running `sluice up`, and where its pages are.
pub(crate) struct Site {
    /// With it the process ends.
    _process: Sluice,
    /// `http://127.0.0.1:PORT`.
    base: String,
    agent: ureq::Agent,
    dir: Dir,
}

impl Site {
    /// Starts `parts` of `sluice up` with these options, and a data directory of its own.
    pub(crate) fn start(parts: &str, options: &[&str]) -> Self {
        Self::start_in(Dir::new("pages"), parts, options)
    }

    /// As `start`, with this data directory.
    pub(crate) fn start_in(dir: Dir, parts: &str, options: &[&str]) -> Self {
        let process = Self::process(&dir, parts, options);
        let base = soon("the address of the page", || {
            let said = process.output();
            let page = said.lines().rev().find_map(|line| {
                let state: Value = serde_json::from_str(line).ok()?;
                Some(state["index"]["page"].as_str()?.trim_end_matches('/').to_owned())
            });
            page.ok_or(said)
        });
        let agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        Self { _process: process, base, agent, dir }
    }

    /// The built-in simulator with these options, published and indexed.
    pub(crate) fn simulated(options: &[&str]) -> Self {
        Self::start("producer,indexer", options)
    }

    /// A simulated chain that has come to its end.
    pub(crate) fn at_rest(height: i64) -> Self {
        let blocks = height.to_string();
        let quick = ["--sim-blocks", &blocks, "--sim-block-interval", "20ms", "--sim-reorg-rate", "0"];
        let site = Self::simulated(&quick);
        soon("the end of the chain", || {
            let at = site.get("/blocks/tip/height").text();
            if at == blocks { Ok(()) } else { Err(at) }
        });
        site
    }

    /// The indexer alone over a log that is made by a script.
    pub(crate) fn over(log: &TestLog) -> Self {
        let site = Self::start("indexer", &["--log", &log.url()]);
        site.reaches(log);
        site
    }

    /// Starts parts of `sluice up` on the log in a directory.
    fn process(dir: &Dir, parts: &str, options: &[&str]) -> Sluice {
        let data = dir.path().display().to_string();
        let environment = [("SLUICE_DATA_DIR", data.as_str()), ("SLUICE_ONLY", parts)];
        Sluice::spawn(&sluice_binary(), dir, "up", options, &environment)
    }

    /// Starts a producer on the log of this site.
    pub(crate) fn joined_by_producer(&self, options: &[&str]) -> Sluice {
        Self::process(&self.dir, "producer", options)
    }

    /// Waits until everything on the log is in the index.
    pub(crate) fn reaches(&self, log: &TestLog) {
        let wanted = (log.tip().hash.to_string(), log.mempool().len() as u64);
        soon("the index to have everything", || {
            let tip = self.get("/blocks/tip/hash").text();
            let waiting = self.json("/mempool")["count"].as_u64().unwrap_or(0);
            let has = (tip, waiting);
            if has == wanted { Ok(()) } else { Err(has) }
        });
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// Asks without a browser.
    pub(crate) fn get(&self, path: &str) -> Answer {
        let mut answer = self.agent.get(self.url(path)).call().unwrap();
        let status = answer.status().as_u16();
        let body = answer.body_mut().with_config().limit(64 << 20).read_to_vec().unwrap();
        Answer { status, body }
    }

    pub(crate) fn json(&self, path: &str) -> Value {
        serde_json::from_slice(&self.get(path).body).unwrap_or_default()
    }

    /// That nothing but this server was asked for anything, and that the policy stopped nothing.
    pub(crate) fn is_alone(&self, browser: &Browser) {
        let (asked, here) = (browser.requests(), self.url("/"));
        assert!(!asked.is_empty());
        let elsewhere: Vec<_> =
            asked.iter().filter(|url| !url.starts_with(&here) && !url.starts_with("data:")).collect();
        assert!(elsewhere.is_empty(), "{elsewhere:?}");
        let complaints = browser.complaints();
        // The browser tells of pages that are not found, or not there yet, by their status.
        let serious: Vec<_> = complaints
            .iter()
            .filter(|text| !text.contains("status of 404") && !text.contains("status of 503"))
            .collect();
        assert!(serious.is_empty(), "{serious:?}");
    }
}
