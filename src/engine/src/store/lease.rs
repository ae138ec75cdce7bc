//! Leases, claims and temporary folders: what belongs to a living process.
//!
//! A lease is a file under a kernel lock, and a claim is another name of its process' lease: to
//! link and unlink a name is the least that the right to work on an action can cost. Where there
//! are no such links, a claim is a file of its own under a lock of its own.
//!
//! A process that dies frees them by dying, and whoever finds such a file unlocked sweeps it, so
//! that there is nothing to unlock by hand. A holder removes its name before it lets go of the
//! lock; hence everybody who gets a lock looks whether the path still names the file that was
//! locked, and begins again if not. Nobody takes over a dead process' claim, which would shut out
//! others from all its claims: it is removed, and whoever is first has a new one.

use std::collections::HashSet;
use std::io::{self, Read, SeekFrom};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use stage_core::Digest;

use super::error::{Result, StoreError};
use super::record::Origin;
use super::ulid::now_millis;
use super::{Layout, Ulid};
use crate::fs::{self, FileKind, Fs, Handle};

/// Largest text that is read of another's lease or claim, in bytes.
const HOLDER_LIMIT: u64 = 64 * 1024;

/// How often a lock is tried, a millisecond apart, before its holder counts as alive. That of a
/// dead process may last a moment longer: in the hand of somebody who looks, or of a child that
/// has not become another program yet.
pub(super) const PATIENCE: u32 = 5;

/// Whose a lease, a claim or a scratch folder is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Process.
    pub pid: u32,
    /// Machine.
    pub host: String,
    /// Since when, in milliseconds since 1970-01-01 UTC.
    pub since: u64,
    /// The pipeline whose scratch folder it is; empty for a lease or a claim.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub pipeline: String,
    /// The run that used the scratch folder last, unless an older version of the program did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Ulid>,
}

impl Holder {
    /// This process, from now on.
    pub fn this_process() -> Self {
        Self {
            pid: std::process::id(),
            host: host_name(),
            since: now_millis(),
            pipeline: String::new(),
            run: None,
        }
    }

    /// This process, from now on, at the work of a run.
    pub fn of_run(origin: &Origin) -> Self {
        Self {
            pipeline: origin.pipeline.clone(),
            run: Some(origin.run),
            ..Self::this_process()
        }
    }
}

/// Name of this machine.
pub(crate) fn host_name() -> String {
    static NAME: OnceLock<String> = OnceLock::new();
    let name = || {
        rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned()
    };
    NAME.get_or_init(name).clone()
}

/// A living process' lease, as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseInfo {
    /// Its name.
    pub id: Ulid,
    /// Whose it is, if its first line is readable.
    pub holder: Option<Holder>,
    /// Artifacts, objects and keys that the process is using.
    pub digests: Vec<Digest>,
}

/// This process' lease: `leases/<ulid>`, one line about the process, then raw digests.
#[derive(Debug)]
pub(crate) struct Lease {
    id: Ulid,
    path: PathBuf,
    fs: Arc<dyn Fs>,
    layout: Arc<Layout>,
    locked: Arc<Locked>,
    count: AtomicU64,
    idle: Mutex<Vec<Workplace>>,
}

/// An open file that is locked as long as somebody has it.
#[derive(Debug)]
struct Locked {
    file: Mutex<Box<dyn Handle>>,
    /// Claims that have ended and whose names the disk refused to remove.
    ended: Mutex<HashSet<PathBuf>>,
}

impl Locked {
    fn new(file: Box<dyn Handle>) -> Arc<Self> {
        Arc::new(Self {
            file: Mutex::new(file),
            ended: Mutex::default(),
        })
    }

