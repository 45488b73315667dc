//! Where the parts of a pipeline stand, as the log tells.

pub mod gaps;
pub mod groups;
