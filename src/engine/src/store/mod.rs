//! The store: artifacts under the hash of everything they depend on.
//!
//! ```text
//! .pipeline/
//!   format        "pipeline store 2 <BLAKE3 of that>"
//!   objects/ab/…  bytes, named by their digest, read-only, written once      ([`objects`])
//!   commits/ULID  immutable: which action gave which artifact; runs, pins    ([`wire`], [`commit`])
//!   leases/ULID   locked by a living process: the digests it uses            ([`lease`])
//!   claims/KEY    a second name of the lease of who works on the action      ([`lease`])
//!   scratch/KEY/  what a stopped action left to go on from
//!   tmp/ trash/   on the way in; on the way out
//!   gate.lock     shared by those who begin to use something, closed by collections  ([`gate`])
//!   names.lock    held while a file gets its name, where there are no hard links  ([`publish`])
//!   index.db      SQLite, folded from the commits                            ([`index`], [`fold`])
//! ```
//!
//! Truth is the immutable files: objects first, then the commit that names them. The index, the
//! leases, claims, scratch and temporary files may vanish at any time and cost work, never a wrong
//! answer.

mod commit;
mod contents;
mod error;
mod files;
mod fold;
mod gate;
mod gc;
mod index;
mod lease;
mod living;
mod lock;
mod mend;
mod objects;
mod open;
mod publish;
mod record;
mod rewrite;
mod row;
mod survey;
mod sweep;
mod ulid;
mod usage;
mod verify;
mod wire;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use stage_core::{Cancel, Digest, KeyHasher, Part};

pub use contents::list_digest;
pub use error::{Result, StoreError, Warning};
pub(crate) use files::Ctimes;
pub use files::{FileDigest, HashOptions, StatSig, hash_file};
pub use gc::{Amount, GcOptions, GcReport, StageAmount};
pub use lease::{Claim, Holder, LeaseInfo, Scratch, TmpDir, Workplace};
pub use mend::{Forgotten, Scope};
pub use open::StoreOptions;
pub(crate) use open::is_store;
pub use record::{
    ActionRecord, ActionResult, Artifact, InterimRecord, Latest, Origin, Outcome, PinRecord, Rate,
    Record, RunOutcome, RunRecord, RunStage, StageSettings, run_digest,
};
pub(crate) use row::Settled;
pub use survey::StageName;
pub use ulid::{Ulid, UlidParseError, now_millis};
pub use usage::Usage;
pub use verify::{Damage, Fault, User, VerifyOptions, VerifyReport};
pub use wire::{
    Unreadable, VERSION as COMMIT_VERSION, decode as decode_commit, encode as encode_commit,
    headed as commit_of_body,
};

use crate::fs::{Fs, Handle};
use commit::Committer;
use fold::{IfUnreadable, Listing};
use gate::{Closed, Entered, Gate};
use index::Index;
use lease::Lease;
use lock::Waiting;
use objects::Objects;

/// Version of the layout of a cache.
pub const FORMAT: u32 = 2;

/// Where things lie.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) root: PathBuf,
    pub(crate) objects: PathBuf,
    pub(crate) commits: PathBuf,
    pub(crate) leases: PathBuf,
    pub(crate) claims: PathBuf,
    pub(crate) scratch: PathBuf,
    pub(crate) trash: PathBuf,
    pub(crate) tmp: PathBuf,
    /// Permissions of the files that processes lock: see [`crate::fs::lock_mode`].
    pub(crate) lock_mode: u32,
}

impl Layout {
    fn new(root: PathBuf, lock_mode: u32) -> Self {
        Self {
            lock_mode,
            objects: root.join("objects"),
            commits: root.join("commits"),
            leases: root.join("leases"),
            claims: root.join("claims"),
            scratch: root.join("scratch"),
            trash: root.join("trash"),
            tmp: root.join("tmp"),
            root,
        }
    }

