//! From a source to its files, and the state of each that matters.
//!
//! Folders are walked and links followed, each folder once. Names that begin with a
//! dot are left out, as are those that the source's globs exclude, and the program's own results
//! ([`crate::results`]). A listing is taken in as few
//! calls as the disk allows, side by side, and kept as it came: whoever only wants to know whether
//! anything has changed ([`Listing::state`]) pays for nothing else.

mod walk;

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use rayon::prelude::*;
use stage_core::{Digest, KeyHasher, text};

use crate::config::Source;
use crate::fs::{Ctime, FileKind, Fs, Stat};
use crate::store::{Ctimes, StatSig};
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
    /// Why it is a folder that is left out, if it is one: it holds results, or is listed under
    /// another name.
    pub left_out: Option<String>,
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
    /// The folder that it was found in, by number.
    within: Option<usize>,
    /// Regular files, [`TOGETHER`] at a time.
    files: Vec<Part>,
    others: Vec<Other>,
    /// Why what it holds is no input, if it is none.
    left_out: Option<String>,
}

/// Some files of a folder.
#[derive(Debug, Default)]
struct Part {
    files: Vec<File>,
    /// Digest of their names and states, if all of these could be told.
    state: Option<Digest>,
    /// The devices that they are on, each with the name of a file there and whether the states
    /// there vouch if their ctimes are [`Ctime::Passed`].
    devices: Vec<(u64, OsString, bool)>,
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
    /// A folder that is to be listed.
    Pending,
    /// A folder: its number.
    Folder(usize),
    /// A folder that is not listed, and why.
    LeftOut(String),
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
/// those of the files whose extension, in lower case, is `taken`. The folders `results`, by device
/// and inode, are left out.
///
/// # Errors
/// The root itself cannot be read. What is below it and cannot is listed as unusable.
pub(crate) fn list(
    fs: &dyn Fs,
    source: &Source,
    root: &Path,
    taken: &dyn Fn(&str) -> bool,
    results: &[(u64, u64)],
) -> Result<Listing, ScanError> {
    let fail = |error| ScanError::Root {
        source_name: source.name.clone(),
        path: root.to_owned(),
        source: error,
    };
    let globs = |patterns| globs(source, patterns);
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
            results,
            last_extension: (OsString::new(), taken("")),
            folders: Vec::new(),
            links: BTreeMap::new(),
            real: HashMap::new(),
        };
        walk.root(root)?;
        look(fs, walk.asked, &walk.parts);
        Ok(walk.folders)
    });
    let mut folders: Vec<Folder> = folders.map_err(fail)?;
    for (folder, nth, part) in parts {
        if folders[folder].left_out.is_some() {
            continue;
        }
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
        let mut devices: Vec<(u64, OsString, bool)> = Vec::new();
        for File { name, look } in &files {
            let Some(Ok(sig)) = look else { continue };
            let vouches = sig.vouches(Ctime::Passed);
            // Mostly there is one.
            match devices.iter_mut().find(|(dev, ..)| *dev == sig.dev) {
                Some((.., all)) => *all &= vouches,
                None => devices.push((sig.dev, name.clone(), vouches)),
            }
        }
        Self {
            files,
            state,
            devices,
        }
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
        let mut hasher = KeyHasher::new("pipeline listing 2");
        for folder in &self.folders {
            hasher
                .field(folder.prefix.as_bytes())
                .field(&folder.place.0.to_le_bytes())
                .field(&folder.place.1.to_le_bytes())
                .field(folder.left_out.as_deref().unwrap_or_default().as_bytes())
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
                    What::LeftOut(why) => hasher.count(3).field(why.as_bytes()),
                    What::File(Some(Err(_))) | What::Odd(_) | What::Pending => return None,
                };
            }
        }
        Some(hasher.finish())
    }

    /// The files, sorted by name, with the states of those that are taken.
    pub(crate) fn files(self) -> Vec<(Found, Option<Look>)> {
        let mut files = Vec::new();
        // A folder stands after the one that it is in.
        let count = self.folders.len();
        let (mut reached, mut empty) = (vec![false; count], vec![true; count]);
        let mut below: Vec<Vec<(Found, usize)>> = Vec::with_capacity(count);
        for (index, folder) in self.folders.into_iter().enumerate() {
            // What was found in a folder before it could not be listed any more does not count.
            reached[index] |= index == 0;
            let mut folders = Vec::new();
            if reached[index] {
                let before = files.len();
                gather(folder, &mut files, &mut folders);
                empty[index] = files.len() == before;
            }
            for (_, folder) in &folders {
                reached[*folder] = true;
            }
            below.push(folders);
        }
        for (index, folders) in below.into_iter().enumerate().rev() {
            for (mut found, folder) in folders {
                // An empty folder may look like a file by its name; the caller, who knows
                // which extensions are wanted, decides whether that matters.
                if empty[folder] && !found.extension.is_empty() {
                    found.unusable = Some("a folder, expected a file".to_owned());
                    files.push((found, None));
                    empty[folder] = false;
                }
                empty[index] &= empty[folder];
            }
        }
        files.par_sort_unstable_by(|(a, _), (b, _)| {
            a.name.cmp(&b.name).then_with(|| a.path.cmp(&b.path))
        });
        files
    }

    /// Whether no file can change and keep the state that it has: the file systems that the files
    /// are on keep ctimes. `ctimes` collects what is known of the devices.
    pub(crate) fn vouches(&self, fs: &dyn Fs, ctimes: &mut Ctimes) -> bool {
        self.folders.iter().all(|folder| {
            let mut ctime = |dev, name| ctimes.on(dev, fs, || folder.path.join(name));
            let mut parts = folder.files.iter().flat_map(|part| &part.devices);
            let mut others = folder.others.iter();
            parts.all(|(dev, name, passed)| match ctime(*dev, name) {
                Ctime::Kernel => true,
                Ctime::Passed => *passed,
                Ctime::Unknown => false,
            }) && others.all(|Other { name, what }| match what {
                What::File(Some(Ok(sig))) => sig.vouches(ctime(sig.dev, name)),
                _ => true,
            })
        })
    }
}

