//! The log on one machine: SQLite.
use super::*;
/// A log in a SQLite database.
pub struct SqliteLog;
impl SqliteLog {
    /// Opens or creates the log at `path`.
    pub fn open(path: &str) -> Result<Self> {
        let _ = path;
        unimplemented!()
    }
}
