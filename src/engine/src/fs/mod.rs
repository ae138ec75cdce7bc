//! The one seam to the disk.
//!
//! Everything that the engine and its store do to files goes through [`Fs`] and [`Handle`], so
//! that another implementation can record the calls, inject errors, or build the states that a
//! crash may leave. [`RealFs`] is the operating system; the simulated one is `sim`, behind the
//! feature of that name. Only SQLite stands outside, with the index, which may be lost at any time.
//!
//! The trait holds just what is used. Names and order of effects are POSIX's: nothing is durable
//! before a `sync`, a rename is atomic but may be lost or kept by itself until its folder is
//! synced.

mod real;
#[cfg(feature = "sim")]
pub mod sim;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

pub use real::RealFs;

/// Nanoseconds since 1970-01-01 UTC, by the clock of the file system that says so.
pub type Nanos = i64;

/// What a path or an open file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A folder.
    Dir,
    /// A symbolic link, not followed.
    Symlink,
    /// A device, pipe or socket.
    Other,
}

/// What `stat` says of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Device number.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Length in bytes.
    pub size: u64,
    /// Time of the last change of the content; anybody may set it.
    pub mtime: Nanos,
    /// Time of the last change of content or inode; only the kernel sets it.
    pub ctime: Nanos,
    /// Number of hard links.
    pub links: u64,
    /// Permission bits.
    pub mode: u32,
    /// Kind of file.
    pub kind: FileKind,
}

/// A process that holds a kernel lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockHolder {
    /// Its number.
    pub pid: u32,
    /// The name of its program, if that can be told.
    pub name: Option<String>,
    /// Whether it is stopped, by Ctrl-Z for example: then it lets go of nothing until it goes on.
    pub stopped: bool,
}

impl fmt::Display for LockHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {}", self.pid)?;
        if let Some(name) = &self.name {
            write!(f, " ({name})")?;
        }
        f.write_str(if self.stopped {
            ", which is stopped"
        } else {
            ""
        })
    }
}

/// An entry of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// Name within the folder.
    pub name: OsString,
    /// Kind, links not followed.
    pub kind: FileKind,
}

/// Whether the ctime of a file tells that the file changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ctime {
    /// The kernel sets it at each change, by its own clock.
    Kernel,
    /// It is that of another file system below (overlayfs, network file systems), which may have
    /// none of its own.
    Passed,
    /// It is made up, or nothing is known of it. Images (squashfs, ISO 9660) and FAT have no ctime:
    /// it is shown equal to the mtime, which anybody may set. Servers in user space (FUSE) give what they like.
    Unknown,
}

/// What kind of file system a path lies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FsKind {
    /// Shared with other machines or served by a user process (NFS, Lustre, SMB, FUSE, …): no
    /// place for SQLite, and clocks may differ.
    pub network: bool,
    /// Whether [`Handle::sync_fs`] makes everything durable and reports what could not be
    /// written.
    pub syncs_whole: bool,
    /// What a ctime means there.
    pub ctime: Ctime,
}

/// An open file.
///
/// `read` and `write` may be short, as in `std`: use `read_exact`, `write_all`, `io::copy`.
pub trait Handle: Read + Write + Seek + Send + Sync + fmt::Debug {
    /// Describes the open file.
    ///
    /// # Errors
    /// That of `fstat`.
    fn stat(&self) -> io::Result<Stat>;

    /// Makes content and length durable.
    ///
    /// # Errors
    /// The device could not take it. What was written is lost; it must be written anew, for a
    /// second call may wrongly report success (Rebello et al., USENIX ATC 2020).
    fn sync(&self) -> io::Result<()>;

    /// Makes everything durable that was changed so far on the file system of this file. Reports
    /// errors since this handle was opened: keep one open from before the first write.
    ///
    /// # Errors
    /// As [`Handle::sync`]; `Unsupported` where [`FsKind::syncs_whole`] is false.
    fn sync_fs(&self) -> io::Result<()>;

    /// Takes the exclusive kernel lock of this file if it is free. It ends with the handle or the
    /// process. There is no call that waits: a lock may be held by a process that is stopped.
    ///
    /// # Errors
    /// The file system has no locks. A lock held elsewhere is `Ok(false)`.
    fn try_lock(&self) -> io::Result<bool>;

