//! The log in SQLite: the laws of every log, and what only a file can suffer.

mod conformance;

use conformance::Fixture;
use tempfile::TempDir;

/// A log in a folder of its own.
struct Sqlite {
    folder: TempDir,
}

impl Sqlite {
    fn new(_law: &str) -> Option<Self> {
        Some(Self { folder: tempfile::tempdir().unwrap() })
    }
}

impl Fixture for Sqlite {
    fn url(&self) -> String {
        format!("sqlite:{}", self.folder.path().join("log.db").display())
    }

    fn name(&self, base: &str) -> String {
        base.to_owned()
    }
}

conformance::laws!(Sqlite::new);
