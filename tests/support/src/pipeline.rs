//! A node, a log and the producer between them.

use crate::dir::Dir;
use crate::kafka::{LogKind, unique_prefix};
use crate::node::Node;
use crate::sluice::{Finished, Sluice, sluice_binary, sluice_with};
use crate::view::View;

/// What is needed to start the same producer again and again, and to look at its log.
#[derive(Debug)]
pub struct Pipeline {
    /// Of data and output.
    pub dir: Dir,
    /// URL of the log.
    pub log: String,
    /// Prefix of the topics.
    pub prefix: String,
    /// Options of `sluice up` beside those of the log.
    pub options: Vec<String>,
    /// What the environment of every command has beside.
    pub environment: Vec<(String, String)>,
}

impl Pipeline {
    /// From a node to a log of a kind. The mempool is compared often, so that tests need not wait for what a node does
    /// not announce.
    pub fn of(node: &Node, kind: LogKind) -> Self {
        let dir = Dir::new("pipeline");
        let log = kind.url(&dir);
        Self::new(dir, log, &["--node", &node.url(), "--zmq", node.zmq(), "--reconcile-interval", "1s"])
    }

    /// From whatever `options` say to a log.
    pub fn new(dir: Dir, log: String, options: &[&str]) -> Self {
        let options = options.iter().map(|o| (*o).to_owned()).collect();
        Self { dir, log, prefix: unique_prefix("test"), options, environment: Vec::new() }
    }

    /// The options that name the log.
    pub fn log_options(&self) -> Vec<String> {
        let data = self.dir.join("data").display().to_string();
        ["--data-dir", &data, "--log", &self.log, "--prefix", &self.prefix].map(str::to_owned).to_vec()
    }

    /// Starts a producer.
    pub fn up(&self) -> Sluice {
        self.up_with(&[])
    }

    /// Starts a producer with more options.
    pub fn up_with(&self, more: &[&str]) -> Sluice {
        let mut options = self.log_options();
        options.extend(self.options.iter().cloned());
        options.extend(more.iter().map(|o| (*o).to_owned()));
        Sluice::spawn(&sluice_binary(), &self.dir, "up", &options, &self.environment)
    }

    /// Runs a command on the log.
    pub fn sluice(&self, arguments: &[&str]) -> Finished {
        let mut all: Vec<_> = arguments.iter().map(|a| (*a).to_owned()).collect();
        all.extend(self.log_options());
        sluice_with(&all, &self.environment)
    }

    /// Opens the log.
    pub fn view(&self) -> View {
        View::open(&self.log, &self.prefix)
    }

    /// Audits the log.
    ///
    /// # Panics
    /// With what `sluice verify` found.
    pub fn verify(&self) {
        self.sluice(&["verify"]).succeeded();
    }

    /// Audits the log, also against the node.
    ///
    /// # Panics
    /// With what `sluice verify` found.
    pub fn verify_against(&self, node: &Node) {
        self.sluice(&["verify", "--node", &node.url()]).succeeded();
    }
}
