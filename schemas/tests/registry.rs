//! Against a real schema registry (Apicurio, by `tests/parts/run-registry.sh`). Where it cannot be started the tests say so
//! and pass, except in CI.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use apache_avro::types::Value;
use apache_avro::{Schema, to_avro_datum, to_value};
use serde_json::json;
use sluice_schemas::registry::{Error, Options, Verdict, subject};
use sluice_schemas::{
    ChainEvent, Codec, EventKind, Registry, StatusEvent, StatusKind, Topics, codec, publish,
};
use tempfile::TempDir;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/parts/run-registry.sh");

/// A running registry, shared by the tests that run at the same time; the last one stops it.
struct Running {
    folder: TempDir,
    url: String,
}

impl Running {
    fn start() -> Result<Arc<Self>, String> {
        static SHARED: Mutex<Weak<Running>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = shared.upgrade() {
            return Ok(running);
        }
        let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let output = Command::new("bash")
            .args([SCRIPT, "start"])
            .arg(folder.path())
            .env("REGISTRY_PORT", port.to_string())
            .output()
            .map_err(|e| e.to_string())?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        let url = String::from_utf8(output.stdout).unwrap().trim().to_owned();
        let running = Arc::new(Self { folder, url });
        *shared = Arc::downgrade(&running);
        Ok(running)
    }

    fn client(&self) -> Registry {
        Registry::new(&self.url, Options::default()).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = Command::new("bash").args([SCRIPT, "stop"]).arg(self.folder.path()).status();
    }
}

/// The registry, or `None` where the test cannot run here.
fn running() -> Option<Arc<Running>> {
    let started =
        if Path::new(SCRIPT).exists() { Running::start() } else { Err(format!("{SCRIPT} is missing")) };
    match started {
        Ok(running) => Some(running),
        Err(reason) if std::env::var_os("CI").is_some() => panic!("no schema registry: {reason}"),
        Err(reason) => {
            eprintln!("SKIPPED, no schema registry: {reason}");
            None
        }
    }
}

fn heartbeat() -> StatusEvent {
    StatusEvent {
        kind: StatusKind::Heartbeat,
        source: "simulator:7".into(),
        epoch: 3,
        tip_hash: None,
        tip_height: Some(5),
        chain_sequence: 5,
        source_height: Some(6),
        feed: None,
        from: None,
        to: None,
        recovered: None,
        detail: String::new(),
        observed_at: 1_700_000_000_000,
    }
}

/// The status schema with one more field and one more kind.
fn later_status() -> String {
    let mut schema: serde_json::Value = serde_json::from_str(EventKind::Status.schema()).unwrap();
    let fields = schema["fields"].as_array_mut().unwrap();
    fields.push(json!({ "name": "peers", "type": "int", "default": 0, "doc": "Number of peers." }));
    fields[0]["type"]["symbols"].as_array_mut().unwrap().push(json!("PAUSED"));
    schema.to_string()
}

#[test]
fn schemas_are_published_once_and_guarded() {
    let Some(running) = running() else { return };
    let (registry, topics) = (running.client(), Topics::new("publish.test"));
    let first = publish(&registry, &topics).unwrap();
    assert_eq!(first.iter().map(|p| p.kind).collect::<Vec<_>>(), EventKind::ALL);
    assert!(first.iter().all(|p| p.new));
    let second = publish(&registry, &topics).unwrap();
    assert!(second.iter().all(|p| !p.new));
    for (first, second) in first.iter().zip(&second) {
        assert_eq!((first.id, &first.subject), (second.id, &second.subject));
        assert_eq!(first.subject, format!("{}-value", topics.name(first.kind)));
        assert_eq!(registry.compatibility(&first.subject).unwrap().as_deref(), Some("FULL_TRANSITIVE"));
        let held: serde_json::Value =
            serde_json::from_str(&registry.schema(first.id).unwrap().unwrap()).unwrap();
        assert_eq!(held, serde_json::from_str::<serde_json::Value>(first.kind.schema()).unwrap());
    }
}

