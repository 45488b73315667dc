//! Waiting for what must come, with generous deadlines.

use std::fmt::Debug;
use std::time::{Duration, Instant};

/// How long anything that must happen may take on a slow machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// Time between two looks.
const STEP: Duration = Duration::from_millis(50);

/// Looks again and again until `look` gives `Ok`, at most `patience`.
///
/// # Panics
/// With the last `Err` when patience ends.
pub fn eventually<T, E: Debug>(what: &str, patience: Duration, mut look: impl FnMut() -> Result<T, E>) -> T {
    let end = Instant::now() + patience;
    loop {
        match look() {
            Ok(seen) => return seen,
            Err(instead) if Instant::now() >= end => {
                panic!("waited {patience:?} for {what}, but: {instead:?}")
            }
            Err(_) => std::thread::sleep(STEP),
        }
    }
}

/// `eventually` with the usual patience.
///
/// # Panics
/// With the last `Err` when patience ends.
pub fn soon<T, E: Debug>(what: &str, look: impl FnMut() -> Result<T, E>) -> T {
    eventually(what, PATIENCE, look)
}
