//! Leases, claims and temporary folders: what belongs to a living process.
//!
//! All of them are files under a kernel lock. A process that dies frees them by dying, and
//! whoever finds such a file unlocked sweeps it, so that there is nothing to unlock by hand.
//! A holder removes its file before it lets go of the lock; hence everybody who gets a lock
//! looks whether the path still names the file that was locked, and begins again if not.

use std::io::{self, Read, SeekFrom};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use stage_core::Digest;

use super::error::{Result, StoreError};
use super::ulid::now_millis;
use super::{Layout, Ulid};
use crate::fs::{self, Fs, Handle};

/// Largest text that is read of another's lease or claim, in bytes.
const HOLDER_LIMIT: u64 = 64 * 1024;

/// Who holds a claim or a lease.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Process.
    pub pid: u32,
    /// Machine.
    pub host: String,
    /// Since when, in milliseconds since 1970-01-01 UTC.
    pub since: u64,
    /// The pipeline; empty for a lease.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub pipeline: String,
    /// The stage it works on; empty for a lease.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stage: String,
    /// The item it works on; empty for whole parts.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub item: String,
}

impl Holder {
    /// This process, from now on, working on an item of a stage.
    pub fn this_process(stage: &str, item: &str) -> Self {
        Self {
            pid: std::process::id(),
            host: host_name(),
            since: now_millis(),
            pipeline: String::new(),
            stage: stage.to_owned(),
            item: item.to_owned(),
        }
    }
}

impl Holder {
    /// The same for an action of `pipeline`.
    pub fn of_pipeline(mut self, pipeline: &str) -> Self {
        pipeline.clone_into(&mut self.pipeline);
        self
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
    fs: Arc<dyn Fs>,
    layout: Arc<Layout>,
    file: Mutex<Box<dyn Handle>>,
    count: AtomicU64,
    spare: Arc<Spare>,
    idle: Mutex<Vec<Workplace>>,
}

/// Files of claims that have ended, in `tmp/` and still locked, to become the next claims. To
/// create and remove one for each action would cost more than all else that the engine does for
/// a small action: on ext4 without a journal a new file looks through all that were removed in
/// the last minutes.
#[derive(Debug, Default)]
struct Spare(Mutex<Vec<(PathBuf, Box<dyn Handle>)>>);

/// Spare files that are kept at most.
const SPARE: usize = 1024;

impl Spare {
    fn files(&self) -> MutexGuard<'_, Vec<(PathBuf, Box<dyn Handle>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a spare file with the holder's text at `path`. `None` if there is none, or another
    /// file is there, or it fails: the usual way waits, or tells why.
    fn put(&self, fs: &dyn Fs, path: &Path, holder: &Holder) -> Option<Box<dyn Handle>> {
        let (spare, mut file) = self.files().pop()?;
        let put = write_holder(&mut *file, holder).and_then(|()| fs.rename_new(&spare, path));
        if put.is_err() {
            self.files().push((spare, file));
            return None;
        }
        Some(file)
    }
}

impl Lease {
    pub(crate) fn acquire(fs: Arc<dyn Fs>, layout: Arc<Layout>) -> Result<Self> {
        loop {
            let id = Ulid::new();
            let path = layout.leases.join(id.to_string());
            let mut file = fs.create_new(&path).map_err(|error| {
                if is_read_only(&error) {
                    StoreError::ReadOnly {
                        path: layout.root.clone(),
                    }
                } else {
                    StoreError::io("create", &path)(error)
                }
            })?;
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
            write_holder(&mut *file, &Holder::this_process("", "")).map_err(fail)?;
            return Ok(Self {
                id,
                fs,
                layout,
                file: Mutex::new(file),
                count: AtomicU64::new(0),
                spare: Arc::default(),
                idle: Mutex::default(),
            });
        }
    }

