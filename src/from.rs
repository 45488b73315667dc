//! Where on the log to begin.

pub(crate) use sluice_runtime::start::{Start as From, connected_at};
