//! Files under paths that the user names: how they are read, and how results are put there.
//!
//! Only regular files are read and written. A pipe, a device or a socket is refused before anything
//! waits for it, and is never replaced by a file. A symbolic link is followed: the file that it
//! points to is written, and the link stays.
//!
//! [`Put`] puts a set of files into a folder. They are written to a hidden folder beside their
//! places, synced, and moved one after the other. Whatever happens, each file is the old one or the
//! new one, and the files of two sets are never mixed:
//!
//! ```text
//! .pipeline-put.lock     locked while files are moved, and while leftovers are cleaned up
//! .pipeline-put-XXXXXX/  of one process
//!     lock               locked while that process lives
//!     files/…            the files, under their future names
//!     complete           there when all files are: from then on they are moved
//! ```
//!
//! The locks are the kernel's: they end with their process. A killed process leaves its folder, and
//! the next one that puts something beside it cleans up: it finishes a set that was complete, and
//! removes any other.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use engine::fs::{
    FileKind, Fs, Handle, RealFs, Stat, create_dir_all, lock_holders, lock_mode, not_regular,
    remove_dir_all,
};
use engine::results::create_dir;
use stage_core::text::of_name;
use stage_core::{Cancel, Digest};

use crate::outcome::{Failure, INTERRUPTED, Outcome, print_warning};

/// The lock of a folder that files are put into.
const LOCK: &str = ".pipeline-put.lock";
/// How the name of the folder of one process begins.
const STAGING: &str = ".pipeline-put-";
/// In that folder: the lock of its process.
const ALIVE: &str = "lock";
/// In that folder: the files.
const FILES: &str = "files";
/// In that folder: says that all files are there.
const COMPLETE: &str = "complete";
/// In that folder: what its process needs besides.
const WORK: &str = "work";

/// Longest name of a file that the usual file systems take, in bytes.
pub(super) const MAX_NAME: usize = 255;
/// From how many files on one sync of the whole file system is cheaper than one for each.
const MANY: usize = 16;
/// How often a lock that is held elsewhere is tried again.
const RETRY: Duration = Duration::from_millis(10);
/// How often the file of a lock may have been replaced while it was waited for.
const MAX_REPLACED: u32 = 1000;
/// After which time the user is told what is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// Opens a regular file for reading.
pub(crate) fn open(path: &Path) -> anyhow::Result<Box<dyn Handle>> {
    engine::fs::open_file(&RealFs, path).with_context(|| format!("cannot open `{}`", of_name(path)))
}

/// Writes one file, whole or not at all.
pub(super) fn write(to: &Path, bytes: &[u8]) -> Outcome {
    let (dir, name) = split(to)?;
    let mut put = Put::into(dir, &Cancel::default())?;
    put.write(name.as_ref(), bytes)?;
    put.commit()
}

/// The folder and the name of a file that is going to be written.
pub(super) fn split(path: &Path) -> Result<(&Path, &OsStr), Failure> {
    let name = path.file_name().with_context(|| {
        format!(
            "cannot write `{}`: it is a folder, expected the name of a file",
            of_name(path)
        )
    })?;
    Ok((folder_of(path), name))
}

/// The folder of a path; that of a plain name is the present one.
fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

/// `stem` and `rest` as one name of at most `most` bytes. If they are too long, the end of the stem
/// makes room for a hash of it: equal names stay equal, and different ones different.
pub(super) fn fit(stem: &str, rest: &str, most: usize) -> String {
    if stem.len() + rest.len() <= most {
        return format!("{stem}{rest}");
    }
    let hash: String = Digest::of(stem.as_bytes())
        .to_hex()
        .chars()
        .take(8)
        .collect();
    let room = most.saturating_sub(rest.len() + 1 + hash.len());
    format!("{}~{hash}{rest}", &stem[..stem.floor_char_boundary(room)])
}

