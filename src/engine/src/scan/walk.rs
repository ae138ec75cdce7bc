//! The walk: which files a source has.
//!
//! Folders proper are walked first, then what links lead to, in the order of the links' names. A
//! folder is walked once: a link to one that is listed already is reported instead, so that links
//! among n folders cost n listings and not one per way from the source to a folder. Which of two
//! ways is taken follows from the names alone, not from the order in which the disk lists them.
//! Folders are known again by their paths without links, as some file systems have no lasting
//! inode numbers.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;

use globset::GlobSet;

use super::{
    Asked, File, Folder, NOT_REGULAR, Oddity, Other, Part, TOGETHER, What, extension, look, lower,
    not_regular, show, state_of,
};
use crate::fs::{FileKind, Fs};
use crate::results::Signs;

/// A walk through a source's folders.
pub(super) struct Walk<'a, 'scope> {
    pub(super) fs: &'scope dyn Fs,
    /// Where states are asked for, side by side.
    pub(super) scope: &'a rayon::Scope<'scope>,
    pub(super) parts: Sender<(usize, usize, Part)>,
    /// Files whose states nobody asks for yet, and their number.
    pub(super) asked: Vec<Asked>,
    pub(super) waiting: usize,
    pub(super) include: GlobSet,
    pub(super) exclude: GlobSet,
    pub(super) taken: &'a dyn Fn(&str) -> bool,
    /// Folders, by device and inode, that are left out because results go there.
    pub(super) results: &'a [(u64, u64)],
    /// An extension that was asked about, and the answer: mostly the next is the same.
    pub(super) last_extension: (OsString, bool),
    pub(super) folders: Vec<Folder>,
    /// Links to folders that were not followed yet, by name in the source.
    pub(super) links: BTreeMap<String, Pending>,
    /// Path without links → the folder listed there; empty until a link is followed.
    pub(super) real: HashMap<PathBuf, usize>,
}

/// A folder that is to be listed.
#[derive(Debug)]
pub(super) struct Pending {
    path: PathBuf,
    prefix: String,
    /// Device and inode.
    place: (u64, u64),
    /// The folder that it was found in, and its number among the others there.
    within: Option<(usize, usize)>,
    /// Its path without links, once links are followed.
    real: Option<PathBuf>,
}

/// An entry that is no regular file, as the folder lists it.
struct Entry {
    name: OsString,
    kind: FileKind,
    /// Whether files of this name are included.
    wanted: bool,
}

impl Walk<'_, '_> {
    /// Lists all from here on.
    pub(super) fn root(&mut self, root: &Path) -> io::Result<()> {
        let stat = self.fs.stat(root)?;
        if stat.kind != FileKind::Dir {
            self.alone(root, stat.kind);
            return Ok(());
        }
        let mut below = Vec::new();
        let source = Pending {
            path: root.to_owned(),
            prefix: String::new(),
            place: (stat.dev, stat.ino),
            within: None,
            real: None,
        };
        self.folder(source, &mut below)?;
        self.folders_below(below);
        if !self.links.is_empty() {
            self.follow_links(&self.fs.canonicalize(root)?);
        }
        Ok(())
    }

    /// Lists folders and what is below them, links not followed.
    fn folders_below(&mut self, mut below: Vec<Pending>) {
        while let Some(folder) = below.pop() {
            let within = folder.within;
            let what = match self.listed(folder.real.as_deref(), within) {
                Some(what) => what,
                None if self.is_above(folder.place, within) => {
                    unusable("a link back to a folder above it")
                }
                None => match self.folder(folder, &mut below) {
                    Ok(index) => What::Folder(index),
                    Err(error) => hiding(format!("cannot be listed: {error}")),
                },
            };
            self.settle(within, what);
        }
    }

    /// Follows links to folders, the first by name first, until there are no more.
    fn follow_links(&mut self, root: &Path) {
        for (index, folder) in self.folders.iter().enumerate() {
            let below = folder.path.strip_prefix(&self.folders[0].path);
            let real = below.map_or_else(|_| folder.path.clone(), |below| root.join(below));
            self.real.insert(real, index);
        }
        while let Some((_, mut link)) = self.links.pop_first() {
            match self.fs.canonicalize(&link.path) {
                Ok(real) => {
                    link.real = Some(real);
                    self.folders_below(vec![link]);
                }
                Err(error) => {
                    self.settle(link.within, hiding(format!("cannot be read: {error}")));
                }
            }
        }
    }

