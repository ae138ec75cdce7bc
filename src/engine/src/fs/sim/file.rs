//! An open file of the simulated disk.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::fault::Call;
use super::log::{Effect, FileId};
use super::{SimFs, State};
use crate::fs::{Handle, Stat};

#[derive(Debug)]
pub(super) struct SimFile {
    fs: SimFs,
    path: PathBuf,
    inner: Box<dyn Handle>,
    /// `None` outside the root.
    file: Option<FileId>,
}

impl SimFile {
    pub(super) fn new(
        fs: SimFs,
        path: &Path,
        inner: Box<dyn Handle>,
        file: Option<FileId>,
    ) -> Self {
        Self {
            fs,
            path: path.to_owned(),
            inner,
            file,
        }
    }
}

impl Read for SimFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let share = {
            let mut state = self.fs.state();
            state.enter(Call::Read, &self.path, None)?;
            state.faults.share(buffer.len())
        };
        self.inner.read(&mut buffer[..share])
    }
}

impl Write for SimFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.fs.state();
        let line = state.log.line("write", &self.path);
        state.enter(Call::Write, &self.path, Some(&line))?;
        let bytes = &bytes[..state.faults.share(bytes.len())];
        let at = self.inner.stream_position()?;
        let n = self.inner.write(bytes)?;
        let State { log, .. } = &mut *state;
        if let Some(file) = self.file {
            let bytes = bytes[..n].into();
            log.note(Effect::Write { file, at, bytes });
        }
        log.look_beside();
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl Seek for SimFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

impl Handle for SimFile {
    fn stat(&self) -> io::Result<Stat> {
        self.fs.enter(Call::Stat, &self.path)?;
        Ok(self.fs.shown(self.inner.stat()?))
    }

    fn sync(&self) -> io::Result<()> {
        self.fs.change(Call::Sync, &self.path, "sync", |log| {
            self.inner.sync()?;
            if let Some(file) = self.file {
                log.note(Effect::Sync { file });
            }
            Ok(())
        })
    }

    fn sync_fs(&self) -> io::Result<()> {
        let mut state = self.fs.state();
        state.enter(Call::Sync, &self.path, Some("sync all"))?;
        self.inner.sync_fs()?;
        state.log.note(Effect::SyncAll);
        state.log.look_beside();
        Ok(())
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.fs.enter(Call::Lock, &self.path)?;
        self.inner.try_lock()
    }

    fn try_lock_shared(&self) -> io::Result<bool> {
        self.fs.enter(Call::Lock, &self.path)?;
        self.inner.try_lock_shared()
    }

    fn set_len(&self, size: u64) -> io::Result<()> {
        self.fs.change(Call::SetLen, &self.path, "cut", |log| {
            self.inner.set_len(size)?;
            if let Some(file) = self.file {
                log.note(Effect::SetLen { file, size });
            }
            Ok(())
        })
    }
}