    /// Takes a shared kernel lock if nobody has the exclusive one.
    ///
    /// # Errors
    /// As [`Handle::try_lock`].
    fn try_lock_shared(&self) -> io::Result<bool>;

    /// Cuts or extends the file to `size` bytes.
    ///
    /// # Errors
    /// That of `ftruncate`.
    fn set_len(&self, size: u64) -> io::Result<()>;
}

/// The calls that name a path.
///
/// # Errors
/// Every method: that of the call of the same meaning in POSIX.
#[expect(clippy::missing_errors_doc, reason = "said once, for the trait")]
pub trait Fs: Send + Sync + fmt::Debug {
    /// Opens an existing file or folder for reading; a pipe, a device and a socket are refused
    /// without waiting for them.
    fn open(&self, path: &Path) -> io::Result<Box<dyn Handle>>;
    /// Creates a file that must not exist, for reading and writing.
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn Handle>>;
    /// Opens a file that processes lock, for reading and writing, creating it empty if there is
    /// none. Gives it the permissions `mode` whatever the umask, if it belongs to this user. Fails
    /// on a symbolic link and on anything else that is no regular file.
    fn open_lock(&self, path: &Path, mode: u32) -> io::Result<Box<dyn Handle>>;
    /// The processes that hold a kernel lock of a file, as far as the system tells.
    fn lock_holders(&self, file: &Stat) -> Vec<LockHolder>;
    /// Creates one folder.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Renames, replacing a file at `to`.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Renames, failing with `AlreadyExists` if there is something at `to`, and with `Unsupported`
    /// where the file system has no way to do this in one step.
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives a file another name, failing with `AlreadyExists` if there is something at `to`.
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty folder.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// Lists a folder, unsorted: tells `each` of one entry after another.
    fn list(&self, path: &Path, each: &mut dyn FnMut(DirEntry)) -> io::Result<()>;
    /// Lists a folder, unsorted.
    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        self.list(path, &mut |entry| entries.push(entry))?;
        Ok(entries)
    }
    /// Describes a file, links followed.
    fn stat(&self, path: &Path) -> io::Result<Stat>;
    /// Describes files of the folder `dir`, links followed.
    fn stat_each(&self, dir: &Path, names: &[&OsStr]) -> Vec<io::Result<Stat>> {
        names
            .iter()
            .map(|name| self.stat(&dir.join(name)))
            .collect()
    }
    /// Describes a file or link itself.
    fn lstat(&self, path: &Path) -> io::Result<Stat>;
    /// Sets the permission bits.
    fn set_mode(&self, path: &Path, mode: u32) -> io::Result<()>;
    /// Makes the names in a folder durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Copies a file to a new path, sharing blocks where the file system can.
    fn copy(&self, from: &Path, to: &Path) -> io::Result<u64>;
    /// Bytes that this user may still write there.
    fn available_space(&self, path: &Path) -> io::Result<u64>;
    /// Kind of file system that an existing path lies on.
    fn fs_kind(&self, path: &Path) -> io::Result<FsKind>;
    /// Present time by the clock that stamps files in the folder `dir`, from a file touched there
    /// that never has a name.
    fn now(&self, dir: &Path) -> io::Result<Nanos>;
    /// The absolute path without links.
    fn canonicalize(&self, path: &Path) -> io::Result<PathBuf>;
}

/// Opens a regular file for reading; anything else is refused without waiting for it.
///
/// # Errors
/// It cannot be opened, or is no regular file.
pub fn open_file(fs: &dyn Fs, path: &Path) -> io::Result<Box<dyn Handle>> {
    let file = fs.open(path)?;
    match file.stat()?.kind {
        FileKind::File => Ok(file),
        kind => Err(not_regular(kind)),
    }
}

/// The error for a path that is not what is expected of it: a regular file.
pub fn not_regular(kind: FileKind) -> io::Error {
    let (error, what) = match kind {
        FileKind::Dir => (io::ErrorKind::IsADirectory, "a folder"),
        FileKind::Symlink => (io::ErrorKind::InvalidInput, "a symbolic link"),
        FileKind::File | FileKind::Other => {
            (io::ErrorKind::InvalidInput, "a pipe, device or socket")
        }
    };
    io::Error::new(error, format!("it is {what}, expected a regular file"))
}

