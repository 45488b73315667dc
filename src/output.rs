//! What goes to standard output.

use std::io::{self, IsTerminal, Write};

use serde_json::Value;

/// What standard output is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// People.
    Text,
    /// Programs: a JSON object a line.
    Json,
}

impl Form {
    /// JSON where it was asked for.
    pub(crate) fn asked(json: bool) -> Self {
        if json { Self::Json } else { Self::Text }
    }

    /// JSON where it was asked for, or where nobody looks at a terminal.
    pub(crate) fn of_stdout(json: bool) -> Self {
        Self::asked(json || !io::stdout().is_terminal())
    }
}

/// Writes a line at once.
pub(crate) fn line(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

/// Writes a JSON object on a line, at once.
pub(crate) fn json(value: &Value) -> io::Result<()> {
    line(&value.to_string())
}

/// Whether an error is only that standard output was closed, as by `| head`.
pub(crate) fn is_closed(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// A number with thousands apart.
pub(crate) fn count(number: impl TryInto<u64>) -> String {
    indicatif::HumanCount(number.try_into().unwrap_or(0)).to_string()
}

/// Lines of cells, with the columns below each other. The first line is the head.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..columns).map(width).collect();
    let lines = rows.iter().map(|row| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tables_columns_are_below_each_other() {
        let row = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>();
        let table = table(&[row(&["GROUP", "AT"]), row(&["a", "12"]), row(&["indexer", ""])]);
        assert_eq!(table, "GROUP    AT\na        12\nindexer");
    }
}