    fn folders(&self) -> [&Path; 7] {
        [
            &self.objects,
            &self.commits,
            &self.leases,
            &self.claims,
            &self.scratch,
            &self.trash,
            &self.tmp,
        ]
    }
}

/// What the store's threads share.
pub(crate) struct Inner {
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) layout: Arc<Layout>,
    pub(crate) objects: Objects,
    pub(crate) gate: Gate,
    pub(crate) clock: ulid::Clock,
    /// Open since before the first write, so that syncing it reports every error.
    pub(crate) root: Box<dyn Handle>,
    pub(crate) syncs_whole: bool,
    pub(crate) index: Mutex<Index>,
    listing: Mutex<Listing>,
    /// Results that are queued or not folded.
    pending: Mutex<HashMap<Digest, ActionResult>>,
    lease: OnceLock<Lease>,
    leasing: Mutex<()>,
    /// Raised whenever commits turn out to have been rewritten.
    pub(crate) generation: AtomicU64,
    warn: Arc<dyn Fn(Warning) + Send + Sync>,
    /// Ends waits for locks.
    cancel: Mutex<Cancel>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("root", &self.layout.root)
            .finish_non_exhaustive()
    }
}

/// An open store. Its methods may be called from any thread.
///
/// Dropping it commits what is queued; call [`Store::flush`] before to hear of errors.
#[derive(Debug)]
pub struct Store {
    inner: Arc<Inner>,
    committer: Committer,
}

impl Drop for Store {
    fn drop(&mut self) {
        self.committer.close();
        let index = self.inner.index.lock();
        let mut index = index.unwrap_or_else(PoisonError::into_inner);
        index.close(&*self.inner.fs);
    }
}

/// The store itself.
impl Store {
    /// The store's folder, absolute.
    pub fn root(&self) -> &Path {
        &self.inner.layout.root
    }

    /// The disk that the store uses.
    pub fn fs(&self) -> &Arc<dyn Fs> {
        &self.inner.fs
    }

    /// Bytes that may still be written to the store's file system.
    ///
    /// # Errors
    /// The system does not say.
    pub fn available_space(&self) -> Result<u64> {
        let root = self.root();
        self.inner
            .fs
            .available_space(root)
            .map_err(StoreError::io("ask for the space left in", root))
    }

    /// From now on `cancel` ends waits for other processes' locks.
    pub fn cancel_with(&self, cancel: &Cancel) {
        let own = self.inner.cancel.lock();
        *own.unwrap_or_else(PoisonError::into_inner) = cancel.clone();
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }
}

/// Actions and other records.
impl Store {
    /// Takes note of what other processes committed since the store was opened.
    ///
    /// # Errors
    /// The commits cannot be read, or one is of a newer program.
    pub fn refresh(&self) -> Result<()> {
        self.inner.refresh()
    }

    /// What is known under a key.
    ///
    /// # Errors
    /// As [`Store::lookup_many`].
    pub fn lookup(&self, key: &Digest) -> Result<Option<ActionResult>> {
        let results = self.lookup_many(std::slice::from_ref(key))?;
        Ok(results.into_iter().next().flatten())
    }

    /// What is known under each key, in the order of `keys`: of earlier runs, of other processes
    /// until the last refresh, and of this one at once. Ask for many keys together.
    ///
    /// # Errors
    /// The index fails even in memory.
    pub fn lookup_many(&self, keys: &[Digest]) -> Result<Vec<Option<ActionResult>>> {
        // Before the index: a result moves from here to there.
        let pending: Vec<_> = {
            let pending = self.inner.pending();
            if pending.is_empty() {
                Vec::new()
            } else {
                keys.iter().map(|key| pending.get(key).cloned()).collect()
            }
        };
        let mut results = self
            .inner
            .with_index(|index| Ok(index.lookup_many(keys)?))?;
        for (result, pending) in results.iter_mut().zip(pending) {
            if pending.is_some() {
                *result = pending;
            }
        }
        Ok(results)
    }

