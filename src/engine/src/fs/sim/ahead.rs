//! The real disk with a clock that is ahead, so that what was written a moment ago counts as old.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use crate::fs::{DirEntry, Fs, FsKind, Handle, LockHolder, Nanos, RealFs, Stat};

/// The real disk, where "now" is `Ahead` nanoseconds later than its files are stamped.
///
/// What is edited twice within a tick of the kernel's clock may then look the same: whoever edits
/// has to see to it that the clock ticks.
#[derive(Debug, Clone, Copy)]
pub struct Ahead(pub Nanos);

impl Fs for Ahead {
    fn open(&self, path: &Path) -> io::Result<Box<dyn Handle>> {
        RealFs.open(path)
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn Handle>> {
        RealFs.create_new(path)
    }

    fn open_lock(&self, path: &Path, mode: u32) -> io::Result<Box<dyn Handle>> {
        RealFs.open_lock(path, mode)
    }

    fn lock_holders(&self, file: &Stat) -> Vec<LockHolder> {
        RealFs.lock_holders(file)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        RealFs.create_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealFs.rename(from, to)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealFs.rename_new(from, to)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealFs.hard_link(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        RealFs.remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        RealFs.remove_dir(path)
    }

    fn list(&self, path: &Path, each: &mut dyn FnMut(DirEntry)) -> io::Result<()> {
        RealFs.list(path, each)
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        RealFs.stat(path)
    }

    fn stat_each(&self, dir: &Path, names: &[&OsStr]) -> Vec<io::Result<Stat>> {
        RealFs.stat_each(dir, names)
    }

    fn lstat(&self, path: &Path) -> io::Result<Stat> {
        RealFs.lstat(path)
    }

    fn set_mode(&self, path: &Path, mode: u32) -> io::Result<()> {
        RealFs.set_mode(path, mode)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        RealFs.sync_dir(path)
    }

    fn copy(&self, from: &Path, to: &Path) -> io::Result<u64> {
        RealFs.copy(from, to)
    }

    fn available_space(&self, path: &Path) -> io::Result<u64> {
        RealFs.available_space(path)
    }

    fn fs_kind(&self, path: &Path) -> io::Result<FsKind> {
        RealFs.fs_kind(path)
    }

    fn now(&self, dir: &Path) -> io::Result<Nanos> {
        Ok(RealFs.now(dir)?.saturating_add(self.0))
    }

    fn canonicalize(&self, path: &Path) -> io::Result<PathBuf> {
        RealFs.canonicalize(path)
    }
}
