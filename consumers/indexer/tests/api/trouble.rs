//! Clients that keep the server waiting, and disks that fail beneath it.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use sluice_consumer_testkit::{Script, chain, pay, project};
use sluice_indexer::api::{Limits, Node};
use sluice_indexer::{Error, Projector, Settings};
use sluice_runtime::node::{Credentials, NodeAddress};

use crate::server::Server;

/// Far longer than a server with little patience waits: who is still waiting then was not cut off.
const FOREVER: Duration = Duration::from_secs(60);

fn impatient() -> Limits {
    Limits { client: Duration::from_millis(100), ..Limits::default() }
}

/// A node that need not be there: nothing is sent to it.
fn node() -> Node {
    let credentials = Credentials::UserPassword { user: "user".into(), password: "password".into() };
    Node::new(NodeAddress { url: "http://127.0.0.1:1".parse().unwrap(), credentials })
}

/// All that comes after a request that is never finished, until the server ends the connection.
fn answer_to(server: &Server, part: &str) -> String {
    let mut socket = TcpStream::connect(server.address()).unwrap();
    socket.set_read_timeout(Some(FOREVER)).unwrap();
    socket.write_all(part.as_bytes()).unwrap();
    let mut answer = String::new();
    match socket.read_to_string(&mut answer) {
        Ok(_) => answer,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => answer,
        Err(error) => panic!("{part:?} is still waited for: {error}"),
    }
}

#[test]
fn a_client_that_does_not_finish_the_head_of_its_request_is_cut_off() {
    let server = Server::with(&chain(), impatient());
    for part in ["", "GET", "GET /blocks HTTP/1.1\r\nHost: here\r\nX-Slow: "] {
        let answer = answer_to(&server, part);
        assert!(!answer.starts_with("HTTP/1.1 2"), "{part:?}: {answer}");
    }
    // After an answer no longer than before it.
    let answer = answer_to(&server, "GET /blocks/tip/height HTTP/1.1\r\nHost: here\r\n\r\nGET /bl");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\n0"), "{answer}");
    assert_eq!(server.text("/blocks/tip/height"), "0");
}

#[test]
fn a_client_that_does_not_finish_the_body_of_its_request_is_told_so_and_gives_up_its_place() {
    let limits = Limits { posts: 1, ..impatient() };
    let server = Server::before(Some(node()), &chain(), limits);
    for path in ["/tx", "/txs/package"] {
        let head = format!("POST {path} HTTP/1.1\r\nHost: here\r\nContent-Length: 1000\r\n\r\n00");
        let answer = answer_to(&server, &head);
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
        assert!(
            answer.contains("content-type: text/plain") && answer.ends_with("did not arrive"),
            "{answer}"
        );
    }
    let refused = server.post("/tx", b"no digits");
    assert_eq!((refused.status, refused.text().as_str()), (400, "Invalid hex string"));
}

fn payments() -> Script {
    chain().mined_by("alice", []).block([pay("alice", "bob", 500_000)]).blocks(2)
}

/// What is asked of an index whose files are not what they were.
fn asked(server: &Server) -> Vec<String> {
    let tip = server.text("/blocks/tip/hash");
    let paid = server.text(&format!("/block/{}/txid/1", server.text("/block-height/2")));
    let mut paths: Vec<_> = ["", "/txids", "/raw", "/txs"].map(|part| format!("/block/{tip}{part}")).into();
    paths.extend(["", "/hex", "/raw", "/outspends", "/journey"].map(|part| format!("/tx/{paid}{part}")));
    paths.extend(["/blocks", "/mempool"].map(str::to_owned));
    paths
}

/// Everything is answered, or refused in words that a client may read.
fn copes(server: &Server, paths: &[String]) {
    for path in paths {
        let answer = server.get(path);
        match answer.status {
            200 => {}
            500 => {
                assert_eq!(answer.text(), "Internal error", "{path}");
                assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"), "{path}");
                assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
            }
            status => panic!("{path}: {status} {}", answer.text()),
        }
    }
}

/// How a file is replaced.
#[derive(Clone, Copy, Debug)]
enum Replacement {
    /// By another with its name; who has the first one open keeps it.
    Renamed,
    /// By other bytes in it.
    Overwritten,
}

/// Puts the log of another chain where the log of a server is.
fn replace_log(server: &Server, by: &Script, how: Replacement) -> PathBuf {
    let other = by.build();
    let (log, _) = server.files();
    let beside = |path: &std::path::Path, end: &str| PathBuf::from(format!("{}{end}", path.display()));
    let from = PathBuf::from(other.url().strip_prefix("sqlite:").unwrap());
    for end in ["-wal", "-shm", ""] {
        if matches!(how, Replacement::Renamed) {
            let _ = fs::remove_file(beside(&log, end));
        }
        if fs::exists(beside(&from, end)).unwrap() {
            fs::copy(beside(&from, end), beside(&log, end)).unwrap();
        }
    }
    log
}

#[test]
fn a_log_replaced_by_another_beneath_the_index_is_refused_in_words_and_never_believed() {
    let other = chain().mined_by("carol", []).block([pay("carol", "dave", 1)]).blocks(9);
    for how in [Replacement::Renamed, Replacement::Overwritten] {
        let server = Server::of(&payments());
        let paths = asked(&server);
        let before: Vec<_> = paths.iter().map(|path| server.text(path)).collect();
        let log = replace_log(&server, &other, how);
        copes(&server, &paths);
        // What is told is still of the chain that was indexed.
        for (path, told) in paths.iter().zip(before) {
            let answer = server.get(path);
            assert!(answer.status == 500 || answer.text() == told, "{how:?} {path}: {}", answer.text());
        }
        // After a restart the index stops, and says why.
        let refused = server.reopened(&log);
        assert!(refused.contains("the log was replaced"), "{how:?}: {refused}");
    }
}

#[test]
fn what_is_open_is_served_on_though_its_files_are_removed() {
    let server = Server::of(&payments());
    let paths = asked(&server);
    let (log, index) = server.files();
    fs::remove_dir_all(log.parent().unwrap()).unwrap();
    fs::remove_dir_all(index).unwrap();
    for path in &paths {
        assert_eq!(server.get(path).status, 200, "{path}");
    }
}

#[test]
fn an_index_that_cannot_be_opened_says_where_it_is() {
    let log = payments().build();
    let folder = tempfile::tempdir().unwrap();
    let open = |path: &std::path::Path| match Projector::open(log.chain.clone(), path, Settings::default()) {
        Err(error) => error,
        Ok(_) => panic!("{} was opened", path.display()),
    };
    let file = folder.path().join("file");
    fs::write(&file, "no directory").unwrap();
    let directory = folder.path().join("index");
    let mut projector = Projector::open(log.chain.clone(), &directory, Settings::default()).unwrap();
    project(&log.chain, &mut projector).unwrap();
    for (path, words) in [(&file, "file"), (&directory, "another process has it open")] {
        let error = open(path);
        assert!(matches!(error, Error::Open { .. }), "{error:?}");
        let line = format!("{:#}", anyhow::Error::from(error));
        assert!(line.contains(words), "{line}");
    }
}
