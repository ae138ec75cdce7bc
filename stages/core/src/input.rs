//! What an action is given: artifacts, by name.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{Digest, StageError, Tree};

/// The name under which a source's file stands in its tree.
pub const SOURCE_FILE: &str = "file";

/// One artifact, readable by name.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Input {
    /// Names, digests and sizes.
    pub tree: Tree,
    /// Where each file lies. The engine has checked that it is there, has its length and, unless
    /// it checks itself ([`crate::Entry::self_checked`]), has its digest: of one that does, the
    /// stage compares the seal with [`Tree::seal`]. Never write to one.
    #[serde(with = "crate::text::path_map")]
    pub paths: BTreeMap<String, PathBuf>,
    /// For a file of a source, which one was hashed: [`Input::open`] refuses another. Whether that
    /// one was written to meanwhile, the engine sees when the stage has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_id: Option<FileId>,
}

/// Which file it is, whatever its path names by now (`stat`(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FileId {
    /// Device.
    pub dev: u64,
    /// Inode.
    pub ino: u64,
}

impl FileId {
    /// That of an open file or of what a path names.
    pub fn of(meta: &std::fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self {
            dev: meta.dev(),
            ino: meta.ino(),
        }
    }
}

impl Input {
    /// Path of the file `name`.
    ///
    /// # Errors
    /// The artifact has no such file: it was made by another kind of stage than expected.
    pub fn path(&self, name: &str) -> Result<&Path, StageError> {
        self.paths.get(name).map(PathBuf::as_path).ok_or_else(|| {
            let names: Vec<_> = self.tree.0.keys().take(5).map(String::as_str).collect();
            StageError::content(format!(
                "the input has no file `{name}`; it holds {}: is it connected to the right stage?",
                names.join(", ")
            ))
        })
    }

    /// Opens the file `name` for reading. A stage opens the file of a source once, by this call:
    /// what its path names may be another file a moment later.
    ///
    /// # Errors
    /// As [`Input::path`], the file cannot be opened, or it is not the one that was hashed.
    pub fn open(&self, name: &str) -> Result<File, StageError> {
        let path = self.path(name)?;
        let opening = || format!("opening `{}`", path.display());
        let file = File::open(path).map_err(StageError::io(opening()))?;
        if let Some(hashed) = self.file_id {
            let meta = file.metadata().map_err(StageError::io(opening()))?;
            if FileId::of(&meta) != hashed {
                return Err(StageError::changed());
            }
        }
        Ok(file)
    }

    /// Reads the file `name` whole, refusing more than `limit` bytes.
    ///
    /// # Errors
    /// As [`Input::open`], or the file is larger than `limit`.
    pub fn read(&self, name: &str, limit: u64) -> Result<Vec<u8>, StageError> {
        use std::io::Read;
        let mut bytes = Vec::new();
        self.open(name)?
            .take(limit.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(StageError::io(format!("reading `{name}`")))?;
        if bytes.len() as u64 > limit {
            return Err(StageError::content(format!(
                "`{name}` is larger than {limit} bytes, the most that is read of such a file"
            )));
        }
        Ok(bytes)
    }
}

/// One item of a set: an artifact, and which source file it came from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ItemInput {
    /// What the item is, whatever the parameters: [`Tree::identity`] if the stage that read
    /// the source file gave one, else of the source file's bytes. In an item part, where it is
    /// not part of the key, the digest of the input artifact.
    pub source: Digest,
    /// What [`crate::Stage::labels`] made of the item's path, if anything. The path itself is not
    /// given: names are not part of keys.
    pub label: Option<String>,
    /// The artifact.
    pub input: Input,
}

/// What a whole part is given, by port.
///
/// Items are sorted by (source digest, artifact digest, label) and distinct, so that neither
/// names nor order nor duplicates reach the stage.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Inputs {
    /// Port name → its items; a port that takes an artifact has exactly one, whose `source` is
    /// the artifact's own digest.
    pub ports: BTreeMap<String, Vec<ItemInput>>,
}

impl Inputs {
    /// The items of a port; empty when the port is not connected.
    pub fn items(&self, port: &str) -> &[ItemInput] {
        self.ports.get(port).map_or(&[], Vec::as_slice)
    }

    /// The one artifact of a port.
    ///
    /// # Errors
    /// None or several are connected.
    pub fn one(&self, port: &str) -> Result<&Input, StageError> {
        match self.items(port) {
            [item] => Ok(&item.input),
            items => Err(StageError::content(format!(
                "input `{port}` has {} items, expected exactly one",
                items.len()
            ))),
        }
    }
}
