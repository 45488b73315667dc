//! `sluice up` over a real node: producer, index and API.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use esplora_client::{BlockingClient, Builder};
use sluice_test_support::{LogKind, Node, Pipeline, Sluice, View, soon};

/// Everything from the node to the wallet. Ends on drop.
pub(crate) struct Served {
    pub(crate) client: BlockingClient,
    address: SocketAddr,
    view: View,
    _sluice: Sluice,
    pipeline: Pipeline,
}

impl Served {
    pub(crate) fn from(node: &Node) -> Self {
        let pipeline = Pipeline::of(node, LogKind::Sqlite);
        let sluice = pipeline.up_with(&["--only", "producer,indexer", "--json"]);
        let address = soon("the address of the API", || address(&sluice.output()).ok_or("it is not told"));
        let mut view = pipeline.view();
        view.reaches_tip_of(node);
        let client = Builder::new(&format!("http://{address}")).timeout(60).build_blocking();
        Self { client, address, view, _sluice: sluice, pipeline }
    }

    /// Waits until the API tells the node's tip and mempool.
    pub(crate) fn equals(&mut self, node: &Node) {
        self.view.equals(node);
        let (tip, mut mempool) = (node.tip_hash(), node.mempool().into_iter().collect::<Vec<_>>());
        soon("the API to have the node's tip and mempool", || {
            let told = self.client.get_tip_hash().map_err(|e| e.to_string())?;
            let mut txids = self.client.get_mempool_txids().map_err(|e| e.to_string())?;
            txids.sort_unstable();
            mempool.sort_unstable();
            if (told, &txids) == (tip, &mempool) { Ok(()) } else { Err(format!("{told} {txids:?}")) }
        });
    }

    /// An answer that must be there, as text.
    pub(crate) fn text(&self, path: &str) -> String {
        let (status, body) = self.get(path);
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    pub(crate) fn json(&self, path: &str) -> serde_json::Value {
        serde_json::from_str(&self.text(path)).unwrap()
    }

    pub(crate) fn bytes(&self, path: &str) -> Vec<u8> {
        let mut response = agent().get(format!("http://{}{path}", self.address)).call().unwrap();
        assert_eq!(response.status(), 200, "{path}");
        response.body_mut().with_config().limit(256 << 20).read_to_vec().unwrap()
    }

    /// The status of an answer to a request that says it will send so many bytes, and sends none.
    pub(crate) fn announce(&self, path: &str, bytes: usize) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let head = format!("POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {bytes}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).unwrap();
        String::from_utf8_lossy(&status).into_owned()
    }

    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        said(agent().get(format!("http://{}{path}", self.address)).call())
    }

    pub(crate) fn post(&self, path: &str, body: &str) -> (u16, String) {
        said(agent().post(format!("http://{}{path}", self.address)).send(body))
    }
}

fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder().http_status_as_error(false);
    config.timeout_global(Some(Duration::from_secs(60))).build().into()
}

fn said(response: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> (u16, String) {
    let mut response = response.unwrap();
    let body = response.body_mut().with_config().limit(256 << 20).read_to_string().unwrap();
    (response.status().as_u16(), body)
}

/// As a line of `sluice up --json` tells it.
fn address(output: &str) -> Option<SocketAddr> {
    let (_, page) = output.split_once("\"page\":\"http://")?;
    page.split_once('/')?.0.parse().ok()
}

impl Drop for Served {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.pipeline.verify();
        }
    }
}
