//! From a source to its files.
//!
//! Folders are walked in order of names, links followed, cycles noticed. Names that begin with a
//! dot are left out, as are those that the source's globs exclude.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use rayon::prelude::*;

use crate::config::Source;
use crate::fs::{FileKind, Fs};

/// A file of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Path relative to the source, with `/`; bytes that are not UTF-8 are shown as `\xHH`.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// Its extension in lower case, without the dot; empty for none.
    pub extension: String,
    /// Why it cannot be read, if that is known already: a folder, a dangling link, a device.
    pub unusable: Option<String>,
    /// Whether it is or may be a folder whose files are missing from the list, so that it matters
    /// whatever its name.
    pub hides_files: bool,
}

/// A source that cannot be listed.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// The path does not exist or cannot be read.
    #[error("source `{source_name}` cannot be read at `{}`", path.display())]
    Root {
        /// Name of the source.
        source_name: String,
        /// Its path.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// A glob of the source is none.
    #[error("source `{source_name}` has a bad glob")]
    Glob {
        /// Name of the source.
        source_name: String,
        /// The cause.
        #[source]
        source: globset::Error,
    },
}

/// How deep folders are followed.
const MAX_DEPTH: usize = 64;

/// Lists the files of `source` below `root` (or `root` itself, if it is a file), sorted by name.
///
/// # Errors
/// The root itself cannot be read. What is below it and cannot is listed as unusable.
pub fn scan(fs: &dyn Fs, source: &Source, root: &Path) -> Result<Vec<Found>, ScanError> {
    let fail = |error| ScanError::Root {
        source_name: source.name.clone(),
        path: root.to_owned(),
        source: error,
    };
    let globs = |patterns: &[String]| {
        build(patterns).map_err(|error| ScanError::Glob {
            source_name: source.name.clone(),
            source: error,
        })
    };
    let mut walk = Walk {
        fs,
        include: globs(&source.include)?,
        take_all: source.include.is_empty(),
        exclude: globs(&source.exclude)?,
        found: Vec::new(),
        open: Vec::new(),
    };
    let stat = fs.stat(root).map_err(fail)?;
    if stat.kind == FileKind::Dir {
        walk.open.push((stat.dev, stat.ino));
        walk.folder(root, "").map_err(fail)?;
    } else {
        let name = show(root.file_name().unwrap_or(root.as_os_str()));
        match stat.kind {
            FileKind::File => walk.file(root.to_owned(), name),
            _ => walk.odd(root.to_owned(), name, None),
        }
    }
    walk.found
        .par_sort_unstable_by(|a, b| a.name.cmp(&b.name).then_with(|| a.path.cmp(&b.path)));
    Ok(walk.found)
}

fn build(patterns: &[String]) -> Result<GlobSet, globset::Error> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        // As in a shell, `*` stays within a folder and `**` does not.
        set.add(GlobBuilder::new(pattern).literal_separator(true).build()?);
    }
    set.build()
}

struct Walk<'a> {
    fs: &'a dyn Fs,
    include: GlobSet,
    take_all: bool,
    exclude: GlobSet,
    found: Vec<Found>,
    /// The folders above, by device and inode: a link back to one is a cycle.
    open: Vec<(u64, u64)>,
}

impl Walk<'_> {
    fn folder(&mut self, dir: &Path, prefix: &str) -> std::io::Result<()> {
        for entry in self.fs.read_dir(dir)? {
            if entry.name.as_encoded_bytes().first() == Some(&b'.') {
                continue;
            }
            let name = prefix.to_owned() + &show(&entry.name);
            let path = dir.join(&entry.name);
            if self.exclude.is_match(&name) {
                continue;
            }
            // The state of a plain file is asked for when its digest is: once.
            if entry.kind == FileKind::File {
                self.file(path, name);
                continue;
            }
            match self.fs.stat(&path) {
                Ok(stat) if stat.kind == FileKind::Dir => {
                    self.subfolder(path, name, stat.dev, stat.ino);
                }
                Ok(stat) if stat.kind == FileKind::File => self.file(path, name),
                stat => self.odd(path, name, stat.err()),
            }
        }
        Ok(())
    }

    fn subfolder(&mut self, path: PathBuf, name: String, dev: u64, ino: u64) {
        if self.open.contains(&(dev, ino)) {
            self.unusable(path, name, "a link back to a folder above it".to_owned());
            return;
        }
        if self.open.len() >= MAX_DEPTH {
            self.unlisted(path, name, format!("more than {MAX_DEPTH} folders deep"));
            return;
        }
        let before = self.found.len();
        self.open.push((dev, ino));
        let walked = self.folder(&path, &format!("{name}/"));
        self.open.pop();
        match walked {
            Err(error) => self.unlisted(path, name, format!("cannot be listed: {error}")),
            // An empty folder may look like a file by its name; whether that matters is for
            // whoever knows which extensions are wanted.
            Ok(()) if self.found.len() == before && path.extension().is_some() => {
                self.unusable(path, name, "a folder, expected a file".to_owned());
            }
            Ok(()) => {}
        }
    }

    fn wants(&self, name: &str) -> bool {
        self.take_all || self.include.is_match(name)
    }

    fn file(&mut self, path: PathBuf, name: String) {
        if self.wants(&name) {
            self.found.push(Found {
                extension: extension(&path),
                name,
                path,
                unusable: None,
                hides_files: false,
            });
        }
    }

    /// What is neither a file nor a folder, or cannot be told.
    fn odd(&mut self, path: PathBuf, name: String, error: Option<std::io::Error>) {
        match error {
            Some(error) if !is_broken_link(&error) => {
                self.unlisted(path, name, format!("cannot be read: {error}"));
            }
            _ if !self.wants(&name) => {}
            None => self.unusable(path, name, "no regular file".to_owned()),
            Some(error) if error.kind() == std::io::ErrorKind::NotFound => {
                self.unusable(path, name, "a link to nothing".to_owned());
            }
            Some(error) => self.unusable(path, name, format!("cannot be read: {error}")),
        }
    }

    fn unusable(&mut self, path: PathBuf, name: String, reason: String) {
        self.found.push(Found {
            extension: extension(&path),
            name,
            path,
            unusable: Some(reason),
            hides_files: false,
        });
    }

    /// A folder, or what may be one, whose files are not known.
    fn unlisted(&mut self, path: PathBuf, name: String, reason: String) {
        self.unusable(path, name, reason);
        if let Some(last) = self.found.last_mut() {
            last.hides_files = true;
        }
    }
}

