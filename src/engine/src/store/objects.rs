//! Objects: files named by the digest of their bytes, read-only, written once.
//!
//! An object is renamed into place as soon as its bytes are written, so that the next stage can
//! read it at its final path, and made durable by the group commit that first refers to it
//! ([`super::commit`]). Until then its name proves nothing after a power cut; nothing durable
//! refers to it either. That is why an object that is found in place when its bytes arrive again
//! is read and compared, not trusted, and why it is synced again with the group that uses it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use stage_core::{Digest, Entry, Input, SEALED_MODE, Tree};

use super::error::{Result, StoreError, Warning};
use super::publish::publish;
use super::{Layout, Ulid, sweep};
use crate::fs::{self, FileKind, Fs, Handle};

/// Whether an error says that there is no file: nothing at its path, or no folder on the way to it.
fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// The objects of a store.
#[derive(Debug)]
pub(crate) struct Objects {
    fs: Arc<dyn Fs>,
    layout: Arc<Layout>,
    unsynced: Mutex<Unsynced>,
    /// Objects whose bytes this process has compared with their names.
    verified: Mutex<HashSet<Digest>>,
}

/// What was put in place and is not durable yet.
#[derive(Debug, Default)]
pub(crate) struct Unsynced {
    /// Object → whether this process put it there.
    pub(crate) objects: HashMap<Digest, bool>,
}

impl Objects {
    pub(crate) fn new(fs: Arc<dyn Fs>, layout: Arc<Layout>) -> Self {
        Self {
            fs,
            layout,
            unsynced: Mutex::default(),
            verified: Mutex::default(),
        }
    }

    pub(crate) fn path(&self, digest: Digest) -> PathBuf {
        let hex = digest.to_hex();
        let (folder, name) = hex.split_at(2);
        let mut path = self.layout.objects.join(folder);
        path.push(name);
        path
    }

    /// Moves `from` into the store under its digest; an object that is there already wins, if its
    /// bytes are right. Gives a warning if wrong ones were replaced. `copy_to` names a place for a
    /// copy, should one be needed.
    pub(crate) fn import(
        &self,
        from: &Path,
        digest: Digest,
        size: u64,
        copy_to: impl FnOnce() -> Result<PathBuf>,
    ) -> Result<Option<Warning>> {
        let stat = self.fs.lstat(from).map_err(StoreError::io("read", from))?;
        let refuse = |detail: String| StoreError::Import {
            path: from.to_owned(),
            detail,
        };
        if stat.kind != FileKind::File {
            return Err(refuse("it is no regular file".to_owned()));
        }
        if stat.size != size {
            let detail = format!("it has {} bytes, expected {size}", stat.size);
            return Err(refuse(detail));
        }
        if stat.links > 1 {
            // Another name of the same bytes could be written to later: take a copy.
            let copy = copy_to()?;
            self.fs
                .copy(from, &copy)
                .map_err(StoreError::io("copy", from))?;
            let stat = self
                .fs
                .lstat(&copy)
                .map_err(StoreError::io("read", &copy))?;
            self.seal(&copy, stat.mode)?;
            return self.place(&copy, digest, size);
        }
        self.seal(from, stat.mode)?;
        self.place(from, digest, size)
    }

    /// Makes a file of this `mode` read-only, for those who could read it: the umask of the process
    /// that created it has decided who that is.
    fn seal(&self, path: &Path, mode: u32) -> Result<()> {
        if mode & !SEALED_MODE == 0 {
            return Ok(());
        }
        let sealed = self.fs.set_mode(path, mode & SEALED_MODE);
        sealed.map_err(StoreError::io("make read-only", path))
    }