/// Files on their way into a folder; see the module. Dropped, it leaves everything as it was.
#[derive(Debug)]
pub(super) struct Put {
    dir: PathBuf,
    device: u64,
    /// Open since before the first write, so that syncing it reports every error.
    root: Box<dyn Handle>,
    staging: tempfile::TempDir,
    /// Holds the lock that says that this process lives.
    _alive: Box<dyn Handle>,
    /// What is staged, by its path in the folder, and not synced yet.
    unsynced: Vec<PathBuf>,
    staged: usize,
    /// Files whose places lie in another folder, because a link points there.
    elsewhere: Vec<Self>,
    cancel: Cancel,
}

/// The right to move files into a folder.
#[derive(Debug)]
pub(super) struct Turn {
    path: PathBuf,
    /// Holds the lock; nothing where the file system has no locks.
    _file: Box<dyn Handle>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        // A file that stays is no more than a file: its lock is gone.
        let _ = RealFs.remove_file(&self.path);
    }
}

impl Turn {
    /// Waits until no other process moves files into `dir`.
    fn take(dir: &Path, cancel: &Cancel) -> Result<Self, Failure> {
        let path = dir.join(LOCK);
        let cannot = || format!("cannot write in `{}`", of_name(dir));
        let mode = lock_mode(RealFs.stat(dir).with_context(cannot)?.mode);
        let begun = Instant::now();
        let mut told = false;
        let mut replaced = 0;
        loop {
            let file = RealFs.open_lock(&path, mode).with_context(cannot)?;
            // Where the file system has no locks, nothing is waited for.
            if file.try_lock().unwrap_or(true) {
                let ours = file.stat().with_context(cannot)?;
                // The process that held the lock removed the file after we had opened it. A file
                // system that never gives a file the same number twice is not waited for.
                let same = RealFs
                    .lstat(&path)
                    .is_ok_and(|there| same_inode(&there, &ours));
                if same || replaced == MAX_REPLACED {
                    return Ok(Self { path, _file: file });
                }
                replaced += 1;
                continue;
            }
            if cancel.is_set() {
                return Err(Failure::Code(INTERRUPTED));
            }
            if !told && begun.elapsed() > PATIENCE {
                print_warning(&format!(
                    "waiting for {}, which puts its results into `{}`",
                    lock_holders(&RealFs, &*file),
                    of_name(dir)
                ));
                told = true;
            }
            std::thread::sleep(RETRY);
        }
    }
}

fn same_inode(one: &Stat, other: &Stat) -> bool {
    (one.dev, one.ino) == (other.dev, other.ino)
}

/// A path in a folder. In the present one it is a plain name, as the user wrote it.
fn join(dir: &Path, name: &Path) -> PathBuf {
    if dir == Path::new(".") {
        name.to_owned()
    } else {
        dir.join(name)
    }
}

/// Where a file that is asked for really goes.
enum Place {
    /// To its own path. The mode of the file that is there, if there is one.
    Here(Option<u32>),
    /// To this path, on another disk or behind a link.
    Elsewhere(PathBuf),
}

impl Put {
    /// Begins to put files into `dir`, which is made if it is not there. Cleans up what killed
    /// processes left in it.
    pub(super) fn into(dir: &Path, cancel: &Cancel) -> Result<Self, Failure> {
        let fs = RealFs;
        let cannot = || format!("cannot write in `{}`", of_name(dir));
        create_dir(&fs, dir)
            .with_context(|| format!("cannot create the folder `{}`", of_name(dir)))?;
        let _turn = Turn::take(dir, cancel)?;
        clean_up(dir).with_context(cannot)?;
        let staging = tempfile::Builder::new()
            .prefix(STAGING)
            .tempdir_in(dir)
            .with_context(cannot)?;
        let alive = fs
            .create_new(&staging.path().join(ALIVE))
            .with_context(cannot)?;
        // Without locks its leftovers are never taken for those of a dead process.
        let _ = alive.try_lock();
        fs.create_dir(&staging.path().join(FILES))
            .with_context(cannot)?;
        let root = fs.open(dir).with_context(cannot)?;
        Ok(Self {
            dir: dir.to_owned(),
            device: root.stat().with_context(cannot)?.dev,
            root,
            staging,
            _alive: alive,
            unsynced: Vec::new(),
            staged: 0,
            elsewhere: Vec::new(),
            cancel: cancel.clone(),
        })
    }