    /// What is known under a key just now, with what other processes committed a moment ago. To
    /// be asked after [`Store::claim`]; costs a look at one folder if nothing happened.
    ///
    /// # Errors
    /// As [`Store::refresh`] and [`Store::lookup_many`].
    pub fn lookup_fresh(&self, key: &Digest) -> Result<Option<ActionResult>> {
        self.inner.refresh_if_changed()?;
        self.lookup(key)
    }

    /// What is known under a key just now, and held if it is an artifact: see [`Store::hold`].
    ///
    /// # Errors
    /// As [`Store::lookup_fresh`], or the lease cannot be written.
    pub fn lookup_held(&self, key: &Digest) -> Result<Option<ActionResult>> {
        // Mostly there is none, which needs no holding.
        if self.lookup_fresh(key)?.is_none() {
            return Ok(None);
        }
        let _entered = self.inner.enter()?;
        let result = self.lookup_fresh(key)?;
        if let Some(artifact) = result.as_ref().and_then(|r| r.outcome.artifact()) {
            self.inner.lease()?.hold(&[artifact.digest])?;
        }
        Ok(result)
    }

    /// A number that rises when records that were there before are withdrawn.
    pub fn generation(&self) -> u64 {
        self.inner.generation.load(Ordering::SeqCst)
    }

    /// Queues a record for the next group commit, together with the claim that ends when the
    /// record is durable. The objects that it refers to have been imported before. Waits while
    /// the queue is full. This process finds the result at once, others when it is durable.
    ///
    /// # Errors
    /// An earlier commit failed ([`StoreError::Commit`]).
    pub fn queue(&self, record: Record, claim: Option<Claim>) -> Result<()> {
        self.committer.queue(&self.inner, record, claim)
    }

    /// Waits until everything queued is durable.
    ///
    /// # Errors
    /// A commit failed ([`StoreError::Commit`]); what was queued since is not durable.
    pub fn flush(&self) -> Result<()> {
        self.committer.flush()
    }

    /// Digest of the names of the commits that are known: while it stays the same, so does what
    /// [`Store::lookup_many`] and the history say.
    ///
    /// # Errors
    /// As [`Store::lookup_many`].
    pub(crate) fn commits(&self) -> Result<Digest> {
        self.inner.with_index(|index| {
            let mut names: Vec<Ulid> = index.folded().iter().copied().collect();
            names.sort_unstable();
            let mut hasher = KeyHasher::new("pipeline commits 1");
            for name in names {
                hasher.field(&name.to_bytes());
            }
            Ok(hasher.finish())
        })
    }

    /// What was noted of a request.
    ///
    /// # Errors
    /// As [`Store::lookup_many`].
    pub(crate) fn settled(&self, request: &Digest) -> Result<Option<Settled>> {
        self.inner.with_index(|index| Ok(index.settled(request)?))
    }

    /// Notes something of a request.
    ///
    /// # Errors
    /// As [`Store::lookup_many`].
    pub(crate) fn put_settled(&self, request: &Digest, settled: &Settled) -> Result<()> {
        self.inner
            .with_index(|index| Ok(index.put_settled(request, settled)?))
    }

    /// Runs, newest first, at most `limit`.
    ///
    /// # Errors
    /// As [`Store::lookup_many`].
    pub fn runs(&self, limit: usize) -> Result<Vec<RunRecord>> {
        self.inner.with_index(|index| Ok(index.runs(limit)?))
    }

    /// The runs that are pinned now.
    ///
    /// # Errors
    /// As [`Store::lookup_many`].
    pub fn pins(&self) -> Result<Vec<PinRecord>> {
        self.inner.with_index(|index| Ok(index.pins()?))
    }

    /// What a stage published on its way, newest first, at most `limit`.
    ///
    /// # Errors
    /// As [`Store::lookup_many`].
    pub fn interims(
        &self,
        pipeline: &str,
        stage: &str,
        limit: usize,
    ) -> Result<Vec<InterimRecord>> {
        self.inner
            .with_index(|index| Ok(index.interims(pipeline, stage, limit)?))
    }

