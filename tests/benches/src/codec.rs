//! The codec's own benchmark, beside apache-avro.

use std::process::Command;

use crate::setting::Setting;
use crate::table::Line;

pub(crate) fn row(_: &mut Setting) -> Vec<Line> {
    let mut command = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
    command.args(["bench", "--quiet", "-p", "sluice-schemas", "--bench", "codec", "--", "transaction/"]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    let of = |name: &str| vec![nanoseconds(&said, name).unwrap_or_else(|| panic!("no {name} in\n{said}"))];
    let pair = |what: &str, ours: &str, theirs: &str| {
        Line::new("codec", what, "ns", of(ours)).beside(theirs, &of(theirs))
    };
    vec![
        pair("encode a transaction event", "encode/ours", "encode/apache-avro, by serde"),
        pair("decode a transaction event", "decode/ours", "decode/apache-avro"),
        Line::new("codec", "rebuild the raw transaction", "ns", of("rebuild raw")),
    ]
}

/// The middle of criterion's `time: [low middle high]` after a benchmark's name.
fn nanoseconds(said: &str, name: &str) -> Option<f64> {
    let after = &said[said.find(&format!("transaction/{name}"))?..];
    let times = after[after.find("time:")?..].split(['[', ']']).nth(1)?;
    let parts: Vec<&str> = times.split(' ').collect();
    let unit = match *parts.get(3)? {
        "ns" => 1.0,
        "µs" => 1e3,
        "ms" => 1e6,
        _ => return None,
    };
    Some(parts.get(2)?.parse::<f64>().ok()? * unit)
}