    /// A folder for what is needed on the way. It goes when this ends.
    pub(super) fn work(&self) -> anyhow::Result<PathBuf> {
        let work = self.staging.path().join(WORK);
        create_dir_all(&RealFs, &work)
            .with_context(|| format!("cannot create the folder `{}`", of_name(&work)))?;
        Ok(work)
    }

    /// Makes a file for writing, `name` below the folder.
    pub(super) fn create(&mut self, name: &Path) -> Result<Box<dyn Handle>, Failure> {
        let to = join(&self.dir, name);
        self.stage(name, |staged| {
            let created = RealFs.create_new(staged);
            Ok(created.with_context(|| format!("cannot write `{}`", of_name(&to)))?)
        })
    }

    /// Writes a file, `name` below the folder.
    pub(super) fn write(&mut self, name: &Path, bytes: &[u8]) -> Outcome {
        let to = join(&self.dir, name);
        let written = self.create(name)?.write_all(bytes);
        Ok(written.with_context(|| format!("cannot write `{}`", of_name(&to)))?)
    }

    /// Lets `make` make a file, `name` below the folder, where it is staged.
    pub(super) fn stage<T>(
        &mut self,
        name: &Path,
        make: impl FnOnce(&Path) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let to = join(&self.dir, name);
        let cannot = || format!("cannot write `{}`", of_name(&to));
        let mode = match place(&to, self.device).with_context(cannot)? {
            Place::Here(mode) => mode,
            Place::Elsewhere(real) => {
                let name = real.file_name().unwrap_or_default();
                let mut put = Self::into(folder_of(&real), &self.cancel)?;
                let made = put.stage(name.as_ref(), make)?;
                self.elsewhere.push(put);
                return Ok(made);
            }
        };
        let staged = self.staging.path().join(FILES).join(name);
        create_dir_all(&RealFs, folder_of(&staged)).with_context(cannot)?;
        let made = make(&staged);
        if made.is_err() {
            // A part of a file must not be moved to its place.
            let _ = RealFs.remove_file(&staged);
        }
        let made = made?;
        if let Some(mode) = mode {
            RealFs.set_mode(&staged, mode).with_context(cannot)?;
        }
        self.unsynced.push(name.to_owned());
        self.staged += 1;
        Ok(made)
    }

    /// Waits until no other process moves files into the folder. What was staged so far is durable
    /// by then.
    pub(super) fn turn(&mut self) -> Result<Turn, Failure> {
        self.sync()?;
        Turn::take(&self.dir, &self.cancel)
    }

    /// Moves the files to their places.
    pub(super) fn commit(mut self) -> Outcome {
        let turn = self.turn()?;
        self.commit_in(turn)
    }

    /// As [`Put::commit`], in a turn that was taken before.
    pub(super) fn commit_in(mut self, turn: Turn) -> Outcome {
        self.sync()?;
        let cannot = || format!("cannot write in `{}`", of_name(&self.dir));
        // A single file is whole without: it has one name or none.
        if self.staged > 1 {
            let complete = RealFs.create_new(&self.staging.path().join(COMPLETE));
            complete.with_context(cannot)?;
            RealFs.sync_dir(self.staging.path()).with_context(cannot)?;
        }
        let moved = move_all(&self.staging.path().join(FILES), &self.dir);
        // Within the turn: else another process could take what is half removed for a leftover.
        let _ = remove_dir_all(&RealFs, self.staging.path());
        drop(turn);
        moved?;
        for put in std::mem::take(&mut self.elsewhere) {
            put.commit()?;
        }
        Ok(())
    }

