//! An artifact: a tree of names, each with the digest of its bytes.
//!
//! As in git, an artifact is named by the digest of its tree, so that two artifacts that share
//! files share objects, and garbage collection, verification and copies follow trees without
//! knowing any format. Names may hold `/`; they are relative and never climb.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Digest, KeyHasher};

/// One file of an artifact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Digest of the bytes.
    pub digest: Digest,
    /// Length in bytes.
    pub size: u64,
    /// Whether the format carries checksums of its own that its readers check piece by piece.
    /// Readers of all other files have them checked whole before they open them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub self_checked: bool,
}

/// Names → files, sorted by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tree(pub BTreeMap<String, Entry>);

impl Tree {
    /// An artifact of one file.
    pub fn single(name: &str, digest: Digest, size: u64) -> Self {
        let entry = Entry {
            digest,
            size,
            self_checked: false,
        };
        Self(BTreeMap::from([(name.to_owned(), entry)]))
    }

    /// The artifact's own digest.
    pub fn digest(&self) -> Digest {
        let mut hasher = KeyHasher::new("pipeline tree 1");
        hasher.count(self.0.len());
        for (name, entry) in &self.0 {
            hasher
                .field(name.as_bytes())
                .field(&entry.digest.0)
                .field(&entry.size.to_le_bytes())
                .field(&[u8::from(entry.self_checked)]);
        }
        hasher.finish()
    }

    /// The entry under `name`.
    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.0.get(name)
    }

    /// Sum of the sizes in bytes.
    pub fn size(&self) -> u64 {
        self.0
            .values()
            .fold(0, |sum, entry| sum.saturating_add(entry.size))
    }

    /// Whether `name` may stand in a tree: relative, no empty, `.` or `..` component.
    pub fn is_name(name: &str) -> bool {
        !name.contains(['\\', '\0'])
            && name
                .split('/')
                .all(|part| !part.is_empty() && part != "." && part != "..")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_climb() {
        for good in ["a", "a/b.bin", "..a"] {
            assert!(Tree::is_name(good), "{good}");
        }
        for bad in ["", "/a", "a//b", "../a", "a/..", "a\\b", "a/"] {
            assert!(!Tree::is_name(bad), "{bad}");
        }
    }

    #[test]
    fn the_digest_covers_names_and_contents() {
        let a = Tree::single("a", Digest::of(b"1"), 1);
        assert_ne!(a.digest(), Tree::single("b", Digest::of(b"1"), 1).digest());
        assert_ne!(a.digest(), Tree::single("a", Digest::of(b"2"), 1).digest());
        assert_eq!(a.digest(), a.clone().digest());
    }
}
