//! Digests of contents and keys made of them.
//!
//! All hashing is BLAKE3-256. A key is hashed over fields that are each preceded by their length,
//! under a domain string, so that no two different lists of fields give the same bytes.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::io::{self, Read};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// BLAKE3-256 of some bytes. Shown and serialised as 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

/// For tables in memory, where some bytes of a hash are hash enough: the last, as keys of one stage
/// begin alike.
impl Hash for Digest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        if let Some(last) = self.0.last_chunk() {
            state.write_u64(u64::from_le_bytes(*last));
        }
    }
}

/// Bytes that are read at first, on the stack: most files of a small action have fewer.
const FIRST: usize = 16 * 1024;

/// Bytes that are read at once afterwards.
const CHUNK: usize = 256 * 1024;

impl Digest {
    /// Digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// Digest of this digest in keyed mode, under `key`.
    pub fn keyed(&self, key: &Self) -> Self {
        Self(*blake3::keyed_hash(&key.0, &self.0).as_bytes())
    }

    /// Digest of everything that `reader` yields, and its length in bytes.
    ///
    /// # Errors
    /// Whatever the reader reports.
    pub fn of_reader(mut reader: impl Read) -> io::Result<(Self, u64)> {
        let mut hasher = blake3::Hasher::new();
        let mut first = [0_u8; FIRST];
        let mut rest = Vec::new();
        let mut length = 0;
        loop {
            let buffer = if length < FIRST as u64 {
                &mut first[..]
            } else {
                rest.resize(CHUNK, 0);
                &mut rest[..]
            };
            match reader.read(buffer) {
                Ok(0) => return Ok((Self(*hasher.finalize().as_bytes()), length)),
                Ok(n) => {
                    hasher.update(&buffer[..n]);
                    length += n as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// 64 lower-case hex digits.
    pub fn to_hex(&self) -> String {
        let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble)]);
        let digits = self.0.iter().flat_map(|b| [digit(b >> 4), digit(b & 15)]);
        let mut text = String::with_capacity(64);
        text.extend(digits);
        text
    }

    /// The first eight hex digits: enough to tell things apart on a screen.
    pub fn short(&self) -> String {
        self.to_hex()[..8].to_owned()
    }

    /// The bytes themselves.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({})", self.short())
    }
}

/// A text that is no digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no digest: expected 64 hexadecimal digits")]
pub struct DigestParseError(pub String);

/// What stands in [`VALUES`] for what is no lower-case hex digit.
const NO_DIGIT: u8 = 0x80;

/// Byte → value as a hex digit.
const VALUES: [u8; 256] = {
    let mut values = [NO_DIGIT; 256];
    let digits = b"0123456789abcdef";
    let mut value = 0;
    while value < 16 {
        values[digits[value as usize] as usize] = value;
        value += 1;
    }
    values
};

impl FromStr for Digest {
    type Err = DigestParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = || DigestParseError(text.chars().take(80).collect());
        let bytes = text.as_bytes();
        if bytes.len() != 64 {
            return Err(fail());
        }
        let mut out = [0; 32];
        let mut wrong = 0;
        for (slot, pair) in out.iter_mut().zip(bytes.as_chunks().0) {
            let [high, low] = pair.map(|b: u8| VALUES[usize::from(b)]);
            wrong |= (high | low) & NO_DIGIT;
            *slot = high << 4 | low;
        }
        if wrong != 0 {
            return Err(fail());
        }
        Ok(Self(out))
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_hex())
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Hashes a list of fields into a key.
#[derive(Debug, Clone)]
pub struct KeyHasher(blake3::Hasher);

impl KeyHasher {
    /// A hasher for keys of one `domain`, e.g. `"pipeline action 2"`.
    pub fn new(domain: &str) -> Self {
        Self(blake3::Hasher::new_derive_key(domain))
    }

    /// Adds one field.
    pub fn field(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    /// Adds the number of fields that follow, so that two lists never run into one another.
    pub fn count(&mut self, n: usize) -> &mut Self {
        self.0.update(&(n as u64).to_le_bytes());
        self
    }

    /// The key.
    pub fn finish(&self) -> Digest {
        Digest(*self.0.finalize().as_bytes())
    }
}

/// A 32-byte seed for one purpose, from the user's `seed` and the names of the purpose.
///
/// Every draw of random numbers in the project starts from such a seed, never from a clock.
pub fn derive_seed(seed: u64, purpose: &[&str]) -> [u8; 32] {
    let mut hasher = KeyHasher::new("pipeline random stream 1");
    hasher.field(&seed.to_le_bytes()).count(purpose.len());
    for name in purpose {
        hasher.field(name.as_bytes());
    }
    hasher.finish().0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_round_trips_and_refuses_others() {
        let digest = Digest::of(b"abc");
        assert_eq!(digest.to_hex().parse(), Ok(digest));
        for bad in ["", "abc", &"g".repeat(64), &"A".repeat(64)] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }

    #[test]
    fn fields_do_not_run_into_one_another() {
        let key = |fields: &[&[u8]]| {
            let mut hasher = KeyHasher::new("test");
            for field in fields {
                hasher.field(field);
            }
            hasher.finish()
        };
        assert_ne!(key(&[b"ab", b"c"]), key(&[b"a", b"bc"]));
        assert_ne!(key(&[b"ab"]), key(&[b"ab", b""]));
    }

    #[test]
    fn seeds_differ_by_purpose() {
        assert_ne!(derive_seed(1, &["a"]), derive_seed(1, &["b"]));
        assert_ne!(derive_seed(1, &["a"]), derive_seed(2, &["a"]));
        assert_eq!(derive_seed(1, &["a"]), derive_seed(1, &["a"]));
    }
}
