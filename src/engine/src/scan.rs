//! From a source to its files, and the state of each that matters.
//!
//! Folders are walked, links followed, cycles noticed. Names that begin with a
//! dot are left out, as are those that the source's globs exclude. A listing is taken in as few
//! calls as the disk allows, side by side, and kept as it came: whoever only wants to know whether
//! anything has changed ([`Listing::state`]) pays for nothing else.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use rayon::prelude::*;
use stage_core::{Digest, KeyHasher};

use crate::config::Source;
use crate::fs::{FileKind, Fs, Stat};
use crate::store::StatSig;

/// A file of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Path relative to the source, with `/`; bytes that are not UTF-8 are shown as `\xHH`.
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
        let stat = fs.stat(root)?;
        if stat.kind == FileKind::Dir {
            walk.folder(root.to_owned(), String::new(), (stat.dev, stat.ino))?;
        } else {
            walk.alone(root, stat.kind);
        }
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

struct Walk<'a, 'scope> {
    fs: &'scope dyn Fs,
    /// Where states are asked for, side by side.
    scope: &'a rayon::Scope<'scope>,
    parts: Sender<(usize, usize, Part)>,
    /// Files whose states nobody asks for yet, and their number.
    asked: Vec<Asked>,
    waiting: usize,
    include: GlobSet,
    exclude: GlobSet,
    taken: &'a dyn Fn(&str) -> bool,
    /// An extension that was asked about, and the answer: mostly the next is the same.
    last_extension: (OsString, bool),
    folders: Vec<Folder>,
    /// The folders above, by device and inode: a link back to one is a cycle.
    open: Vec<(u64, u64)>,
}

impl Walk<'_, '_> {
    /// Lists a folder and those below it; gives its number.
    fn folder(&mut self, path: PathBuf, prefix: String, place: (u64, u64)) -> io::Result<usize> {
        let index = self.folders.len();
        self.folders.push(Folder {
            path: path.clone(),
            prefix: prefix.clone(),
            place,
            files: Vec::new(),
            others: Vec::new(),
        });
        let (mut files, mut others, mut nth) = (Vec::new(), Vec::new(), 0);
        self.fs.list(&path, &mut |entry| {
            let Some(wanted) = self.wants(&prefix, &entry.name) else {
                return;
            };
            if entry.kind != FileKind::File {
                others.push((entry.name, wanted));
            } else if wanted {
                files.push(self.file(entry.name));
                if files.len() == TOGETHER {
                    self.ask(index, nth, &path, std::mem::take(&mut files));
                    nth += 1;
                }
            }
        })?;
        if !files.is_empty() {
            self.ask(index, nth, &path, files);
        }
        self.open.push(place);
        for (name, wanted) in others {
            let what = self.other(&path.join(&name), &prefix, &name, wanted);
            let other = what.map(|what| Other { name, what });
            self.folders[index].others.extend(other);
        }
        self.open.pop();
        Ok(index)
    }

    /// The source is a single file.
    fn alone(&mut self, root: &Path, kind: FileKind) {
        let name = root.file_name().unwrap_or(root.as_os_str()).to_owned();
        let path = root.parent().unwrap_or(Path::new("")).to_owned();
        self.folders.push(Folder {
            path: path.clone(),
            prefix: String::new(),
            place: (0, 0),
            files: Vec::new(),
            others: Vec::new(),
        });
        if self.wants("", &name) != Some(true) {
            return;
        }
        if kind == FileKind::File {
            let file = self.file(name);
            self.ask(0, 0, &path, vec![file]);
        } else {
            let what = unusable(NOT_REGULAR);
            self.folders[0].others.push(Other { name, what });
        }
    }

    /// Has the states of some files asked for: side by side, when there are enough of them.
    fn ask(&mut self, folder: usize, nth: usize, path: &Path, files: Vec<File>) {
        self.waiting += files.len();
        self.asked.push((folder, nth, path.to_owned(), files));
        if self.waiting >= TOGETHER {
            self.waiting = 0;
            let (fs, parts) = (self.fs, self.parts.clone());
            let asked = std::mem::take(&mut self.asked);
            self.scope.spawn(move |_| look(fs, asked, &parts));
        }
    }

    fn other(&mut self, path: &Path, prefix: &str, name: &OsStr, wanted: bool) -> Option<What> {
        match self.fs.stat(path) {
            Ok(stat) if stat.kind == FileKind::Dir => {
                let prefix = show(prefix, name) + "/";
                Some(self.subfolder(path, prefix, (stat.dev, stat.ino)))
            }
            Ok(stat) if stat.kind == FileKind::File => wanted.then(|| {
                let taken = self.takes(name);
                What::File(taken.then(|| state_of(Ok(stat))))
            }),
            Ok(_) => wanted.then(|| unusable(NOT_REGULAR)),
            Err(error) if !is_broken_link(&error) => {
                Some(hiding(format!("cannot be read: {error}")))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                wanted.then(|| unusable("a link to nothing"))
            }
            Err(error) => wanted.then(|| unusable(&format!("cannot be read: {error}"))),
        }
    }

    fn subfolder(&mut self, path: &Path, prefix: String, place: (u64, u64)) -> What {
        if self.open.contains(&place) {
            return unusable("a link back to a folder above it");
        }
        if self.open.len() >= MAX_DEPTH {
            return hiding(format!("more than {MAX_DEPTH} folders deep"));
        }
        match self.folder(path.to_owned(), prefix, place) {
            Ok(index) => What::Folder(index),
            Err(error) => hiding(format!("cannot be listed: {error}")),
        }
    }