    /// The newest action of each item of a stage's part, sorted by item, with what went into its
    /// key.
    ///
    /// # Errors
    /// As [`Store::lookup_many`].
    pub fn latest(&self, pipeline: &str, stage: &str, part: Part) -> Result<Vec<Latest>> {
        self.inner
            .with_index(|index| Ok(index.latest(pipeline, stage, part)?))
    }

    /// Key and artifact of the newest success of a stage's item (`""` for whole parts), whatever
    /// its key would be now.
    ///
    /// # Errors
    /// As [`Store::lookup_many`].
    pub fn last_done(
        &self,
        pipeline: &str,
        stage: &str,
        part: Part,
        item: &str,
    ) -> Result<Option<(Digest, Artifact)>> {
        let key = self
            .inner
            .with_index(|index| Ok(index.last_done(pipeline, stage, part, item)?))?;
        let Some(key) = key else { return Ok(None) };
        let artifact = self.lookup(&key)?.and_then(|result| match result.outcome {
            Outcome::Done(artifact) => Some(artifact),
            Outcome::Failed { .. } => None,
        });
        Ok(artifact.map(|artifact| (key, artifact)))
    }

    /// How fast a stage's part was, from the newest success of each of its items.
    ///
    /// # Errors
    /// As [`Store::lookup_many`].
    pub fn rate(&self, pipeline: &str, stage: &str, part: Part) -> Result<Rate> {
        self.inner
            .with_index(|index| Ok(index.rate(pipeline, stage, part)?))
    }

    /// All records in the order of their commits, from the commits themselves: the truth, for
    /// collection and verification. A damaged commit is set aside with a warning.
    ///
    /// # Errors
    /// A commit cannot be read, or what `each` says.
    pub fn each_record(&self, mut each: impl FnMut(Ulid, Record) -> Result<()>) -> Result<()> {
        self.inner
            .each_record(IfUnreadable::PassOver, &mut |at, record| {
                each(at.commit, record)
            })
    }
}

impl Inner {
    /// This process' lease, taken with the first write. Then what dead processes left is swept.
    pub(crate) fn lease(&self) -> Result<&Lease> {
        if let Some(lease) = self.lease.get() {
            return Ok(lease);
        }
        let _one = self.leasing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lease) = self.lease.get() {
            return Ok(lease);
        }
        let lease = Lease::acquire(self.fs.clone(), self.layout.clone())?;
        // The folders that hold what is going to be written, whoever made them, perhaps a process
        // that died at it.
        let root = &self.layout.root;
        self.fs
            .sync_dir(root)
            .map_err(StoreError::io("sync", root))?;
        // Best effort: litter is no reason to stop.
        let _ = sweep::tmp(&*self.fs, &self.layout);
        Ok(self.lease.get_or_init(|| lease))
    }

    pub(crate) fn warn(&self, warning: Warning) {
        (self.warn)(warning);
    }

    /// Enters the gate: see [`gate`].
    pub(crate) fn enter(&self) -> Result<Entered> {
        self.waiting(|waiting| self.gate.enter(waiting))
    }

    /// Closes the gate: see [`gate`].
    pub(crate) fn close(&self) -> Result<Closed> {
        self.waiting(|waiting| self.gate.close(waiting))
    }

    pub(crate) fn waiting<T>(&self, take: impl FnOnce(&Waiting<'_>) -> Result<T>) -> Result<T> {
        let cancel = {
            let cancel = self.cancel.lock();
            cancel.unwrap_or_else(PoisonError::into_inner).clone()
        };
        take(&Waiting {
            fs: &*self.fs,
            warn: &*self.warn,
            cancel: &cancel,
        })
    }

    pub(crate) fn pending(&self) -> MutexGuard<'_, HashMap<Digest, ActionResult>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn listing(&self) -> MutexGuard<'_, Listing> {
        self.listing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