    fn place(&self, from: &Path, digest: Digest, size: u64) -> Result<Option<Warning>> {
        let to = self.path(digest);
        let mut warning = None;
        loop {
            match publish(&*self.fs, &self.layout, from, &to) {
                Ok(()) => break,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    // Its folder is made with its first object; or `from` is gone.
                    self.fs.lstat(from).map_err(StoreError::io("read", from))?;
                    let dir = to.parent().unwrap_or(&self.layout.objects);
                    fs::create_dir_all(&*self.fs, dir).map_err(StoreError::io("create", dir))?;
                }
                Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                    // Something that is not the program's stands where the folder has to be.
                    let dir = to.parent().unwrap_or(&self.layout.objects);
                    let name = dir.file_name().unwrap_or_default().to_string_lossy();
                    let aside = format!("{}{}-{name}", sweep::STRAY, Ulid::new());
                    fs::gone_is_fine(self.fs.rename(dir, &self.layout.trash.join(aside)))
                        .map_err(StoreError::io("move to the trash", dir))?;
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    match self.matches(&to, digest, size) {
                        Ok(true) => {
                            self.fs
                                .remove_file(from)
                                .map_err(StoreError::io("remove", from))?;
                            self.note(digest, false);
                            return Ok(None);
                        }
                        Ok(false) => {
                            self.set_aside(digest)?;
                            warning = Some(Warning::ObjectReplaced { digest });
                        }
                        // Set aside by another, meanwhile.
                        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                        Err(error) => return Err(StoreError::io("read", to)(error)),
                    }
                }
                Err(error) => return Err(StoreError::io("create", &to)(error)),
            }
        }
        self.note(digest, true);
        Ok(warning)
    }

    /// Whether the file at `path` has exactly these bytes.
    fn matches(&self, path: &Path, digest: Digest, size: u64) -> io::Result<bool> {
        if self.fs.lstat(path)?.size != size {
            return Ok(false);
        }
        let (found, length) = Digest::of_reader(self.fs.open(path)?)?;
        Ok(found == digest && length == size)
    }

    fn note(&self, digest: Digest, created: bool) {
        let mut unsynced = self.unsynced();
        // One that this process created stays so when it arrives again.
        *unsynced.objects.entry(digest).or_default() |= created;
        drop(unsynced);
        // The bytes were hashed on their way in or just now.
        self.verified().insert(digest);
    }

    /// Takes the whole list: for a sync of the file system.
    pub(crate) fn take_unsynced(&self) -> Unsynced {
        std::mem::take(&mut self.unsynced())
    }

    /// Takes what `digests` need: for syncs file by file.
    pub(crate) fn take_unsynced_of(&self, digests: impl Iterator<Item = Digest>) -> Unsynced {
        let mut all = self.unsynced();
        let objects = digests.filter_map(|digest| all.objects.remove_entry(&digest));
        Unsynced {
            objects: objects.collect(),
        }
    }

    /// Removes what could not be made durable: after a failed sync the page cache may show right
    /// bytes that are not on the disk, and they would be trusted when they arrive again.
    pub(crate) fn drop_unsynced(&self, unsynced: &Unsynced) {
        for (digest, created) in &unsynced.objects {
            if *created {
                // Best effort: the sync's own error is what the user has to hear.
                let _ = self.fs.remove_file(&self.path(*digest));
                self.verified().remove(digest);
            }
        }
    }

    /// Path of an object after checking that it is there and has its length.
    pub(crate) fn placed(&self, entry: &Entry) -> Result<PathBuf> {
        let path = self.path(entry.digest);
        let stat = match self.fs.lstat(&path) {
            Err(error) if is_absent(&error) => {
                return Err(StoreError::ObjectMissing {
                    digest: entry.digest,
                });
            }
            stat => stat.map_err(StoreError::io("read", &path))?,
        };
        if stat.kind != FileKind::File {
            self.damaged(entry.digest, "it is no regular file".to_owned())?;
        } else if stat.size != entry.size {
            let detail = format!("it has {} bytes, expected {}", stat.size, entry.size);
            self.damaged(entry.digest, detail)?;
        }
        Ok(path)
    }

    /// Path of an object after checking that it is there and has its length and its digest. Bytes
    /// are compared once per process.
    pub(crate) fn checked(&self, entry: &Entry) -> Result<PathBuf> {
        let path = self.placed(entry)?;
        if self.verified().contains(&entry.digest) {
            return Ok(path);
        }
        let file = self.open_existing(&path, entry.digest)?;
        let (found, length) = Digest::of_reader(file).map_err(StoreError::io("read", &path))?;
        self.compare(entry, found, length)?;
        self.verified().insert(entry.digest);
        Ok(path)
    }

    /// As [`Objects::checked`], but the bytes are compared again: a reader found them damaged.
    pub(crate) fn checked_again(&self, entry: &Entry) -> Result<PathBuf> {
        self.verified().remove(&entry.digest);
        self.checked(entry)
    }

    /// Whether an object is there with the bytes of its name. Its bytes are read, whatever was
    /// compared before.
    pub(crate) fn is_whole(&self, digest: Digest) -> Result<bool> {
        let path = self.path(digest);
        let read = self.fs.lstat(&path).and_then(|stat| match stat.kind {
            FileKind::File => Ok(Some(Digest::of_reader(self.fs.open(&path)?)?)),
            _ => Ok(None),
        });
        match read {
            Ok(read) => Ok(read.is_some_and(|(found, _)| found == digest)),
            Err(error) if is_absent(&error) => Ok(false),
            Err(error) => Err(StoreError::io("read", path)(error)),
        }
    }

    /// Opens an object, checked as by [`Objects::checked`].
    pub(crate) fn open(&self, entry: &Entry) -> Result<Box<dyn Handle>> {
        let path = self.checked(entry)?;
        self.open_existing(&path, entry.digest)
    }

    /// Reads an object whole; always compares the very bytes that it gives.
    pub(crate) fn read(&self, entry: &Entry) -> Result<Vec<u8>> {
        let path = self.placed(entry)?;
        let mut bytes = Vec::new();
        self.open_existing(&path, entry.digest)?
            .take(entry.size.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(StoreError::io("read", &path))?;
        self.compare(entry, Digest::of(&bytes), bytes.len() as u64)?;
        Ok(bytes)
    }

    /// Copies an object to a new path (sharing blocks where the file system can) and compares the
    /// copy with its digest: what leaves the store is right, whatever happens to the object.
    pub(crate) fn copy_out(&self, entry: &Entry, to: &Path) -> Result<()> {
        let path = self.placed(entry)?;
        self.fs
            .copy(&path, to)
            .map_err(StoreError::io("write", to))?;
        let copied = self.fs.open(to).and_then(Digest::of_reader);
        let (found, length) = copied.map_err(StoreError::io("read", to))?;
        let compared = self.compare(entry, found, length);
        if compared.is_err() {
            // Best effort: the damage is what the user has to hear of.
            let _ = self.fs.remove_file(to);
        }
        compared
    }

    /// All files of an artifact, checked, as a stage is given them: those that check themselves by
    /// their length alone, as their reader compares the rest.
    pub(crate) fn input(&self, tree: &Tree) -> Result<Input> {
        let mut paths = BTreeMap::new();
        for (name, entry) in tree.files() {
            let path = if entry.self_checked {
                self.placed(entry)?
            } else {
                self.checked(entry)?
            };
            paths.insert(name.clone(), path);
        }
        Ok(Input {
            tree: tree.clone(),
            paths,
            file_id: None,
        })
    }

    /// Moves an object to the trash so that its right bytes can take the place. Gives its name
    /// there; `None` if it was gone.
    pub(crate) fn set_aside(&self, digest: Digest) -> Result<Option<String>> {
        self.verified().remove(&digest);
        let path = self.path(digest);
        let name = format!("{}-{digest}", Ulid::new());
        match self.fs.rename(&path, &self.layout.trash.join(&name)) {
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(StoreError::io("move to the trash", path)(error)),
            Ok(()) => Ok(Some(name)),
        }
    }

    /// Digests of all objects in place, in no order. Other files are passed over.
    pub(crate) fn list(&self) -> Result<Vec<Digest>> {
        let root = &self.layout.objects;
        let folders = self
            .fs
            .read_dir(root)
            .map_err(StoreError::io("list", root))?;
        let mut digests = Vec::new();
        for folder in folders.iter().filter(|f| f.kind == FileKind::Dir) {
            let path = root.join(&folder.name);
            let files = self
                .fs
                .read_dir(&path)
                .map_err(StoreError::io("list", &path))?;
            digests.extend(files.iter().filter_map(|file| {
                let hex = format!("{}{}", folder.name.to_str()?, file.name.to_str()?);
                hex.parse::<Digest>().ok()
            }));
        }
        Ok(digests)
    }

    fn compare(&self, entry: &Entry, found: Digest, length: u64) -> Result<()> {
        if found == entry.digest && length == entry.size {
            return Ok(());
        }
        self.damaged(
            entry.digest,
            format!("its {length} bytes have the digest {found}"),
        )
    }

    /// Reports damage, and makes room for the right bytes where that is possible.
    fn damaged(&self, digest: Digest, detail: String) -> Result<()> {
        // A read-only cache cannot be mended; the damage is reported all the same.
        let _ = self.set_aside(digest);
        Err(StoreError::ObjectDamaged { digest, detail })
    }

    fn open_existing(&self, path: &Path, digest: Digest) -> Result<Box<dyn Handle>> {
        self.fs.open(path).map_err(|error| {
            if is_absent(&error) {
                StoreError::ObjectMissing { digest }
            } else {
                StoreError::io("open", path)(error)
            }
        })
    }

    fn unsynced(&self) -> MutexGuard<'_, Unsynced> {
        self.unsynced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn verified(&self) -> MutexGuard<'_, HashSet<Digest>> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
