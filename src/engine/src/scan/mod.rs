//! From a source to its files, and the state of each that matters.
//!
//! Folders are walked, links followed, cycles noticed. Names that begin with a
//! dot are left out, as are those that the source's globs exclude. A listing is taken in as few
//! calls as the disk allows, side by side, and kept as it came: whoever only wants to know whether
//! anything has changed ([`Listing::state`]) pays for nothing else.

mod walk;

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use rayon::prelude::*;
use stage_core::{Digest, KeyHasher, text};

use crate::config::Source;
use crate::fs::{FileKind, Fs, Stat};
use crate::store::StatSig;
use walk::Walk;

/// A file of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Path relative to the source, with `/`, as [`stage_core::text`] writes names of any bytes.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// Its extension in lower case, without the dot; empty for none. Files beside one another share
    /// it.
    pub extension: Arc<str>,
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
        source: io::Error,
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

/// Files that are asked for their states at once.
const TOGETHER: usize = 512;

/// What is said of devices, pipes and the like.
const NOT_REGULAR: &str = "no regular file";

/// What a file's state is, or why it cannot be told.
pub(crate) type Look = io::Result<StatSig>;

/// A source as the disk has it now.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// The source itself first; others are reached from there.
    folders: Vec<Folder>,
}

/// A folder, with its entries in the order in which the disk lists them.
#[derive(Debug)]
struct Folder {
    path: PathBuf,
    /// Its name in the source with a `/` at the end; empty for the source itself.
    prefix: String,
    /// Device and inode.
    place: (u64, u64),
    /// Regular files, [`TOGETHER`] at a time.
    files: Vec<Part>,
    others: Vec<Other>,
}

/// Some files of a folder.
#[derive(Debug, Default)]
struct Part {
    files: Vec<File>,
    /// Digest of their names and states, if all of these could be told.
    state: Option<Digest>,
}

/// A regular file, as the folder says.
#[derive(Debug)]
struct File {
    name: OsString,
    /// Its state, if its extension is taken.
    look: Option<Look>,
}

/// What is not told by its kind in the folder: another folder, a link, a device.
#[derive(Debug)]
struct Other {
    name: OsString,
    what: What,
}

/// What another entry turned out to be.
#[derive(Debug)]
enum What {
    /// A link to a regular file.
    File(Option<Look>),
    /// A folder: its number.
    Folder(usize),
    /// What cannot be read as a file.
    Odd(Oddity),
}

/// Why something cannot be read as a file, and whether it may hide files.
#[derive(Debug)]
struct Oddity {
    reason: String,
    hides_files: bool,
}

/// Lists what is in `source` below `root` (or `root` itself, if it is a file). The states are
/// those of the files whose extension, in lower case, is `taken`.
///
/// # Errors
/// The root itself cannot be read. What is below it and cannot is listed as unusable.
pub(crate) fn list(
    fs: &dyn Fs,
    source: &Source,
    root: &Path,
    taken: &dyn Fn(&str) -> bool,
) -> Result<Listing, ScanError> {
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
    let (include, exclude) = (globs(&source.include)?, globs(&source.exclude)?);
    let (sender, parts) = channel();
    // While this thread lists, others ask for states.
    let folders = rayon::in_place_scope(|scope| {
        let mut walk = Walk {
            fs,
            scope,
            parts: sender,
            asked: Vec::new(),
            waiting: 0,
            include,
            exclude,
            taken,
            last_extension: (OsString::new(), taken("")),
            folders: Vec::new(),
            open: Vec::new(),
        };
        walk.root(root)?;
        look(fs, walk.asked, &walk.parts);
        Ok(walk.folders)
    });
    let mut folders: Vec<Folder> = folders.map_err(fail)?;
    for (folder, nth, part) in parts {
        let files = &mut folders[folder].files;
        files.resize_with(files.len().max(nth + 1), Part::default);
        files[nth] = part;
    }
    Ok(Listing { folders })
}

/// Number of a folder, number of the part in it, the folder, and files of it.
type Asked = (usize, usize, PathBuf, Vec<File>);

/// Asks for states.
fn look(fs: &dyn Fs, asked: Vec<Asked>, parts: &Sender<(usize, usize, Part)>) {
    for (folder, nth, path, files) in asked {
        // The receiver lives until all parts have come.
        let _ = parts.send((folder, nth, Part::look(fs, &path, files)));
    }
}

impl Part {
    /// Asks for the states of the files that are taken.
    fn look(fs: &dyn Fs, folder: &Path, mut files: Vec<File>) -> Self {
        let mut taken: Vec<&mut File> = files.iter_mut().filter(|f| f.look.is_some()).collect();
        let names: Vec<&OsStr> = taken.iter().map(|file| file.name.as_os_str()).collect();
        let stats = fs.stat_each(folder, &names);
        for (file, stat) in taken.iter_mut().zip(stats) {
            file.look = Some(state_of(stat));
        }
        let state = hash_files(&files);
        Self { files, state }
    }
}

fn state_of(stat: io::Result<Stat>) -> Look {
    match stat {
        Ok(stat) if stat.kind == FileKind::File => Ok(StatSig::from(&stat)),
        Ok(_) => Err(not_regular()),
        Err(error) => Err(error),
    }
}

/// The state of a file that has not been looked at yet.
fn not_regular() -> io::Error {
    io::Error::other(NOT_REGULAR)
}

