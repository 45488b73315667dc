//! Which real parts this run has. `tests/run` fetches them and says so in the environment.

use std::io::Write as _;
use std::path::PathBuf;

use sluice_schemas::Flavour;

/// The value of an environment variable that is set and not empty.
pub fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Whether a test that needs the part named by `variable` can run. Where not, says so past the test runner's capture;
/// in CI, where nothing may be skipped, it fails instead.
///
/// # Panics
/// In CI, where the part is missing.
pub fn have(variable: &str) -> bool {
    if setting(variable).is_some() {
        return true;
    }
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    skip(&test, &format!("{variable} is not set (tests/run sets it)"));
    false
}

/// Says loudly that a test is skipped.
///
/// # Panics
/// In CI.
pub fn skip(test: &str, reason: &str) {
    assert!(setting("CI").is_none_or(|ci| ci != "true"), "{test} may not be skipped in CI: {reason}");
    // Straight to the handle: the print macros are captured.
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {reason}");
}

/// Whether nodes of this flavour can be started.
pub fn have_node(flavour: Flavour) -> bool {
    have("SLUICE_TEST_RUN_NODE")
        && have(match flavour {
            Flavour::Btc => "SLUICE_TEST_CORE",
            Flavour::Bsv => "SLUICE_TEST_BSV",
        })
}

/// Path of a part that `have` found.
///
/// # Panics
/// Where it is missing.
pub fn path(variable: &str) -> PathBuf {
    PathBuf::from(setting(variable).unwrap_or_else(|| panic!("{variable} is not set")))
}