    /// Makes what is staged durable.
    fn sync(&mut self) -> anyhow::Result<()> {
        let files = self.staging.path().join(FILES);
        let unsynced = std::mem::take(&mut self.unsynced);
        let cannot = |name: &Path| format!("cannot write `{}`", of_name(join(&self.dir, name)));
        let whole =
            unsynced.len() > MANY && RealFs.fs_kind(&self.dir).is_ok_and(|kind| kind.syncs_whole);
        if whole {
            return self.root.sync_fs().with_context(|| cannot(Path::new("")));
        }
        let mut folders = vec![files.clone()];
        for name in &unsynced {
            let staged = files.join(name);
            let file = RealFs.open(&staged);
            file.and_then(|file| file.sync())
                .with_context(|| cannot(name))?;
            folders.push(folder_of(&staged).to_owned());
        }
        folders.sort();
        folders.dedup();
        for folder in folders {
            RealFs
                .sync_dir(&folder)
                .with_context(|| cannot(Path::new("")))?;
        }
        Ok(())
    }
}

/// Where the file `to`, in a folder of the disk `device`, really goes.
fn place(to: &Path, device: u64) -> io::Result<Place> {
    match RealFs.lstat(to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let folder = folder_of(to);
            match RealFs.stat(folder) {
                Ok(there) if there.dev != device => {
                    let name = to.file_name().unwrap_or_default();
                    Ok(Place::Elsewhere(RealFs.canonicalize(folder)?.join(name)))
                }
                _ => Ok(Place::Here(None)),
            }
        }
        Err(error) => Err(error),
        Ok(stat) if stat.kind == FileKind::Symlink => match RealFs.stat(to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(io::Error::new(
                error.kind(),
                "it is a symbolic link to a file that is not there; remove the link or make the file",
            )),
            Err(error) => Err(error),
            Ok(real) => {
                regular(&real)?;
                Ok(Place::Elsewhere(RealFs.canonicalize(to)?))
            }
        },
        Ok(stat) => {
            regular(&stat)?;
            if stat.dev == device {
                // One that may not be read could not be synced.
                Ok(Place::Here(Some(stat.mode & 0o777 | 0o400)))
            } else {
                Ok(Place::Elsewhere(RealFs.canonicalize(to)?))
            }
        }
    }
}

fn regular(stat: &Stat) -> io::Result<()> {
    match stat.kind {
        FileKind::File => Ok(()),
        kind => Err(not_regular(kind)),
    }
}

/// Moves the files below `from` to their places below `to`. One that cannot be moved does not stop
/// the others; the first error is given.
fn move_all(from: &Path, to: &Path) -> anyhow::Result<()> {
    let cannot = |path: &Path| format!("cannot write `{}`", of_name(path));
    let mut first = None;
    let mut moved = false;
    for entry in RealFs.read_dir(from).with_context(|| cannot(to))? {
        let (from, to) = (from.join(&entry.name), to.join(&entry.name));
        let result = if entry.kind == FileKind::Dir {
            let made = create_dir_all(&RealFs, &to).with_context(|| cannot(&to));
            made.and_then(|()| move_all(&from, &to))
        } else {
            moved = true;
            RealFs.rename(&from, &to).with_context(|| cannot(&to))
        };
        first = first.or(result.err());
    }
    if moved {
        let synced = RealFs.sync_dir(to).with_context(|| cannot(to));
        first = first.or(synced.err());
    }
    first.map_or(Ok(()), Err)
}

