//! What was done to the disk.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::crash::Recording;
use super::snapshot::Snapshot;

/// Number of a file, kept through renames.
pub type FileId = u64;

/// One change. Paths are relative to the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// A file got a name, its first or another.
    Create {
        /// Its name.
        path: PathBuf,
        /// The file.
        file: FileId,
    },
    /// Bytes were written.
    Write {
        /// To this file.
        file: FileId,
        /// From this offset on.
        at: u64,
        /// The bytes.
        bytes: Arc<[u8]>,
    },
    /// A file was cut or extended.
    SetLen {
        /// The file.
        file: FileId,
        /// To this length in bytes.
        size: u64,
    },
    /// A folder was created.
    CreateDir {
        /// Its name.
        path: PathBuf,
    },
    /// A file or folder got another name.
    Rename {
        /// The old name.
        from: PathBuf,
        /// The new name; what had it before is gone.
        to: PathBuf,
        /// The file; `None` for a folder.
        file: Option<FileId>,
    },
    /// A file lost its name.
    Remove {
        /// The name.
        path: PathBuf,
        /// The file.
        file: FileId,
    },
    /// A folder was removed.
    RemoveDir {
        /// Its name.
        path: PathBuf,
    },
    /// Bytes and length of a file were made durable.
    Sync {
        /// The file.
        file: FileId,
    },
    /// The names in a folder were made durable.
    SyncDir {
        /// The folder.
        path: PathBuf,
    },
    /// Everything was made durable.
    SyncAll,
}

/// The files that others write past the seam, as they were at some time.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Beside {
    /// Length and time of each file, to see a change without reading.
    seen: Vec<Option<(u64, SystemTime)>>,
}

/// The notes.
#[derive(Debug)]
pub(super) struct Log {
    root: PathBuf,
    initial: Snapshot,
    initial_files: HashMap<PathBuf, FileId>,
    effects: Vec<Effect>,
    lines: Vec<String>,
    names: HashMap<PathBuf, FileId>,
    next: FileId,
    beside: Vec<String>,
    looked: Beside,
    /// Number of effects → the files beside from then on.
    copies: Vec<(usize, Arc<Snapshot>)>,
}

impl Log {
    pub(super) fn new(root: &Path, beside: &[&str]) -> io::Result<Self> {
        let mut initial = Snapshot::read(root)?;
        let is_beside = |path: &Path| beside.iter().any(|name| path == Path::new(name));
        initial.0.retain(|path, _| !is_beside(path));
        let files = initial.0.iter().filter(|(_, bytes)| bytes.is_some());
        let names: HashMap<_, _> = files
            .zip(0..)
            .map(|((path, _), file)| (path.clone(), file))
            .collect();
        let mut log = Self {
            root: root.to_owned(),
            initial,
            next: names.len() as FileId,
            initial_files: names.clone(),
            names,
            effects: Vec::new(),
            lines: Vec::new(),
            beside: beside.iter().map(|name| (*name).to_owned()).collect(),
            looked: Beside { seen: Vec::new() },
            copies: Vec::new(),
        };
        log.look_beside();
        Ok(log)
    }

