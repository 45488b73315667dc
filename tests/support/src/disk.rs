//! A disk that can be full, or not be written to.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::parts;

/// A small file system in memory. It is unmounted on drop.
#[derive(Debug)]
pub struct Disk(PathBuf);

impl Disk {
    /// Mounts one at a new directory, with options of `mount`. Where that is not allowed, the test is skipped.
    pub fn mount(test: &str, at: &Path, options: &str) -> Option<Self> {
        std::fs::create_dir(at).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(at);
        if !mount.status().is_ok_and(|status| status.success()) {
            parts::skip(test, "only root can mount a small disk");
            return None;
        }
        Some(Self(at.to_owned()))
    }

    /// Changes its size, or whether it can be written to, with options of `mount`.
    pub fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        assert!(Command::new("mount").args(["-o", &options]).arg(&self.0).status().unwrap().success());
    }

    /// Fills it to the last byte, until the file that is named is removed.
    pub fn fill(&self) -> PathBuf {
        let path = self.0.join("filler");
        let mut file = std::fs::File::create(&path).unwrap();
        let error = std::io::copy(&mut std::io::repeat(0x5a), &mut file).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
        path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a test that failed may still have files open.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
