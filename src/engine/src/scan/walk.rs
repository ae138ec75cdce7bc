//! The walk: which files a source has.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;

use globset::GlobSet;

use super::{
    Asked, File, Folder, MAX_DEPTH, NOT_REGULAR, Oddity, Other, Part, TOGETHER, What, extension,
    look, lower, not_regular, show, state_of,
};
use crate::fs::{FileKind, Fs};

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
    /// An extension that was asked about, and the answer: mostly the next is the same.
    pub(super) last_extension: (OsString, bool),
    pub(super) folders: Vec<Folder>,
    /// The folders above, by device and inode: a link back to one is a cycle.
    pub(super) open: Vec<(u64, u64)>,
}

impl Walk<'_, '_> {
    /// Lists all from here on.
    pub(super) fn root(&mut self, root: &Path) -> io::Result<()> {
        let stat = self.fs.stat(root)?;
        if stat.kind == FileKind::Dir {
            self.folder(root.to_owned(), String::new(), (stat.dev, stat.ino))?;
        } else {
            self.alone(root, stat.kind);
        }
        Ok(())
    }

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
