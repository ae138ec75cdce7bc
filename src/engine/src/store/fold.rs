//! Keeping the index in step with the commits.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::Path;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::thread::ScopedJoinHandle;

use super::error::{Result, StoreError, Warning};
use super::index::{Index, IndexError, Place};
use super::lease::{self, Lease};
use super::record::{ActionResult, Record};
use super::wire::{self, Unreadable};
use super::{Inner, Ulid, sweep};
use crate::fs::{self, Nanos};
use crate::threads;

/// Largest commit file that is read, in bytes.
const COMMIT_LIMIT: u64 = 1 << 31;

/// Commits that are folded in one transaction: some 16,000 actions.
const CHUNK: usize = 64;

/// How often the commits are listed anew when they change meanwhile.
const LISTINGS: usize = 8;

/// How often an index that other processes keep busy is tried, for a second each. Then this process
/// has one of its own, in memory.
const TRIES: usize = 3;

/// A folder's time that is as young as this, in nanoseconds, may stand for two states of it.
const TICK: Nanos = 20_000_000;

/// The folder of commits when it was last listed.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// Its mtime, if it was settled by then.
    settled: Option<Nanos>,
    /// The mtime of the folder of leases, if that was settled and no other process had one. While
    /// it stays, none can have committed anything: the folder of commits changes with our own.
    alone: Option<Nanos>,
    /// Commits that cannot be read, and damaged ones that could not be set aside.
    ignored: HashSet<Ulid>,
    /// All damaged commits that this process met, with what is wrong.
    pub(crate) damaged: BTreeMap<Ulid, String>,
}

/// What became of reading a commit.
#[derive(Debug)]
pub(crate) enum CommitRead {
    /// It is whole.
    Whole(Vec<Record>),
    /// It is not there.
    Gone,
    /// It is damaged, and gives nothing.
    Damaged,
    /// The system does not give its bytes: says why.
    Unreadable(String),
}

impl CommitRead {
    /// The records of a whole one.
    pub(crate) fn records(self) -> Option<Vec<Record>> {
        match self {
            Self::Whole(records) => Some(records),
            Self::Gone | Self::Damaged | Self::Unreadable(_) => None,
        }
    }
}

/// What is wrong with a commit.
#[derive(Debug)]
pub(crate) enum CommitFault {
    /// Its bytes are not what was written.
    Damaged(String),
    /// The system does not give its bytes.
    Unreadable(String),
}

impl std::fmt::Display for CommitFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Damaged(detail) => f.write_str(detail),
            Self::Unreadable(reason) => write!(f, "it cannot be read: {reason}"),
        }
    }
}

/// Whether an error of reading lies in the very file, so that others can be read. One that lies in
/// the process or the machine (memory, open files) is no word about the file.
fn lies_in_the_file(error: &io::Error) -> bool {
    use io::ErrorKind;
    matches!(
        error.kind(),
        ErrorKind::PermissionDenied
            | ErrorKind::IsADirectory
            | ErrorKind::NotADirectory
            | ErrorKind::FileTooLarge
            | ErrorKind::InvalidInput
            | ErrorKind::StaleNetworkFileHandle
    ) || error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

/// Where a record stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct At {
    pub(crate) commit: Ulid,
    /// How many records of its commit stand before it.
    pub(crate) place: usize,
}

/// What is done about a commit that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IfUnreadable {
    /// It is passed over: its actions are done again.
    PassOver,
    /// Nothing is done: what it names must not be removed.
    Refuse,
}

/// Commits that were read, and whether one of those named was gone.
type Commits = (Vec<(Ulid, Vec<Record>)>, bool);

/// Why an operation on the index failed.
pub(crate) enum Trouble {
    /// The index did: it can be made anew.
    Index(IndexError),
    /// Something else did.
    Store(StoreError),
}

