//! The operating system's file system.
//!
//! `std` retries interrupted opens, reads and writes; the calls that it does not retry are
//! retried here. macOS has no `syncfs`; there every file is synced by itself.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::{Ctime, DirEntry, FileKind, Fs, FsKind, Handle, LockHolder, Nanos, Stat, not_regular};

/// How a folder is opened to look at what is in it.
const OPEN_DIR: rustix::fs::OFlags = rustix::fs::OFlags::DIRECTORY
    .union(rustix::fs::OFlags::RDONLY)
    .union(rustix::fs::OFlags::CLOEXEC);

/// The real thing.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealFs;

#[derive(Debug)]
struct RealFile(fs::File);

impl Read for RealFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        retry(|| self.0.read(buffer))
    }
}

impl Write for RealFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        retry(|| self.0.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for RealFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

impl Handle for RealFile {
    fn stat(&self) -> io::Result<Stat> {
        Ok(stat_of(&self.0.metadata()?))
    }

    fn sync(&self) -> io::Result<()> {
        // On macOS `std` asks for F_FULLFSYNC, which reaches the platter.
        retry(|| self.0.sync_all())
    }

    #[cfg(target_os = "linux")]
    fn sync_fs(&self) -> io::Result<()> {
        retry(|| rustix::fs::syncfs(&self.0).map_err(io::Error::from))
    }

    #[cfg(not(target_os = "linux"))]
    fn sync_fs(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn try_lock(&self) -> io::Result<bool> {
        locked(self.0.try_lock())
    }

    fn try_lock_shared(&self) -> io::Result<bool> {
        locked(self.0.try_lock_shared())
    }

    fn set_len(&self, size: u64) -> io::Result<()> {
        retry(|| self.0.set_len(size))
    }
}

impl Fs for RealFs {
    fn open(&self, path: &Path) -> io::Result<Box<dyn Handle>> {
        Ok(Box::new(RealFile(open(path)?)))
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn Handle>> {
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)?;
        Ok(Box::new(RealFile(file)))
    }

    fn open_lock(&self, path: &Path, mode: u32) -> io::Result<Box<dyn Handle>> {
        use rustix::fs::OFlags;
        // Neither follows a link nor waits for the other end of a pipe.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(mode)
            .custom_flags(flags.bits().cast_signed())
            .open(path)?;
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(not_regular(kind_of(meta.file_type())));
        }
        let is_own = meta.uid() == rustix::process::geteuid().as_raw();
        if is_own && meta.mode() & 0o777 != mode {
            // Some file systems have no permissions: then those of the mount hold.
            let _ = file.set_permissions(fs::Permissions::from_mode(mode));
        }
        Ok(Box::new(RealFile(file)))
    }

    #[cfg(target_os = "linux")]
    fn lock_holders(&self, file: &Stat) -> Vec<LockHolder> {
        let text = fs::read_to_string("/proc/locks").unwrap_or_default();
        let mut pids = lock_holders(&text, file);
        pids.sort_unstable();
        pids.dedup();
        pids.into_iter().map(holder).collect()
    }

    #[cfg(not(target_os = "linux"))]
    fn lock_holders(&self, _file: &Stat) -> Vec<LockHolder> {
        Vec::new()
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        use rustix::io::Errno;
        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(()),
            // Older network file systems cannot; a hard link is as exclusive.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                match rustix::fs::link(from, to) {
                    // What `link` gives where there are no hard links depends on the system.
                    Err(Errno::PERM | Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                        Err(io::ErrorKind::Unsupported.into())
                    }
                    linked => {
                        linked?;
                        fs::remove_file(from)
                    }
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    #[cfg(target_os = "linux")]
    fn list(&self, path: &Path, each: &mut dyn FnMut(DirEntry)) -> io::Result<()> {
        use rustix::fs::{AtFlags, RawDir, statat};
        // `std` takes two allocations for a name and reads 32 KiB at a time: half as fast.
        let dir = rustix::fs::open(path, OPEN_DIR, rustix::fs::Mode::empty())?;
        let mut buffer = Vec::with_capacity(128 * 1024);
        let mut entries = RawDir::new(&dir, buffer.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let mut kind = entry.file_type();
            if kind == rustix::fs::FileType::Unknown {
                let stat = statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
                kind = rustix::fs::FileType::from_raw_mode(stat.st_mode);
            }
            use std::os::unix::ffi::OsStrExt;
            each(DirEntry {
                kind: kind_of_type(kind),
                name: OsStr::from_bytes(name.to_bytes()).to_owned(),
            });
        }
        Ok(())
    }

    #[cfg(not(target_os = "linux"))]
    fn list(&self, path: &Path, each: &mut dyn FnMut(DirEntry)) -> io::Result<()> {
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            each(DirEntry {
                kind: kind_of(entry.file_type()?),
                name: entry.file_name(),
            });
        }
        Ok(())
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        Ok(stat_of(&fs::metadata(path)?))
    }

    fn stat_each(&self, dir: &Path, names: &[&OsStr]) -> Vec<io::Result<Stat>> {
        use rustix::fs::{AtFlags, Mode, statat};
        // From the folder itself: to go down its path for each file takes a third more.
        let Ok(opened) = rustix::fs::open(dir, OPEN_DIR, Mode::empty()) else {
            return names
                .iter()
                .map(|name| self.stat(&dir.join(name)))
                .collect();
        };
        let stat = |name: &&OsStr| match statat(&opened, *name, AtFlags::empty()) {
            Ok(stat) => Ok(stat_of_unix(&stat)),
            Err(error) => Err(error.into()),
        };
        names.iter().map(stat).collect()
    }

    fn lstat(&self, path: &Path) -> io::Result<Stat> {
        Ok(stat_of(&fs::symlink_metadata(path)?))
    }

    fn set_mode(&self, path: &Path, mode: u32) -> io::Result<()> {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let dir = fs::File::open(path)?;
        match retry(|| dir.sync_all()) {
            // Some network file systems cannot sync a folder: their servers do it themselves.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
            result => result,
        }
    }

    fn copy(&self, from: &Path, to: &Path) -> io::Result<u64> {
        let mut source = open(from)?;
        let mut target = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(to)?;
        #[cfg(target_os = "linux")]
        if rustix::fs::ioctl_ficlone(&target, &source).is_ok() {
            return Ok(target.metadata()?.len());
        }
        io::copy(&mut source, &mut target)
    }

    fn available_space(&self, path: &Path) -> io::Result<u64> {
        let vfs = rustix::fs::statvfs(path)?;
        Ok(vfs.f_bavail.saturating_mul(vfs.f_frsize))
    }

    #[cfg(target_os = "linux")]
    fn fs_kind(&self, path: &Path) -> io::Result<FsKind> {
        // Magic numbers of statfs(2) and of the clients' own headers.
        const NETWORK: [u32; 14] = [
            0x6969,      // NFS
            0x517b,      // SMB
            0xff53_4d42, // CIFS
            0xfe53_4d42, // SMB2
            0x6573_5546, // FUSE, virtiofs
            0x0bd0_0bd0, // Lustre
            0x00c3_6400, // Ceph
            0x5346_414f, // AFS
            0x6b41_4653, // kAFS
            0x4750_4653, // GPFS
            0x0102_1997, // 9P
            0x1983_0326, // BeeGFS
            0x7461_636f, // OCFS2
            0x0116_1970, // GFS2
        ];
        // Here syncfs writes everything back and, since Linux 5.8, says what failed.
        const SYNCS_WHOLE: [u32; 8] = [
            0xef53,      // ext2, ext3, ext4
            0x5846_5342, // XFS
            0x9123_683e, // Btrfs
            0xf2f5_2010, // F2FS
            0xca45_1a4e, // bcachefs
            0x2fc1_2fc1, // ZFS
            0x0102_1994, // tmpfs
            0x794c_7630, // overlayfs
        ];
        // These keep a ctime of their own, and no call sets it.
        const OWN_CTIME: [u32; 13] = [
            0xef53,      // ext2, ext3, ext4
            0x5846_5342, // XFS
            0x9123_683e, // Btrfs
            0xf2f5_2010, // F2FS
            0xca45_1a4e, // bcachefs
            0x2fc1_2fc1, // ZFS
            0x0102_1994, // tmpfs
            0x8584_58f6, // ramfs
            0x3153_464a, // JFS
            0x5265_4973, // ReiserFS
            0x3434,      // NILFS2
            0x2405_1905, // UBIFS
            0x7461_636f, // OCFS2
        ];
        // These show the ctime of the file system below, or of the server's.
        const PASSED_CTIME: [u32; 10] = [
            0x794c_7630, // overlayfs
            0xf15f,      // eCryptfs
            0x6969,      // NFS
            0xff53_4d42, // CIFS
            0xfe53_4d42, // SMB2
            0x0bd0_0bd0, // Lustre
            0x00c3_6400, // Ceph
            0x4750_4653, // GPFS
            0x1983_0326, // BeeGFS
            0x0116_1970, // GFS2
        ];
        // `f_type` is signed on some architectures; the magic is its low 32 bits.
        let magic = rustix::fs::statfs(path)?.f_type as u32;
        Ok(FsKind {
            network: NETWORK.contains(&magic),
            syncs_whole: SYNCS_WHOLE.contains(&magic) && syncfs_reports_errors(),
            ctime: if OWN_CTIME.contains(&magic) {
                Ctime::Kernel
            } else if PASSED_CTIME.contains(&magic) {
                Ctime::Passed
            } else {
                Ctime::Unknown
            },
        })
    }

    #[cfg(not(target_os = "linux"))]
    fn fs_kind(&self, path: &Path) -> io::Result<FsKind> {
        const NETWORK: [&[u8]; 7] = [
            b"nfs", b"smbfs", b"afpfs", b"webdav", b"macfuse", b"osxfuse", b"fusefs",
        ];
        const OWN_CTIME: [&[u8]; 4] = [b"apfs", b"hfs", b"ufs", b"zfs"];
        const PASSED_CTIME: [&[u8]; 2] = [b"nfs", b"smbfs"];
        let stat = rustix::fs::statfs(path)?;
        let name: Vec<u8> = stat
            .f_fstypename
            .iter()
            .take_while(|c| **c != 0)
            .map(|c| c.to_ne_bytes()[0])
            .collect();
        Ok(FsKind {
            network: NETWORK.contains(&name.as_slice()),
            syncs_whole: false,
            ctime: if OWN_CTIME.contains(&name.as_slice()) {
                Ctime::Kernel
            } else if PASSED_CTIME.contains(&name.as_slice()) {
                Ctime::Passed
            } else {
                Ctime::Unknown
            },
        })
    }

    #[cfg(target_os = "linux")]
    fn now(&self, dir: &Path) -> io::Result<Nanos> {
        use rustix::fs::{Mode, OFlags};
        // O_TMPFILE makes an inode without a name: the folder itself is not touched.
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = fs::File::from(rustix::fs::open(dir, flags, Mode::RUSR | Mode::WUSR)?);
        Ok(stat_of(&file.metadata()?).ctime)
    }

    #[cfg(not(target_os = "linux"))]
    fn now(&self, dir: &Path) -> io::Result<Nanos> {
        // Without O_TMPFILE a name would have to appear in the user's folder: the kernel's clock
        // does instead, as `dir` is on a local disk or the caller takes a wide margin.
        fs::metadata(dir)?;
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_err(io::Error::other)?;
        Nanos::try_from(now.as_nanos()).map_err(io::Error::other)
    }

    fn canonicalize(&self, path: &Path) -> io::Result<PathBuf> {
        fs::canonicalize(path)
    }
}

/// Takes a lock that is held elsewhere for no error.
fn locked(result: Result<(), fs::TryLockError>) -> io::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(fs::TryLockError::WouldBlock) => Ok(false),
        Err(fs::TryLockError::Error(error)) => Err(error),
    }
}