    fn inside<'a>(&self, path: &'a Path) -> Option<&'a Path> {
        path.strip_prefix(&self.root).ok()
    }

    pub(super) fn shown(&self, path: &Path) -> String {
        let path = self.inside(path).unwrap_or(path);
        let parts: Vec<_> = path
            .iter()
            .map(|part| part.to_string_lossy())
            .map(|part| if part.len() >= 26 { "*".into() } else { part })
            .collect();
        parts.join("/")
    }

    pub(super) fn line(&self, what: &str, path: &Path) -> String {
        format!("{what} {}", self.shown(path))
    }

    pub(super) fn say(&mut self, line: &str) {
        self.lines.push(line.to_owned());
    }

    pub(super) fn take_lines(&mut self) -> Vec<String> {
        std::mem::take(&mut self.lines)
    }

    pub(super) fn recording(&self) -> Recording {
        Recording::new(
            self.initial.clone(),
            self.initial_files.clone(),
            self.effects.clone(),
            self.copies.clone(),
        )
    }

    pub(super) fn note(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    pub(super) fn note_path(&mut self, path: &Path, effect: impl FnOnce(PathBuf) -> Effect) {
        if let Some(path) = self.inside(path) {
            let effect = effect(path.to_owned());
            self.note(effect);
        }
    }

    /// The file at a path, which may have come there past the seam.
    pub(super) fn file_at(&mut self, path: &Path) -> Option<FileId> {
        self.meet(path);
        self.names.get(self.inside(path)?).copied()
    }

    pub(super) fn created(&mut self, path: &Path) -> Option<FileId> {
        let path = self.inside(path)?.to_owned();
        let file = self.next;
        self.next += 1;
        self.names.insert(path.clone(), file);
        self.note(Effect::Create { path, file });
        Some(file)
    }

    /// A file got another name.
    pub(super) fn linked(&mut self, from: &Path, to: &Path) {
        if let (Some(from), Some(to)) = (self.inside(from), self.inside(to))
            && let Some(file) = self.names.get(from).copied()
        {
            let path = to.to_owned();
            self.names.insert(path.clone(), file);
            self.note(Effect::Create { path, file });
        }
    }

    /// A file that came with its bytes.
    pub(super) fn appeared(&mut self, path: &Path) {
        if let Some(file) = self.created(path)
            && let Ok(bytes) = fs::read(path)
        {
            let bytes = bytes.into();
            self.note(Effect::Write { file, at: 0, bytes });
        }
    }

    /// Takes note of a file that came past the seam, if it did.
    pub(super) fn meet(&mut self, path: &Path) {
        let known = |inside: &Path| {
            self.names.contains_key(inside)
                || self.beside.iter().any(|name| inside == Path::new(name))
        };
        if self.inside(path).is_some_and(|inside| !known(inside)) && path.is_file() {
            self.appeared(path);
        }
    }

    pub(super) fn removed(&mut self, path: &Path) {
        if let Some(path) = self.inside(path).map(Path::to_owned)
            && let Some(file) = self.names.remove(&path)
        {
            self.note(Effect::Remove { path, file });
        }
    }

    pub(super) fn renamed(&mut self, from: &Path, to: &Path) {
        let (Some(from), Some(to)) = (self.inside(from), self.inside(to)) else {
            return;
        };
        let (from, to) = (from.to_owned(), to.to_owned());
        let file = self.names.remove(&from);
        match file {
            Some(file) => {
                self.names.insert(to.clone(), file);
            }
            None => {
                let moved: Vec<_> = self
                    .names
                    .keys()
                    .filter_map(|path| {
                        Some((path.clone(), to.join(path.strip_prefix(&from).ok()?)))
                    })
                    .collect();
                for (old, new) in moved {
                    if let Some(file) = self.names.remove(&old) {
                        self.names.insert(new, file);
                    }
                }
            }
        }
        self.note(Effect::Rename { from, to, file });
    }

    /// Copies the files beside if they have changed.
    pub(super) fn look_beside(&mut self) {
        let seen: Vec<_> = self
            .beside
            .iter()
            .map(|name| {
                let meta = fs::metadata(self.root.join(name)).ok()?;
                Some((meta.len(), meta.modified().ok()?))
            })
            .collect();
        if self.looked.seen == seen && !self.copies.is_empty() {
            return;
        }
        self.looked = Beside { seen };
        let mut copy = Snapshot::default();
        for name in &self.beside {
            if let Ok(bytes) = fs::read(self.root.join(name)) {
                copy.0.insert(name.into(), Some(bytes.into()));
            }
        }
        if self.copies.last().is_none_or(|(_, last)| **last != copy) {
            self.copies.push((self.effects.len(), Arc::new(copy)));
        }
    }
}
