//! A disk that writes down what is done to it, and fails when told to.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::fs::{DirEntry, Fs, FsKind, Handle, Nanos, RealFs, Stat};

/// The log, and the calls that are to fail: those whose line begins so.
#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) lines: Mutex<Vec<String>>,
    pub(super) fail: Mutex<Option<(String, io::ErrorKind)>>,
}

impl Log {
    fn note(&self, line: String) -> io::Result<()> {
        let fail = self.fail.lock().unwrap();
        let result = match &*fail {
            Some((start, kind)) if line.starts_with(start.as_str()) => Err((*kind).into()),
            _ => Ok(()),
        };
        self.lines.lock().unwrap().push(line);
        result
    }

    pub(super) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.lines.lock().unwrap())
    }

    pub(super) fn fail(&self, start: &str, kind: io::ErrorKind) {
        *self.fail.lock().unwrap() = Some((start.to_owned(), kind));
    }
}

/// The disk. Paths in the log are relative to `root`, with ULIDs and digests cut to their folder.
#[derive(Debug, Clone)]
pub(super) struct Recorder {
    pub(super) log: Arc<Log>,
    pub(super) root: PathBuf,
    pub(super) syncs_whole: bool,
}

#[derive(Debug)]
struct Recorded {
    file: Box<dyn Handle>,
    name: String,
    log: Arc<Log>,
}

impl Recorder {
    fn name(&self, path: &Path) -> String {
        let path = path.strip_prefix(&self.root).unwrap_or(path);
        let parts: Vec<_> = path
            .iter()
            .map(|part| part.to_string_lossy())
            .map(|part| if part.len() >= 26 { "*".into() } else { part })
            .collect();
        parts.join("/")
    }

    fn wrap(&self, path: &Path, file: Box<dyn Handle>) -> Box<dyn Handle> {
        let (name, log) = (self.name(path), self.log.clone());
        Box::new(Recorded { file, name, log })
    }
}

impl Read for Recorded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer)
    }
}

impl Write for Recorded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.log.note(format!("write {}", self.name))?;
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for Recorded {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

impl Handle for Recorded {
    fn stat(&self) -> io::Result<Stat> {
        self.file.stat()
    }

    fn sync(&self) -> io::Result<()> {
        self.log.note(format!("sync {}", self.name))?;
        self.file.sync()
    }

    fn sync_fs(&self) -> io::Result<()> {
        self.log.note("sync all".to_owned())?;
        self.file.sync_fs()
    }

    fn lock(&self) -> io::Result<()> {
        self.file.lock()
    }

    fn lock_shared(&self) -> io::Result<()> {
        self.file.lock_shared()
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.file.try_lock()
    }

    fn set_len(&self, size: u64) -> io::Result<()> {
        self.file.set_len(size)
    }
}

impl Fs for Recorder {
    fn open(&self, path: &Path) -> io::Result<Box<dyn Handle>> {
        Ok(self.wrap(path, RealFs.open(path)?))
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn Handle>> {
        self.log.note(format!("create {}", self.name(path)))?;
        Ok(self.wrap(path, RealFs.create_new(path)?))
    }

    fn open_or_create(&self, path: &Path) -> io::Result<Box<dyn Handle>> {
        Ok(self.wrap(path, RealFs.open_or_create(path)?))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.log.note(format!("mkdir {}", self.name(path)))?;
        RealFs.create_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.log
            .note(format!("rename {} {}", self.name(from), self.name(to)))?;
        RealFs.rename(from, to)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.log
            .note(format!("rename {} {}", self.name(from), self.name(to)))?;
        RealFs.rename_new(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.log.note(format!("remove {}", self.name(path)))?;
        RealFs.remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        RealFs.remove_dir(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        RealFs.read_dir(path)
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        RealFs.stat(path)
    }

    fn lstat(&self, path: &Path) -> io::Result<Stat> {
        RealFs.lstat(path)
    }

    fn set_mode(&self, path: &Path, mode: u32) -> io::Result<()> {
        RealFs.set_mode(path, mode)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.log.note(format!("sync {}", self.name(path)))?;
        RealFs.sync_dir(path)
    }

    fn copy(&self, from: &Path, to: &Path) -> io::Result<u64> {
        self.log.note(format!("copy {}", self.name(to)))?;
        RealFs.copy(from, to)
    }

    fn available_space(&self, path: &Path) -> io::Result<u64> {
        RealFs.available_space(path)
    }

    fn fs_kind(&self, path: &Path) -> io::Result<FsKind> {
        let real = RealFs.fs_kind(path)?;
        Ok(FsKind {
            syncs_whole: self.syncs_whole,
            ..real
        })
    }

    fn now(&self, dir: &Path) -> io::Result<Nanos> {
        RealFs.now(dir)
    }

    fn canonicalize(&self, path: &Path) -> io::Result<PathBuf> {
        RealFs.canonicalize(path)
    }
}