/// The processes that hold a lock of `file` by the text of `/proc/locks` (proc_locks(5)):
/// `1: FLOCK  ADVISORY  WRITE 4711 fe:00:1234 0 EOF`. A line with `->` is of one that waits.
#[cfg(target_os = "linux")]
fn lock_holders(text: &str, file: &Stat) -> Vec<u32> {
    let (major, minor) = (rustix::fs::major(file.dev), rustix::fs::minor(file.dev));
    let place = format!("{major:02x}:{minor:02x}:{}", file.ino);
    let inode = format!(":{}", file.ino);
    let holders = |is_here: &dyn Fn(&str) -> bool| -> Vec<u32> {
        text.lines()
            .filter_map(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                let [_, _, _, _, pid, at, ..] = words[..] else {
                    return None;
                };
                // The lock of a process that cannot be seen from here has the number 0 or -1.
                let pid: u32 = pid.parse().ok()?;
                (pid > 0 && !words.contains(&"->") && is_here(at)).then_some(pid)
            })
            .collect()
    };
    let exact = holders(&|at| at == place);
    if exact.is_empty() {
        // Some file systems (Btrfs) give files another device than the kernel lists.
        return holders(&|at| at.ends_with(&inode));
    }
    exact
}

#[cfg(target_os = "linux")]
fn holder(pid: u32) -> LockHolder {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // proc_pid_stat(5): the name stands in parentheses and may hold some, the state follows.
    let name = text.find('(').zip(text.rfind(')'));
    let state = name.and_then(|(_, end)| text.get(end + 1..)?.trim_start().chars().next());
    LockHolder {
        pid,
        name: name.and_then(|(begin, end)| Some(text.get(begin + 1..end)?.to_owned())),
        stopped: matches!(state, Some('T' | 't')),
    }
}