/// The processes that hold a lock of an open file, for people.
pub fn lock_holders(fs: &dyn Fs, file: &dyn Handle) -> String {
    let stat = file.stat().ok();
    name_holders(stat.into_iter().flat_map(|stat| fs.lock_holders(&stat)))
}

/// Lock holders, for people.
pub(crate) fn name_holders(holders: impl Iterator<Item = LockHolder>) -> String {
    const NAMED: usize = 3;
    let mut names: Vec<String> = holders.map(|holder| holder.to_string()).collect();
    names.dedup();
    if names.is_empty() {
        return "another process".to_owned();
    }
    if names.len() > NAMED {
        let more = names.len() - NAMED;
        names.truncate(NAMED);
        names.push(format!("{more} more"));
    }
    names.join(" and ")
}

/// The permissions of the files in a folder of `mode` that processes lock. Those who may write to
/// the folder may lock them, and nobody else: a lock takes no more than the right to read.
pub fn lock_mode(mode: u32) -> u32 {
    let group = if mode & 0o020 == 0 { 0 } else { 0o060 };
    let others = if mode & 0o002 == 0 { 0 } else { 0o006 };
    0o600 | group | others
}

/// Reads a whole file of at most `limit` bytes.
///
/// # Errors
/// It cannot be read, or is longer (`FileTooLarge`).
pub fn read(fs: &dyn Fs, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file = fs.open(path)?;
    let size = file.stat()?.size;
    if size > limit {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("{size} bytes, expected at most {limit}"),
        ));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0).saturating_add(1));
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

/// Makes the names of temporary files differ.
static COUNT: AtomicU64 = AtomicU64::new(0);

/// Writes a file whole and durably: beside its place, synced, renamed over it, folder synced.
///
/// # Errors
/// A step failed; then the old content stands.
pub fn write_atomic(fs: &dyn Fs, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let (temporary, written) = loop {
        let mut temporary = OsString::from(".");
        temporary.push(name);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        temporary.push(format!(".{}-{count}", std::process::id()));
        let temporary = dir.join(temporary);
        match write_new(fs, &temporary, bytes) {
            // A killed process of the same number left it; numbers repeat in containers.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            written => break (temporary, written),
        }
    };
    if let Err(error) = written.and_then(|()| fs.rename(&temporary, path)) {
        // Best effort: the error to report is the first one.
        let _ = fs.remove_file(&temporary);
        return Err(error);
    }
    fs.sync_dir(if dir.as_os_str().is_empty() {
        Path::new(".")
    } else {
        dir
    })
}

/// Writes and syncs a file that must not exist.
pub(crate) fn write_new(fs: &dyn Fs, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = fs.create_new(path)?;
    file.write_all(bytes)?;
    file.sync()
}

/// Creates a folder and those above it; one that exists is fine.
///
/// # Errors
/// One cannot be made, or is a file.
pub fn create_dir_all(fs: &dyn Fs, path: &Path) -> io::Result<()> {
    match fs.create_dir(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) else {
                return Err(error);
            };
            create_dir_all(fs, parent)?;
            create_dir_all_last(fs, path)
        }
        Err(error) => existing_dir(fs, path, error),
    }
}

fn create_dir_all_last(fs: &dyn Fs, path: &Path) -> io::Result<()> {
    match fs.create_dir(path) {
        Ok(()) => Ok(()),
        Err(error) => existing_dir(fs, path, error),
    }
}

/// A failed `create_dir` is none if the folder is there, e.g. made by another process.
fn existing_dir(fs: &dyn Fs, path: &Path, error: io::Error) -> io::Result<()> {
    match fs.stat(path) {
        Ok(stat) if stat.kind == FileKind::Dir => Ok(()),
        // It is there, and why it cannot be looked at is the news.
        Err(why) if error.kind() == io::ErrorKind::AlreadyExists => Err(why),
        _ => Err(error),
    }
}

/// Removes a folder with all that is in it. Links are removed, not followed, and so is `path`
/// itself if it is one. A folder that is gone is fine.
///
/// # Errors
/// Something in it cannot be removed.
pub fn remove_dir_all(fs: &dyn Fs, path: &Path) -> io::Result<()> {
    match fs.lstat(path) {
        Ok(stat) if stat.kind != FileKind::Dir => return gone_is_fine(fs.remove_file(path)),
        _ => {}
    }
    gone_is_fine(clear_dir(fs, path))?;
    gone_is_fine(fs.remove_dir(path))
}

