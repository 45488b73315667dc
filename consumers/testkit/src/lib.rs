//! Logs made from a script, and the laws that every consumer must keep.
