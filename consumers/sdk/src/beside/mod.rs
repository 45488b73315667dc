//! Topics of a group's own, beside the chain's: dead letters, and requests to send events again. Each is only appended to,
//! and its records say all in headers of text.

mod follow;
pub(crate) mod header;
mod post;

pub(crate) use follow::Follow;
pub(crate) use post::{Parcel, Post};
