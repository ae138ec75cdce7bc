//! ULIDs: 128-bit names that sort by time (github.com/ulid/spec).
//!
//! 48 bits of milliseconds since 1970, then 80 random bits, written as 26 digits of Crockford's
//! base 32. Ours also never run backwards: not within a process, and not after a name that the
//! store already holds ([`Clock::observe`]), so that "later" means "after" even if the machine's
//! clock was set back.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// A name that sorts by time. Shown as 26 upper-case characters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ulid(pub u128);

impl Ulid {
    /// A new name, after every other that this process made.
    pub fn new() -> Self {
        static CLOCK: Clock = Clock::new();
        CLOCK.next()
    }

    /// Milliseconds since 1970-01-01 UTC.
    pub fn millis(self) -> u64 {
        u64::try_from(self.0 >> 80).unwrap_or(u64::MAX)
    }

    /// Big-endian bytes, which sort as the name does.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

impl fmt::Display for Ulid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for place in (0..26).rev() {
            let digit = usize::try_from(self.0 >> (5 * place) & 31).unwrap_or(0);
            f.write_str(std::str::from_utf8(&ALPHABET[digit..=digit]).unwrap_or("0"))?;
        }
        Ok(())
    }
}

/// A text that is no ULID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no ULID: expected 26 digits of Crockford's base 32")]
pub struct UlidParseError(String);

impl FromStr for Ulid {
    type Err = UlidParseError;

    fn from_str(text: &str) -> Result<Self, UlidParseError> {
        let fail = || UlidParseError(text.chars().take(40).collect());
        if text.len() != 26 {
            return Err(fail());
        }
        let mut value = 0_u128;
        for (place, byte) in text.bytes().enumerate() {
            let digit = ALPHABET.iter().position(|c| *c == byte).ok_or_else(fail)?;
            // 26 digits hold 130 bits: the first may use only three of its five.
            if place == 0 && digit > 7 {
                return Err(fail());
            }
            value = value << 5 | digit as u128;
        }
        Ok(Self(value))
    }
}

impl Serialize for Ulid {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Ulid {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// Makes ULIDs that never run backwards.
#[derive(Debug)]
pub(crate) struct Clock(Mutex<u128>);

impl Clock {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(0))
    }

    /// The next name.
    pub(crate) fn next(&self) -> Ulid {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = u128::from(now_millis()) << 80 | random_80();
        // The same or an earlier millisecond: one more than the last, as the specification has it.
        *last = if fresh > *last { fresh } else { *last + 1 };
        Ulid(*last)
    }

    /// Makes every later name greater than `seen`.
    pub(crate) fn observe(&self, seen: Ulid) {
        // A name at the very end of time would leave no room after it: such one is ignored.
        if seen.0 < u128::MAX >> 1 {
            let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            *last = seen.0.max(*last);
        }
    }
}

/// Milliseconds since 1970-01-01 UTC, by the machine's clock.
pub fn now_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(0)) & ((1 << 48) - 1)
}

/// Random bits by way of `RandomState`, which the system's generator seeds.
fn random_80() -> u128 {
    let draw = || u128::from(RandomState::new().build_hasher().finish());
    (draw() << 64 | draw()) & ((1 << 80) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_sort() {
        let clock = Clock::new();
        let names: Vec<_> = (0..1000).map(|_| clock.next()).collect();
        for pair in names.windows(2) {
            assert!(pair[0] < pair[1]);
            assert!(pair[0].to_string() < pair[1].to_string());
            assert_eq!(pair[0].to_string().parse(), Ok(pair[0]));
        }
        assert_eq!(Ulid(u128::MAX).to_string(), "7ZZZZZZZZZZZZZZZZZZZZZZZZZ");
        for bad in [
            "",
            "8ZZZZZZZZZZZZZZZZZZZZZZZZZ",
            "01ARZ3NDEKTSV4RRFFQ69G5FAU",
        ] {
            assert!(bad.parse::<Ulid>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_later_name_seen_is_never_undercut() {
        let clock = Clock::new();
        let future = Ulid(u128::from(now_millis() + 1_000_000_000) << 80);
        clock.observe(future);
        assert!(clock.next() > future);
    }
}
