//! Mending what verification found, as far as the store can: damaged files go to the trash, so that
//! the right bytes can take their place, and what cannot be made again is forgotten.

use std::collections::BTreeSet;
use std::io;

use stage_core::Digest;

use super::error::{Result, StoreError};
use super::index::IndexError;
use super::record::Record;
use super::verify::{objects_of, users_of};
use super::{Fault, Store, Ulid, User, VerifyReport};

impl Store {
    /// Moves everything that a report found damaged to the trash, strays too, and makes an index
    /// that differs from the commits anew.
    ///
    /// # Errors
    /// Something cannot be moved; the cache is read-only.
    pub fn set_aside_damage(&self, report: &VerifyReport) -> Result<()> {
        let inner = self.inner();
        let damaged = report.damage.iter().filter(|d| d.fault != Fault::Missing);
        for damage in damaged {
            inner.objects.set_aside(damage.digest)?;
        }
        for path in &report.strays {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let to = inner.layout.trash.join(format!("{}-{name}", Ulid::new()));
            inner
                .fs
                .rename(path, &to)
                .map_err(StoreError::io("move to the trash", path))?;
        }
        for (name, _) in &report.commits {
            if let Ok(name) = name.parse() {
                // Reading sets it aside.
                inner.read_commit(name)?;
            }
        }
        inner.refresh()?;
        inner.listing().damaged.clear();
        if let Some(reason) = &report.index {
            let mut wrong = Some(IndexError::Wrong(reason.clone()));
            inner.with_index(|_| wrong.take().map_or(Ok(()), |wrong| Err(wrong.into())))?;
        }
        Ok(())
    }

    /// Withdraws the records that name any of the objects `lost` that is still not there: their
    /// actions are unknown again. Gives what was forgotten, sorted.
    ///
    /// # Errors
    /// The commits cannot be read or written.
    pub fn forget(&self, lost: &BTreeSet<Digest>) -> Result<Vec<User>> {
        let inner = self.inner();
        inner.lease()?;
        let closed = inner.gate.close()?;
        let mut gone = BTreeSet::new();
        for digest in lost {
            let path = inner.objects.path(*digest);
            match inner.fs.lstat(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    gone.insert(*digest);
                }
                found => {
                    found.map_err(StoreError::io("read", &path))?;
                }
            }
        }
        if gone.is_empty() {
            return Ok(Vec::new());
        }
        let mut forgotten = BTreeSet::new();
        let rewritten = inner.rewrite(&closed, &mut |mut record| {
            let named = objects_of(&record, |_| true);
            let named: Vec<Digest> = named
                .into_iter()
                .map(|(object, _)| object)
                .filter(|object| gone.contains(object))
                .collect();
            if named.is_empty() {
                return Some(record);
            }
            forgotten.extend(named.iter().flat_map(|object| users_of(&record, *object)));
            let Record::Run(run) = &mut record else {
                return None;
            };
            // Which artifacts it used is not known any more; that it was, is.
            for stage in &mut run.stages {
                stage.artifacts = stage.artifacts.filter(|list| !gone.contains(list));
            }
            Some(record)
        })?;
        drop(closed);
        if rewritten.removed > 0 {
            inner.refold()?;
        }
        Ok(forgotten.into_iter().collect())
    }
}
