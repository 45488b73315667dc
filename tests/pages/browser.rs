//! A real browser without a window, driven over the WebDriver protocol (W3C) by the driver that comes with it.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use base64::Engine;
use sluice_test_support::serde_json::{self, Value, json};
use sluice_test_support::{Dir, parts, soon};

/// Where `tests/run` says the driver is.
pub(crate) const DRIVER: &str = "SLUICE_TEST_CHROMEDRIVER";
/// How WebDriver names an element in JSON.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// What a page may do, and how it is to be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Script {
    /// As usual.
    Runs,
    /// JavaScript is off.
    Off,
}

/// A colour scheme that the machine's user prefers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Light,
    Dark,
}

/// A browser with one window.
pub(crate) struct Browser {
    driver: Child,
    base: String,
    session: String,
    agent: ureq::Agent,
    _profile: Dir,
}

impl Browser {
    /// Starts the driver, and a browser with a profile of its own.
    pub(crate) fn start(script: Script) -> Self {
        let profile = Dir::new("browser");
        let mut driver = Command::new(parts::path(DRIVER))
            .args(["--port=0", "--allowed-ips=127.0.0.1"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver");
        let lines = BufReader::new(driver.stdout.take().expect("its output")).lines();
        let port = lines
            .map_while(Result::ok)
            .find_map(|line| {
                line.split_once("started successfully on port ")?.1.trim_end_matches('.').parse::<u16>().ok()
            })
            .expect("the driver's port");
        let data = format!("--user-data-dir={}", profile.path().display());
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
            &data,
        ];
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:loggingPrefs": {"performance": "ALL", "browser": "ALL"},
            "goog:chromeOptions": {"args": arguments},
        }}});
        let agent =
            ureq::Agent::new_with_config(ureq::Agent::config_builder().http_status_as_error(false).build());
        let mut browser = Self {
            driver,
            base: format!("http://127.0.0.1:{port}"),
            session: String::new(),
            agent,
            _profile: profile,
        };
        let begun = browser.post("/session", &wanted);
        browser.session = begun["sessionId"].as_str().expect("a session").to_owned();
        if script == Script::Off {
            browser.devtools("Emulation.setScriptExecutionDisabled", &json!({"value": true}));
        }
        // The browser's own first page is none of ours.
        browser.open("about:blank");
        browser.requests();
        browser.complaints();
        browser
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let url = format!("{}{path}", self.base);
        let sent = self.agent.post(&url).header("content-type", "application/json").send(body.to_string());
        let text =
            sent.and_then(|mut answer| answer.body_mut().with_config().limit(64 << 20).read_to_string());
        let answer: Value = serde_json::from_str(&text.expect("an answer of the driver")).expect("JSON");
        let value = answer["value"].clone();
        assert!(value.get("error").is_none_or(Value::is_null), "{path} {body}: {value}");
        value
    }

    fn command(&self, name: &str, body: &Value) -> Value {
        self.post(&format!("/session/{}/{name}", self.session), body)
    }

    fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.command("goog/cdp/execute", &json!({"cmd": command, "params": parameters}))
    }

    /// Goes to a page.
    pub(crate) fn open(&self, url: &str) {
        self.command("url", &json!({"url": url}));
    }

    /// Runs a function's body in the page, also where the page itself may run nothing.
    pub(crate) fn run(&self, body: &str) -> Value {
        self.command("execute/sync", &json!({"script": body, "args": []}))
    }

    /// The address of the page.
    pub(crate) fn path(&self) -> String {
        self.run("return location.pathname").as_str().unwrap().to_owned()
    }

    /// What a person reads in the first element of a selector; empty where there is none.
    pub(crate) fn text(&self, selector: &str) -> String {
        let text = self.run(&format!("return document.querySelector({selector:?})?.innerText ?? ''"));
        text.as_str().unwrap().to_owned()
    }

    /// Waits until an element's text fits.
    pub(crate) fn reads(&self, selector: &str, fits: impl Fn(&str) -> bool) -> String {
        soon(&format!("{selector} to read as it should"), || {
            let text = self.text(selector);
            if fits(&text) { Ok(text) } else { Err(text) }
        })
    }

    /// Types into an element, and presses Enter.
    pub(crate) fn submit(&self, selector: &str, text: &str) {
        let found = self.command("element", &json!({"using": "css selector", "value": selector}));
        let element = found[ELEMENT].as_str().expect("an element");
        self.command(&format!("element/{element}/value"), &json!({"text": format!("{text}\u{e007}")}));
    }

    /// Presses keys, whatever has the focus.
    pub(crate) fn press(&self, keys: &[&str]) {
        let strokes = keys.iter().flat_map(|key| {
            [json!({"type": "keyDown", "value": key}), json!({"type": "keyUp", "value": key})]
        });
        let strokes: Vec<_> = strokes.collect();
        self.command("actions", &json!({"actions": [{"type": "key", "id": "keyboard", "actions": strokes}]}));
    }

    /// Shows pages as on a screen of this width, to a user who prefers a scheme.
    pub(crate) fn screen(&self, width: u32, scheme: Scheme) {
        let metrics = json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600});
        self.devtools("Emulation.setDeviceMetricsOverride", &metrics);
        let value = if scheme == Scheme::Dark { "dark" } else { "light" };
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": value}]});
        self.devtools("Emulation.setEmulatedMedia", &features);
    }

    /// Takes a picture of the whole page, where a person wants to look at it: `SLUICE_TEST_PICTURES` names the directory.
    pub(crate) fn picture(&self, name: &str) {
        let Some(directory) = parts::setting("SLUICE_TEST_PICTURES") else { return };
        std::fs::create_dir_all(&directory).unwrap();
        let shot =
            self.devtools("Page.captureScreenshot", &json!({"format": "png", "captureBeyondViewport": true}));
        let bytes = base64::engine::general_purpose::STANDARD.decode(shot["data"].as_str().unwrap()).unwrap();
        std::fs::write(format!("{directory}/{name}.png"), bytes).unwrap();
    }

    /// Every address that the window has asked for since the last call.
    pub(crate) fn requests(&self) -> Vec<String> {
        let log = self.command("se/log", &json!({"type": "performance"}));
        let entries = log.as_array().unwrap().iter();
        let messages =
            entries.map(|entry| serde_json::from_str::<Value>(entry["message"].as_str().unwrap()).unwrap());
        messages
            .filter(|entry| entry["message"]["method"] == "Network.requestWillBeSent")
            .map(|entry| entry["message"]["params"]["request"]["url"].as_str().unwrap().to_owned())
            .collect()
    }

    /// What the browser complained of since the last call, say of what the policy forbids.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let log = self.command("se/log", &json!({"type": "browser"}));
        log.as_array().unwrap().iter().map(|entry| entry["message"].as_str().unwrap().to_owned()).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver ends its browser with the session, and would leave it behind otherwise.
        let _ = self.agent.delete(format!("{}/session/{}", self.base, self.session)).call();
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
