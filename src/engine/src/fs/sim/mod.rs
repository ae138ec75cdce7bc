//! A simulated disk: it writes down what is done to it, fails when told to, and knows what a
//! power cut may leave.
//!
//! Every call goes through to a folder of the real disk, so that SQLite and the stages, which
//! work past the seam, see what the engine sees. On the way it is counted, may be made to fail
//! ([`Fault`]), and, if it changes something below the root, is noted with its bytes. From these
//! notes [`Recording::state`] builds the trees that the disk may hold after a crash, in the manner
//! of ALICE (Pillai et al., OSDI 2014).
//!
//! What stages write past the seam is noted when the engine takes it over, as written and not
//! synced: the engine must not rely on more.

mod ahead;
mod crash;
mod fault;
mod file;
mod log;
mod snapshot;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use ahead::Ahead;
pub use crash::{Loss, Recording};
pub use fault::{Call, Error, Fault};
pub use log::{Effect, FileId};
pub use snapshot::Snapshot;

use super::{Ctime, DirEntry, Fs, FsKind, Handle, LockHolder, Nanos, RealFs, Stat};
use fault::Faults;
use file::SimFile;
use log::Log;

/// The simulated disk. Clones share notes and faults, as two processes share a disk.
#[derive(Debug, Clone)]
pub struct SimFs {
    syncs_whole: bool,
    ctimes: bool,
    links: bool,
    state: Arc<Mutex<State>>,
}

/// Told of each call before it is done.
pub type Hook = Arc<dyn Fn(Call, &Path) + Send + Sync>;

struct State {
    log: Log,
    faults: Faults,
    hook: Option<Hook>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("faults", &self.faults)
            .finish_non_exhaustive()
    }
}

impl SimFs {
    /// A disk whose folder `root`, an absolute path without links, is watched. What is there
    /// already, if anything, is durable. `beside` names files in `root` that others write past
    /// the seam: their content is kept with each note.
    ///
    /// # Errors
    /// What is in the folder cannot be read.
    pub fn new(root: &Path, beside: &[&str]) -> io::Result<Self> {
        let state = State {
            log: Log::new(root, beside)?,
            faults: Faults::default(),
            hook: None,
        };
        Ok(Self {
            syncs_whole: true,
            ctimes: true,
            links: true,
            state: Arc::new(Mutex::new(state)),
        })
    }

    /// The same disk without a sync of the whole file system.
    #[must_use]
    pub fn without_sync_fs(self) -> Self {
        Self {
            syncs_whole: false,
            ..self
        }
    }

    /// The same disk without ctimes, as an image or FAT: in their place it shows the mtimes.
    #[must_use]
    pub fn without_ctimes(self) -> Self {
        Self {
            ctimes: false,
            ..self
        }
    }

    /// The same disk without hard links and without a rename that replaces nothing.
    #[must_use]
    pub fn without_links(self) -> Self {
        Self {
            links: false,
            ..self
        }
    }

    /// What this disk shows of a file.
    fn shown(&self, stat: Stat) -> Stat {
        Stat {
            ctime: if self.ctimes { stat.ctime } else { stat.mtime },
            ..stat
        }
    }

    /// Tells `hook` of each call from now on, so that it may meddle. It must not use this disk.
    pub fn on_call(&self, hook: Hook) {
        self.state().hook = Some(hook);
    }

    /// Makes calls fail from now on, in place of any earlier fault.
    pub fn fail(&self, fault: Fault) {
        self.state().faults.set(fault);
    }

    /// Whether the last [`Fault`] has met a call.
    pub fn has_failed(&self) -> bool {
        self.state().faults.met()
    }

    /// The calls so far, in their order, with the path of each.
    pub fn calls(&self) -> Vec<(Call, PathBuf)> {
        self.state().faults.calls()
    }

    /// The notes since the last time as text, e.g. `rename tmp/* objects/ab/*`: paths from the
    /// root, with names of 26 and more characters, as they are never twice the same, as `*`.
    pub fn take_lines(&self) -> Vec<String> {
        self.state().log.take_lines()
    }