    /// Whether one of the folders around has this device and inode. Without links that needs a
    /// file system that shows a folder within itself.
    fn is_above(&self, place: (u64, u64), within: Option<(usize, usize)>) -> bool {
        let mut above = within.map(|(folder, _)| &self.folders[folder]);
        while let Some(folder) = above {
            if folder.place == place {
                return true;
            }
            above = folder.within.map(|folder| &self.folders[folder]);
        }
        false
    }

    /// What is said of a folder that is listed already.
    fn listed(&self, real: Option<&Path>, within: Option<(usize, usize)>) -> Option<What> {
        let index = *self.real.get(real?)?;
        let mut above = within.map(|(folder, _)| folder);
        while let Some(folder) = above {
            if folder == index {
                return Some(unusable("a link back to a folder above it"));
            }
            above = self.folders[folder].within;
        }
        let name = self.folders[index].prefix.trim_end_matches('/');
        Some(What::LeftOut(if name.is_empty() {
            "the source itself again".to_owned()
        } else {
            format!("the same folder as {name}")
        }))
    }

    /// Notes what another entry of a folder turned out to be.
    fn settle(&mut self, within: Option<(usize, usize)>, what: What) {
        if let Some((folder, nth)) = within {
            self.folders[folder].others[nth].what = what;
        }
    }

    /// Lists a folder and gives its number. Folders that are found in it are added to `below`.
    fn folder(&mut self, folder: Pending, below: &mut Vec<Pending>) -> io::Result<usize> {
        let index = self.folders.len();
        let (path, prefix) = (folder.path, folder.prefix);
        self.folders.push(Folder {
            path: path.clone(),
            prefix: prefix.clone(),
            place: folder.place,
            within: folder.within.map(|(folder, _)| folder),
            files: Vec::new(),
            others: Vec::new(),
            left_out: None,
        });
        let (mut files, mut others, mut nth) = (Vec::new(), Vec::new(), 0);
        let mut signs = Signs::default();
        self.fs.list(&path, &mut |entry| {
            if entry.kind == FileKind::File {
                signs.see(&entry.name);
            }
            let Some(wanted) = self.wants(&prefix, &entry.name) else {
                return;
            };
            if entry.kind != FileKind::File {
                others.push(Entry {
                    name: entry.name,
                    kind: entry.kind,
                    wanted,
                });
            } else if wanted {
                files.push(self.file(entry.name));
                if files.len() == TOGETHER {
                    self.ask(index, nth, &path, std::mem::take(&mut files));
                    nth += 1;
                }
            }
        })?;
        if let Some(real) = &folder.real {
            self.real.insert(real.clone(), index);
        }
        // What a source is named for is its own, whatever it holds.
        if index > 0
            && let Some(why) = signs.of_folder(self.fs, &path)
        {
            self.folders[index].left_out = Some(why);
            return Ok(index);
        }
        if !files.is_empty() {
            self.ask(index, nth, &path, files);
        }
        for entry in others {
            let name = &entry.name;
            let what = match signs.of_child(name) {
                Some(why) => Some(What::LeftOut(why)),
                None => self.other(index, &path.join(name), &prefix, &entry, below),
            };
            let Some(what) = what else { continue };
            let name = entry.name;
            if let (What::Pending, Some(real), Some(last)) = (&what, &folder.real, below.last_mut())
                && entry.kind == FileKind::Dir
            {
                last.real = Some(real.join(&name));
            }
            self.folders[index].others.push(Other { name, what });
        }
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
            within: None,
            files: Vec::new(),
            others: Vec::new(),
            left_out: None,
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

    /// What an entry of the folder `index` is that is no regular file. A folder, and a link to
    /// one, is listed later.
    fn other(
        &mut self,
        index: usize,
        path: &Path,
        prefix: &str,
        entry: &Entry,
        below: &mut Vec<Pending>,
    ) -> Option<What> {
        let (name, wanted) = (&entry.name, entry.wanted);
        match self.fs.stat(path) {
            Ok(stat) if stat.kind == FileKind::Dir => {
                let place = (stat.dev, stat.ino);
                if self.results.contains(&place) {
                    let why = "results of this project go there".to_owned();
                    return Some(What::LeftOut(why));
                }
                let folder = Pending {
                    path: path.to_owned(),
                    prefix: show(prefix, name) + "/",
                    place,
                    within: Some((index, self.folders[index].others.len())),
                    real: None,
                };
                if entry.kind == FileKind::Dir {
                    below.push(folder);
                } else {
                    self.links.insert(folder.prefix.clone(), folder);
                }
                Some(What::Pending)
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
