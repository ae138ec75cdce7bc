//! What a cache holds, in bytes.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Store;
use super::error::{Result, StoreError};
use super::fold::IfUnreadable;
use super::gc::{Amount, GcOptions};
use super::survey::StageName;
use crate::fs;

/// What a cache holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// Objects by the only stage that made them.
    pub stages: BTreeMap<StageName, Amount>,
    /// Objects that several stages made, counted once.
    pub shared: Amount,
    /// Objects of no stage: files of parameters, lists of runs, what a crash left.
    pub other: Amount,
    /// Files of work that can be taken up again.
    pub scratch: Amount,
    /// What waits to be unlinked.
    pub trash: Amount,
    /// What is on its way in.
    pub tmp: Amount,
    /// Records.
    pub commits: Amount,
    /// The index.
    pub index: Amount,
    /// Runs on record.
    pub runs: usize,
    /// Runs that are pinned.
    pub pinned: usize,
    /// Bytes that may still be written.
    pub free: u64,
}

impl Usage {
    /// Everything together.
    pub fn total(&self) -> Amount {
        let parts = [
            &self.shared,
            &self.other,
            &self.scratch,
            &self.trash,
            &self.tmp,
            &self.commits,
            &self.index,
        ];
        let mut total = Amount::default();
        for part in self.stages.values().chain(parts) {
            total.count += part.count;
            total.bytes += part.bytes;
        }
        total
    }
}

impl Store {
    /// Measures the cache. Changes nothing.
    ///
    /// # Errors
    /// A folder or a commit cannot be read.
    pub fn usage(&self) -> Result<Usage> {
        let everything = GcOptions {
            keep_runs: usize::MAX,
            max_size: None,
            min_age: Duration::ZERO,
            dry_run: true,
        };
        // A commit that cannot be read is no reason to say nothing.
        let plan = self.inner().plan(&everything, IfUnreadable::PassOver)?;
        let report = self.inner().report(&everything, &plan)?;
        let sum = |amount: &super::StageAmount| Amount {
            count: amount.kept.count + amount.freed.count,
            bytes: amount.kept.bytes + amount.freed.bytes,
        };
        let layout = &self.inner().layout;
        let fs = &**self.fs();
        let extent = |path: &std::path::Path| {
            let (count, bytes) = fs::extent(fs, path)
                .map(|e| (e.files, e.bytes))
                .map_err(StoreError::io("read", path))?;
            Ok(Amount { count, bytes })
        };
        let mut index = Amount::default();
        for name in ["index.db", "index.db-wal", "index.db-shm"] {
            let part = extent(&layout.root.join(name))?;
            index.count += part.count;
            index.bytes += part.bytes;
        }
        Ok(Usage {
            stages: report
                .stages
                .iter()
                .map(|(name, amount)| (name.clone(), sum(amount)))
                .collect(),
            shared: sum(&report.shared),
            other: sum(&report.other),
            scratch: extent(&layout.scratch)?,
            trash: extent(&layout.trash)?,
            tmp: extent(&layout.tmp)?,
            commits: extent(&layout.commits)?,
            index,
            runs: self.runs(usize::MAX)?.len(),
            pinned: self.pins()?.len(),
            free: self.available_space()?,
        })
    }
}
