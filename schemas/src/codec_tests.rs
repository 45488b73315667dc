use super::*;
use crate::event::{StatusEvent, StatusKind};

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

#[test]
fn an_event_survives_the_way_through_bytes() {
    let codec = Codec::single_object();
    let mut bytes = b"before".to_vec();
    codec.encode(&heartbeat(), &mut bytes).unwrap();
    assert_eq!(codec.decode::<StatusEvent>(&bytes[6..]).unwrap(), heartbeat());
}
