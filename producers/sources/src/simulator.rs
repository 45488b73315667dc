//! The simulator: a chain of its own, no node needed.