#[test]
fn an_incompatible_schema_is_refused() {
    let Some(running) = running() else { return };
    let (registry, topics) = (running.client(), Topics::new("refuse.test"));
    publish(&registry, &topics).unwrap();
    let subject = subject(&topics.status);
    let mut schema: serde_json::Value = serde_json::from_str(EventKind::Status.schema()).unwrap();
    schema["fields"].as_array_mut().unwrap().retain(|field| field["name"] != "epoch");
    let schema = schema.to_string();
    let Verdict::Incompatible { reasons } = registry.check(&subject, &schema).unwrap() else {
        panic!("a field without default was removed")
    };
    assert!(!reasons.contains('\n'));
    let error = registry.register(&subject, &schema).unwrap_err();
    assert!(matches!(error, Error::Incompatible { .. }), "{error}");
    assert!(!error.to_string().contains('\n'), "{error}");
    assert_eq!(registry.check(&subject, &later_status()).unwrap(), Verdict::Compatible);
    assert_eq!(registry.check("none.such-value", &schema).unwrap(), Verdict::NewSubject);
    assert_eq!(registry.lookup("none.such-value", &schema).unwrap(), None);
}

#[test]
fn events_carry_the_id_of_their_schema() {
    let Some(running) = running() else { return };
    let (registry, topics) = (running.client(), Topics::new("codec.test"));
    let codec = Codec::with_registry(registry.clone(), &topics).unwrap();
    let mut bytes = Vec::new();
    codec.encode(&heartbeat(), &mut bytes);
    let id = registry.lookup(&subject(&topics.status), EventKind::Status.schema()).unwrap().unwrap();
    assert_eq!((bytes[0], &bytes[1..5]), (0, id.to_be_bytes().as_slice()));
    assert_eq!(codec.decode::<StatusEvent>(&bytes).unwrap(), heartbeat());

    let mut single = Vec::new();
    Codec::single_object().encode(&heartbeat(), &mut single);
    assert_eq!(bytes[5..], single[10..], "the datum is the same");
    assert_eq!(codec.decode::<StatusEvent>(&single).unwrap(), heartbeat(), "both framings are read");

    let error = Codec::single_object().decode::<StatusEvent>(&bytes).unwrap_err();
    assert!(matches!(error, codec::Error::UnknownSchema { .. }), "{error}");
    let error = codec.decode::<ChainEvent>(&bytes).unwrap_err();
    assert!(matches!(error, codec::Error::UnusableSchema { .. }), "{error}");
    let error = codec.decode::<StatusEvent>(&[0, 0x7f, 0xff, 0xff, 0xfe]).unwrap_err();
    assert_eq!(error.to_string(), "unknown schema registry id 2147483646");
}

#[test]
fn a_later_writer_is_understood_by_its_id() {
    let Some(running) = running() else { return };
    let (registry, topics) = (running.client(), Topics::new("later.test"));
    let codec = Codec::with_registry(registry.clone(), &topics).unwrap();
    let id = registry.register(&subject(&topics.status), &later_status()).unwrap();
    let schema = Schema::parse_str(&later_status()).unwrap();
    let Value::Record(mut fields) = to_value(heartbeat()).unwrap() else { panic!("a record") };
    fields.push(("peers".into(), Value::Int(8)));
    fields[0].1 = Value::String("PAUSED".into());
    let datum = to_avro_datum(&schema, Value::Record(fields).resolve(&schema).unwrap()).unwrap();
    let bytes = [&[0][..], &id.to_be_bytes(), &datum].concat();
    assert_eq!(codec.decode::<StatusEvent>(&bytes).unwrap(), heartbeat());
    // A start beside the later version finds its own again.
    let again = Codec::with_registry(registry, &topics).unwrap();
    assert_eq!(again.decode::<StatusEvent>(&bytes).unwrap(), heartbeat());
}