    fn ended(&self) -> MutexGuard<'_, HashSet<PathBuf>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    pub(crate) fn acquire(fs: Arc<dyn Fs>, layout: Arc<Layout>) -> Result<Self> {
        loop {
            let id = Ulid::new();
            let path = layout.leases.join(id.to_string());
            let file = fs.open_lock(&path, layout.lock_mode);
            let fail = StoreError::in_cache("create", &path, &layout.root);
            let mut file = file.map_err(fail)?;
            let fail = StoreError::io("lock", &path);
            match file
                .try_lock()
                .and_then(|got| Ok(got && same(&*fs, &path, &*file)?))
            {
                // Somebody swept it between its creation and its lock.
                Ok(false) => continue,
                Ok(true) => {}
                Err(error) => return Err(fail(error)),
            }
            write_holder(&mut *file).map_err(fail)?;
            return Ok(Self {
                id,
                path,
                fs,
                layout,
                locked: Locked::new(file),
                count: AtomicU64::new(0),
                idle: Mutex::default(),
            });
        }
    }

    /// Its name.
    pub(crate) fn id(&self) -> Ulid {
        self.id
    }

    /// Adds digests that gc must keep while this process lives.
    pub(crate) fn hold(&self, digests: &[Digest]) -> Result<()> {
        let bytes: Vec<u8> = digests.iter().flat_map(|digest| digest.0).collect();
        let file = self.locked.file.lock();
        let mut file = file.unwrap_or_else(PoisonError::into_inner);
        file.write_all(&bytes)
            .map_err(StoreError::io("write", &self.path))
    }

    /// A new path in `tmp/` that is swept when this process has died.
    pub(crate) fn tmp_path(&self) -> PathBuf {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        self.layout.tmp.join(format!("{}-{count}", self.id))
    }

    /// Takes the claim at `path`, waiting while another process has it. `wait` is told who has it,
    /// as far as that is known, before each pause of at most 100 ms, and may give up.
    pub(crate) fn claim(
        &self,
        path: &Path,
        wait: &mut dyn FnMut(Option<&Holder>) -> ControlFlow<()>,
    ) -> Result<Claim> {
        let claim = |locked, waited| Claim {
            fs: self.fs.clone(),
            path: path.to_owned(),
            locked,
            waited,
        };
        let mut pause = Duration::from_millis(1);
        let mut refused = 0_u32;
        loop {
            if self.fs.hard_link(&self.path, path).is_ok() || self.locked.ended().remove(path) {
                return Ok(claim(self.locked.clone(), refused > PATIENCE));
            }
            // It is somebody's, or there are no links here, or it fails in a way that tells.
            let file = self.fs.open_lock(path, self.layout.lock_mode);
            let fail = StoreError::in_cache("create", path, &self.layout.root);
            let mut file = file.map_err(fail)?;
            if file.try_lock().map_err(StoreError::io("lock", path))? {
                let reading = StoreError::io("read", path);
                match standing(&*self.fs, path, &*file).map_err(reading)? {
                    Standing::Alone => {
                        file.set_len(0)
                            .and_then(|()| write_holder(&mut *file))
                            .map_err(StoreError::io("write", path))?;
                        return Ok(claim(Locked::new(file), refused > PATIENCE));
                    }
                    Standing::Linked => fs::gone_is_fine(self.fs.remove_file(path))
                        .map_err(StoreError::io("remove", path))?,
                    Standing::Gone => {}
                }
                continue;
            }
            refused += 1;
            if refused > PATIENCE && wait(read_holder(&mut *file).as_ref()).is_break() {
                return Err(StoreError::Cancelled);
            }
            std::thread::sleep(pause);
            if refused > PATIENCE {
                pause = (pause * 2).min(Duration::from_millis(100));
            }
        }
    }

    /// A workplace that is not in use, or a new one.
    pub(crate) fn workplace(&self) -> Result<Workplace> {
        let idle = self.idle().pop();
        idle.map_or_else(|| Workplace::create(self.fs.clone(), self.tmp_path()), Ok)
    }

    /// Takes a workplace back that nobody writes to any more.
    pub(crate) fn leave(&self, place: Workplace) {
        // One that cannot be cleared is removed, as far as that goes.
        if fs::clear_dir(&*self.fs, &place.out).is_ok() {
            self.idle().push(place);
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Workplace>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.idle().clear();
        // Best effort: a file that stays is unlocked, and swept by the next process.
        let _ = self.fs.remove_file(&self.path);
    }
}

/// The leases of living processes.
pub(crate) fn living(fs: &dyn Fs, layout: &Layout) -> Result<Vec<LeaseInfo>> {
    let mut leases = Vec::new();
    for (id, path) in lease_files(fs, layout)? {
        let file = match fs.open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            file => file.map_err(StoreError::io("read", &path))?,
        };
        // Where the lock cannot be tried on a file opened for reading, the lease counts as alive.
        if matches!(file.try_lock(), Ok(true)) {
            continue;
        }
        let mut bytes = Vec::new();
        let mut file = file;
        file.read_to_end(&mut bytes)
            .map_err(StoreError::io("read", &path))?;
        let end = bytes
            .iter()
            .position(|b| *b == b'\n')
            .unwrap_or(bytes.len());
        let (line, rest) = bytes.split_at(end);
        let digests = rest.get(1..).unwrap_or_default().as_chunks::<32>().0;
        leases.push(LeaseInfo {
            id,
            holder: serde_json::from_slice(line).ok(),
            digests: digests.iter().map(|bytes| Digest(*bytes)).collect(),
        });
    }
    Ok(leases)
}

/// Names and places of all leases. Other files are passed over.
pub(crate) fn lease_files(fs: &dyn Fs, layout: &Layout) -> Result<Vec<(Ulid, PathBuf)>> {
    let dir = &layout.leases;
    let entries = fs::read_own_dir(fs, dir).map_err(StoreError::io("list", dir))?;
    let files = entries.into_iter().filter(|e| e.kind == FileKind::File);
    let leases = files.filter_map(|entry| {
        let id = entry.name.to_str()?.parse().ok()?;
        Some((id, dir.join(entry.name)))
    });
    Ok(leases.collect())
}