    /// Whether files of this name are included; `None` for what is left out whatever it is.
    fn wants(&self, prefix: &str, name: &OsStr) -> Option<bool> {
        if name.as_encoded_bytes().first() == Some(&b'.') && !self.folders.is_empty() {
            return None;
        }
        if self.include.is_empty() && self.exclude.is_empty() {
            return Some(true);
        }
        let shown = show(prefix, name);
        if self.exclude.is_match(&shown) {
            return None;
        }
        Some(self.include.is_empty() || self.include.is_match(&shown))
    }

    fn file(&mut self, name: OsString) -> File {
        let look = self.takes(&name).then(|| Err(not_regular()));
        File { name, look }
    }

    fn takes(&mut self, name: &OsStr) -> bool {
        let extension = extension(name).unwrap_or_default();
        if extension != self.last_extension.0 {
            let taken = (self.taken)(&lower(extension));
            self.last_extension = (extension.to_owned(), taken);
        }
        self.last_extension.1
    }
}

fn unusable(reason: &str) -> What {
    What::Odd(Oddity {
        reason: reason.to_owned(),
        hides_files: false,
    })
}

/// A folder, or what may be one, whose files are not known.
fn hiding(reason: String) -> What {
    let hides_files = true;
    What::Odd(Oddity {
        reason,
        hides_files,
    })
}

/// Whether a link leads nowhere or to itself: then there are no files behind it.
fn is_broken_link(error: &io::Error) -> bool {
    let endless = rustix::io::Errno::LOOP.raw_os_error();
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(endless)
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

/// A name for people, after `prefix`; distinct bytes give distinct names.
fn show(prefix: &str, name: &OsStr) -> String {
    let mut text = String::with_capacity(prefix.len() + name.len());
    text.push_str(prefix);
    if let Some(plain) = name.to_str().filter(|name| !name.contains('\\')) {
        text.push_str(plain);
        return text;
    }
    let bytes = name.as_encoded_bytes();
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

    fn scan(fs: &dyn Fs, source: &Source, root: &Path) -> Vec<Found> {
        let listing = list(fs, source, root, &|extension| extension == "wav").unwrap();
        let files = listing.files().into_iter();
        files.map(|(found, _)| found).collect()
    }

    fn names(root: &Path, source: &Source) -> Vec<String> {
        scan(&RealFs, source, root)
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
        let nowhere = list(&RealFs, &source(&[], &[]), &root.join("nope"), &|_| true);
        assert!(nowhere.is_err());
    }

    /// What `state` says after each of some changes; equal numbers for equal states.
    #[test]
    fn a_state_is_that_of_names_and_of_the_files_that_are_taken() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        std::fs::create_dir(root.join("below")).unwrap();
        for n in 0..2 * TOGETHER + 7 {
            std::fs::write(root.join(format!("{n}.wav")), b"x").unwrap();
        }
        std::fs::write(root.join("below/a.wav"), b"x").unwrap();
        std::fs::write(root.join("note.txt"), b"x").unwrap();
        let state = || {
            let taken = |extension: &str| extension == "wav";
            list(&RealFs, &source(&[], &["*.tmp"]), root, &taken)
                .unwrap()
                .state()
        };
        let first = state();
        assert!(first.is_some());
        let mut states = vec![first];
        let mut changed = |what: &str| {
            let now = state();
            assert!(now.is_some() && !states.contains(&now), "{what}");
            states.push(now);
        };
        std::fs::write(root.join("1025.wav"), b"yy").unwrap();
        changed("a file is longer");
        std::fs::write(root.join("below/a.wav"), b"y").unwrap();
        changed("a file below is edited");
        std::fs::rename(root.join("3.wav"), root.join("three.wav")).unwrap();
        changed("a file is renamed");
        std::fs::write(root.join("other.txt"), b"x").unwrap();
        changed("a file that is not taken is added");
        std::fs::remove_file(root.join("7.wav")).unwrap();
        changed("a file is removed");
        std::os::unix::fs::symlink("../below/a.wav", root.join("below/link.wav")).unwrap();
        changed("a link is added");
        let last = state();
        for name in ["note.txt", ".hidden.wav", "excluded.tmp"] {
            std::fs::write(root.join(name), b"longer").unwrap();
            assert_eq!(state(), last, "{name}");
        }
        std::os::unix::fs::symlink("nowhere", root.join("below/dead.wav")).unwrap();
        assert_eq!(
            state(),
            None,
            "what a link to nothing leads to may change unseen"
        );
    }

    #[test]
    fn a_folder_that_cannot_be_listed_matters_whatever_its_name() {
        use crate::fs::sim::{Error, Fault, SimFs};
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        std::fs::create_dir(root.join("sub")).unwrap();
        std::fs::write(root.join("sub/a.wav"), b"x").unwrap();
        std::os::unix::fs::symlink("endless", root.join("endless")).unwrap();
        let listed = scan(&RealFs, &source(&[], &[]), root);
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
            let found = scan(&fs, &source(&[], &[]), root);
            assert!(hiding(&found).contains(&"sub".to_owned()), "{found:?}");
        }
    }
}
