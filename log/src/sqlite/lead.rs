//! Leadership: an advisory file lock, which the operating system takes back when a process dies.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::fault::fatal;
use crate::{Candidate, Result};

/// How often the lock is tried; there is no way to wait for it with a timeout.
const TRY_INTERVAL: Duration = Duration::from_millis(25);

pub(super) struct LockCandidate {
    path: PathBuf,
    file: File,
    leads: bool,
}

impl LockCandidate {
    pub(super) fn open(path: &Path) -> Result<Self> {
        // The file is never deleted: two processes could hold locks on two files of one name.
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path);
        let file =
            file.map_err(|error| fatal(format!("open the lock {}", path.display()), error.to_string()))?;
        Ok(Self { path: path.to_owned(), file, leads: false })
    }

    fn try_lock(&mut self) -> Result<bool> {
        match self.file.try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => {
                Err(fatal(format!("lock {}", self.path.display()), error.to_string()))
            }
        }
    }
}

impl Candidate for LockCandidate {
    fn leads(&mut self, wait: Duration) -> Result<bool> {
        let until = Instant::now().checked_add(wait);
        while !self.leads {
            self.leads = self.try_lock()?;
            let left = until.map_or(TRY_INTERVAL, |until| until.saturating_duration_since(Instant::now()));
            if self.leads || left.is_zero() {
                break;
            }
            std::thread::sleep(left.min(TRY_INTERVAL));
        }
        Ok(self.leads)
    }
}

/// File name of a role: what is not a letter, digit, dot or hyphen is written as its code.
pub(super) fn file_suffix(role: &str) -> String {
    let mut suffix = String::from("-");
    for c in role.chars() {
        match c {
            c if c.is_ascii_alphanumeric() || c == '.' || c == '-' => suffix.push(c),
            c => suffix.push_str(&format!("_{:x}_", u32::from(c))),
        }
    }
    suffix + ".lock"
}

#[cfg(test)]
mod tests {
    #[test]
    fn roles_have_files_of_their_own_and_none_leaves_the_folder() {
        assert_eq!(super::file_suffix("producer"), "-producer.lock");
        assert_eq!(super::file_suffix("../x"), "-.._2f_x.lock");
        assert_ne!(super::file_suffix("a_2f_"), super::file_suffix("a/"));
    }
}
