//! Digests of source files, and the stat cache that spares reading them again.
//!
//! A file is taken for unchanged while device, inode, length, mtime and ctime are as recorded.
//! Mtime alone would miss an edit whose time was put back; ctime cannot be put back. A file whose
//! times are as young as the look at it may change once more within the same tick of the clock
//! (git's "racy" files): such a digest is used but recorded as that of a young file, so that the
//! next run reads the file again. "Now" comes from the file system that holds the file, as its clock is the one that
//! stamps. Reading is by `read`, not by a memory map, which would kill the process if the file
//! shrank, and is bracketed by two equal stats.
//!
//! All this takes a ctime that the kernel sets. File systems without one show the mtime instead, or
//! what a server makes up ([`Ctime`]): a state there vouches for nothing, and the file is read each
//! time. Which file systems these are is asked once per device and look, not kept, as another one
//! may be mounted under the same device number.
//!
//! One edit no stat can see: a page of a shared memory map that is written again without its
//! owner having synced it. `paranoid` reads everything and finds it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rayon::prelude::*;
use stage_core::{Cancel, Digest, FileId};

use super::error::{Result, StoreError, Warning};
use super::{Inner, Store};
use crate::fs::{Ctime, FileKind, Fs, Handle, Nanos, Stat};

/// How much older than "now" both times must be. FAT counts in steps of 2 s, the coarsest known.
const MARGIN: Nanos = 2_000_000_000;

/// The same where the clock of a network file system could not be asked.
const MARGIN_UNKNOWN_CLOCK: Nanos = 3_600_000_000_000;

/// How often a file that changes meanwhile is read.
const TRIES: usize = 4;

/// Bytes that are read at once.
const CHUNK: usize = 256 * 1024;

/// What tells one state of a file from the next, short of reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StatSig {
    /// Device.
    pub dev: u64,
    /// Inode.
    pub ino: u64,
    /// Length in bytes.
    pub size: u64,
    /// Time of the last change of the content, in nanoseconds since 1970.
    pub mtime: Nanos,
    /// Time of the last change of content or inode, in nanoseconds since 1970.
    pub ctime: Nanos,
}

impl StatSig {
    /// Its fields one after the other, little-endian.
    pub(crate) fn to_bytes(self) -> [u8; 40] {
        let mut bytes = [0; 40];
        let fields = [
            self.dev.to_le_bytes(),
            self.ino.to_le_bytes(),
            self.size.to_le_bytes(),
            self.mtime.to_le_bytes(),
            self.ctime.to_le_bytes(),
        ];
        for (place, field) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(fields) {
            *place = field;
        }
        bytes
    }

    /// Whether a change of the file shows in this state, where ctimes are of this sort.
    pub(crate) fn vouches(&self, ctime: Ctime) -> bool {
        match ctime {
            Ctime::Kernel => true,
            // A whole second in both is what a file system without ctimes shows. Where there are
            // ctimes, a write leaves both times equal, but rarely at a whole second.
            Ctime::Passed => {
                self.ctime > 0 && (self.ctime != self.mtime || self.ctime % 1_000_000_000 != 0)
            }
            Ctime::Unknown => false,
        }
    }
}

impl From<StatSig> for FileId {
    fn from(sig: StatSig) -> Self {
        Self {
            dev: sig.dev,
            ino: sig.ino,
        }
    }
}

impl From<&Stat> for StatSig {
    fn from(stat: &Stat) -> Self {
        Self {
            dev: stat.dev,
            ino: stat.ino,
            size: stat.size,
            mtime: stat.mtime,
            ctime: stat.ctime,
        }
    }
}

/// A file's digest and the state that has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileDigest {
    /// Digest of the bytes.
    pub digest: Digest,
    /// Whether the state vouches for the digest from now on: it was known before, or the file was
    /// old enough when it was read.
    pub vouched: bool,
    /// State of the file.
    pub sig: StatSig,
}

/// How files are hashed.
pub struct HashOptions<'a> {
    /// Reads every file, whatever the stat cache says.
    pub paranoid: bool,
    /// Stops the reading within some milliseconds.
    pub cancel: &'a Cancel,
    /// Told of bytes as they are read, from several threads.
    pub on_bytes: &'a (dyn Fn(u64) + Sync),
}

/// Reads and hashes a file, links followed.
///
/// # Errors
/// It cannot be read, is no regular file, or changed at each of four attempts.
pub fn hash_file(fs: &dyn Fs, path: &Path, options: &HashOptions<'_>) -> Result<FileDigest> {
    // Opening a pipe would wait for its writer.
    regular(fs, path)?;
    hash_regular(fs, path, options)
}