/// Opens a file or a folder for reading. A pipe, a device and a socket are refused: a read of one
/// may wait for ever, and so may the plain call that opens a pipe.
fn open(path: &Path) -> io::Result<fs::File> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    let file = match retry(|| Ok(rustix::fs::open(path, flags, Mode::empty())?)) {
        // Another program has a lease on the file, which only a waiting call can break.
        Err(error)
            if error.kind() == io::ErrorKind::WouldBlock && fs::metadata(path)?.is_file() =>
        {
            fs::File::open(path)?
        }
        file => fs::File::from(file?),
    };
    let kind = file.metadata()?.file_type();
    if kind.is_file() || kind.is_dir() {
        Ok(file)
    } else {
        Err(not_regular(kind_of(kind)))
    }
}

/// Repeats `call` while a signal interrupts it.
fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

fn kind_of(kind: fs::FileType) -> FileKind {
    if kind.is_file() {
        FileKind::File
    } else if kind.is_dir() {
        FileKind::Dir
    } else if kind.is_symlink() {
        FileKind::Symlink
    } else {
        debug_assert!(
            kind.is_fifo() || kind.is_socket() || kind.is_block_device() || kind.is_char_device()
        );
        FileKind::Other
    }
}

fn stat_of(meta: &fs::Metadata) -> Stat {
    let nanos =
        |seconds: i64, nanos: i64| seconds.saturating_mul(1_000_000_000).saturating_add(nanos);
    Stat {
        dev: meta.dev(),
        ino: meta.ino(),
        size: meta.size(),
        mtime: nanos(meta.mtime(), meta.mtime_nsec()),
        ctime: nanos(meta.ctime(), meta.ctime_nsec()),
        links: meta.nlink(),
        mode: meta.mode() & 0o7777,
        kind: kind_of(meta.file_type()),
    }
}

