//! Directories of one test.

use std::path::{Path, PathBuf};

use crate::parts::setting;

/// A directory that goes with the test, except when it failed and `SLUICE_TEST_KEEP` is set.
#[derive(Debug)]
pub struct Dir(Option<tempfile::TempDir>);

impl Dir {
    /// A new one, under `SLUICE_TEST_TMP` where that is set: `tests/run` looks there for processes left over.
    pub fn new(name: &str) -> Self {
        let base = setting("SLUICE_TEST_TMP").map_or_else(std::env::temp_dir, PathBuf::from);
        Self(Some(tempfile::Builder::new().prefix(&format!("{name}-")).tempdir_in(base).unwrap()))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        self.0.as_ref().expect("it is there until drop").path()
    }

    /// A path in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        if std::thread::panicking() && setting("SLUICE_TEST_KEEP").is_some() {
            let kept = self.0.take().expect("it is there until drop").keep();
            eprintln!("kept {}", kept.display());
        }
    }
}
