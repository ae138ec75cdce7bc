//! Rewriting commits without the records that are withdrawn, and many small ones as one.
//!
//! New commits are durable before the old ones go. A crash in between leaves records twice, which
//! changes nothing; the next rewriting drops the second ones. A new commit is named just after the
//! last of those whose place it takes, so that "the latest record counts" stays what it was.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use stage_core::Digest;

use super::error::{Result, StoreError};
use super::fold::{At, IfUnreadable};
use super::gate::Closed;
use super::publish::publish;
use super::record::Record;
use super::{Inner, Ulid, wire};
use crate::fs;

/// A commit grows by merging until it has this many records.
const RECORDS: usize = 16_384;

/// So many commits are merged although none of their records goes.
const MERGE: usize = 16;

/// What was rewritten.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Rewritten {
    /// Records that were withdrawn.
    pub(crate) dropped: u64,
    /// Commits that went.
    pub(crate) removed: usize,
    /// Commits that took their place.
    pub(crate) written: usize,
}

/// Adjacent commits that may become one.
#[derive(Default)]
struct Chunk {
    names: Vec<Ulid>,
    records: Vec<Record>,
    changed: bool,
}

impl Inner {
    /// Rewrites the commits with what `fate` leaves of their records. Commits where nothing
    /// changes stay as they are, unless there are many small ones.
    ///
    /// The index is not told: see [`Inner::refold`].
    pub(crate) fn rewrite(
        &self,
        _closed: &Closed,
        unreadable: IfUnreadable,
        fate: &mut dyn FnMut(At, Record) -> Option<Record>,
    ) -> Result<Rewritten> {
        let names = self.commits_in_order()?;
        let mut done = Rewritten::default();
        let mut old = Vec::new();
        let mut chunk = Chunk::default();
        for (nth, name) in names.iter().enumerate() {
            let Some(records) = self.read_commit_or(*name, unreadable)?.records() else {
                continue;
            };
            let before = records.len();
            let kept: Vec<_> = records
                .into_iter()
                .enumerate()
                .filter_map(|(place, record)| {
                    let commit = *name;
                    let kept = fate(At { commit, place }, record.clone());
                    chunk.changed |= kept.as_ref() != Some(&record);
                    kept
                })
                .collect();
            done.dropped += (before - kept.len()) as u64;
            chunk.names.push(*name);
            chunk.records.extend(kept);
            // A name must be free after the last.
            let room = names.get(nth + 1).is_none_or(|next| next.0 > name.0 + 1);
            if chunk.records.len() >= RECORDS && room {
                self.settle(std::mem::take(&mut chunk), &mut old, &mut done)?;
            }
        }
        self.settle(chunk, &mut old, &mut done)?;
        if old.is_empty() {
            return Ok(done);
        }
        let folder = &self.layout.commits;
        // The new ones are there for good before an old one goes …
        self.sync_commits()?;
        for name in &old {
            let path = folder.join(name.to_string());
            fs::gone_is_fine(self.fs.remove_file(&path))
                .map_err(StoreError::io("remove", &path))?;
        }
        // … and the old ones are gone for good before the objects that they name.
        self.sync_commits()?;
        done.removed = old.len();
        Ok(done)
    }

    fn sync_commits(&self) -> Result<()> {
        let folder = &self.layout.commits;
        self.fs
            .sync_dir(folder)
            .map_err(StoreError::io("sync", folder))
    }

    /// Writes what a chunk has become, if it has changed.
    fn settle(&self, chunk: Chunk, old: &mut Vec<Ulid>, done: &mut Rewritten) -> Result<()> {
        let Some(last) = chunk.names.last() else {
            return Ok(());
        };
        if !chunk.changed && chunk.names.len() < MERGE {
            return Ok(());
        }
        let records = without_repetitions(chunk.records);
        if !records.is_empty() {
            let records = share(records);
            let name = Ulid(last.0 + 1);
            let path = self.layout.commits.join(name.to_string());
            let bytes = wire::encode(&records)
                .map_err(|error| StoreError::io("encode", &path)(std::io::Error::other(error)))?;
            let temporary = self.lease()?.tmp_path();
            let written = fs::write_new(&*self.fs, &temporary, &bytes)
                .and_then(|()| publish(&*self.fs, &self.layout, &temporary, &path));
            if let Err(error) = written {
                // Best effort: what stays is swept after this process.
                let _ = self.fs.remove_file(&temporary);
                return Err(StoreError::io("create", &path)(error));
            }
            done.written += 1;
        }
        old.extend(chunk.names);
        Ok(())
    }
}

/// Drops records that come again, as a rewriting that was cut short leaves them. The first stays:
/// nothing of the same row stands between two copies of one record that a later one may not
/// supersede.
fn without_repetitions(records: Vec<Record>) -> Vec<Record> {
    let mut seen: HashSet<Digest> = HashSet::new();
    let mut fresh = |record: &Record| {
        let mut hasher = stage_core::KeyHasher::new("pipeline record 1");
        match record {
            Record::Action(a) => hasher
                .field(b"action")
                .field(&a.key.0)
                .field(&a.origin.run.to_bytes())
                .field(&a.at.to_le_bytes())
                .field(&a.outcome.artifact().map_or([0; 32], |a| a.digest.0)),
            Record::Run(r) => hasher
                .field(b"run")
                .field(&r.origin.run.to_bytes())
                .field(&r.ended.to_le_bytes()),
            Record::Pin(p) => hasher
                .field(b"pin")
                .field(&p.run.to_bytes())
                .field(&p.at.to_le_bytes()),
            Record::Interim(i) => hasher
                .field(b"interim")
                .field(&i.key.0)
                .field(&i.step.to_le_bytes())
                .field(&i.at.to_le_bytes()),
        };
        seen.insert(hasher.finish())
    };
    records.into_iter().filter(|r| fresh(r)).collect()
}

/// Makes records of equal origin and settings share them, so that each is written once.
fn share(mut records: Vec<Record>) -> Vec<Record> {
    let mut origins = Shared::default();
    let mut settings = Shared::default();
    for record in &mut records {
        match record {
            Record::Action(action) => {
                origins.share(&mut action.origin);
                settings.share(&mut action.settings);
            }
            Record::Interim(interim) => origins.share(&mut interim.origin),
            Record::Run(_) | Record::Pin(_) => {}
        }
    }
    records
}

struct Shared<T> {
    /// Address → the value that stands for it. The value at the address is kept beside, so that
    /// no other comes to lie there.
    known: HashMap<*const T, (Arc<T>, Arc<T>)>,
    values: Vec<Arc<T>>,
}

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self {
            known: HashMap::new(),
            values: Vec::new(),
        }
    }
}

impl<T: PartialEq> Shared<T> {
    fn share(&mut self, value: &mut Arc<T>) {
        let address = Arc::as_ptr(value);
        if let Some((shared, _)) = self.known.get(&address) {
            *value = shared.clone();
            return;
        }
        // Few runs and stages make many records: a search is enough.
        let equal = self.values.iter().find(|known| *known == value).cloned();
        let shared = equal.unwrap_or_else(|| {
            self.values.push(value.clone());
            value.clone()
        });
        let own = std::mem::replace(value, shared.clone());
        self.known.insert(address, (shared, own));
    }
}