/// As [`hash_file`], of what was a regular file a moment ago.
fn hash_regular(fs: &dyn Fs, path: &Path, options: &HashOptions<'_>) -> Result<FileDigest> {
    let mut buffer = Vec::new();
    for attempt in 0..TRIES {
        if attempt > 0 {
            std::thread::sleep(Duration::from_millis(20));
        }
        let mut file = fs.open(path).map_err(StoreError::io("open", path))?;
        let before = file.stat().map_err(StoreError::io("read", path))?;
        let (digest, length) = hash(&mut *file, &before, path, &mut buffer, options)?;
        let after = file.stat().map_err(StoreError::io("read", path))?;
        let sig = StatSig::from(&after);
        if StatSig::from(&before) == sig && length == sig.size {
            // Whether it was old enough, only the clock of its file system can tell.
            let vouched = false;
            return Ok(FileDigest {
                digest,
                vouched,
                sig,
            });
        }
    }
    Err(StoreError::FileChanged {
        path: path.to_owned(),
    })
}

fn hash(
    file: &mut dyn Handle,
    stat: &Stat,
    path: &Path,
    buffer: &mut Vec<u8>,
    options: &HashOptions<'_>,
) -> Result<(Digest, u64)> {
    // One byte more than a small file has, so that one that grows is noticed.
    let wanted = usize::try_from(stat.size)
        .unwrap_or(CHUNK)
        .saturating_add(1);
    buffer.resize(wanted.min(CHUNK), 0);
    let mut hasher = blake3::Hasher::new();
    let mut length = 0;
    loop {
        if options.cancel.is_set() {
            return Err(StoreError::Cancelled);
        }
        // What comes after the length that it had, the stat that follows shows.
        if length == stat.size && length > 0 {
            return Ok((Digest(*hasher.finalize().as_bytes()), length));
        }
        let n = file.read(buffer).map_err(StoreError::io("read", path))?;
        let Some(chunk) = buffer.get(..n).filter(|chunk| !chunk.is_empty()) else {
            return Ok((Digest(*hasher.finalize().as_bytes()), length));
        };
        hasher.update(chunk);
        length += n as u64;
        // A file that grows as fast as it is read has changed already.
        if length > stat.size {
            return Ok((Digest(*hasher.finalize().as_bytes()), length));
        }
        (options.on_bytes)(n as u64);
    }
}

fn regular(fs: &dyn Fs, path: &Path) -> Result<Stat> {
    let stat = fs.stat(path).map_err(StoreError::io("read", path))?;
    if stat.kind != FileKind::File {
        return Err(StoreError::NotAFile {
            path: path.to_owned(),
        });
    }
    Ok(stat)
}

impl Store {
    /// Digests of files, in the order of `paths`; read in parallel, and only where the stat cache
    /// does not know them.
    ///
    /// Each file has its own result: it may be gone, unreadable, no regular file, or keep
    /// changing. After a cancellation the files that were not read have
    /// [`StoreError::Cancelled`], and what was read is recorded.
    pub fn digest_many(
        &self,
        paths: &[PathBuf],
        options: &HashOptions<'_>,
    ) -> Vec<Result<FileDigest>> {
        let paths: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
        let seen = self.look_at(&paths);
        self.digest_seen(&paths, seen, options)
    }

    /// As [`Store::digest_many`], of files that were `seen` in these states a moment ago.
    pub(crate) fn digest_seen(
        &self,
        paths: &[&Path],
        seen: Vec<Result<StatSig>>,
        options: &HashOptions<'_>,
    ) -> Vec<Result<FileDigest>> {
        self.inner().digest_seen(paths, seen, options)
    }

    /// The states of files, side by side.
    pub(crate) fn look_at(&self, paths: &[&Path]) -> Vec<Result<StatSig>> {
        let fs = &*self.inner().fs;
        paths
            .par_iter()
            .with_min_len(64)
            .map(|path| regular(fs, path).map(|stat| StatSig::from(&stat)))
            .collect()
    }

    /// Digests of files in these states, as far as they are known without reading. A digest that
    /// was recorded when the file was young counts here: to show something at once, not to work
    /// with.
    pub(crate) fn known_digests(&self, seen: &[Result<StatSig>]) -> Vec<Option<Digest>> {
        self.inner().known(seen, true)
    }
}

impl Inner {
    /// Digests by the stat cache.
    fn known(&self, seen: &[Result<StatSig>], young: bool) -> Vec<Option<Digest>> {
        let sigs: Vec<_> = seen.iter().map(|sig| sig.as_ref().ok().copied()).collect();
        // Without the index every file is read: slower, not wrong.
        self.with_index(|index| Ok(index.stats(&sigs, young)?))
            .unwrap_or_else(|_| vec![None; seen.len()])
    }

