//! Handlers on both logs.
#![allow(clippy::unwrap_used)] // clippy does not see helper functions as tests

mod ledger;
mod letters;
mod members;
mod probe;
mod rerun;

/// Runs each test on both logs.
macro_rules! on_both_logs {
    ($($test:ident),* $(,)?) => {
        mod sqlite {
            $(#[test] fn $test() { super::$test(sluice_test_support::LogKind::Sqlite); })*
        }
        mod kafka {
            $(#[test] fn $test() {
                if sluice_test_support::LogKind::Kafka.there() {
                    super::$test(sluice_test_support::LogKind::Kafka);
                }
            })*
        }
    };
}
pub(crate) use on_both_logs;
