//! Group commit.
//!
//! Worker threads queue the records of what they finished; one thread gathers what has come and
//! writes it as one commit file. The order makes a crash harmless: objects are in place and the
//! commit is written beside its place; all of it is made durable; the commit gets its name; its
//! folder is made durable. A commit therefore never refers to bytes that are not there, and
//! commits become durable in the order in which their records were queued.
//!
//! Making durable is one `syncfs` when that replaces several `fsync`s (5,000 files of 4 KiB: 3.8 s
//! file by file, 0.17 s at once). An error there poisons the queue for good: what was lost cannot
//! be told, so nothing may be called durable any more.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use stage_core::Digest;

use super::error::{Result, StoreError};
use super::lease::Claim;
use super::record::Record;
use super::{Inner, Ulid, wire};
use crate::fs::{self, Fs};

/// A group is written when it has this many records …
const GROUP: usize = 256;

/// … or when its first record has waited this long.
const GATHER: Duration = Duration::from_millis(200);

/// Queueing waits when this many records wait, at most. The queue is longer than a group so that
/// a slow disk gets larger groups, not more of them.
const QUEUE: usize = 4096;

/// Open files that are left for everything but claims: each record in the queue or in the group
/// that is being written may hold one.
const OTHER_FILES: usize = 512;

/// From this number of single syncs on, one of the whole file system takes their place.
const WHOLE_FROM: usize = 4;

/// A record on its way, with the claim that ends when it is durable.
#[derive(Debug)]
struct Queued {
    record: Record,
    claim: Option<Claim>,
}

#[derive(Debug, Default)]
struct State {
    queue: Vec<Queued>,
    /// Whether no more fits.
    full: bool,
    /// When the first record of the queue came.
    since: Option<Instant>,
    /// Numbers of records: queued so far; durable so far; wanted durable without delay.
    queued: u64,
    durable: u64,
    wanted: u64,
    failed: Option<Arc<StoreError>>,
    closing: bool,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Told to the writing thread.
    work: Condvar,
    /// Told to those who wait for it.
    done: Condvar,
}

/// The queue and its thread, which starts with the first record.
#[derive(Debug, Default)]
pub(crate) struct Committer {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Length of the queue, found out with the first record.
    limit: OnceLock<usize>,
}

impl Committer {
    /// Queues a record; waits while the queue is full.
    pub(crate) fn queue(
        &self,
        inner: &Arc<Inner>,
        record: Record,
        claim: Option<Claim>,
    ) -> Result<()> {
        self.start(inner)?;
        let limit = *self.limit.get_or_init(|| queue_limit(&*inner.fs));
        let mut state = self.shared.lock();
        while state.queue.len() >= limit && state.failed.is_none() {
            state = wait(&self.shared.done, state);
        }
        state.check()?;
        inner.add_pending(&record);
        let first = state.since.is_none();
        state.since.get_or_insert_with(Instant::now);
        state.queue.push(Queued { record, claim });
        state.queued += 1;
        let length = state.queue.len();
        state.full = length >= limit;
        // Else the thread sleeps on: waking it for each record would cost as much as queueing it.
        if first || state.full || length == GROUP {
            self.shared.work.notify_one();
        }
        Ok(())
    }

    /// Waits until everything queued so far is durable.
    pub(crate) fn flush(&self) -> Result<()> {
        let mut state = self.shared.lock();
        let target = state.queued;
        state.wanted = state.wanted.max(target);
        self.shared.work.notify_one();
        while state.durable < target && state.failed.is_none() {
            state = wait(&self.shared.done, state);
        }
        state.check()
    }

    /// Writes what is queued and ends the thread.
    pub(crate) fn close(&self) {
        self.shared.lock().closing = true;
        self.shared.work.notify_one();
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            // A panic there has been printed by the runtime; the records it held are lost.
            let _ = thread.join();
        }
    }

    fn start(&self, inner: &Arc<Inner>) -> Result<()> {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_none() {
            let fail = StoreError::io("start a thread for", inner.layout.root.clone());
            let (shared, inner) = (self.shared.clone(), inner.clone());
            let handle = std::thread::Builder::new()
                .name("commit".to_owned())
                .spawn(move || shared.serve(&inner))
                .map_err(fail)?;
            *thread = Some(handle);
        }
        Ok(())
    }
}