    fn digest_seen(
        &self,
        paths: &[&Path],
        seen: Vec<Result<StatSig>>,
        options: &HashOptions<'_>,
    ) -> Vec<Result<FileDigest>> {
        let fs = &*self.fs;
        let sigs: Vec<_> = seen.iter().map(|sig| sig.as_ref().ok().copied()).collect();
        let mut ctimes = Ctimes::default();
        let mut vouches = |sig: &StatSig, path: &Path| sig.vouches(ctimes.on(sig.dev, fs, || path));
        let mut known = self.known(&seen, false);
        for ((digest, sig), path) in known.iter_mut().zip(&sigs).zip(paths) {
            *digest = digest.filter(|_| sig.as_ref().is_some_and(|sig| vouches(sig, path)));
        }
        let to_read = |i: &usize| sigs[*i].is_some() && (options.paranoid || known[*i].is_none());
        let settled = self.settled(paths, &sigs, (0..paths.len()).filter(to_read));
        let mut read: Vec<_> = seen
            .into_par_iter()
            .enumerate()
            .map(|(i, sig)| match (sig, known[i]) {
                (Err(error), _) => Err(error),
                (Ok(sig), Some(digest)) if !options.paranoid => Ok(FileDigest {
                    digest,
                    vouched: true,
                    sig,
                }),
                (Ok(_), _) => hash_regular(fs, paths[i], options),
            })
            .collect();
        let (mut fresh, mut silent) = (Vec::new(), false);
        for (i, file) in read.iter_mut().enumerate() {
            let Ok(file) = file else { continue };
            let old = known[i].filter(|_| sigs[i] == Some(file.sig));
            if old == Some(file.digest) {
                file.vouched = true;
                continue;
            }
            if old.is_some() {
                silent = true;
                let path = paths[i].to_owned();
                self.warn(Warning::SilentChange { path });
            }
            let before = settled.get(&file.sig.dev).copied().unwrap_or(Nanos::MIN);
            // A state that never vouches is recorded as one that does not yet.
            let young = file.sig.mtime >= before
                || file.sig.ctime >= before
                || !vouches(&file.sig, paths[i]);
            // After a change that no state showed, this one vouches for nothing in this run.
            file.vouched = !young && old.is_none();
            fresh.push((file.sig, file.digest, young));
        }
        if !fresh.is_empty() {
            fresh.sort_unstable_by_key(|(sig, ..)| (sig.dev, sig.ino));
            // Best effort: they are read again if it fails.
            let _ = self.with_index(|index| Ok(index.put_stats(&fresh, silent)?));
        }
        read
    }

    /// Per device, the time before which both times of a file must lie for its digest to be
    /// recorded. Asked before anything is read.
    fn settled(
        &self,
        paths: &[&Path],
        sigs: &[Option<StatSig>],
        to_read: impl Iterator<Item = usize>,
    ) -> HashMap<u64, Nanos> {
        let mut settled = HashMap::new();
        for i in to_read {
            if let Some(sig) = sigs[i] {
                settled
                    .entry(sig.dev)
                    .or_insert_with(|| settled_on(&*self.fs, paths[i], sig.dev));
            }
        }
        settled
    }
}

/// What ctimes mean on the devices that files are on.
#[derive(Debug, Default)]
pub(crate) struct Ctimes(HashMap<u64, Ctime>);

impl Ctimes {
    /// What they mean on the device `dev`, which `path` names a file on.
    pub(crate) fn on<P: AsRef<Path>>(
        &mut self,
        dev: u64,
        fs: &dyn Fs,
        path: impl FnOnce() -> P,
    ) -> Ctime {
        *self.0.entry(dev).or_insert_with(|| {
            let kind = fs.fs_kind(path().as_ref());
            kind.map_or(Ctime::Unknown, |kind| kind.ctime)
        })
    }
}

fn settled_on(fs: &dyn Fs, path: &Path, dev: u64) -> Nanos {
    // The path may be a link to another file system: the folder that really holds it counts.
    let Ok(real) = fs.canonicalize(path) else {
        return Nanos::MIN;
    };
    let dir = real.parent().unwrap_or(Path::new("/"));
    let same = fs.stat(dir).is_ok_and(|stat| stat.dev == dev);
    if let (true, Ok(now)) = (same, fs.now(dir)) {
        return now.saturating_sub(MARGIN);
    }
    // Nothing can be created there. A local disk is stamped by this kernel; a server's clock may
    // be anywhere within reason.
    let local = fs.fs_kind(&real).is_ok_and(|kind| !kind.network);
    let margin = if local { MARGIN } else { MARGIN_UNKNOWN_CLOCK };
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |now| Nanos::try_from(now.as_nanos()).unwrap_or(0));
    now.saturating_sub(margin)
}