/// The same of what the kernel fills in.
#[allow(
    clippy::unnecessary_cast,
    clippy::useless_conversion,
    reason = "the widths of its fields differ between systems"
)]
fn stat_of_unix(stat: &rustix::fs::Stat) -> Stat {
    let nanos =
        |seconds: i64, nanos: i64| seconds.saturating_mul(1_000_000_000).saturating_add(nanos);
    Stat {
        dev: stat.st_dev as u64,
        ino: stat.st_ino,
        size: stat.st_size as u64,
        mtime: nanos(stat.st_mtime, stat.st_mtime_nsec as i64),
        ctime: nanos(stat.st_ctime, stat.st_ctime_nsec as i64),
        links: u64::from(stat.st_nlink),
        mode: u32::from(stat.st_mode) & 0o7777,
        kind: kind_of_type(rustix::fs::FileType::from_raw_mode(stat.st_mode)),
    }
}

fn kind_of_type(kind: rustix::fs::FileType) -> FileKind {
    use rustix::fs::FileType;
    match kind {
        FileType::RegularFile => FileKind::File,
        FileType::Directory => FileKind::Dir,
        FileType::Symlink => FileKind::Symlink,
        _ => FileKind::Other,
    }
}

/// Before Linux 5.8 `syncfs` returned success although a page could not be written.
#[cfg(target_os = "linux")]
fn syncfs_reports_errors() -> bool {
    static REPORTS: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *REPORTS.get_or_init(|| {
        let name = rustix::system::uname();
        let release = name.release().to_string_lossy();
        let mut numbers = release
            .split(|c: char| !c.is_ascii_digit())
            .filter_map(|part| part.parse::<u32>().ok());
        let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        version >= (5, 8)
    })
}