/// The files of a folder, and the folders in it with their numbers.
fn gather(folder: Folder, files: &mut Vec<(Found, Option<Look>)>, below: &mut Vec<(Found, usize)>) {
    let (path, prefix) = (&folder.path, &folder.prefix);
    let found = |name: &OsStr, extension: Arc<str>| Found {
        extension,
        name: show(prefix, name),
        path: path.join(name),
        unusable: None,
        hides_files: false,
        left_out: None,
    };
    if folder.left_out.is_some() {
        let left_out = Found {
            name: prefix.clone(),
            path: path.clone(),
            left_out: folder.left_out,
            ..found(OsStr::new(""), Arc::default())
        };
        files.push((left_out, None));
        return;
    }
    files.par_extend(folder.files.into_par_iter().flat_map_iter(|part| {
        let mut shared = Shared::default();
        let files = part.files.into_iter();
        files.map(move |file| (found(&file.name, shared.of(&file.name)), file.look))
    }));
    let mut shared = Shared::default();
    for Other { name, what } in folder.others {
        let mut found = found(&name, shared.of(&name));
        match what {
            What::File(look) => files.push((found, look)),
            What::Odd(oddity) => {
                found.unusable = Some(oddity.reason);
                found.hides_files = oddity.hides_files;
                files.push((found, None));
            }
            What::LeftOut(why) => {
                found.name.push('/');
                found.extension = Arc::default();
                found.left_out = Some(why);
                files.push((found, None));
            }
            What::Folder(index) => below.push((found, index)),
            What::Pending => {}
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

/// Globs of a source.
pub(crate) fn globs(source: &Source, patterns: &[String]) -> Result<GlobSet, ScanError> {
    build(patterns).map_err(|error| ScanError::Glob {
        source_name: source.name.clone(),
        source: error,
    })
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
