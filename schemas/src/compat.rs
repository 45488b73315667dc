//! Whether a schema works with another one both ways, as FULL_TRANSITIVE asks for.
//!
//! Avro's own rules are checked by apache-avro's `SchemaCompatibility`. It is stricter than Avro in one place: a symbol
//! that the reader's enum does not have is refused even where that enum has a default, so such symbols are left out
//! before it is asked. And these rules, which it misses or which Avro does not have, are checked here:
//! 1. The schema is one record, not a union, and keeps its full name (of a definition, only the last part of the name is compared there).
//! 2. The type of a released field does not change at all, though it may be a named type that evolves inside. Avro reads
//!    `bytes` as `string` and `long` as `timestamp-millis` both ways; the readers of our topics would not.
//! 3. A released default, of a field or of an enum, stays: a change would alter what old events say.
//! 4. There are no aliases: most readers do not know them.
//! 5. A type that several topics share is the same in each, so that generated code can share it as well.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use apache_avro::Schema;
use apache_avro::schema_compatibility::SchemaCompatibility;
use serde_json::Value;

use crate::event::EventKind;

/// Something that a released reader or writer could not live with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incompatibility {
    /// Kind of event whose current schema is at fault.
    pub kind: EventKind,
    /// Against what: a released version, or another record of the current contract.
    pub against: String,
    /// What is wrong, one line.
    pub reason: String,
}

impl fmt::Display for Incompatibility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} against {}: {}", self.kind.record_name(), self.against, self.reason)
    }
}

/// Checks the current schema of a kind against all of its released versions, and against the other current schemas.
pub fn check_kind(kind: EventKind) -> Vec<Incompatibility> {
    let released = kind
        .released()
        .iter()
        .flat_map(|released| tagged(kind, released.version, reasons(kind.schema(), released.schema)));
    let shared = EventKind::ALL
        .into_iter()
        .filter(|other| *other < kind)
        .flat_map(|other| tagged(kind, other.record_name(), shared_reasons(kind.schema(), other.schema())));
    released.chain(shared).collect()
}

fn tagged(kind: EventKind, against: &str, reasons: Vec<String>) -> Vec<Incompatibility> {
    reasons.into_iter().map(|reason| Incompatibility { kind, against: against.to_owned(), reason }).collect()
}

/// Why `current` could not replace `released`; empty where it can.
pub fn reasons(current: &str, released: &str) -> Vec<String> {
    let (new, old) = match (Contract::parse(current), Contract::parse(released)) {
        (Ok(new), Ok(old)) => (new, old),
        (Err(reason), _) => return vec![format!("the current schema {reason}")],
        (_, Err(reason)) => return vec![format!("the released schema {reason}")],
    };
    let mut reasons = Vec::new();
    for (writer, reader, who) in
        [(&old, &new, "cannot read released events"), (&new, &old, "cannot be read by released readers")]
    {
        if let Err(reason) = can_read(&writer.json, &reader.json) {
            reasons.push(format!("{who}: {reason}"));
        }
    }
    if new.root != old.root {
        reasons.push(format!("the record {} was called {}", new.root, old.root));
    }
    for alias in &new.aliases {
        reasons.push(format!("{alias} has aliases, which most readers do not know"));
    }
    for (name, old_type) in &old.types {
        if let Some(new_type) = new.types.get(name) {
            kept(name, new_type, old_type, &mut reasons);
        }
    }
    reasons
}

/// Rules 2 and 3 on one named type.
fn kept(name: &str, new: &Named, old: &Named, reasons: &mut Vec<String>) {
    for (field, old) in &old.fields {
        let Some(new) = new.fields.get(field) else { continue };
        if new.type_ != old.type_ {
            reasons.push(format!("{name}.{field} was {} and is {}", old.type_, new.type_));
        }
        if old.default.is_some() && new.default != old.default {
            reasons.push(format!("{name}.{field} has another default"));
        }
    }
    if old.symbol_default.is_some() && new.symbol_default != old.symbol_default {
        reasons.push(format!("enum {name} has another default"));
    }
}

/// Rule 5: types of the same name that differ.
fn shared_reasons(one: &str, other: &str) -> Vec<String> {
    match (Contract::parse(one), Contract::parse(other)) {
        (Ok(one), Ok(other)) => one
            .types
            .iter()
            .filter(|(name, named)| other.types.get(*name).is_some_and(|same| same != *named))
            .map(|(name, _)| format!("{name} differs"))
            .collect(),
        (Err(reason), _) | (_, Err(reason)) => vec![format!("a schema {reason}")],
    }
}