impl State {
    fn check(&self) -> Result<()> {
        match &self.failed {
            Some(error) => Err(StoreError::Commit(error.clone())),
            None => Ok(()),
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, inner: &Inner) {
        while let Some(group) = self.gather() {
            let count = group.len() as u64;
            let result = commit_group(inner, group);
            let mut state = self.lock();
            match result {
                Ok(()) => state.durable += count,
                Err(error) => {
                    // Their claims end here: another process may do the actions anew.
                    state.failed = Some(Arc::new(error));
                    state.queue.clear();
                }
            }
            self.done.notify_all();
        }
    }

    /// The next group; `None` when the store closes and nothing is left.
    fn gather(&self) -> Option<Vec<Queued>> {
        let mut state = self.lock();
        loop {
            let urgent = state.closing || state.wanted > state.durable;
            match state.since {
                None if state.closing => return None,
                None => state = wait(&self.work, state),
                Some(since) => {
                    let left = GATHER.saturating_sub(since.elapsed());
                    if urgent || state.full || left.is_zero() || state.queue.len() >= GROUP {
                        state.since = None;
                        state.full = false;
                        let group = std::mem::take(&mut state.queue);
                        self.done.notify_all();
                        return (state.failed.is_none()).then_some(group);
                    }
                    let waited = self.work.wait_timeout(state, left);
                    state = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
    }
}

/// How long the queue may be with the files that this process may open.
fn queue_limit(fs: &dyn Fs) -> usize {
    // Elsewhere than on Linux the usual limit is assumed, 256.
    let text = fs::read(fs, Path::new("/proc/self/limits"), 64 * 1024).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().find_map(|l| l.strip_prefix("Max open files"));
    let files = line.and_then(|l| l.split_whitespace().next()?.parse::<usize>().ok());
    (files.unwrap_or(256).saturating_sub(OTHER_FILES) / 2).clamp(32, QUEUE)
}

fn wait<'a>(condition: &Condvar, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
    condition
        .wait(state)
        .unwrap_or_else(PoisonError::into_inner)
}

/// Makes a group durable and visible.
fn commit_group(inner: &Inner, group: Vec<Queued>) -> Result<()> {
    let (records, claims): (Vec<_>, Vec<_>) =
        group.into_iter().map(|q| (q.record, q.claim)).unzip();
    let name = publish(inner, &records)?;
    // Now others may find the actions done.
    drop(claims);
    inner.fold_own(name, records);
    Ok(())
}

/// Writes a commit of `records` and gives its name.
fn publish(inner: &Inner, records: &[Record]) -> Result<Ulid> {
    // Collections rewrite commits: none begins or ends meanwhile.
    let _entered = inner.enter()?;
    let layout = &inner.layout;
    let bytes = wire::encode(records)
        .map_err(|error| StoreError::io("encode", &layout.commits)(std::io::Error::other(error)))?;
    let temporary = inner.lease()?.tmp_path();
    let mut file = inner
        .fs
        .create_new(&temporary)
        .map_err(StoreError::io("create", &temporary))?;
    let written = file
        .write_all(&bytes)
        .map_err(StoreError::io("write", &temporary))
        .and_then(|()| make_durable(inner, records, &*file, &temporary));
    let name = match written.and_then(|()| give_name(inner, &temporary)) {
        Ok(name) => name,
        Err(error) => {
            // Best effort: what stays is swept after this process.
            let _ = inner.fs.remove_file(&temporary);
            return Err(error);
        }
    };
    inner
        .fs
        .sync_dir(&layout.commits)
        .map_err(StoreError::io("sync", &layout.commits))?;
    Ok(name)
}

/// Gives a written commit the next free name. A rewriting may have taken the one that this
/// process would have used in the same millisecond.
fn give_name(inner: &Inner, temporary: &Path) -> Result<Ulid> {
    loop {
        let name = inner.clock.next();
        let path = inner.layout.commits.join(name.to_string());
        match super::publish::publish(&*inner.fs, &inner.layout, temporary, &path) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            renamed => {
                return renamed
                    .map(|()| name)
                    .map_err(StoreError::io("create", &path));
            }
        }
    }
}

/// Makes the objects of `records` durable, with their folders, and the commit's bytes.
fn make_durable(
    inner: &Inner,
    records: &[Record],
    commit: &dyn fs::Handle,
    commit_path: &Path,
) -> Result<()> {
    let mut unsynced = inner.objects.take_unsynced_of(referred(records));
    let mut folders: BTreeSet<_> = unsynced
        .objects
        .keys()
        .filter_map(|digest| inner.objects.path(*digest).parent().map(Path::to_path_buf))
        .collect();
    let singly = unsynced.objects.len() + folders.len() + 1;
    let result = if inner.syncs_whole && singly >= WHOLE_FROM {
        // It covers whatever else has been put in place, too.
        let rest = inner.objects.take_unsynced();
        unsynced.objects.extend(rest.objects);
        let root = &inner.layout.root;
        inner.root.sync_fs().map_err(StoreError::io("sync", root))
    } else {
        if !folders.is_empty() {
            // Whoever made them, perhaps a process that died before its own sync.
            folders.insert(inner.layout.objects.clone());
        }
        sync_singly(inner, &unsynced.objects.keys().copied().collect(), &folders)
            .and_then(|()| commit.sync().map_err(StoreError::io("sync", commit_path)))
    };
    if result.is_err() {
        inner.objects.drop_unsynced(&unsynced);
    }
    result
}

fn sync_singly(
    inner: &Inner,
    objects: &BTreeSet<Digest>,
    folders: &BTreeSet<std::path::PathBuf>,
) -> Result<()> {
    for digest in objects {
        let path = inner.objects.path(*digest);
        inner
            .fs
            .open(&path)
            .and_then(|file| file.sync())
            .map_err(StoreError::io("sync", &path))?;
    }
    // Deepest first, so that a folder is durable before its name is.
    for folder in folders.iter().rev() {
        inner
            .fs
            .sync_dir(folder)
            .map_err(StoreError::io("sync", folder))?;
    }
    Ok(())
}

/// The objects that records refer to.
fn referred(records: &[Record]) -> impl Iterator<Item = Digest> {
    records.iter().flat_map(|record| {
        let mut digests = Vec::new();
        let artifact = match record {
            Record::Action(action) => action.outcome.artifact(),
            Record::Interim(interim) => Some(&interim.artifact),
            Record::Run(run) => {
                digests.extend(run.stages.iter().filter_map(|stage| stage.artifacts));
                None
            }
            Record::Pin(_) => None,
        };
        if let Some(artifact) = artifact {
            digests.extend(artifact.tree().0.values().map(|entry| entry.digest));
        }
        digests
    })
}
