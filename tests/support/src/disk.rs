//! A disk that can be full.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A small file system in memory. It is unmounted on drop.
#[derive(Debug)]
pub struct Disk(PathBuf);

impl Disk {
    /// Mounts one at a directory, with options of `mount`. `None` where that is not allowed: only root may.
    pub fn mount(at: &Path, options: &str) -> Option<Self> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(at);
        mount.status().is_ok_and(|status| status.success()).then(|| Self(at.to_owned()))
    }

    /// Changes its size, with options of `mount`.
    pub fn resize(&self, options: &str) {
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
