//! Domain tests of the tracker.
