//! Hashes and bytes as nodes write them in JSON. Read out of slices only: they lend the text.

use std::str::FromStr;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, de};

/// A hash in display order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DisplayHash<H>(pub(super) H);

impl<'de, H: FromStr<Err: std::fmt::Display>> Deserialize<'de> for DisplayHash<H> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <&str>::deserialize(deserializer)?;
        text.parse().map(Self).map_err(de::Error::custom)
    }
}

/// Bytes as hex.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HexBytes(pub(super) Bytes);

impl<'de> Deserialize<'de> for HexBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <&str>::deserialize(deserializer)?;
        hex::decode(text).map(|bytes| Self(bytes.into())).map_err(de::Error::custom)
    }
}