/// Finishes or removes what dead processes left in `dir`. To be called in a turn, in which no folder
/// is half made but by a process that died over it.
fn clean_up(dir: &Path) -> io::Result<()> {
    let is_staging = |name: &OsString| name.as_encoded_bytes().starts_with(STAGING.as_bytes());
    let mut folders = Vec::new();
    RealFs.list(dir, &mut |entry| {
        if entry.kind == FileKind::Dir && is_staging(&entry.name) {
            folders.push(dir.join(entry.name));
        }
    })?;
    for folder in folders {
        let lock = folder.join(ALIVE);
        let alive = match RealFs
            .lstat(&lock)
            .and_then(|_| RealFs.open_lock(&lock, 0o600))
        {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(_) => continue,
            Ok(file) if file.try_lock().is_ok_and(|locked| locked) => Some(file),
            Ok(_) => continue,
        };
        if RealFs.lstat(&folder.join(COMPLETE)).is_ok()
            && let Err(error) = move_all(&folder.join(FILES), dir)
        {
            print_warning(&format!(
                "what a killed run left is not complete: {error:#}"
            ));
        }
        // A file that cannot be removed does no harm.
        let _ = remove_dir_all(&RealFs, &folder);
        drop(alive);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::process::Command;

    use super::*;

    fn fifo(path: &Path) {
        let made = Command::new("mkfifo").arg(path).status().unwrap();
        assert!(made.success());
    }

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn put(dir: &Path, files: &[(&str, &str)]) -> Outcome {
        let mut put = Put::into(dir, &Cancel::default())?;
        for (name, text) in files {
            put.write(name.as_ref(), text.as_bytes())?;
        }
        put.commit()
    }

    fn text(failure: Failure) -> String {
        match failure {
            Failure::Other(error) => format!("{error:#}"),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn long_names_are_cut_and_stay_different() {
        let long = "ö".repeat(130);
        let rows = [
            ("tune", ".wav", 255, "tune.wav"),
            ("a.b", ".wav", 7, "a.b.wav"),
            ("abcdefghijklmnop", ".wav", 19, "abcdef~009e4383.wav"),
        ];
        for (stem, rest, most, name) in rows {
            assert_eq!(fit(stem, rest, most), name);
        }
        let other = format!("{long}x");
        let (one, other) = (fit(&long, ".flac", 255), fit(&other, ".flac", 255));
        assert_ne!(one, other);
        for name in [one, other] {
            assert!(name.len() <= 255 && name.ends_with(".flac"), "{name}");
        }
    }

    #[test]
    fn a_path_is_a_folder_and_a_name() {
        let rows = [
            ("tune.wav", Some((".", "tune.wav"))),
            ("./tune.wav", Some((".", "tune.wav"))),
            ("a/b", Some(("a", "b"))),
            ("/b", Some(("/", "b"))),
            ("/", None),
            ("..", None),
            ("", None),
        ];
        for (path, parts) in rows {
            let found = split(Path::new(path)).ok();
            let expected = parts.map(|(dir, name)| (Path::new(dir), OsStr::new(name)));
            assert_eq!(found, expected, "{path}");
        }
    }

    #[test]
    fn files_are_put_and_nothing_else_stays() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("new/folder");
        fs::create_dir_all(&out).unwrap();
        fs::write(out.join("mine.txt"), "mine").unwrap();
        fs::write(out.join("a"), "old").unwrap();
        fs::set_permissions(out.join("a"), fs::Permissions::from_mode(0o600)).unwrap();
        put(&out, &[("a", "new"), ("sub/b", "b")]).unwrap();
        assert_eq!(names(&out), ["a", "mine.txt", "sub"]);
        assert_eq!(fs::read(out.join("a")).unwrap(), b"new");
        assert_eq!(fs::read(out.join("sub/b")).unwrap(), b"b");
        // What others may read of a file does not change.
        let mode = fs::metadata(out.join("a")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_set_with_a_failure_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), "old").unwrap();
        fs::create_dir(dir.path().join("b")).unwrap();
        let error = text(put(dir.path(), &[("a", "new"), ("b", "new")]).unwrap_err());
        assert!(error.contains("b`: it is a folder"), "{error}");
        assert_eq!(fs::read(dir.path().join("a")).unwrap(), b"old");
        assert_eq!(names(dir.path()), ["a", "b"]);
    }

    #[test]
    fn only_regular_files_are_replaced_and_links_are_followed() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fifo(&path("fifo"));
        let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
        fs::create_dir(path("folder")).unwrap();
        symlink("fifo", path("to-fifo")).unwrap();
        symlink("/dev/null", path("to-device")).unwrap();
        symlink("nowhere", path("dangling")).unwrap();
        let refused = [
            ("fifo", "a pipe, device or socket"),
            ("socket", "a pipe, device or socket"),
            ("folder", "it is a folder"),
            ("to-fifo", "a pipe, device or socket"),
            ("to-device", "a pipe, device or socket"),
            ("dangling", "a symbolic link to a file that is not there"),
        ];
        for (name, reason) in refused {
            let before = fs::symlink_metadata(path(name)).unwrap().file_type();
            let error = text(write(&path(name), b"new").unwrap_err());
            assert!(error.contains(reason), "{name}: {error}");
            assert!(error.contains(&format!("/{name}`")), "{name}: {error}");
            let after = fs::symlink_metadata(path(name)).unwrap().file_type();
            assert_eq!(before, after, "{name}");
            if name != "folder" && name != "dangling" {
                assert!(open(&path(name)).is_err(), "{name}");
            }
        }
        fs::create_dir(path("elsewhere")).unwrap();
        for (link, target) in [("beside", "real"), ("away", "elsewhere/real")] {
            fs::write(path(target), "old").unwrap();
            symlink(target, path(link)).unwrap();
            write(&path(link), b"new").unwrap();
            assert!(path(link).is_symlink(), "{link}");
            assert_eq!(fs::read(path(target)).unwrap(), b"new", "{link}");
        }
        assert_eq!(names(&path("elsewhere")), ["real"]);
    }

    /// As a killed process leaves its folder.
    fn leftover(dir: &Path, name: &str, complete: bool) -> PathBuf {
        let folder = dir.join(format!("{STAGING}{name}"));
        fs::create_dir_all(folder.join(FILES).join("sub")).unwrap();
        fs::write(folder.join(ALIVE), "").unwrap();
        fs::write(folder.join(FILES).join(name), "staged").unwrap();
        fs::write(folder.join(FILES).join("sub").join(name), "staged").unwrap();
        if complete {
            fs::write(folder.join(COMPLETE), "").unwrap();
        }
        folder
    }

    #[test]
    fn what_killed_processes_left_is_finished_or_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in ["done", "begun", "alive"] {
            fs::write(path(name), "old").unwrap();
        }
        leftover(dir.path(), "done", true);
        leftover(dir.path(), "begun", false);
        // Killed before it had made its lock.
        fs::create_dir(path(&format!("{STAGING}bare"))).unwrap();
        let alive = leftover(dir.path(), "alive", true);
        let lock = fs::File::open(alive.join(ALIVE)).unwrap();
        lock.lock().unwrap();
        // The lock of a folder that a killed process held is free.
        fs::write(path(LOCK), "").unwrap();

        put(dir.path(), &[("new", "new")]).unwrap();
        let read = |name: &str| fs::read_to_string(path(name)).unwrap();
        assert_eq!(read("done"), "staged");
        assert_eq!(read("sub/done"), "staged");
        assert_eq!(read("begun"), "old");
        assert_eq!(read("alive"), "old");
        let alive = format!("{STAGING}alive");
        assert_eq!(
            names(dir.path()),
            [&alive, "alive", "begun", "done", "new", "sub"]
        );
        drop(lock);
        put(dir.path(), &[("new", "newer")]).unwrap();
        assert_eq!(read("alive"), "staged");
        assert_eq!(names(dir.path()), ["alive", "begun", "done", "new", "sub"]);
    }

    #[test]
    fn sets_that_are_put_at_once_are_never_mixed() {
        let dir = tempfile::tempdir().unwrap();
        let files: Vec<String> = (0..12).map(|n| format!("file-{n}")).collect();
        for round in 0..20 {
            std::thread::scope(|scope| {
                for who in ["one", "two", "three"] {
                    let set: Vec<(&str, &str)> =
                        files.iter().map(|file| (file.as_str(), who)).collect();
                    let dir = dir.path();
                    scope.spawn(move || put(dir, &set).unwrap());
                }
            });
            let found = files
                .iter()
                .map(|file| fs::read(dir.path().join(file)).unwrap());
            let mut found: Vec<Vec<u8>> = found.collect();
            found.dedup();
            assert_eq!(found.len(), 1, "round {round}");
            assert_eq!(names(dir.path()).len(), files.len());
        }
    }

    #[test]
    fn a_cancelled_command_does_not_wait() {
        let dir = tempfile::tempdir().unwrap();
        let lock = fs::File::create(dir.path().join(LOCK)).unwrap();
        lock.lock().unwrap();
        let cancel = Cancel::default();
        cancel.set();
        let failure = Put::into(dir.path(), &cancel).unwrap_err();
        assert!(matches!(failure, Failure::Code(INTERRUPTED)), "{failure:?}");
    }
}
