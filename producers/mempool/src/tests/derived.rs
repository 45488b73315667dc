//! What is derived: reasons, order, limits.