    /// What was noted so far.
    pub fn recording(&self) -> Recording {
        self.state().log.recording()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call and lets it fail if it is to.
    fn enter(&self, call: Call, path: &Path) -> io::Result<()> {
        self.state().enter(call, path, None)
    }

    /// Does a call that changes something and notes it: nothing comes between the two.
    fn change<T>(
        &self,
        call: Call,
        path: &Path,
        line: &str,
        change: impl FnOnce(&mut Log) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut state = self.state();
        let line = state.log.line(line, path);
        state.enter(call, path, Some(&line))?;
        let result = change(&mut state.log);
        state.log.look_beside();
        result
    }

    fn wrap(&self, path: &Path, inner: Box<dyn Handle>, file: Option<FileId>) -> Box<dyn Handle> {
        Box::new(SimFile::new(self.clone(), path, inner, file))
    }
}

impl State {
    fn enter(&mut self, call: Call, path: &Path, line: Option<&str>) -> io::Result<()> {
        if let Some(line) = line {
            self.log.say(line);
        }
        if let Some(hook) = &self.hook {
            hook(call, path);
        }
        self.faults.enter(call, path, line)
    }
}

impl Fs for SimFs {
    fn open(&self, path: &Path) -> io::Result<Box<dyn Handle>> {
        self.enter(Call::Open, path)?;
        let inner = RealFs.open(path)?;
        let file = self.state().log.file_at(path);
        Ok(self.wrap(path, inner, file))
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn Handle>> {
        let (inner, file) = self.change(Call::Create, path, "create", |log| {
            let inner = RealFs.create_new(path)?;
            Ok((inner, log.created(path)))
        })?;
        Ok(self.wrap(path, inner, file))
    }

    fn open_lock(&self, path: &Path, mode: u32) -> io::Result<Box<dyn Handle>> {
        let (inner, file) = self.change(Call::Create, path, "open", |log| {
            let there = RealFs.lstat(path).is_ok();
            let inner = RealFs.open_lock(path, mode)?;
            let file = if there {
                log.file_at(path)
            } else {
                log.created(path)
            };
            Ok((inner, file))
        })?;
        Ok(self.wrap(path, inner, file))
    }

    fn lock_holders(&self, file: &Stat) -> Vec<LockHolder> {
        RealFs.lock_holders(file)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.change(Call::CreateDir, path, "mkdir", |log| {
            RealFs.create_dir(path)?;
            log.note_path(path, |path| Effect::CreateDir { path });
            Ok(())
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.renamed(from, to, || RealFs.rename(from, to))
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        if !self.links {
            self.enter(Call::Rename, from)?;
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.renamed(from, to, || RealFs.rename_new(from, to))
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change(Call::Link, to, "link", |log| {
            if !self.links {
                return Err(io::ErrorKind::PermissionDenied.into());
            }
            log.meet(from);
            RealFs.hard_link(from, to)?;
            log.linked(from, to);
            Ok(())
        })
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.change(Call::Remove, path, "remove", |log| {
            RealFs.remove_file(path)?;
            log.removed(path);
            Ok(())
        })
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.change(Call::Remove, path, "rmdir", |log| {
            RealFs.remove_dir(path)?;
            log.note_path(path, |path| Effect::RemoveDir { path });
            Ok(())
        })
    }

    fn list(&self, path: &Path, each: &mut dyn FnMut(DirEntry)) -> io::Result<()> {
        self.enter(Call::ReadDir, path)?;
        RealFs.list(path, each)
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        self.enter(Call::Stat, path)?;
        Ok(self.shown(RealFs.stat(path)?))
    }

    fn lstat(&self, path: &Path) -> io::Result<Stat> {
        self.enter(Call::Stat, path)?;
        Ok(self.shown(RealFs.lstat(path)?))
    }

    fn set_mode(&self, path: &Path, mode: u32) -> io::Result<()> {
        // Permissions are no part of what a crash may tear: nothing relies on them.
        self.enter(Call::SetMode, path)?;
        RealFs.set_mode(path, mode)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.change(Call::Sync, path, "sync", |log| {
            RealFs.sync_dir(path)?;
            log.note_path(path, |path| Effect::SyncDir { path });
            Ok(())
        })
    }

    fn copy(&self, from: &Path, to: &Path) -> io::Result<u64> {
        self.change(Call::Copy, to, "copy", |log| {
            let length = RealFs.copy(from, to)?;
            log.appeared(to);
            Ok(length)
        })
    }

    fn available_space(&self, path: &Path) -> io::Result<u64> {
        self.enter(Call::Stat, path)?;
        RealFs.available_space(path)
    }

    fn fs_kind(&self, path: &Path) -> io::Result<FsKind> {
        self.enter(Call::Stat, path)?;
        let real = RealFs.fs_kind(path)?;
        Ok(FsKind {
            syncs_whole: self.syncs_whole,
            ctime: if self.ctimes {
                real.ctime
            } else {
                Ctime::Unknown
            },
            ..real
        })
    }

    fn now(&self, dir: &Path) -> io::Result<Nanos> {
        self.enter(Call::Create, dir)?;
        RealFs.now(dir)
    }

    fn canonicalize(&self, path: &Path) -> io::Result<PathBuf> {
        self.enter(Call::Stat, path)?;
        RealFs.canonicalize(path)
    }
}

impl SimFs {
    fn renamed(
        &self,
        from: &Path,
        to: &Path,
        rename: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let target = self.state().log.shown(to);
        let line = |log: &Log| format!("{} {target}", log.line("rename", from));
        let mut state = self.state();
        let line = line(&state.log);
        state.enter(Call::Rename, from, Some(&line))?;
        // Bytes that came past the seam are read where they still are.
        state.log.meet(from);
        rename()?;
        state.log.renamed(from, to);
        state.log.look_beside();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
