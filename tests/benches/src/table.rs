//! The table, as Markdown.

use std::fmt;

use crate::setting::median;

/// What is to be reached.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// So many times the reference.
    Times(f64),
    /// At most so much.
    AtMost(f64),
}

/// What a value is beside.
#[derive(Clone, Debug)]
pub(crate) struct Reference {
    pub(crate) name: String,
    pub(crate) values: Vec<f64>,
}

/// One line of the table.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) row: &'static str,
    pub(crate) what: String,
    pub(crate) unit: &'static str,
    pub(crate) values: Vec<f64>,
    pub(crate) reference: Option<Reference>,
    pub(crate) target: Option<Target>,
    /// Processor time, microseconds a transaction; and the reference's.
    pub(crate) cpu_us: Vec<f64>,
    pub(crate) reference_cpu_us: Vec<f64>,
    pub(crate) peak_bytes: u64,
}

impl Line {
    pub(crate) fn new(
        row: &'static str,
        what: impl Into<String>,
        unit: &'static str,
        values: Vec<f64>,
    ) -> Self {
        Self {
            row,
            what: what.into(),
            unit,
            values,
            reference: None,
            target: None,
            cpu_us: Vec::new(),
            reference_cpu_us: Vec::new(),
            peak_bytes: 0,
        }
    }

    pub(crate) fn beside(mut self, name: impl Into<String>, values: &[f64]) -> Self {
        self.reference = Some(Reference { name: name.into(), values: values.to_vec() });
        self
    }

    pub(crate) fn target(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = median(&self.values);
        let low = self.values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = self.values.iter().copied().fold(0.0, f64::max);
        write!(f, "| {} | {} | {} {}", self.row, self.what, number(value), self.unit)?;
        match self.values.len() {
            0 | 1 => write!(f, " |")?,
            _ => write!(f, " ({}–{}) |", number(low), number(high))?,
        }
        let ratio = self.reference.as_ref().map(|reference| match (value, median(&reference.values)) {
            // Of times, the shorter is the better.
            (ours, theirs) if self.unit == "ns" => theirs / ours,
            (ours, theirs) => ours / theirs,
        });
        match (&self.reference, ratio) {
            (Some(Reference { name, values }), Some(ratio)) => {
                write!(f, " {name}: {} {} | {} × |", number(median(values)), self.unit, number(ratio))?;
            }
            _ => write!(f, " | |")?,
        }
        match (self.target, ratio) {
            (Some(Target::Times(times)), Some(ratio)) => {
                write!(f, " ≥ {times} × {} |", verdict(ratio >= times))?
            }
            (Some(Target::AtMost(most)), _) => write!(f, " ≤ {} {} |", number(most), verdict(value <= most))?,
            _ => write!(f, " |")?,
        }
        match (self.cpu_us.is_empty(), self.reference_cpu_us.is_empty()) {
            (true, _) => write!(f, " |")?,
            (false, true) => write!(f, " {} |", number(median(&self.cpu_us)))?,
            (false, false) => {
                let (ours, theirs) = (median(&self.cpu_us), median(&self.reference_cpu_us));
                write!(f, " {}; reference {} |", number(ours), number(theirs))?;
            }
        }
        match self.peak_bytes {
            0 => write!(f, " |"),
            bytes => write!(f, " {} MB |", bytes / 1_000_000),
        }
    }
}

fn verdict(reached: bool) -> &'static str {
    if reached { "✓" } else { "✗" }
}

/// Three digits are enough.
fn number(value: f64) -> String {
    match value {
        v if v >= 1e6 => {
            format!("{} {:03} {:03}", v as u64 / 1_000_000, v as u64 / 1000 % 1000, v as u64 % 1000)
        }
        v if v >= 10_000.0 => format!("{} {:03}", v as u64 / 1000, v as u64 % 1000),
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

pub(crate) fn table(lines: &[Line]) -> String {
    let head = "| row | what | ours, median (range) | reference | ratio | target | CPU µs/tx | peak memory |\n\
                |---|---|---|---|---|---|---|---|";
    lines.iter().fold(head.to_owned(), |table, line| format!("{table}\n{line}"))
}
