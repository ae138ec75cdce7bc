//! What goes into a store, and what is taken out of it.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use stage_core::{Cancel, Digest, Entry, Input, Tree};

use super::Store;
use super::error::{Result, StoreError};
use super::lease::{TmpDir, Workplace};
use super::record::Artifact;
use crate::fs::Handle;

impl Store {
    /// A new empty folder on the store's file system, removed when dropped or, should the process
    /// die, by the next one.
    ///
    /// # Errors
    /// It cannot be made; the cache is read-only.
    pub fn tmp_dir(&self) -> Result<TmpDir> {
        let path = self.inner.lease()?.tmp_path();
        TmpDir::create(self.inner.fs.clone(), path)
    }

    /// A folder on the store's file system for an action to work in.
    ///
    /// # Errors
    /// As [`Store::tmp_dir`].
    pub fn workplace(&self) -> Result<Workplace> {
        self.inner.lease()?.workplace()
    }

    /// Takes a workplace back for the next action. Only the folder `out` of it may have been used,
    /// and nobody may write to it any more.
    ///
    /// # Errors
    /// The cache is read-only.
    pub fn leave(&self, place: Workplace) -> Result<()> {
        self.inner.lease()?.leave(place);
        Ok(())
    }

    /// Moves the files `written` of a sealed output folder into the store (see
    /// [`stage_core::Output::seal`]) and gives the artifact. Linked files are there already.
    ///
    /// # Errors
    /// A file is not as the tree says, or cannot be moved.
    pub fn adopt(&self, dir: &Path, tree: &Tree, written: &[String]) -> Result<Artifact> {
        let artifact = Artifact::new(tree);
        let mut used: Vec<Digest> = tree.0.values().map(|entry| entry.digest).collect();
        used.push(artifact.digest);
        let _entered = self.inner.enter()?;
        self.inner.lease()?.hold(&used)?;
        for name in written {
            let path = dir.join(name);
            let entry = tree.get(name).ok_or_else(|| StoreError::Import {
                path: path.clone(),
                detail: "the artifact's tree does not name it".to_owned(),
            })?;
            self.place(&path, entry.digest, entry.size)?;
        }
        Ok(artifact)
    }

    /// Moves a file of the store's file system into the store, under a digest that was computed
    /// when it was written. An object that is there already stays untouched, unless its bytes are
    /// wrong; then it is replaced.
    ///
    /// # Errors
    /// It is no regular file or has another length, or cannot be moved.
    pub fn import_file(&self, path: &Path, digest: Digest, size: u64) -> Result<()> {
        let _entered = self.inner.enter()?;
        self.inner.lease()?.hold(&[digest])?;
        self.place(path, digest, size)
    }

    fn place(&self, path: &Path, digest: Digest, size: u64) -> Result<()> {
        let copy_to = || Ok(self.inner.lease()?.tmp_path());
        if let Some(warning) = self.inner.objects.import(path, digest, size, copy_to)? {
            self.inner.warn(warning);
        }
        Ok(())
    }