/// Avro's rules, by apache-avro.
fn can_read(writer: &Value, reader: &Value) -> Result<(), String> {
    let mut enums = BTreeMap::new();
    defaulted_enums(reader, &mut enums);
    let mut writer = writer.clone();
    leave_out(&mut writer, &enums);
    let parse = |schema: &Value| Schema::parse(schema).map_err(|e| format!("it does not parse: {e}"));
    SchemaCompatibility::can_read(&parse(&writer)?, &parse(reader)?)
        .map_err(|e| format!("{e:?}").split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Symbols of the enums that have a default, by name.
fn defaulted_enums(schema: &Value, enums: &mut BTreeMap<String, BTreeSet<String>>) {
    if let (Some("enum"), Some(name), Some(_), Some(symbols)) = (
        schema["type"].as_str(),
        schema["name"].as_str(),
        schema["default"].as_str(),
        schema["symbols"].as_array(),
    ) {
        let symbols = symbols.iter().filter_map(|symbol| symbol.as_str().map(str::to_owned)).collect();
        enums.insert(name.to_owned(), symbols);
    }
    for part in parts(schema) {
        defaulted_enums(part, enums);
    }
}

/// Leaves out the symbols that a reader takes for its default.
fn leave_out(schema: &mut Value, enums: &BTreeMap<String, BTreeSet<String>>) {
    if schema["type"] == "enum"
        && let Some(known) = schema["name"].as_str().and_then(|name| enums.get(name)).cloned()
        && let Some(symbols) = schema.get_mut("symbols").and_then(Value::as_array_mut)
    {
        symbols.retain(|symbol| symbol.as_str().is_some_and(|symbol| known.contains(symbol)));
        if let Some(object) = schema.as_object_mut() {
            object.remove("default");
        }
    }
    match schema {
        Value::Array(items) => items.iter_mut().for_each(|item| leave_out(item, enums)),
        Value::Object(object) => object
            .iter_mut()
            .filter(|(key, _)| PARTS.contains(&key.as_str()))
            .for_each(|(_, value)| leave_out(value, enums)),
        _ => {}
    }
}

/// Attributes of a schema that hold schemas.
const PARTS: [&str; 4] = ["type", "fields", "items", "values"];

fn parts(schema: &Value) -> Vec<&Value> {
    match schema {
        Value::Array(items) => items.iter().collect(),
        Value::Object(object) => PARTS.iter().filter_map(|part| object.get(*part)).collect(),
        _ => Vec::new(),
    }
}

/// A schema, its named types laid side by side.
struct Contract {
    json: Value,
    root: String,
    types: BTreeMap<String, Named>,
    aliases: Vec<String>,
}

/// A record, enum or fixed.
#[derive(Default, PartialEq, Eq)]
struct Named {
    fields: BTreeMap<String, Field>,
    symbols: Vec<String>,
    symbol_default: Option<Value>,
    size: Option<u64>,
}

#[derive(PartialEq, Eq)]
struct Field {
    type_: String,
    default: Option<Value>,
}

impl Contract {
    fn parse(text: &str) -> Result<Self, String> {
        Schema::parse_str(text).map_err(|e| format!("does not parse: {e}"))?;
        let json: Value = serde_json::from_str(text).map_err(|e| format!("is not JSON: {e}"))?;
        if json["type"] != "record" {
            return Err("is not a record".to_owned());
        }
        let mut contract = Self { root: String::new(), types: BTreeMap::new(), aliases: Vec::new(), json };
        let json = contract.json.clone();
        contract.root = contract.describe(&json, "");
        Ok(contract)
    }

    /// The type in one word, named types by full name; these are laid aside.
    fn describe(&mut self, schema: &Value, namespace: &str) -> String {
        let full_name = |name: &str, namespace: &str| match name.contains('.') || namespace.is_empty() {
            true => name.to_owned(),
            false => format!("{namespace}.{name}"),
        };
        match schema {
            Value::String(name) if PRIMITIVES.contains(&name.as_str()) => name.clone(),
            Value::String(name) => full_name(name, namespace),
            Value::Array(branches) => {
                let branches: Vec<_> = branches.iter().map(|b| self.describe(b, namespace)).collect();
                format!("[{}]", branches.join(", "))
            }
            Value::Object(object) => match (schema["type"].as_str(), schema["name"].as_str()) {
                (Some("array"), _) => format!("array of {}", self.describe(&schema["items"], namespace)),
                (Some("map"), _) => format!("map of {}", self.describe(&schema["values"], namespace)),
                (Some("record" | "enum" | "fixed"), Some(name)) => {
                    let namespace = schema["namespace"].as_str().unwrap_or(namespace);
                    let name = full_name(name, namespace);
                    let namespace = name.rsplit_once('.').map_or("", |(namespace, _)| namespace).to_owned();
                    if object.contains_key("aliases") {
                        self.aliases.push(name.clone());
                    }
                    let named = self.named(&name, schema, &namespace);
                    self.types.insert(name.clone(), named);
                    name
                }
                (Some(physical), _) => match schema["logicalType"].as_str() {
                    Some(logical) => format!("{physical} ({logical})"),
                    None => physical.to_owned(),
                },
                (None, _) => self.describe(&schema["type"], namespace),
            },
            other => other.to_string(),
        }
    }

    fn named(&mut self, name: &str, schema: &Value, namespace: &str) -> Named {
        let mut named = Named { size: schema["size"].as_u64(), ..Named::default() };
        if schema["type"] == "enum" {
            named.symbol_default = schema.get("default").cloned();
        }
        let list = |part: &str| schema[part].as_array().map(Vec::as_slice).unwrap_or_default();
        named.symbols = list("symbols").iter().filter_map(|s| s.as_str().map(str::to_owned)).collect();
        for field in list("fields") {
            let field_name = field["name"].as_str().unwrap_or_default().to_owned();
            if field.get("aliases").is_some() {
                self.aliases.push(format!("{name}.{field_name}"));
            }
            let type_ = self.describe(&field["type"], namespace);
            named.fields.insert(field_name, Field { type_, default: field.get("default").cloned() });
        }
        named
    }
}

const PRIMITIVES: [&str; 8] = ["null", "boolean", "int", "long", "float", "double", "bytes", "string"];

#[cfg(test)]
#[path = "compat_tests.rs"]
mod tests;
