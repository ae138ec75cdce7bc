//! Where an action writes its artifact.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::{Digest, Entry, Input, StageError, Tree};

/// Permissions of a file of an artifact: it is written once. One that has them from its creation
/// saves the engine a call.
pub const SEALED_MODE: u32 = 0o444;

/// A folder of its own for one action; what is written or linked there becomes its artifact.
#[derive(Debug)]
pub struct Output {
    dir: PathBuf,
    /// Created files, and their seals.
    created: BTreeMap<String, Option<Digest>>,
    /// Linked files, and the seals that come with them.
    linked: BTreeMap<String, (Entry, Option<Digest>)>,
    identity: Option<Digest>,
}

impl Output {
    /// An output in the existing, empty folder `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            created: BTreeMap::new(),
            linked: BTreeMap::new(),
            identity: None,
        }
    }

    /// Says what the item is, see [`Tree::identity`]. An artifact without a file has none.
    pub fn identify(&mut self, identity: Digest) {
        self.identity = Some(identity);
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Reserves `name` and gives the path to write it at.
    ///
    /// # Errors
    /// The name is taken or no name for a tree, or its folder cannot be made.
    pub fn path(&mut self, name: &str) -> Result<PathBuf, StageError> {
        self.check_name(name)?;
        let path = self.dir.join(name);
        if let Some(parent) = path.parent()
            && parent != self.dir
        {
            fs::create_dir_all(parent)
                .map_err(StageError::io(format!("creating `{}`", parent.display())))?;
        }
        self.created.insert(name.to_owned(), None);
        Ok(path)
    }

    /// Says under which digest the checksums of the file `name` hang, of a format that carries
    /// such. The file is not hashed whole before each use then: its readers compare the seal, see
    /// [`Tree::seal`], and check the rest piece by piece.
    ///
    /// # Errors
    /// There is no such file.
    pub fn set_seal(&mut self, name: &str, seal: Digest) -> Result<(), StageError> {
        let Some(created) = self.created.get_mut(name) else {
            return Err(StageError::Environment(format!(
                "a seal was given for `{name}`, which was not written"
            )));
        };
        *created = Some(seal);
        Ok(())
    }

    /// Creates the file `name`. It can be written and sought in, and need not be synced.
    ///
    /// # Errors
    /// As [`Output::path`], or the file cannot be created.
    pub fn create(&mut self, name: &str) -> Result<BufWriter<File>, StageError> {
        let path = self.path(name)?;
        let mut options = File::options();
        options.write(true).create_new(true).mode(SEALED_MODE);
        let file = options
            .open(&path)
            .map_err(StageError::io(format!("creating `{}`", path.display())))?;
        Ok(BufWriter::with_capacity(256 * 1024, file))
    }

    /// Writes the file `name` whole.
    ///
    /// # Errors
    /// As [`Output::create`], or the disk is full.
    pub fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), StageError> {
        let mut file = self.create(name)?;
        file.write_all(bytes)
            .and_then(|()| file.flush())
            .map_err(StageError::io(format!("writing `{name}`")))
    }

    /// Puts the file `from` of `input` into the artifact as `name`, without copying. Its seal, if
    /// it has one, comes with it.
    ///
    /// # Errors
    /// The input has no such file, or the name is taken or no name for a tree.
    pub fn link(&mut self, name: &str, input: &Input, from: &str) -> Result<(), StageError> {
        self.link_with(name, input, from, input.tree.seal(from))
    }

    /// As [`Output::link`] without the seal: another file of this artifact says it, for as many
    /// files as would make the tree long.
    ///
    /// # Errors
    /// As [`Output::link`].
    pub fn link_unsealed(
        &mut self,
        name: &str,
        input: &Input,
        from: &str,
    ) -> Result<(), StageError> {
        self.link_with(name, input, from, None)
    }

    fn link_with(
        &mut self,
        name: &str,
        input: &Input,
        from: &str,
        seal: Option<Digest>,
    ) -> Result<(), StageError> {
        self.check_name(name)?;
        input.path(from)?;
        if let Some(entry) = input.tree.get(from) {
            self.linked.insert(name.to_owned(), (*entry, seal));
        }
        Ok(())
    }

    /// Hashes what was written and gives the artifact's tree, and the names of the files in the
    /// folder (those that were not linked). Called by the engine or the worker, not by stages.
    ///
    /// # Errors
    /// A reserved file was not written, or cannot be read.
    pub fn seal(self) -> Result<(Tree, Vec<String>), StageError> {
        let mut tree = Tree::default();
        for (name, (entry, seal)) in self.linked {
            tree.insert(name, entry, seal);
        }
        let mut written = Vec::with_capacity(self.created.len());
        for (name, seal) in self.created {
            let path = self.dir.join(&name);
            let (digest, size) = File::open(&path)
                .and_then(Digest::of_reader)
                .map_err(StageError::io(format!("reading back `{name}`")))?;
            let entry = Entry {
                digest,
                size,
                self_checked: seal.is_some(),
            };
            tree.insert(name.clone(), entry, seal);
            written.push(name);
        }
        if let (Some(identity), Some(entry)) = (self.identity, tree.0.values().next().copied()) {
            tree.0.insert(Tree::identity_name(identity), entry);
        }
        Ok((tree, written))
    }

    fn check_name(&self, name: &str) -> Result<(), StageError> {
        if !Tree::is_name(name) || Tree::is_attribute(name) {
            return Err(StageError::Environment(format!(
                "`{name}` cannot name a file of an artifact"
            )));
        }
        if self.created.contains_key(name) || self.linked.contains_key(name) {
            return Err(StageError::Environment(format!(
                "the artifact has two files named `{name}`"
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_and_linked_files_make_the_tree() {
        let dir = tempfile::tempdir().unwrap();
        let other = dir.path().join("other");
        fs::write(&other, b"xyz").unwrap();
        let input = Input {
            tree: Tree::single("o", Digest::of(b"xyz"), 3),
            paths: BTreeMap::from([("o".to_owned(), other)]),
            file_id: None,
        };
        let home = dir.path().join("out");
        fs::create_dir(&home).unwrap();
        let mut out = Output::new(&home);
        out.write("a/b", b"abc").unwrap();
        out.link("c", &input, "o").unwrap();
        assert!(out.write("a/b", b"").is_err(), "taken");
        assert!(out.link("../x", &input, "o").is_err(), "climbs");
        out.identify(Digest::of(b"me"));
        out.set_seal("a/b", Digest::of(b"seal")).unwrap();
        assert!(out.set_seal("c", Digest::of(b"seal")).is_err(), "linked");
        let (tree, written) = out.seal().unwrap();
        assert_eq!(written, ["a/b"]);
        assert_eq!(tree.identity(), Some(Digest::of(b"me")));
        assert_eq!(tree.seal("a/b"), Some(Digest::of(b"seal")));
        assert_eq!(tree.seal("c"), None);
        assert!(tree.get("a/b").unwrap().self_checked);
        let names: Vec<_> = tree.files().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a/b", "c"]);
        assert_eq!(tree.size(), 6);
        assert_eq!(tree.get("a/b").unwrap().digest, Digest::of(b"abc"));
        assert_eq!(tree.get("c").unwrap().digest, Digest::of(b"xyz"));
    }
}
