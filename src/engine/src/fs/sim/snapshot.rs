//! A folder with all that is in it, in memory.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use stage_core::{Digest, KeyHasher};

/// A folder with all that is in it: path from the folder → bytes, `None` for folders. Links are
/// left out: the store makes none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot(pub BTreeMap<PathBuf, Option<Arc<[u8]>>>);

impl Snapshot {
    /// Reads the folder `root`; one that is missing is empty. What vanishes meanwhile is left out.
    ///
    /// # Errors
    /// Something cannot be read.
    pub fn read(root: &Path) -> io::Result<Self> {
        let mut all = BTreeMap::new();
        let mut folders = vec![PathBuf::new()];
        while let Some(folder) = folders.pop() {
            let entries = match fs::read_dir(root.join(&folder)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                entries => entries?,
            };
            for entry in entries {
                let entry = entry?;
                let path = folder.join(entry.file_name());
                let kind = entry.file_type()?;
                if kind.is_dir() {
                    folders.push(path.clone());
                    all.insert(path, None);
                } else if kind.is_file() {
                    match fs::read(entry.path()) {
                        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                        bytes => {
                            all.insert(path, Some(bytes?.into()));
                        }
                    }
                }
            }
        }
        Ok(Self(all))
    }

    /// Writes everything below the folder `root`, which is made if it is missing.
    ///
    /// # Errors
    /// Something cannot be written.
    pub fn write(&self, root: &Path) -> io::Result<()> {
        fs::create_dir_all(root)?;
        for (path, bytes) in &self.0 {
            let path = root.join(path);
            match bytes {
                // A folder stands before what is in it.
                None => fs::create_dir(path)?,
                Some(bytes) => fs::write(path, bytes)?,
            }
        }
        Ok(())
    }

    /// A digest of names and bytes.
    pub fn digest(&self) -> Digest {
        let mut hasher = KeyHasher::new("pipeline snapshot 1");
        hasher.count(self.0.len());
        for (path, bytes) in &self.0 {
            hasher
                .field(path.as_os_str().as_encoded_bytes())
                .count(usize::from(bytes.is_some()))
                .field(bytes.as_deref().unwrap_or_default());
        }
        hasher.finish()
    }
}