/// Whether a link leads nowhere or to itself: then there are no files behind it.
fn is_broken_link(error: &std::io::Error) -> bool {
    let endless = rustix::io::Errno::LOOP.raw_os_error();
    error.kind() == std::io::ErrorKind::NotFound || error.raw_os_error() == Some(endless)
}

fn extension(path: &Path) -> String {
    path.extension()
        .map(|e| e.to_string_lossy().to_lowercase())
        .unwrap_or_default()
}

/// A name for people; distinct bytes give distinct names.
fn show(name: &OsStr) -> String {
    if let Some(plain) = name.to_str().filter(|name| !name.contains('\\')) {
        return plain.to_owned();
    }
    let bytes = name.as_encoded_bytes();
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        // A name that spells such an escape itself must not look like another.
        text.push_str(&chunk.valid().replace("\\x", "\\x5Cx"));
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02X}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::OnBad;
    use crate::fs::RealFs;

    fn source(include: &[&str], exclude: &[&str]) -> Source {
        let own = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        Source {
            name: "corpus".into(),
            path: None,
            include: own(include),
            exclude: own(exclude),
            on_bad: OnBad::Fail,
        }
    }

    fn names(root: &Path, source: &Source) -> Vec<String> {
        scan(&RealFs, source, root)
            .unwrap()
            .into_iter()
            .map(|f| match f.unusable {
                Some(reason) => format!("{}: {reason}", f.name),
                None => f.name,
            })
            .collect()
    }

    #[test]
    fn odd_names_stay_apart() {
        use std::os::unix::ffi::OsStrExt;
        let dir = tempfile::tempdir().unwrap();
        let names_on_disk: [&[u8]; 6] = [
            b"a\xFF.wav",
            b"a\\xFF.wav",
            b"song.wav",
            b"Song.wav",
            b"new\nline.wav",
            "é.wav".as_bytes(),
        ];
        for name in names_on_disk {
            std::fs::write(dir.path().join(OsStr::from_bytes(name)), b"x").unwrap();
        }
        assert_eq!(
            names(dir.path(), &source(&[], &[])),
            [
                "Song.wav",
                "a\\x5CxFF.wav",
                "a\\xFF.wav",
                "new\nline.wav",
                "song.wav",
                "é.wav",
            ]
        );
    }

    #[test]
    fn lists_sorted_with_globs_links_and_oddities() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for name in ["b.wav", "a/x.WAV", "a/y.txt", ".hidden", "z/.git"] {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"x").unwrap();
        }
        std::fs::create_dir(root.join("x.flac")).unwrap();
        std::os::unix::fs::symlink(root, root.join("a/loop")).unwrap();
        std::os::unix::fs::symlink("nowhere", root.join("dead.wav")).unwrap();
        assert_eq!(
            names(root, &source(&[], &[])),
            [
                "a/loop: a link back to a folder above it",
                "a/x.WAV",
                "a/y.txt",
                "b.wav",
                "dead.wav: a link to nothing",
                "x.flac: a folder, expected a file",
            ]
        );
        assert_eq!(
            names(root, &source(&["**/*.WAV"], &["b*"])),
            [
                "a/loop: a link back to a folder above it",
                "a/x.WAV",
                "x.flac: a folder, expected a file",
            ]
        );
        assert_eq!(names(&root.join("b.wav"), &source(&[], &[])), ["b.wav"]);
        assert!(scan(&RealFs, &source(&[], &[]), &root.join("nope")).is_err());
    }
    #[test]
    fn a_folder_that_cannot_be_listed_matters_whatever_its_name() {
        use crate::fs::sim::{Error, Fault, SimFs};
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        std::fs::create_dir(root.join("sub")).unwrap();
        std::fs::write(root.join("sub/a.wav"), b"x").unwrap();
        std::os::unix::fs::symlink("endless", root.join("endless")).unwrap();
        let listed = scan(&RealFs, &source(&[], &[]), root).unwrap();
        let hiding = |found: &[Found]| -> Vec<String> {
            let hiding = found.iter().filter(|f| f.hides_files);
            hiding.map(|f| f.name.clone()).collect()
        };
        assert_eq!(hiding(&listed), [""; 0]);
        for call in [2, 3] {
            let fs = SimFs::new(root, &[]).unwrap();
            let (error, lasting) = (Error::Device, true);
            fs.fail(Fault::At {
                call,
                error,
                lasting,
            });
            let found = scan(&fs, &source(&[], &[]), root).unwrap();
            assert!(hiding(&found).contains(&"sub".to_owned()), "{found:?}");
        }
    }
}
