use serde_json::json;

use super::*;
use crate::event::EventKind;

fn edited(kind: EventKind, edit: impl FnOnce(&mut Value)) -> String {
    let mut schema: Value = serde_json::from_str(kind.schema()).unwrap();
    edit(&mut schema);
    schema.to_string()
}

fn field<'a>(schema: &'a mut Value, name: &str) -> &'a mut Value {
    schema["fields"].as_array_mut().unwrap().iter_mut().find(|field| field["name"] == name).unwrap()
}

fn without(schema: &mut Value, name: &str) {
    schema["fields"].as_array_mut().unwrap().retain(|field| field["name"] != name);
}

fn add(schema: &mut Value, field: Value) {
    schema["fields"].as_array_mut().unwrap().push(field);
}

/// Asserts that a change is refused, and for which reason.
fn refused(kind: EventKind, edit: impl FnOnce(&mut Value), why: &str) {
    let changed = edited(kind, edit);
    let reasons = reasons(&changed, kind.schema());
    assert!(reasons.iter().any(|reason| reason.contains(why)), "{why:?} is not in {reasons:?}");
}

fn allowed(kind: EventKind, edit: impl FnOnce(&mut Value)) {
    let changed = edited(kind, edit);
    assert_eq!(reasons(&changed, kind.schema()), Vec::<String>::new());
}

/// What apache-avro alone says of the same change.
fn passes_apache_avro(kind: EventKind, edit: impl FnOnce(&mut Value)) -> bool {
    let changed = Schema::parse_str(&edited(kind, edit)).unwrap();
    let released = Schema::parse_str(kind.schema()).unwrap();
    SchemaCompatibility::mutual_read(&changed, &released).is_ok()
}

#[test]
fn the_current_schemas_live_with_every_release() {
    assert_eq!(crate::check(), Ok(()));
}

#[test]
fn a_field_without_default_cannot_be_removed() {
    refused(EventKind::Chain, |s| without(s, "tx_count"), "cannot be read by released readers");
    refused(
        EventKind::Transaction,
        |s| without(&mut field(s, "transaction")["type"], "version"),
        "cannot be read by released readers",
    );
}

#[test]
fn a_field_without_default_cannot_be_added() {
    let more = json!({ "name": "more", "type": "long" });
    refused(EventKind::Chain, |s| add(s, more.clone()), "cannot read released events");
    refused(
        EventKind::Mempool,
        |s| add(&mut field(s, "transaction")["type"][1], more),
        "cannot read released events",
    );
}

#[test]
fn a_type_cannot_change() {
    refused(
        EventKind::Chain,
        |s| field(s, "height")["type"] = json!("string"),
        "cannot read released events",
    );
    // Avro promotes int to long, but not back.
    refused(EventKind::Chain, |s| field(s, "height")["type"] = json!("long"), "cannot be read by released");
    refused(
        EventKind::Chain,
        |s| field(s, "header")["type"]["size"] = json!(81),
        "cannot read released events",
    );
}

#[test]
fn an_enum_symbol_cannot_be_renamed() {
    refused(
        EventKind::Chain,
        |s| field(s, "action")["type"]["symbols"][1] = json!("UNDONE"),
        "cannot read released events",
    );
}

#[test]
fn a_symbol_can_be_added_only_where_readers_have_a_default() {
    let add = |s: &mut Value, name: &str| {
        field(s, name)["type"]["symbols"].as_array_mut().unwrap().push(json!("MORE"));
    };
    refused(EventKind::Chain, |s| add(s, "action"), "cannot be read by released readers");
    allowed(EventKind::Status, |s| add(s, "kind"));
    assert!(!passes_apache_avro(EventKind::Status, |s| add(s, "kind")), "it has come to know enum defaults");
}

#[test]
fn fields_with_a_default_come_and_go() {
    allowed(EventKind::Chain, |s| add(s, json!({ "name": "more", "type": "long", "default": 0 })));
    allowed(EventKind::Chain, |s| without(s, "weight"));
    allowed(EventKind::Chain, |s| field(s, "height")["doc"] = json!("Other words."));
}

/// The rules that apache-avro does not have.
#[test]
fn changes_that_avro_lives_with_but_our_readers_do_not_are_refused() {
    type Edit = fn(&mut Value);
    let cases: [(EventKind, Edit, &str); 5] = [
        (
            EventKind::Status,
            |s| field(s, "detail")["type"] = json!("bytes"),
            "detail was string and is bytes",
        ),
        (
            EventKind::Chain,
            |s| field(s, "time")["type"] = json!("long"),
            "time was long (timestamp-millis) and is long",
        ),
        (
            EventKind::Status,
            |s| field(s, "kind")["type"]["default"] = json!("REORG"),
            "enum chainsluice.v1.StatusKind has another default",
        ),
        (
            EventKind::Chain,
            |s| {
                field(s, "weight")["type"] = json!(["long", "null"]);
                field(s, "weight")["default"] = json!(0);
            },
            "weight has another default",
        ),
        (EventKind::Chain, |s| field(s, "size")["aliases"] = json!(["bytes"]), "ChainEvent.size has aliases"),
    ];
    for (kind, edit, why) in cases {
        refused(kind, edit, why);
        assert!(passes_apache_avro(kind, edit), "apache-avro finds by itself: {why}");
    }
}

#[test]
fn a_record_keeps_its_full_name() {
    refused(
        EventKind::Chain,
        |s| s["namespace"] = json!("chainsluice.v2"),
        "the record chainsluice.v2.ChainEvent was called chainsluice.v1.ChainEvent",
    );
}

#[test]
fn what_is_no_record_is_refused() {
    let released = EventKind::Chain.schema();
    assert_eq!(reasons(&format!("[\"null\", {released}]"), released), ["the current schema is not a record"]);
    assert!(reasons("nonsense", released)[0].contains("does not parse"));
}

#[test]
fn a_type_shared_by_two_topics_is_the_same_in_both() {
    let drifted = edited(EventKind::Mempool, |s| {
        add(
            &mut field(s, "transaction")["type"][1],
            json!({ "name": "more", "type": ["null", "long"], "default": null }),
        );
    });
    let reasons = shared_reasons(&drifted, EventKind::Transaction.schema());
    assert_eq!(reasons, ["chainsluice.v1.Transaction differs"]);
}

/// To the letter, docs included: generated classes of the same name are then the same.
#[test]
fn the_nested_transaction_reads_the_same_in_both_schemas() {
    let mut confirmed: Value = serde_json::from_str(EventKind::Transaction.schema()).unwrap();
    let mut unconfirmed: Value = serde_json::from_str(EventKind::Mempool.schema()).unwrap();
    assert_eq!(
        field(&mut confirmed, "transaction")["type"],
        field(&mut unconfirmed, "transaction")["type"][1]
    );
}