    /// Adds digests that gc must keep while this process lives.
    pub(crate) fn hold(&self, digests: &[Digest]) -> Result<()> {
        let bytes: Vec<u8> = digests.iter().flat_map(|digest| digest.0).collect();
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(&bytes)
            .map_err(StoreError::io("write", self.path()))
    }

    /// A new path in `tmp/` that is swept when this process has died.
    pub(crate) fn tmp_path(&self) -> PathBuf {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        self.layout.tmp.join(format!("{}-{count}", self.id))
    }

    fn path(&self) -> PathBuf {
        self.layout.leases.join(self.id.to_string())
    }

    /// As [`claim`], of a file that is used again.
    pub(crate) fn claim(
        &self,
        path: &Path,
        holder: &Holder,
        wait: &mut dyn FnMut(Option<&Holder>) -> ControlFlow<()>,
    ) -> Result<Claim> {
        let mut claim = match self.spare.put(&*self.fs, path, holder) {
            Some(file) => Claim::new(&self.fs, path, file),
            None => claim(&self.fs, path, holder, wait)?,
        };
        claim.spare = Some((self.spare.clone(), self.tmp_path()));
        Ok(claim)
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
        for (path, _locked) in self.spare.files().drain(..) {
            let _ = self.fs.remove_file(&path);
        }
        // Best effort: a file that stays is unlocked, and swept by the next process.
        let _ = self.fs.remove_file(&self.path());
    }
}

/// Removes the leases and temporary files of dead processes.
///
/// # Errors
/// The folders cannot be listed. What cannot be removed now is left for the next.
pub(crate) fn sweep(fs: &dyn Fs, layout: &Layout) -> Result<()> {
    let mut living = Vec::new();
    for (id, path) in lease_files(fs, layout)? {
        let Ok(file) = fs.open_or_create(&path) else {
            living.push(id.to_string());
            continue;
        };
        if matches!(file.try_lock(), Ok(true)) {
            // Its temporary files go below, as those of everybody who is not living.
            let _ = fs.remove_file(&path);
        } else {
            living.push(id.to_string());
        }
    }
    let entries = fs
        .read_dir(&layout.tmp)
        .map_err(StoreError::io("list", &layout.tmp))?;
    for entry in entries {
        let name = entry.name.to_string_lossy();
        let owner = name.split('-').next().unwrap_or_default();
        let path = layout.tmp.join(&entry.name);
        // A process that took its lease after the listing above is alive, too.
        if living.iter().any(|id| id == owner) || is_leased(fs, layout, owner) {
            continue;
        }
        let _ = match entry.kind {
            fs::FileKind::Dir => fs::remove_dir_all(fs, &path),
            _ => fs.remove_file(&path),
        };
    }
    Ok(())
}

/// Removes the claims that dead processes left.
///
/// # Errors
/// The folder cannot be listed. What cannot be removed now is left for the next.
pub(crate) fn sweep_claims(fs: &dyn Fs, layout: &Layout) -> Result<()> {
    let dir = &layout.claims;
    for entry in fs.read_dir(dir).map_err(StoreError::io("list", dir))? {
        let path = dir.join(&entry.name);
        // One that is gone by now must not be made again, hence not `open_or_create`.
        if let Ok(file) = fs.open(&path)
            && matches!(file.try_lock(), Ok(true))
            && matches!(same(fs, &path, &*file), Ok(true))
        {
            let _ = fs.remove_file(&path);
        }
    }
    Ok(())
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

fn lease_files(fs: &dyn Fs, layout: &Layout) -> Result<Vec<(Ulid, PathBuf)>> {
    let dir = &layout.leases;
    let entries = fs.read_dir(dir).map_err(StoreError::io("list", dir))?;
    let leases = entries.into_iter().filter_map(|entry| {
        let id = entry.name.to_str()?.parse().ok()?;
        Some((id, dir.join(entry.name)))
    });
    Ok(leases.collect())
}

fn is_leased(fs: &dyn Fs, layout: &Layout, owner: &str) -> bool {
    owner.parse::<Ulid>().is_ok() && fs.lstat(&layout.leases.join(owner)).is_ok()
}

/// The right to work on one action or in one scratch folder. Ends when dropped.
#[derive(Debug)]
pub struct Claim {
    fs: Arc<dyn Fs>,
    path: PathBuf,
    /// Open and locked until the drop.
    file: Option<Box<dyn Handle>>,
    /// Where the file goes then, if it is to be used again.
    spare: Option<(Arc<Spare>, PathBuf)>,
    waited: bool,
}

impl Claim {
    fn new(fs: &Arc<dyn Fs>, path: &Path, file: Box<dyn Handle>) -> Self {
        Self {
            fs: fs.clone(),
            path: path.to_owned(),
            file: Some(file),
            spare: None,
            waited: false,
        }
    }

    /// Whether another process had it before: then the work may be done.
    pub fn waited(&self) -> bool {
        self.waited
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // The lock lasts to the end of this.
        let file = self.file.take();
        if let Some((spare, aside)) = self.spare.take()
            && spare.files().len() < SPARE
            && self.fs.rename(&self.path, &aside).is_ok()
        {
            spare.files().extend(file.map(|file| (aside, file)));
            return;
        }
        // Best effort: an unlocked file that stays is taken over by the next.
        let _ = self.fs.remove_file(&self.path);
    }
}

/// Takes the claim at `path`, waiting while another process has it. `wait` is told who has it, as
/// far as that is known, before each pause of at most 100 ms, and may give up.
pub(crate) fn claim(
    fs: &Arc<dyn Fs>,
    path: &Path,
    holder: &Holder,
    wait: &mut dyn FnMut(Option<&Holder>) -> ControlFlow<()>,
) -> Result<Claim> {
    let mut waited = false;
    let mut pause = Duration::from_millis(1);
    loop {
        let mut file = fs.open_or_create(path).map_err(|error| {
            match path.parent().and_then(Path::parent) {
                Some(root) if is_read_only(&error) => StoreError::ReadOnly {
                    path: root.to_owned(),
                },
                _ => StoreError::io("create", path)(error),
            }
        })?;
        if file.try_lock().map_err(StoreError::io("lock", path))? {
            if !same(&**fs, path, &*file).map_err(StoreError::io("read", path))? {
                continue;
            }
            write_holder(&mut *file, holder).map_err(StoreError::io("write", path))?;
            let mut claim = Claim::new(fs, path, file);
            claim.waited = waited;
            return Ok(claim);
        }
        waited = true;
        if wait(read_holder(&mut *file).as_ref()).is_break() {
            return Err(StoreError::Cancelled);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

/// Whether `path` still names the open file.
fn same(fs: &dyn Fs, path: &Path, file: &dyn Handle) -> io::Result<bool> {
    let open = file.stat()?;
    match fs.lstat(path) {
        Ok(named) => Ok((named.dev, named.ino) == (open.dev, open.ino)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn write_holder(file: &mut dyn Handle, holder: &Holder) -> io::Result<()> {
    let mut line = serde_json::to_vec(holder).map_err(io::Error::other)?;
    // Another's text may be longer. It is covered with spaces: to cut the file would free and take
    // a block of the disk each time.
    let before = usize::try_from(file.seek(SeekFrom::End(0))?).unwrap_or(0);
    line.resize(
        line.len()
            .max(before.min(HOLDER_LIMIT as usize).saturating_sub(1)),
        b' ',
    );
    line.push(b'\n');
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&line)
}

/// Another's text may be half written; then nothing is known yet.
fn read_holder(file: &mut dyn Handle) -> Option<Holder> {
    file.seek(SeekFrom::Start(0)).ok()?;
    let mut line = Vec::new();
    file.take(HOLDER_LIMIT).read_to_end(&mut line).ok()?;
    serde_json::from_slice(&line).ok()
}

/// Whether an error says that nothing can be written here at all.
pub(crate) fn is_read_only(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied
    )
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