/// The right to work on one action or in one scratch folder. Ends when dropped.
#[derive(Debug)]
pub struct Claim {
    fs: Arc<dyn Fs>,
    path: PathBuf,
    locked: Arc<Locked>,
    waited: bool,
}

impl Claim {
    /// Whether another process had it before: then the work may be done.
    pub fn waited(&self) -> bool {
        self.waited
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut ended = self.locked.ended();
        ended.insert(std::mem::take(&mut self.path));
        // What stays is tried again with the next, and swept when this process has died.
        ended.retain(|path| fs::gone_is_fine(self.fs.remove_file(path)).is_err());
    }
}

/// Where an open file stands.
enum Standing {
    /// Its path names another file, or none.
    Gone,
    /// It has other names than this.
    Linked,
    /// This is its only name.
    Alone,
}

fn standing(fs: &dyn Fs, path: &Path, file: &dyn Handle) -> io::Result<Standing> {
    let open = file.stat()?;
    match fs.lstat(path) {
        Ok(named) if (named.dev, named.ino) != (open.dev, open.ino) => Ok(Standing::Gone),
        Ok(_) if open.links > 1 => Ok(Standing::Linked),
        Ok(_) => Ok(Standing::Alone),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Standing::Gone),
        Err(error) => Err(error),
    }
}

/// Whether `path` still names the open file.
pub(super) fn same(fs: &dyn Fs, path: &Path, file: &dyn Handle) -> io::Result<bool> {
    Ok(!matches!(standing(fs, path, file)?, Standing::Gone))
}

/// Writes into an empty file whose it is.
fn write_holder(file: &mut dyn Handle) -> io::Result<()> {
    let mut line = serde_json::to_vec(&Holder::this_process()).map_err(io::Error::other)?;
    line.push(b'\n');
    file.write_all(&line)
}

/// Another's text may be half written; then nothing is known yet.
fn read_holder(file: &mut dyn Handle) -> Option<Holder> {
    file.seek(SeekFrom::Start(0)).ok()?;
    let mut text = Vec::new();
    file.take(HOLDER_LIMIT).read_to_end(&mut text).ok()?;
    serde_json::from_slice(text.split(|b| *b == b'\n').next()?).ok()
}

/// A folder in `tmp/`, removed with everything in it when dropped.
#[derive(Debug)]
pub struct TmpDir {
    fs: Arc<dyn Fs>,
    path: PathBuf,
}

impl TmpDir {
    pub(crate) fn create(fs: Arc<dyn Fs>, path: PathBuf) -> Result<Self> {
        fs.create_dir(&path)
            .map_err(StoreError::io("create", &path))?;
        Ok(Self { fs, path })
    }

    /// The folder: empty, on the file system of the store.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TmpDir {
    fn drop(&mut self) {
        // Best effort: what stays is swept after this process.
        let _ = fs::remove_dir_all(&*self.fs, &self.path);
    }
}

/// A folder for one action after another, with the empty folder `out` in it.
#[derive(Debug)]
pub struct Workplace {
    dir: TmpDir,
    out: PathBuf,
}

impl Workplace {
    fn create(fs: Arc<dyn Fs>, path: PathBuf) -> Result<Self> {
        let dir = TmpDir::create(fs.clone(), path)?;
        let out = dir.path().join("out");
        fs.create_dir(&out)
            .map_err(StoreError::io("create", &out))?;
        Ok(Self { dir, out })
    }

    /// The folder that holds the other.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The empty folder.
    pub fn out(&self) -> &Path {
        &self.out
    }
}

/// A folder for work that can be taken up again, claimed while this lives.
#[derive(Debug)]
pub struct Scratch {
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) path: PathBuf,
    /// The file that says whose it is.
    pub(crate) owner: PathBuf,
    pub(crate) _claim: Claim,
}

impl Scratch {
    /// The folder. It keeps what earlier attempts left there.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes what earlier attempts left.
    ///
    /// # Errors
    /// Something in it cannot be removed.
    pub fn clear(&self) -> Result<()> {
        fs::clear_dir(&*self.fs, &self.path).map_err(StoreError::io("clear", &self.path))
    }

    /// Removes the folder with all it holds.
    ///
    /// # Errors
    /// Something in it cannot be removed.
    pub fn remove(self) -> Result<()> {
        fs::remove_dir_all(&*self.fs, &self.path).map_err(StoreError::io("remove", &self.path))?;
        fs::gone_is_fine(self.fs.remove_file(&self.owner))
            .map_err(StoreError::io("remove", &self.owner))
    }
}
