//! How byte fields are carried through serde: always as bytes, never as sequences or hex.

use std::fmt;
use std::ops::Deref;

use bytes::Bytes;
use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The bytes of a script, a witness item or any other opaque field. Cheap to clone.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Script(pub Bytes);

impl Deref for Script {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Script {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Script({})", hex::encode(&self.0))
    }
}

impl Serialize for Script {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Script {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_byte_buf(BytesVisitor).map(Self)
    }
}

struct BytesVisitor;

impl<'de> Visitor<'de> for BytesVisitor {
    type Value = Bytes;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }
    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
        Ok(Bytes::copy_from_slice(bytes))
    }
    fn visit_byte_buf<E: serde::de::Error>(self, bytes: Vec<u8>) -> Result<Bytes, E> {
        Ok(bytes.into())
    }
}

struct ArrayVisitor<const N: usize>;

impl<'de, const N: usize> Visitor<'de> for ArrayVisitor<N> {
    type Value = [u8; N];
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{N} bytes")
    }
    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<[u8; N], E> {
        bytes.try_into().map_err(|_| E::invalid_length(bytes.len(), &self))
    }
}

/// A fixed-size byte array.
pub(crate) mod array {
    use super::*;
    pub(crate) fn serialize<S: Serializer, const N: usize>(bytes: &[u8; N], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_bytes(bytes)
    }
    pub(crate) fn deserialize<'de, D: Deserializer<'de>, const N: usize>(d: D) -> Result<[u8; N], D::Error> {
        d.deserialize_bytes(ArrayVisitor)
    }
}

/// A 32-byte hash of rust-bitcoin, internal byte order.
pub(crate) mod hash {
    use super::*;
    use bitcoin::hashes::Hash;
    pub(crate) fn serialize<S: Serializer, H: Hash<Bytes = [u8; 32]>>(
        hash: &H,
        s: S,
    ) -> Result<S::Ok, S::Error> {
        s.serialize_bytes(hash.as_byte_array())
    }
    pub(crate) fn deserialize<'de, D: Deserializer<'de>, H: Hash<Bytes = [u8; 32]>>(
        d: D,
    ) -> Result<H, D::Error> {
        d.deserialize_bytes(ArrayVisitor::<32>).map(H::from_byte_array)
    }
}

/// A 32-byte hash or null.
pub(crate) mod optional_hash {
    use super::*;
    use bitcoin::hashes::Hash;

    struct Raw([u8; 32]);
    impl Serialize for Raw {
        fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
            s.serialize_bytes(&self.0)
        }
    }
    impl<'de> Deserialize<'de> for Raw {
        fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
            d.deserialize_bytes(ArrayVisitor::<32>).map(Raw).map_err(D::Error::custom)
        }
    }
    pub(crate) fn serialize<S: Serializer, H: Hash<Bytes = [u8; 32]>>(
        hash: &Option<H>,
        s: S,
    ) -> Result<S::Ok, S::Error> {
        hash.as_ref().map(|h| Raw(h.to_byte_array())).serialize(s)
    }
    pub(crate) fn deserialize<'de, D: Deserializer<'de>, H: Hash<Bytes = [u8; 32]>>(
        d: D,
    ) -> Result<Option<H>, D::Error> {
        Ok(Option::<Raw>::deserialize(d)?.map(|raw| H::from_byte_array(raw.0)))
    }
}