impl From<IndexError> for Trouble {
    fn from(error: IndexError) -> Self {
        Self::Index(error)
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Inner {
    /// Does `op` on the index. If the index fails it is made anew from the commits, first on
    /// disk, then in memory, and `op` is done again.
    pub(crate) fn with_index<T>(
        &self,
        mut op: impl FnMut(&mut Index) -> Result<T, Trouble>,
    ) -> Result<T> {
        let mut index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        let mut tries = 1;
        let mut error = loop {
            match op(&mut index) {
                Ok(value) => return Ok(value),
                Err(Trouble::Store(error)) => return Err(error),
                Err(Trouble::Index(error)) if error.passes() && tries < TRIES => {
                    if tries == 1 {
                        self.say_who_has(&index);
                    }
                    tries += 1;
                }
                Err(Trouble::Index(error)) => break error,
            }
        };
        // A database that another process keeps busy is not to be taken from it.
        let place = index.place().filter(|_| !error.passes()).cloned();
        if let Some(place) = place {
            let reason = error.to_string();
            let anew = self.waiting(|waiting| Ok(Index::recreate(waiting, place)))?;
            match anew.map_err(Trouble::Index) {
                Ok(anew) => {
                    *index = anew;
                    self.warn(Warning::IndexRebuilt { reason });
                    match self.fold_missing(&mut index).and_then(|()| op(&mut index)) {
                        Ok(value) => return Ok(value),
                        Err(Trouble::Store(error)) => return Err(error),
                        Err(Trouble::Index(again)) => error = again,
                    }
                }
                Err(Trouble::Index(again)) => error = again,
                Err(Trouble::Store(error)) => return Err(error),
            }
        }
        let fail = |error: &IndexError| StoreError::Index {
            reason: error.to_string(),
        };
        if index.place().is_none() {
            return Err(fail(&error));
        }
        *index = Index::in_memory().map_err(|error| fail(&error))?;
        let reason = error.to_string();
        self.warn(Warning::IndexInMemory { reason });
        match self.fold_missing(&mut index).and_then(|()| op(&mut index)) {
            Ok(value) => Ok(value),
            Err(Trouble::Store(error)) => Err(error),
            Err(Trouble::Index(error)) => Err(fail(&error)),
        }
    }

    /// Says who has a database that is busy.
    fn say_who_has(&self, index: &Index) {
        let Some(path) = index.place().map(Place::database) else {
            return;
        };
        // SQLite locks the file of its shared memory, in some states the database.
        let files = [path.with_extension("db-shm"), path.clone()];
        let holders = files.iter().filter_map(|file| self.fs.stat(file).ok());
        let holders = holders.flat_map(|stat| self.fs.lock_holders(&stat));
        let holders = fs::name_holders(holders.filter(|holder| holder.pid != std::process::id()));
        self.warn(Warning::WaitingForLock { path, holders });
    }

    /// Folds the commits that other processes made.
    pub(crate) fn refresh(&self) -> Result<()> {
        self.with_index(|index| self.fold_missing(index))
    }

    /// The same if another process may have committed something since the last time.
    pub(crate) fn refresh_if_changed(&self) -> Result<()> {
        let (alone, settled) = {
            let listing = self.listing();
            (listing.alone, listing.settled)
        };
        let is_still = |path: &Path, then: Option<Nanos>| {
            then.is_some() && self.fs.stat(path).ok().map(|stat| stat.mtime) == then
        };
        if is_still(&self.layout.leases, alone) || is_still(&self.layout.commits, settled) {
            return Ok(());
        }
        self.refresh()
    }

    /// Whether no other process has a lease; `false` if that cannot be told.
    fn is_alone(&self) -> bool {
        let own = self.lease.get().map(Lease::id);
        lease::lease_files(&*self.fs, &self.layout)
            .is_ok_and(|leases| leases.iter().all(|(id, _)| Some(*id) == own))
    }

    /// Folds what is missing. Commits may be rewritten by a collection while this looks: then it
    /// looks again, so that what is in the index is all of one time.
    fn fold_missing(&self, index: &mut Index) -> Result<(), Trouble> {
        let path = &self.layout.commits;
        for _ in 0..LISTINGS {
            // Looked at before the listings: a change in between shows as one. Whether a time is
            // settled is told by the clock that stamps it, asked before all else.
            let now = self.fs.now(path).unwrap_or(Nanos::MIN);
            let settled = |time: Nanos| (time < now.saturating_sub(TICK)).then_some(time);
            let stat = self.fs.stat(path).map_err(StoreError::io("list", path))?;
            let leased = self.fs.stat(&self.layout.leases);
            let leased = leased.ok().and_then(|stat| settled(stat.mtime));
            let alone = leased.filter(|_| self.is_alone());
            let names = self.commit_names()?;
            if index.folded().iter().any(|name| !names.contains(name)) {
                self.follow(index, &names)?;
            }
            let mut missing: Vec<Ulid> = {
                let listing = self.listing();
                let known =
                    |name: &Ulid| index.folded().contains(name) || listing.ignored.contains(name);
                names.iter().filter(|name| !known(name)).copied().collect()
            };
            missing.sort_unstable();
            let mut gone = false;
            for chunk in missing.chunks(CHUNK) {
                let (commits, one_gone) = self.read_commits(chunk)?;
                gone |= one_gone;
                index.fold(&commits)?;
            }
            if let Some(last) = names.iter().max() {
                self.clock.observe(*last);
            }
            let mut listing = self.listing();
            listing.settled = settled(stat.mtime);
            listing.alone = alone;
            drop(listing);
            if !gone {
                break;
            }
        }
        Ok(())
    }

    /// Takes note that commits which were folded are gone: a collection rewrote them, and the
    /// process that did folded anew; or nobody did yet.
    fn follow(&self, index: &mut Index, names: &HashSet<Ulid>) -> Result<(), Trouble> {
        self.generation.fetch_add(1, Ordering::SeqCst);
        index.reload_folded()?;
        if index.folded().iter().all(|name| names.contains(name)) {
            return Ok(());
        }
        if self.refold_index(index)? {
            let reason = "it knew commits that are gone".to_owned();
            self.warn(Warning::IndexRebuilt { reason });
        }
        Ok(())
    }

    /// Folds all commits anew, in one transaction, so that others see the index before or after.
    /// What is known of source files stays. Says whether there was anything to do.
    fn refold_index(&self, index: &mut Index) -> Result<bool, Trouble> {
        // Named within the transaction: a commit that another process folds by itself is either
        // among them or folded after.
        let mut names: Option<std::vec::IntoIter<Ulid>> = None;
        index.refold(
            || Ok::<_, Trouble>(self.commit_names()?),
            |listed| {
                let rest = names.get_or_insert_with(|| {
                    let mut sorted: Vec<Ulid> = listed.iter().copied().collect();
                    sorted.sort_unstable();
                    sorted.into_iter()
                });
                let chunk: Vec<Ulid> = rest.by_ref().take(CHUNK).collect();
                if chunk.is_empty() {
                    return Ok(None);
                }
                Ok(Some(self.read_commits(&chunk)?.0))
            },
        )
    }

    /// Brings the index in step after commits were rewritten.
    pub(crate) fn refold(&self) -> Result<()> {
        self.generation.fetch_add(1, Ordering::SeqCst);
        self.with_index(|index| self.refold_index(index).map(|_| ()))
    }

    /// Reads commits side by side. By threads of their own: one of rayon's would, while it waits,
    /// take up other work, which may want the index that our caller has locked.
    fn read_commits(&self, names: &[Ulid]) -> Result<Commits> {
        let read = |names: &[Ulid]| -> Result<Commits> {
            let mut commits = Vec::with_capacity(names.len());
            let mut gone = false;
            for name in names {
                match self.read_commit(*name)? {
                    CommitRead::Whole(records) => commits.push((*name, records)),
                    CommitRead::Gone => gone = true,
                    CommitRead::Damaged | CommitRead::Unreadable(_) => {}
                }
            }
            Ok((commits, gone))
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let share = names.len().div_ceil(threads.min(8)).max(4);
        if names.len() <= share {
            return read(names);
        }
        std::thread::scope(|scope| {
            let shares: Vec<_> = names
                .chunks(share)
                .map(|names| (names, threads::spawn_scoped(scope, move || read(names))))
                .collect();
            let mut all: Commits = (Vec::with_capacity(names.len()), false);
            for (names, share) in shares {
                match share.map_or_else(|| Ok(read(names)), ScopedJoinHandle::join) {
                    Ok(read) => {
                        let (commits, gone) = read?;
                        all.0.extend(commits);
                        all.1 |= gone;
                    }
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            Ok(all)
        })
    }

    /// Names of all commits. Other files are passed over.
    ///
    /// A listing of a folder that changes meanwhile may show neither a commit that was rewritten
    /// nor the one that took its place: it is listed until it has stayed the same.
    pub(crate) fn commit_names(&self) -> Result<HashSet<Ulid>> {
        let path = &self.layout.commits;
        let changed = || self.fs.stat(path).map(|stat| (stat.mtime, stat.ctime));
        let mut before = changed().map_err(StoreError::io("list", path))?;
        let mut names = HashSet::new();
        for _ in 0..LISTINGS {
            let entries = self
                .fs
                .read_dir(path)
                .map_err(StoreError::io("list", path))?;
            let ulids = entries
                .iter()
                .filter_map(|entry| entry.name.to_str()?.parse().ok());
            names = ulids.collect();
            let after = changed().map_err(StoreError::io("list", path))?;
            if after == before {
                break;
            }
            before = after;
        }
        Ok(names)
    }

    /// Names of all commits, oldest first.
    pub(crate) fn commits_in_order(&self) -> Result<Vec<Ulid>> {
        let mut names: Vec<Ulid> = self.commit_names()?.into_iter().collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Gives every record, in the order of the commits. A damaged commit is set aside.
    pub(crate) fn each_record(
        &self,
        unreadable: IfUnreadable,
        each: &mut dyn FnMut(At, Record) -> Result<()>,
    ) -> Result<()> {
        self.each_read(&mut |name| self.read_commit_or(name, unreadable), each)
    }

    /// Records of a commit, as [`Inner::read_commit`].
    pub(crate) fn read_commit_or(
        &self,
        name: Ulid,
        unreadable: IfUnreadable,
    ) -> Result<CommitRead> {
        match self.read_commit(name)? {
            CommitRead::Unreadable(reason) if unreadable == IfUnreadable::Refuse => {
                Err(StoreError::UnreadableCommit {
                    path: self.layout.commits.join(name.to_string()),
                    reason,
                })
            }
            read => Ok(read),
        }
    }

    /// Gives every record, in the order of the commits, each of which `read` reads.
    pub(crate) fn each_read(
        &self,
        read: &mut dyn FnMut(Ulid) -> Result<CommitRead>,
        each: &mut dyn FnMut(At, Record) -> Result<()>,
    ) -> Result<()> {
        for commit in self.commits_in_order()? {
            let records = read(commit)?.records().into_iter().flatten();
            for (place, record) in records.enumerate() {
                each(At { commit, place }, record)?;
            }
        }
        Ok(())
    }

    /// Records of a commit. A damaged one is set aside; one that cannot be read stays, as it may be
    /// whole. Either costs its records and nothing else.
    pub(crate) fn read_commit(&self, name: Ulid) -> Result<CommitRead> {
        match self.look_at_commit(name)? {
            Ok(read) => Ok(read),
            Err(CommitFault::Damaged(detail)) => {
                if self.set_commit_aside(name).is_err() {
                    self.listing().ignored.insert(name);
                }
                self.listing().damaged.insert(name, detail.clone());
                let name = name.to_string();
                self.warn(Warning::DamagedCommit { name, detail });
                Ok(CommitRead::Damaged)
            }
            Err(CommitFault::Unreadable(detail)) => {
                if self.listing().ignored.insert(name) {
                    let detail = detail.clone();
                    let name = name.to_string();
                    self.warn(Warning::UnreadableCommit { name, detail });
                }
                Ok(CommitRead::Unreadable(detail))
            }
        }
    }

    /// Moves a commit to the trash.
    pub(crate) fn set_commit_aside(&self, name: Ulid) -> Result<()> {
        let path = self.layout.commits.join(name.to_string());
        let aside = self.layout.trash.join(format!("{}{name}", sweep::COMMIT));
        fs::gone_is_fine(self.fs.rename(&path, &aside))
            .map_err(StoreError::io("move to the trash", path))
    }

    /// Records of a commit; or what is wrong with it, which stays where it is.
    pub(crate) fn look_at_commit(&self, name: Ulid) -> Result<Result<CommitRead, CommitFault>> {
        let path = self.layout.commits.join(name.to_string());
        let bytes = match fs::read(&*self.fs, &path, COMMIT_LIMIT) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Ok(CommitRead::Gone));
            }
            Err(error) if lies_in_the_file(&error) => {
                return Ok(Err(CommitFault::Unreadable(error.to_string())));
            }
            bytes => bytes.map_err(StoreError::io("read", &path))?,
        };
        match wire::decode(&bytes) {
            Ok(records) => Ok(Ok(CommitRead::Whole(records))),
            Err(Unreadable::Newer(found)) => Err(StoreError::CommitVersion {
                path,
                found,
                expected: wire::VERSION,
            }),
            Err(Unreadable::Damaged(detail)) => Ok(Err(CommitFault::Damaged(detail))),
        }
    }

    /// Folds a commit of this process. A failing index loses nothing: what it lacks is answered
    /// from memory here, and folded by the next process.
    pub(crate) fn fold_own(&self, name: Ulid, records: Vec<Record>) {
        let commit = [(name, records)];
        if self.with_index(|index| Ok(index.fold(&commit)?)).is_err() {
            return;
        }
        let mut pending = self.pending();
        for record in &commit[0].1 {
            if let Record::Action(action) = record
                && pending
                    .get(&action.key)
                    .is_some_and(|p| p.outcome == action.outcome)
            {
                pending.remove(&action.key);
            }
        }
    }

    /// Lets this process see an action that is not durable yet.
    pub(crate) fn add_pending(&self, record: &Record) {
        if let Record::Action(action) = record {
            let result = ActionResult {
                outcome: action.outcome.clone(),
                seconds: action.seconds,
                bytes: action.bytes,
            };
            self.pending().insert(action.key, result);
        }
    }
}