/// Removes all that is in a folder, as [`remove_dir_all`].
///
/// # Errors
/// The folder is gone or a link, or something in it cannot be removed.
pub(crate) fn clear_dir(fs: &dyn Fs, path: &Path) -> io::Result<()> {
    for entry in read_own_dir(fs, path)? {
        let path = path.join(&entry.name);
        match entry.kind {
            FileKind::Dir => remove_dir_all(fs, &path)?,
            _ => gone_is_fine(fs.remove_file(&path))?,
        }
    }
    Ok(())
}

/// Lists a folder of the cache, for cleaning. A symbolic link is refused: what lies behind it is
/// somebody else's.
///
/// # Errors
/// The folder is gone, cannot be listed, or is no folder (`NotADirectory`).
pub(crate) fn read_own_dir(fs: &dyn Fs, path: &Path) -> io::Result<Vec<DirEntry>> {
    match fs.lstat(path)?.kind {
        FileKind::Dir => fs.read_dir(path),
        _ => Err(io::ErrorKind::NotADirectory.into()),
    }
}

/// What a file or a folder holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    /// Number of files.
    pub(crate) files: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// Time of the latest change.
    pub(crate) touched: Nanos,
}

/// What a file or a folder holds, links not followed. What vanishes meanwhile does not count.
///
/// # Errors
/// Something cannot be read.
pub(crate) fn extent(fs: &dyn Fs, path: &Path) -> io::Result<Extent> {
    let mut sum = Extent {
        files: 0,
        bytes: 0,
        touched: Nanos::MIN,
    };
    let stat = match fs.lstat(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(sum),
        stat => stat?,
    };
    sum.touched = stat.mtime;
    if stat.kind != FileKind::Dir {
        (sum.files, sum.bytes) = (1, stat.size);
        return Ok(sum);
    }
    let entries = match fs.read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(sum),
        entries => entries?,
    };
    for entry in entries {
        let part = extent(fs, &path.join(&entry.name))?;
        sum.files += part.files;
        sum.bytes += part.bytes;
        sum.touched = sum.touched.max(part.touched);
    }
    Ok(sum)
}

/// Takes `NotFound` for success.
pub(crate) fn gone_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_writers_of_a_folder_may_lock_its_files() {
        for (folder, expected) in [
            (0o755, 0o600),
            (0o700, 0o600),
            (0o775, 0o660),
            (0o770, 0o660),
            (0o1777, 0o666),
        ] {
            assert_eq!(lock_mode(folder), expected, "{folder:o}");
        }
    }
    #[test]
    fn what_a_killed_process_of_the_same_number_left_is_in_nobodys_way() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let count = COUNT.load(Ordering::Relaxed);
        for count in count..count + 200 {
            let left = format!(".x.{}-{count}", std::process::id());
            std::fs::write(dir.path().join(left), "left").unwrap();
        }
        write_atomic(&RealFs, &path, b"new").unwrap();
        assert_eq!(std::fs::read(path).unwrap(), b"new");
    }

    #[test]
    fn only_regular_files_are_opened_as_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("file"), "x").unwrap();
        std::os::unix::fs::symlink("file", path("link")).unwrap();
        let made = std::process::Command::new("mkfifo")
            .arg(path("pipe"))
            .status();
        assert!(made.unwrap().success());
        for name in ["file", "link"] {
            open_file(&RealFs, &path(name)).unwrap();
        }
        for (path, reason) in [
            (path(""), "it is a folder, expected a regular file"),
            (path("pipe"), "it is a pipe, device or socket"),
            ("/dev/null".into(), "it is a pipe, device or socket"),
            (path("nothing"), "No such file"),
        ] {
            let error = open_file(&RealFs, &path).unwrap_err().to_string();
            assert!(error.contains(reason), "{}: {error}", path.display());
        }
        // A folder is opened to be synced.
        assert!(RealFs.open(dir.path()).is_ok());
        assert!(RealFs.open(&path("pipe")).is_err());
        assert!(RealFs.copy(&path("pipe"), &path("copy")).is_err());
    }
}
