//! Folders of results: how they are told from folders of input.
//!
//! A source may hold the project itself, or other projects. What the program wrote there must not
//! become its input: each run would change the data of the next. A folder is known for one of
//! results by any of these:
//!
//! - it holds the file [`MARK`], which [`create_dir`] puts into every folder that it makes;
//! - it is a cache: its file `format` says so;
//! - it is called `out` or `runs` and lies beside a `pipeline.toml`;
//! - it is one of the folders that the present request writes to.
//!
//! The first three can be told from the names that a folder lists, so that no file costs a call.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};

use crate::fs::{self, Fs};

/// Name of the file that marks a folder of results.
pub const MARK: &str = ".pipeline-results";

/// Name of the file that describes a project.
pub const PROJECT_FILE: &str = "pipeline.toml";

/// Folder beside [`PROJECT_FILE`] that results go to.
pub const OUT: &str = "out";

/// Folder beside [`PROJECT_FILE`] that holds what stages write while they run.
pub const RUNS: &str = "runs";

/// What the file [`MARK`] says to people.
const MARK_TEXT: &str = "This folder holds results of the program `pipeline`, which therefore does \
                         not read it as input.\nDelete this file if it should.\n";

/// Creates a folder and those above it. The first of them that was not there is marked as a folder
/// of results.
///
/// # Errors
/// One cannot be made, or is a file.
pub fn create_dir(fs: &dyn Fs, path: &Path) -> io::Result<()> {
    let here = Path::new(".");
    let path = if path.as_os_str().is_empty() {
        here
    } else {
        path
    };
    let made = path
        .ancestors()
        .take_while(|above| !above.as_os_str().is_empty() && fs.lstat(above).is_err())
        .last();
    fs::create_dir_all(fs, path)?;
    let Some(made) = made else {
        return Ok(());
    };
    // That it is there is what counts; a text that was cut short misleads nobody, and no other name
    // is left behind.
    let written = fs
        .create_new(&made.join(MARK))
        .and_then(|mut file| file.write_all(MARK_TEXT.as_bytes()));
    match written {
        // Another process has put it there, or the folder is gone again, which the caller meets.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound
            ) =>
        {
            Ok(())
        }
        written => written,
    }
}

/// What the names in a folder say of it and of the folders in it.
#[derive(Debug, Default)]
pub(crate) struct Signs {
    marked: bool,
    format: bool,
    project: bool,
}

impl Signs {
    /// Takes notice of a file of the folder.
    pub(crate) fn see(&mut self, name: &OsStr) {
        // Most names are none of these, and tell it by their first byte.
        match name.as_encoded_bytes() {
            [b'.', ..] => self.marked |= name == MARK,
            [b'f', ..] => self.format |= name == "format",
            [b'p', ..] => self.project |= name == PROJECT_FILE,
            _ => {}
        }
    }

    /// Why the folder itself is none of input, if it is none.
    pub(crate) fn of_folder(&self, fs: &dyn Fs, path: &Path) -> Option<String> {
        if self.marked {
            return Some(format!("results of `pipeline`: it holds `{MARK}`"));
        }
        let cache = self.format && crate::store::is_store(fs, path);
        cache.then(|| "a cache of `pipeline`".to_owned())
    }

    /// Why a folder of this name in it is none of input, if it is none.
    pub(crate) fn of_child(&self, name: &OsStr) -> Option<String> {
        let own = self.project && (name == OUT || name == RUNS);
        own.then(|| format!("results of `pipeline`: it lies beside `{PROJECT_FILE}`"))
    }
}

/// The absolute path without links of a file or folder that may not be there yet.
pub(crate) fn resolve(fs: &dyn Fs, path: &Path) -> Option<PathBuf> {
    let path = std::path::absolute(path).ok()?;
    for above in path.ancestors() {
        let Ok(mut real) = fs.canonicalize(above) else {
            continue;
        };
        for part in path.strip_prefix(above).ok()?.components() {
            match part {
                Component::ParentDir => {
                    real.pop();
                }
                part => real.push(part),
            }
        }
        return Some(real);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::RealFs;

    #[test]
    fn the_first_folder_that_is_made_is_marked() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        std::fs::create_dir(root.join("there")).unwrap();
        for path in ["new/a/b", "there/c/d", "there", "new/a"] {
            create_dir(&RealFs, &root.join(path)).unwrap();
            assert!(root.join(path).is_dir());
        }
        let marked = |path: &str| root.join(path).join(MARK).exists();
        let marks = ["", "new", "new/a", "there", "there/c", "there/c/d"].map(marked);
        assert_eq!(marks, [false, true, false, false, true, false]);
    }

    #[test]
    fn paths_that_are_not_there_resolve() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("real")).unwrap();
        std::os::unix::fs::symlink("real", root.join("link")).unwrap();
        for (path, expected) in [
            ("link/a/b", "real/a/b"),
            ("link/a/../c", "real/c"),
            ("./real", "real"),
        ] {
            assert_eq!(
                resolve(&RealFs, &root.join(path)),
                Some(root.join(expected))
            );
        }
    }
}
