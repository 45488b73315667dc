use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use super::*;

#[test]
fn secrets_appear_in_no_text() {
    let registry = Registry::new("http://alice:s3cr%65t@127.0.0.1:1/base", Options::default()).unwrap();
    assert_eq!(registry.inner.authorization.as_deref(), Some("Basic YWxpY2U6czNjcmV0"));
    let error = registry.schema(1).unwrap_err();
    for text in [format!("{registry:?}"), error.to_string(), format!("{error:?}"), registry.url().into()] {
        assert!(!text.contains("alice") && !text.contains("s3cr"), "{text}");
        assert!(!text.contains('\n'));
    }
    assert!(error.to_string().starts_with("failed to get schema 1 at http://127.0.0.1:1/base: "), "{error}");
}

#[test]
fn urls_that_cannot_be_used_are_refused() {
    for url in ["", "localhost:8081", "ftp://host/", "http://"] {
        assert!(matches!(Registry::new(url, Options::default()), Err(Error::Url { .. })), "{url}");
    }
    let options = Options { ca_pem: Some(b"none".to_vec()), ..Options::default() };
    assert!(matches!(Registry::new("https://host", options), Err(Error::Url { .. })));
}

#[test]
fn a_base_path_and_odd_subjects_survive() {
    let registry = Registry::new("http://host:80/apis/ccompat/v7/", Options::default()).unwrap();
    let url = registry.call(String::new()).url(&["subjects", "a b/c?d-value", "versions"]).unwrap();
    assert_eq!(url.as_str(), "http://host/apis/ccompat/v7/subjects/a%20b%2Fc%3Fd-value/versions");
}

#[test]
fn foreign_words_are_cut_and_put_on_one_line() {
    assert_eq!(one_line("a\n  b\u{7}\tc"), "a b c");
    assert_eq!(one_line(&"x".repeat(10_000)).chars().count(), MAX_MESSAGE_CHARS + 1);
}

/// A port that answers every request with `answer`, and counts them.
fn port(answer: &'static str) -> (Registry, Arc<AtomicU32>, Arc<Mutex<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://me:pw@{}", listener.local_addr().unwrap());
    let (requests, last) = (Arc::new(AtomicU32::new(0)), Arc::new(Mutex::new(String::new())));
    let (count, text) = (Arc::clone(&requests), Arc::clone(&last));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let n = stream.read(&mut request).unwrap_or(0);
            *text.lock().unwrap() = String::from_utf8_lossy(&request[..n]).into_owned();
            count.fetch_add(1, Ordering::SeqCst);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    (Registry::new(&url, Options::default()).unwrap(), requests, last)
}

#[test]
fn a_registry_that_cannot_just_now_is_asked_a_few_times() {
    for answer in ["", "HTTP/1.1 503 x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"] {
        let (registry, requests, last) = port(answer);
        let error = registry.schema(7).unwrap_err();
        assert_eq!(requests.load(Ordering::SeqCst), MAX_ATTEMPTS, "{error}");
        let request = last.lock().unwrap().to_ascii_lowercase();
        assert!(request.starts_with("get /schemas/ids/7 http/1.1\r\n"), "{request}");
        assert!(request.contains("\r\nauthorization: basic bwu6chc=\r\n"), "{request}");
    }
}

#[test]
fn a_registry_that_refuses_is_asked_once() {
    let (registry, requests, _) = port(concat!(
        "HTTP/1.1 401 x\r\nconnection: close\r\n\r\n",
        r#"{"error_code":40101,"message":"who\n\n  are you?  "}"#,
    ));
    let error = registry.schema(7).unwrap_err().to_string();
    assert!(error.starts_with("failed to get schema 7 at http://127.0.0.1:"), "{error}");
    assert!(error.ends_with(": it answers 401: who are you?"), "{error}");
    assert_eq!(requests.load(Ordering::SeqCst), 1);
}

#[test]
fn what_is_no_registry_is_said_so() {
    let page = "HTTP/1.1 404 x\r\nconnection: close\r\ncontent-length: 6\r\n\r\n<html>";
    let error = port(page).0.schema(7).unwrap_err();
    assert!(matches!(error, Error::Refused { status: 404, .. }), "{error}");
    let page = "HTTP/1.1 200 x\r\nconnection: close\r\ncontent-length: 6\r\n\r\n<html>";
    let error = port(page).0.schema(7).unwrap_err();
    assert!(matches!(error, Error::Answer { .. }), "{error}");
}