impl Listing {
    /// A digest of all that was seen: names and kinds as the disk lists them, and the states of
    /// the files that are taken. Equal digests give equal [`Listing::files`]. `None` if something
    /// was seen whose state says too little: then it may change unseen.
    pub(crate) fn state(&self) -> Option<Digest> {
        let mut hasher = KeyHasher::new("pipeline listing 1");
        for folder in &self.folders {
            hasher
                .field(folder.prefix.as_bytes())
                .field(&folder.place.0.to_le_bytes())
                .field(&folder.place.1.to_le_bytes())
                .count(folder.files.len());
            for part in &folder.files {
                hasher.field(&part.state?.0);
            }
            hasher.count(folder.others.len());
            for Other { name, what } in &folder.others {
                hasher.field(name.as_encoded_bytes());
                match what {
                    What::File(None) => hasher.count(0),
                    What::File(Some(Ok(sig))) => hasher.count(1).field(&sig.to_bytes()),
                    What::Folder(_) => hasher.count(2),
                    What::File(Some(Err(_))) | What::Odd(_) => return None,
                };
            }
        }
        Some(hasher.finish())
    }

    /// The files, sorted by name, with the states of those that are taken.
    pub(crate) fn files(self) -> Vec<(Found, Option<Look>)> {
        let mut files = Vec::new();
        let mut folders: Vec<Option<Folder>> = self.folders.into_iter().map(Some).collect();
        gather(&mut folders, 0, &mut files);
        files.par_sort_unstable_by(|(a, _), (b, _)| {
            a.name.cmp(&b.name).then_with(|| a.path.cmp(&b.path))
        });
        files
    }
}

/// The files of a folder and of those below it.
fn gather(folders: &mut [Option<Folder>], index: usize, files: &mut Vec<(Found, Option<Look>)>) {
    let Some(folder) = folders.get_mut(index).and_then(Option::take) else {
        return;
    };
    let (path, prefix) = (&folder.path, &folder.prefix);
    let found = |name: &OsStr, extension: Arc<str>, oddity: Option<Oddity>| Found {
        extension,
        name: show(prefix, name),
        hides_files: oddity.as_ref().is_some_and(|odd| odd.hides_files),
        unusable: oddity.map(|odd| odd.reason),
        path: path.join(name),
    };
    files.par_extend(folder.files.into_par_iter().flat_map_iter(|part| {
        let mut shared = Shared::default();
        let files = part.files.into_iter();
        files.map(move |file| (found(&file.name, shared.of(&file.name), None), file.look))
    }));
    let mut shared = Shared::default();
    let mut found = |name: &OsStr, oddity| found(name, shared.of(name), oddity);
    for Other { name, what } in folder.others {
        match what {
            What::File(look) => files.push((found(&name, None), look)),
            What::Odd(oddity) => files.push((found(&name, Some(oddity)), None)),
            What::Folder(below) => {
                let before = files.len();
                gather(folders, below, files);
                // An empty folder may look like a file by its name; whether that matters is for
                // whoever knows which extensions are wanted.
                if files.len() == before && extension(&name).is_some() {
                    let reason = "a folder, expected a file".to_owned();
                    let hides_files = false;
                    let oddity = Oddity {
                        reason,
                        hides_files,
                    };
                    files.push((found(&name, Some(oddity)), None));
                }
            }
        }
    }
}

/// The extension of the last file, for the next that has the same.
#[derive(Default)]
struct Shared {
    written: OsString,
    lower: Arc<str>,
}

impl Shared {
    /// The extension of `name` in lower case.
    fn of(&mut self, name: &OsStr) -> Arc<str> {
        let written = extension(name).unwrap_or_default();
        if written != self.written {
            self.written = written.to_owned();
            self.lower = lower(written).into();
        }
        Arc::clone(&self.lower)
    }
}

fn hash_files(files: &[File]) -> Option<Digest> {
    let mut bytes = Vec::with_capacity(files.len() * 80);
    for File { name, look } in files {
        let name = name.as_encoded_bytes();
        bytes.extend_from_slice(&(name.len() as u64).to_le_bytes());
        bytes.extend_from_slice(name);
        match look {
            None => bytes.push(0),
            Some(Ok(sig)) => {
                bytes.push(1);
                bytes.extend_from_slice(&sig.to_bytes());
            }
            Some(Err(_)) => return None,
        }
    }
    Some(Digest::of(&bytes))
}

fn build(patterns: &[String]) -> Result<GlobSet, globset::Error> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        // As in a shell, `*` stays within a folder and `**` does not.
        set.add(GlobBuilder::new(pattern).literal_separator(true).build()?);
    }
    set.build()
}

fn extension(name: &OsStr) -> Option<&OsStr> {
    Path::new(name).extension()
}

fn lower(extension: &OsStr) -> String {
    let extension = extension.to_string_lossy();
    if extension.is_ascii() {
        return extension.to_ascii_lowercase();
    }
    extension.to_lowercase()
}

/// The name of a file, after `prefix`; see [`stage_core::text`].
fn show(prefix: &str, name: &OsStr) -> String {
    let mut text = String::with_capacity(prefix.len() + name.len());
    text.push_str(prefix);
    text::push_name(&mut text, name);
    text
}

#[cfg(test)]
mod tests;
