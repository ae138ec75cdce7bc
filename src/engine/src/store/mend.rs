//! Mending what is damaged or missing, as far as the store can: what an action made and what is no
//! longer there is forgotten, so that the next run that wants it makes it again; damaged files go
//! to the trash, so that the right bytes can take their place.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use stage_core::Digest;

use super::error::{Result, StoreError};
use super::fold::IfUnreadable;
use super::index::IndexError;
use super::record::{ActionRecord, Record};
use super::verify::{objects_of, users_of};
use super::{Fault, Store, Ulid, User, VerifyReport, sweep};

/// Which records of lost objects are withdrawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Those of the actions that made them. What took them over from an input is as it was when
    /// they have been made again.
    Makers,
    /// All that name them: nothing makes them again.
    All,
}

/// What was forgotten.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// Key of each action that was forgotten → what it had made.
    pub actions: BTreeMap<Digest, BTreeSet<User>>,
    /// What else was forgotten: states on the way, and which artifacts a run used.
    pub others: BTreeSet<User>,
}

impl Forgotten {
    /// Whether nothing was forgotten.
    pub fn is_empty(&self) -> bool {
        self.actions.is_empty() && self.others.is_empty()
    }
}

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
            let to = inner
                .layout
                .trash
                .join(format!("{}{}-{name}", sweep::STRAY, Ulid::new()));
            inner
                .fs
                .rename(path, &to)
                .map_err(StoreError::io("move to the trash", path))?;
        }
        for (name, _) in &report.commits {
            // One that could not be read for a moment stays.
            if let Ok(name) = name.parse()
                && inner.look_at_commit(name)?.is_err()
            {
                inner.set_commit_aside(name)?;
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

    /// Withdraws the records of an object that a reader has found missing or damaged, if that is
    /// what `error` says, so that the next run which wants it makes it again. Says whether any was
    /// withdrawn.
    ///
    /// # Errors
    /// As [`Store::forget`].
    pub fn forget_lost(&self, error: &StoreError) -> Result<bool> {
        let Some(lost) = error.lost_object() else {
            return Ok(false);
        };
        let lost = BTreeSet::from([lost]);
        for scope in [Scope::Makers, Scope::All] {
            if !self.forget(&lost, scope)?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Withdraws records that name any of the objects `lost` that is missing or damaged: their
    /// actions are unknown again, and done anew when they are asked for. Then moves the damaged
    /// objects to the trash. Cut short between the two, nothing is lost that was not lost before.
    ///
    /// # Errors
    /// The commits cannot be read or written; a collection is under way, or others use the cache
    /// without a pause.
    pub fn forget(&self, lost: &BTreeSet<Digest>, scope: Scope) -> Result<Forgotten> {
        let inner = self.inner();
        inner.lease()?;
        let closed = inner.close()?;
        let mut gone = BTreeSet::new();
        for digest in lost {
            // Another process may have made it again meanwhile.
            if !inner.objects.is_whole(*digest)? {
                gone.insert(*digest);
            }
        }
        if gone.is_empty() {
            return Ok(Forgotten::default());
        }
        let named = |record: &Record| -> Vec<Digest> {
            let objects = objects_of(record, |_| true).into_iter();
            let objects = objects.map(|(object, _)| object);
            objects.filter(|object| gone.contains(object)).collect()
        };
        // Object → the artifacts that hold it: an action with one of these among its inputs took
        // it over.
        let mut holders: HashMap<Digest, HashSet<Digest>> = HashMap::new();
        if scope == Scope::Makers {
            inner.each_record(IfUnreadable::PassOver, &mut |_, record| {
                if let Record::Action(action) = &record
                    && let Some(artifact) = action.outcome.artifact()
                {
                    for object in named(&record) {
                        holders.entry(object).or_default().insert(artifact.digest);
                    }
                }
                Ok(())
            })?;
        }
        let made = |action: &ActionRecord, object: &Digest| {
            let mut inputs = action.inputs.values().flatten();
            let holders = holders.get(object);
            !inputs.any(|input| holders.is_some_and(|holders| holders.contains(input)))
        };
        let mut forgotten = Forgotten::default();
        let rewritten = inner.rewrite(&closed, IfUnreadable::PassOver, &mut |_, mut record| {
            let named = named(&record);
            if named.is_empty() {
                return Some(record);
            }
            let place = match &record {
                Record::Action(action) => {
                    if !named.iter().any(|object| made(action, object)) {
                        return Some(record);
                    }
                    forgotten.actions.entry(action.key).or_default()
                }
                _ if scope == Scope::Makers => return Some(record),
                _ => &mut forgotten.others,
            };
            place.extend(named.iter().flat_map(|object| users_of(&record, *object)));
            let Record::Run(run) = &mut record else {
                return None;
            };
            // Which artifacts it used is not known any more; that it was, is.
            for stage in &mut run.stages {
                stage.artifacts = stage.artifacts.filter(|list| !gone.contains(list));
            }
            Some(record)
        })?;
        for digest in &gone {
            inner.objects.set_aside(*digest)?;
        }
        drop(closed);
        if rewritten.removed > 0 {
            inner.refold()?;
        }
        Ok(forgotten)
    }
}
