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
    /// Whether the format carries checksums of its own, under a seal that the readers of the
    /// file compare with [`Tree::seal`] or with what another file says of it. The engine compares all
    /// other files with their digests before a stage reads them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub self_checked: bool,
}

/// How the name begins that says what an item is, see [`Tree::identity`].
const IDENTITY: &str = "identity/";

/// How the names begin that say the seals of files, see [`Tree::seal`].
const SEAL: &str = "seal/";

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
        self.files()
            .fold(0, |sum, (_, entry)| sum.saturating_add(entry.size))
    }

    /// Names and files, but for the names that say something of the artifact.
    pub fn files(&self) -> impl Iterator<Item = (&String, &Entry)> {
        let files = self.0.iter();
        files.filter(|(name, _)| !Self::is_attribute(name))
    }

    /// What the item *is*, whatever the parameters and tags (for sound: a digest of the samples as
    /// decoded), if the stage that read it from a source said so ([`crate::Output::identify`]).
    /// Downstream it is the item's [`crate::ItemInput::source`], so that a choice that hangs on the
    /// item, such as its split, survives a change of parameters or of a tag.
    ///
    /// It stands in a name of a file that has another name, too: a file of its own would double
    /// the work of publishing a small artifact.
    pub fn identity(&self) -> Option<Digest> {
        self.0.keys().find_map(|name| Self::identity_in(name))
    }

    /// The seal of the file `name`: the digest under which the format's own checksums hang, if
    /// the stage that wrote it said so ([`crate::Output::set_seal`]). It binds the file's bytes to
    /// this artifact, so that a reader which compares it need not have them hashed whole.
    ///
    /// It stands in a name, as the identity does.
    pub fn seal(&self, name: &str) -> Option<Digest> {
        let file = self.get(name)?;
        let mut seals = self.0.range(SEAL.to_owned()..);
        let mut own = seals
            .by_ref()
            .take_while(|(name, _)| name.starts_with(SEAL));
        own.find(|(_, entry)| entry.digest == file.digest)
            .and_then(|(name, _)| name.strip_prefix(SEAL)?.parse().ok())
    }

    /// Whether a name says something of the artifact and is no file of its own: see
    /// [`Tree::identity`] and [`Tree::seal`].
    pub fn is_attribute(name: &str) -> bool {
        name.starts_with(IDENTITY) || name.starts_with(SEAL)
    }

    /// The identity that a name says, if it is such a name.
    pub fn identity_in(name: &str) -> Option<Digest> {
        name.strip_prefix(IDENTITY)?.parse().ok()
    }

    /// The name that says an identity.
    pub(crate) fn identity_name(identity: Digest) -> String {
        format!("{IDENTITY}{identity}")
    }

    /// Adds a file with its seal, if it has one.
    pub(crate) fn insert(&mut self, name: String, entry: Entry, seal: Option<Digest>) {
        self.0.insert(name, entry);
        if let Some(seal) = seal {
            self.0.insert(format!("{SEAL}{seal}"), entry);
        }
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