    /// Puts bytes into the store.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn import_bytes(&self, bytes: &[u8]) -> Result<Entry> {
        let path = self.inner.lease()?.tmp_path();
        let written = self
            .inner
            .fs
            .create_new(&path)
            .and_then(|mut file| file.write_all(bytes));
        let entry = Entry {
            digest: Digest::of(bytes),
            size: bytes.len() as u64,
            self_checked: false,
        };
        let result = written
            .map_err(StoreError::io("write", &path))
            .and_then(|()| self.import_file(&path, entry.digest, entry.size));
        if result.is_err() {
            // Best effort: what stays is swept after this process.
            let _ = self.inner.fs.remove_file(&path);
        }
        result.map(|()| entry)
    }

    /// Where an object lies or would lie. Nothing is checked.
    pub fn object_path(&self, digest: Digest) -> PathBuf {
        self.inner.objects.path(digest)
    }

    /// Path of an object that is there and has its length and its digest. Bytes are compared once
    /// per process.
    ///
    /// # Errors
    /// [`StoreError::ObjectMissing`], [`StoreError::ObjectDamaged`]: it has to be made again, and
    /// damaged bytes have been moved out of the way. Or it cannot be read.
    pub fn checked_path(&self, entry: &Entry) -> Result<PathBuf> {
        self.inner.objects.checked(entry)
    }

    /// Copies an object to a new path, and compares the copy with its digest. A wrong copy is
    /// removed.
    ///
    /// # Errors
    /// As [`Store::checked_path`], or the copy cannot be written.
    pub fn copy_out(&self, entry: &Entry, to: &Path) -> Result<()> {
        self.inner.objects.copy_out(entry, to)
    }

    /// Those of `entries` whose objects are missing or have other bytes than their digests say;
    /// all are read again.
    ///
    /// # Errors
    /// An object cannot be read; `cancel` was set.
    pub fn lost_of(
        &self,
        entries: impl IntoIterator<Item = Entry>,
        cancel: &Cancel,
    ) -> Result<BTreeSet<Digest>> {
        let mut lost = BTreeSet::new();
        for entry in entries {
            if cancel.is_set() {
                return Err(StoreError::Cancelled);
            }
            match self.inner.objects.checked_again(&entry) {
                Ok(_) => {}
                Err(error) => match error.lost_object() {
                    Some(digest) => drop(lost.insert(digest)),
                    None => return Err(error),
                },
            }
        }
        Ok(lost)
    }

    /// Opens an object for reading, checked as by [`Store::checked_path`].
    ///
    /// # Errors
    /// As [`Store::checked_path`].
    pub fn open_object(&self, entry: &Entry) -> Result<Box<dyn Handle>> {
        self.inner.objects.open(entry)
    }

    /// Reads an object whole and compares the bytes that it gives.
    ///
    /// # Errors
    /// As [`Store::checked_path`].
    pub fn read_object(&self, entry: &Entry) -> Result<Vec<u8>> {
        self.inner.objects.read(entry)
    }

    /// An artifact as a stage is given it, each file checked as by [`Store::checked_path`], but for
    /// those that check themselves ([`Entry::self_checked`]).
    ///
    /// # Errors
    /// As [`Store::checked_path`].
    pub fn input(&self, tree: &Tree) -> Result<Input> {
        self.inner.objects.input(tree)
    }

    /// Moves an object to the trash, e.g. when a reader of a self-checking format found damage.
    /// One that is gone is fine.
    ///
    /// # Errors
    /// It cannot be moved.
    pub fn set_aside(&self, digest: Digest) -> Result<()> {
        self.inner.objects.set_aside(digest).map(|_| ())
    }

    /// Digests of all objects, in no order.
    ///
    /// # Errors
    /// A folder cannot be listed.
    pub fn objects(&self) -> Result<Vec<Digest>> {
        self.inner.objects.list()
    }

    /// Puts a list of digests into the store as an object, 32 bytes each, as they come. A run
    /// records its artifacts so ([`super::RunStage::artifacts`]): the same list is the same object.
    ///
    /// # Errors
    /// As [`Store::import_bytes`].
    pub fn put_digests(&self, digests: &[Digest]) -> Result<Digest> {
        Ok(self.import_bytes(&list_bytes(digests))?.digest)
    }

    /// Reads a list that [`Store::put_digests`] wrote.
    ///
    /// # Errors
    /// It is missing or damaged, or cannot be read.
    pub fn read_digests(&self, list: Digest) -> Result<Vec<Digest>> {
        let path = self.object_path(list);
        let size = match self.inner.fs.stat(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::ObjectMissing { digest: list });
            }
            stat => stat.map_err(StoreError::io("read", &path))?.size,
        };
        let bytes = self.read_object(&Entry {
            digest: list,
            size,
            self_checked: false,
        })?;
        let digests = bytes.as_chunks::<32>().0;
        Ok(digests.iter().map(|bytes| Digest(*bytes)).collect())
    }
}

/// The digest that [`Store::put_digests`] gives for a list.
pub fn list_digest(digests: &[Digest]) -> Digest {
    Digest::of(&list_bytes(digests))
}

fn list_bytes(digests: &[Digest]) -> Vec<u8> {
    digests.iter().flat_map(|digest| digest.0).collect()
}
